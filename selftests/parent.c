// SPDX-License-Identifier: GPL-2.0
/*
 * What the driver asks of a parent, and what it makes of refusals: on the parent of
 * selftests/modules/vdpa_test_parent.c, which counts calls, fails those that it is
 * told to fail, and says what the device could reach.
 *
 * SOAK_SECONDS makes the swapping of eventfds last longer than a moment.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "vdpa_test.h"
#include "test_parent.h"
#include "workers.h"

#define NAME	"selftest_p"
#define PAGES	8

#define FIELDS								\
	char node[NODE_LEN];						\
	int fd;								\
	uint64_t iova;							\
	char *mem;							\
	size_t len;							\
	long system;							\
	long leaked	/* pages that a test has lost on purpose */

/* What every parent has to bear, and what only one with set_map or dma_map is asked. */
FIXTURE(parent) { FIELDS; };
FIXTURE(set_map) { FIELDS; };
FIXTURE(dma_map) { FIELDS; };

FIXTURE_VARIANT(parent) {
	int style;
};

FIXTURE_VARIANT_ADD(parent, set_map) {
	.style = STYLE_SET_MAP,
};

FIXTURE_VARIANT_ADD(parent, dma_map) {
	.style = STYLE_DMA_MAP,
};

/* Map page i of mem at a place of its own, which no other page is next to. */
static int map_page(int fd, uint64_t iova, char *mem, int i)
{
	return iotlb_map(fd, iova + 2 * i * PAGE, PAGE, mem + i * PAGE);
}

static int unmap_page(int fd, uint64_t iova, int i)
{
	return iotlb_unmap(fd, iova + 2 * i * PAGE, PAGE);
}

#define SET_UP(kind) do {						\
	struct vdpa_caps caps;						\
									\
	self->fd = -1;							\
	TEST_PARENT_SETUP(NAME, kind);					\
	ASSERT_OK(parent_add(NAME, self->node));			\
	OPEN_NODE();							\
	ASSERT_OK(vdpa_get_caps(self->fd, &caps));			\
	self->iova = caps.iova;						\
	self->len = PAGES * PAGE;					\
	self->mem = private_pages(self->len);				\
	ASSERT_NE(NULL, self->mem);					\
	OWN();								\
} while (0)

#define TEAR_DOWN() do {						\
	TEST_PARENT_TEARDOWN(NAME, self->fd);				\
	EXPECT_EQ(self->leaked, pinned_self());				\
	self->system += self->leaked;					\
	EXPECT_EQ(self->system, wait_pinned_system(self->system));	\
} while (0)

FIXTURE_SETUP(parent) { SET_UP(variant->style); }
FIXTURE_TEARDOWN(parent) { TEAR_DOWN(); }
FIXTURE_SETUP(set_map) { SET_UP(STYLE_SET_MAP); }
FIXTURE_TEARDOWN(set_map) { TEAR_DOWN(); }
FIXTURE_SETUP(dma_map) { SET_UP(STYLE_DMA_MAP); }
FIXTURE_TEARDOWN(dma_map) { TEAR_DOWN(); }

#define TOLD(key) told(NAME, key)

#define MAPS(var) ASSERT_OK(told_maps(NAME, var, sizeof(var)))

/*
 * Pages that the device could still reach when nothing held them any more: the
 * parent looks whenever it forgets a range.
 */
TEST_F(parent, unmapped_before_unpinned)
{
	int i;

	for (i = 0; i < PAGES; i++)
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, i));
	ASSERT_OK(unmap_page(self->fd, self->iova, 0));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(unmap_page(self->fd, self->iova, 1));
	ASSERT_OK(unmap_page(self->fd, self->iova, 2));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	ASSERT_OK(iotlb_unmap(self->fd, self->iova + 6 * PAGE, 4 * PAGE));
	if (!on_c_driver())
		EXPECT_EQ(0, TOLD("unpinned"));
	CLOSE_NODE();
	C_MAY_DIFFER(TOLD("unpinned") > 0, "it unpins before it unmaps");
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(parent, batch_left_open_at_close)
{
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(unmap_page(self->fd, self->iova, 0));
	/* A set_map parent has not heard of it. */
	if (variant->style == STYLE_SET_MAP)
		EXPECT_EQ(2, TOLD("ranges0"));
	CLOSE_NODE();
	C_MAY_DIFFER(TOLD("unpinned") > 0 || TOLD("ranges0") > 0, "it unpins before it unmaps");
	EXPECT_EQ(0, TOLD("unpinned"));
	EXPECT_EQ(0, TOLD("ranges0"));
}

TEST_F(parent, pins_outlive_a_reset_that_cleans_maps)
{
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_EQ(1, TOLD("cleans"));
	EXPECT_EQ(0, TOLD("unpinned"));
	EXPECT_EQ(1, pinned_self());
}

TEST_F(parent, only_what_was_mapped_is_reachable)
{
	C_MAY_DIFFER(TOLD("identity0") == 1, "the 1:1 map stays");
	EXPECT_EQ(0, TOLD("identity0"));
	EXPECT_EQ(0, TOLD("identity1"));
	EXPECT_EQ(0, TOLD("ranges0"));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	/* PERSIST is not acknowledged, so this one cleans. */
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_EQ(1, TOLD("cleans"));
	EXPECT_EQ(0, TOLD("identity0"));
	EXPECT_EQ(0, TOLD("identity1"));
	EXPECT_EQ(0, TOLD("ranges0"));
	/* What virtio_vdpa would find is the parent's default, everywhere. */
	CLOSE_NODE();
	EXPECT_EQ(2, TOLD("reset_maps"));
	EXPECT_EQ(1, TOLD("identity0"));
	EXPECT_EQ(1, TOLD("identity1"));
	EXPECT_EQ(0, TOLD("ranges0"));
}

TEST_F(parent, device_that_cannot_be_emptied_stays_off)
{
	const char *op = variant->style == STYLE_DMA_MAP ? "fail_dma_unmap" : "fail_set_map";
	char skip[64];
	int after, tries;

	NOT_TRIED_ON_C("it does not empty the address space");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID)));
	snprintf(skip, sizeof(skip), "%s_after", op);
	for (after = 0; after < 2; after++) {
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
		ASSERT_OK(knob(skip, after));
		ASSERT_OK(knob(op, -1));
		/* The reset itself was fine: the parent is back at its 1:1 map. */
		EXPECT_ERRNO(EIO, set_status(self->fd, 0));
		EXPECT_EQ(1, TOLD("identity1"));
		EXPECT_ERRNO(EIO, set_status(self->fd, STATUS_ACK));
		EXPECT_ERRNO(EFAULT, map_page(self->fd, self->iova, self->mem, 1));
		EXPECT_EQ(0, get_status(self->fd));
		EXPECT_EQ(1, TOLD("identity1"));
		/* Not for a message that is refused: there is no such address space. */
		tries = TOLD("set_maps") + TOLD("dma_unmaps");
		EXPECT_ERRNO(EFAULT, iotlb_v2(self->fd, 1, VHOST_IOTLB_INVALIDATE, 0, 0, NULL, 0));
		EXPECT_EQ(tries, TOLD("set_maps") + TOLD("dma_unmaps"));
		/* It is tried again, and then all is as after any reset. */
		ASSERT_OK(knob(op, 0));
		EXPECT_OK(set_status(self->fd, STATUS_ACK));
		EXPECT_EQ(0, TOLD("identity0"));
		EXPECT_EQ(0, TOLD("identity1"));
		EXPECT_EQ(0, TOLD("ranges0"));
		EXPECT_EQ(1, pinned_self());
		EXPECT_OK(unmap_page(self->fd, self->iova, 0));
		EXPECT_OK(set_status(self->fd, 0));
	}
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(parent, maps_persist_if_that_was_acknowledged)
{
	char before[1024], after[1024];

	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_PERSIST)));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	MAPS(before);
	ASSERT_OK(set_status(self->fd, 0));
	MAPS(after);
	EXPECT_EQ(0, TOLD("cleans"));
	EXPECT_STREQ(before, after);
	EXPECT_NE('\0', after[0]);
}

TEST_F(parent, failed_update_is_undone)
{
	char before[1024], after[1024];
	int lose;

	for (lose = 0; lose < 2; lose++) {
		ASSERT_OK(knob("lose_table", lose));
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
		MAPS(before);
		ASSERT_OK(knob(variant->style == STYLE_DMA_MAP ? "fail_dma_map" :
			       "fail_set_map", 1));
		EXPECT_ERRNO(EFAULT, map_page(self->fd, self->iova, self->mem, 1));
		EXPECT_EQ(1, pinned_self());
		MAPS(after);
		EXPECT_STREQ(before, after);
		EXPECT_NE('\0', after[0]);
		/* There is no entry, so the same update is no overlap. */
		EXPECT_OK(map_page(self->fd, self->iova, self->mem, 1));
		EXPECT_EQ(2, TOLD("ranges0"));
		ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
		EXPECT_EQ(0, pinned_self());
	}
}

/* Memory of several ranges: pages in an order that is not that of their frames. */
static char *scattered_pages(char *mem, int pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	for (i = 0; i < pages; i++)
		if (mremap(mem + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   p + (i * 3 % pages) * PAGE) == MAP_FAILED)
			return NULL;
	return p;
}

TEST_F(dma_map, failed_dma_map_undoes_the_update)
{
	char *p;
	int after;

	/* It unpins before it unmaps, and not all. */
	NOT_TRIED_ON_C("pages stay pinned for good");
	p = scattered_pages(self->mem, PAGES);
	ASSERT_NE(NULL, p);
	for (after = 0; after <= PAGES; after++) {
		ASSERT_OK(knob("fail_dma_map_after", after));
		ASSERT_OK(knob("fail_dma_map", 1));
		if (!iotlb_map(self->fd, self->iova, self->len, p))
			break;
		EXPECT_EQ(0, pinned_self());
		EXPECT_EQ(0, TOLD("ranges0"));
	}
	/* Several ranges, or this has shown nothing. */
	EXPECT_LT(1, after);
	EXPECT_EQ(after, TOLD("ranges0"));
	EXPECT_EQ(PAGES, pinned_self());
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(dma_map, failed_undo_keeps_the_pins)
{
	char *p = scattered_pages(self->mem, PAGES);

	NOT_TRIED_ON_C("it leaves the device its maps");
	ASSERT_NE(NULL, p);
	ASSERT_OK(knob("fail_dma_map_after", 2));
	ASSERT_OK(knob("fail_dma_map", 1));
	ASSERT_OK(knob("fail_dma_unmap", 1));
	ASSERT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, self->len, p));
	/* What the device has not let go of is pinned, and can be unmapped later. */
	EXPECT_EQ(2, TOLD("ranges0"));
	EXPECT_LE(2, pinned_self());
	ASSERT_OK(iotlb_unmap(self->fd, self->iova, self->len));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_EQ(0, pinned_self());
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(set_map, update_that_cannot_be_undone_is_retried)
{
	char before[1024], after[1024];
	int lose;

	NOT_TRIED_ON_C("it does not push the table again");
	for (lose = 0; lose < 2; lose++) {
		ASSERT_OK(knob("lose_table", lose));
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
		MAPS(before);
		ASSERT_OK(knob("fail_set_map", 2));
		EXPECT_ERRNO(EFAULT, map_page(self->fd, self->iova, self->mem, 1));
		/* The parent may have either table: what was in any of them stays pinned. */
		EXPECT_EQ(2, pinned_self());
		/* Whatever the next message is about. */
		ASSERT_OK(iotlb_unmap(self->fd, self->iova + 64 * PAGE, PAGE));
		MAPS(after);
		EXPECT_STREQ(before, after);
		EXPECT_EQ(1, pinned_self());
		ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
	}
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(parent, failed_invalidate_keeps_entries_and_pins)
{
	char before[1024], after[1024];
	int r;

	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	MAPS(before);
	ASSERT_OK(knob(variant->style == STYLE_DMA_MAP ? "fail_dma_unmap" :
		       "fail_set_map", 1));
	r = unmap_page(self->fd, self->iova, 0);
	C_MAY_DIFFER(r == 0 && pinned_self() == 1, "it ignores that the map failed");
	EXPECT_EQ(-EFAULT, r);
	EXPECT_EQ(2, pinned_self());
	MAPS(after);
	EXPECT_STREQ(before, after);
	/* The entry is there. */
	EXPECT_ERRNO(EFAULT, map_page(self->fd, self->iova, self->mem, 0));
	EXPECT_OK(unmap_page(self->fd, self->iova, 0));
	EXPECT_EQ(1, pinned_self());
	EXPECT_EQ(1, TOLD("ranges0"));
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(set_map, invalidate_that_loses_the_table)
{
	char before[1024], after[1024];

	NOT_TRIED_ON_C("it ignores that set_map failed");
	ASSERT_OK(knob("lose_table", 1));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	MAPS(before);
	ASSERT_OK(knob("fail_set_map", 1));
	EXPECT_ERRNO(EFAULT, unmap_page(self->fd, self->iova, 0));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_EQ(2, pinned_self());
	/* The beginning of a batch is a message too. */
	EXPECT_OK(iotlb_batch(self->fd, 0, true));
	MAPS(after);
	EXPECT_STREQ(before, after);
	EXPECT_OK(iotlb_batch(self->fd, 0, false));
	EXPECT_EQ(2, pinned_self());
}

TEST_F(set_map, failed_batch_end_is_retried)
{
	int lose, r;

	for (lose = 0; lose < 2; lose++) {
		ASSERT_OK(knob("lose_table", lose));
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
		ASSERT_OK(iotlb_batch(self->fd, 0, true));
		ASSERT_OK(unmap_page(self->fd, self->iova, 0));
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
		ASSERT_OK(map_page(self->fd, self->iova, self->mem, 2));
		ASSERT_OK(knob("fail_set_map", 1));
		r = iotlb_batch(self->fd, 0, false);
		C_MAY_DIFFER(r == 0, "it ignores that the map failed");
		EXPECT_EQ(-EFAULT, r);
		/* The new entries, and the old pins beside theirs. */
		EXPECT_EQ(3, pinned_self());
		EXPECT_ERRNO(EFAULT, map_page(self->fd, self->iova, self->mem, 1));
		EXPECT_EQ(3, pinned_self());
		/* The batch is over; its end is a message that changes nothing itself. */
		EXPECT_OK(iotlb_batch(self->fd, 0, false));
		EXPECT_EQ(2, pinned_self());
		EXPECT_EQ(2, TOLD("ranges0"));
		ASSERT_OK(iotlb_unmap(self->fd, 0, 0));
	}
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(set_map, no_table_is_pushed_while_a_space_is_identity_mapped)
{
	NOT_TRIED_ON_C("it does not empty the address space");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH) |
				       BACKEND(IOTLB_ASID)));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	/* A table that waits to be pushed. */
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	/* This reset empties the first space, and then fails at the second. */
	ASSERT_OK(knob("fail_set_map_after", 1));
	ASSERT_OK(knob("fail_set_map", -1));
	EXPECT_ERRNO(EIO, set_status(self->fd, 0));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_EQ(1, TOLD("identity1"));
	/* The next one keeps maps, and there is still something to take away first. */
	ASSERT_OK(knob("fail_set_map", 0));
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH) |
				       BACKEND(IOTLB_ASID) | BACKEND(IOTLB_PERSIST)));
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_EQ(0, TOLD("identity1"));
	EXPECT_EQ(2, pinned_self());
	CLOSE_NODE();
	EXPECT_EQ(0, TOLD("unpinned"));
}

TEST_F(set_map, stale_table_is_pushed_by_a_reset)
{
	NOT_TRIED_ON_C("it does not push the table again");
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_PERSIST)));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(knob("fail_set_map", 2));
	ASSERT_OK(knob("lose_table", 1));
	EXPECT_ERRNO(EFAULT, map_page(self->fd, self->iova, self->mem, 1));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_EQ(1, TOLD("ranges0"));
	EXPECT_EQ(1, pinned_self());
}

/* It cannot unmap, perhaps for want of memory, but it can forget. */
TEST_F(parent, reset_map_does_where_unmapping_fails)
{
	const char *op = variant->style == STYLE_DMA_MAP ? "fail_dma_unmap" : "fail_set_map";

	NOT_TRIED_ON_C("it gives the pages back");
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	ASSERT_OK(knob(op, -1));
	CLOSE_NODE();
	EXPECT_EQ(1, TOLD("identity0"));
	EXPECT_EQ(0, TOLD("ranges0"));
	EXPECT_EQ(0, TOLD("unpinned"));
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

TEST_F(parent, pages_leak_if_the_parent_keeps_them)
{
	const char *op = variant->style == STYLE_DMA_MAP ? "fail_dma_unmap" : "fail_set_map";
	int kmsg;

	NOT_TRIED_ON_C("it gives the pages back");
	kmsg = kmsg_open();
	ASSERT_LE(0, kmsg);
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 1));
	ASSERT_OK(knob(op, -1));
	ASSERT_OK(knob("fail_reset_map", -1));
	CLOSE_NODE();
	EXPECT_EQ(2, TOLD("ranges0") + 2 * (TOLD("identity0") == 1));
	EXPECT_EQ(self->system + 2, wait_pinned_system(self->system + 2));
	EXPECT_EQ(1, kmsg_count(kmsg, "2 pages stay pinned for good"));
	close(kmsg);
	EXPECT_EQ(0, TOLD("unpinned"));
	/* Nor is the device given to the next one with somebody else's maps. */
	ASSERT_OK(knobs_reset());
	OPEN_NODE();
	EXPECT_EQ(0, TOLD("ranges0"));
	CLOSE_NODE();
	/* Gone for good, and charged as long. */
	self->leaked = 2;
}

TEST_F(parent, open_that_fails_leaves_nothing)
{
	static const char *const ops[][2] = {
		{ "fail_reset", "fail_reset" },
		{ "fail_set_map", "fail_dma_unmap" },
	};
	int i, after;

	CLOSE_NODE();
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		const char *op = ops[i][variant->style];
		char skip[64];

		if (i && on_c_driver())
			break;
		snprintf(skip, sizeof(skip), "%s_after", op);
		/* The first address space, and the second. */
		for (after = 0; after < (i ? 2 : 1); after++) {
			ASSERT_OK(knob(skip, after));
			ASSERT_OK(knob(op, 1));
			EXPECT_EQ(-1, open(self->node, O_RDWR | O_CLOEXEC));
			EXPECT_EQ(EIO, errno);
			EXPECT_EQ(0, TOLD("ranges0"));
			EXPECT_EQ(0, TOLD("config_callback"));
			/* What was emptied is as it was at rest. */
			EXPECT_EQ(1, TOLD("identity0"));
			EXPECT_EQ(1, TOLD("identity1"));
		}
		/* It is free, and works. */
		OPEN_NODE();
		OWN();
		EXPECT_OK(map_page(self->fd, self->iova, self->mem, 0));
		CLOSE_NODE();
	}
	EXPECT_EQ(1, TOLD("identity0"));
}

TEST_F(parent, failed_reset_is_reported)
{
	ASSERT_OK(set_status(self->fd, STATUS_ACK));
	ASSERT_OK(map_page(self->fd, self->iova, self->mem, 0));
	ASSERT_OK(knob("fail_reset", 1));
	EXPECT_ERRNO(EIO, set_status(self->fd, 0));
	EXPECT_EQ(STATUS_ACK, get_status(self->fd));
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_EQ(0, get_status(self->fd));
	/* Nothing stops a close. */
	ASSERT_OK(knob("fail_reset", -1));
	CLOSE_NODE();
	EXPECT_EQ(0, pinned_self());
	EXPECT_EQ(0, TOLD("ranges0"));
}

TEST_F(parent, config_eventfd_is_dropped_at_close)
{
	struct pollfd p = { .events = POLLIN };

	ASSERT_OK(knob("call_mode", CALL_HARDIRQ));
	p.fd = eventfd(0, EFD_NONBLOCK);
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &p.fd));
	EXPECT_EQ(1, poll(&p, 1, 10000));
	CLOSE_NODE();
	/* The parent goes on calling, and nobody hears. */
	eventfd_read(p.fd, &(eventfd_t){ 0 });
	usleep(20000);
	EXPECT_EQ(0, poll(&p, 1, 0));
	close(p.fd);
}

TEST_F(parent, callbacks_are_taken_back)
{
	int call = eventfd(0, EFD_NONBLOCK);

	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, call));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &call));
	EXPECT_EQ(1, TOLD("callback0"));
	EXPECT_EQ(1, TOLD("trigger0"));
	EXPECT_EQ(1, TOLD("config_callback"));
	CLOSE_NODE();
	C_MAY_DIFFER(TOLD("callback0") == 1, "it leaves its callbacks");
	EXPECT_EQ(0, TOLD("callback0"));
	EXPECT_EQ(0, TOLD("trigger0"));
	EXPECT_EQ(0, TOLD("config_callback"));
}

/*
 * A parent copies the callback while its interrupt handler looks at it, so it must not change
 * between none and some while interrupts come.
 */
TEST_F(parent, callback_stays_while_running)
{
	int call = eventfd(0, EFD_NONBLOCK), none = -1;

	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, call));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &call));
	ASSERT_OK(negotiate(self->fd));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, none));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &none));
	EXPECT_EQ(0, TOLD("trigger0"));
	C_MAY_DIFFER(TOLD("callback0") == 0, "the callback goes with the eventfd");
	EXPECT_EQ(1, TOLD("callback0"));
	EXPECT_EQ(1, TOLD("config_callback"));
	/* One that was never given is not given for nothing. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 1, none));
	EXPECT_EQ(0, TOLD("callback1"));
	/* After the reset there is none that userspace did not ask for. */
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_EQ(0, TOLD("callback0"));
	EXPECT_EQ(0, TOLD("config_callback"));
}

TEST_F(parent, doorbell_fault)
{
	volatile uint32_t *bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, bell);
	*bell = 4711;
	EXPECT_EQ(4711, TOLD("doorbell"));
	/* Its page is nobody's to pin. */
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, self->iova, PAGE, (void *)bell));
	munmap((void *)bell, PAGE);
	/* The other queue's is the same page in this parent. */
	bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, PAGE);
	ASSERT_NE(MAP_FAILED, bell);
	*bell = 1234;
	EXPECT_EQ(1234, TOLD("doorbell"));
	munmap((void *)bell, PAGE);
}

TEST_F(parent, doorbell_after_removal)
{
	volatile uint32_t *bell;

	C_WAITS();
	bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, bell);
	*bell = 4711;
	EXPECT_EQ(0, nl_del(NAME));
	*bell = 1234;
	ASSERT_OK(parent_add(NAME, self->node));
	EXPECT_EQ(0, TOLD("doorbell"));
	munmap((void *)bell, PAGE);
}

/* A kick that comes out of a callback: in interrupt context, under its locks. */
TEST_F(parent, kick_inside_a_callback)
{
	int both = eventfd(0, EFD_NONBLOCK), mode, i;

	ASSERT_OK(negotiate(self->fd));
	for (i = 0; i < 2; i++) {
		ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_KICK, i, both));
		ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, i, both));
	}
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	for (mode = CALL_HARDIRQ; mode <= CALL_WORKER; mode++) {
		long kicks = TOLD("kicks");

		ASSERT_OK(knob("call_mode", mode));
		for (i = 0; i < 1000 && TOLD("kicks") < kicks + 10; i++)
			usleep(1000);
		EXPECT_LE(kicks + 10, TOLD("kicks"));
	}
	ASSERT_OK(knob("call_mode", CALL_NONE));
	close(both);
}

/* Swap eventfds while the parent signals them: -1, or how often they were swapped. */
static long swap_under_calls(int fd, int mode)
{
	const char *soak = getenv("SOAK_SECONDS");
	long calls = TOLD("calls"), swaps = 0;
	struct swapper s[3];
	pthread_t t[3];
	int i, failed = 0;

	if (negotiate(fd) || set_status(fd, STATUS_RUNNING) || knob("call_mode", mode))
		return -1;
	for (i = 0; i < 3; i++) {
		s[i] = (struct swapper) { .fd = fd, .first = i - 1, .last = i - 1 };
		if (pthread_create(&t[i], NULL, swap_calls, &s[i]))
			return -1;
	}
	if (soak)
		sleep(atoi(soak));
	else
		usleep(500000);
	for (i = 0; i < 3; i++)
		__atomic_store_n(&s[i].stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 3; i++) {
		pthread_join(t[i], NULL);
		swaps += s[i].swaps;
		failed |= s[i].failed;
	}
	calls = TOLD("calls") - calls;
	if (soak)
		printf("# %ld calls of the parent, %ld swaps\n", calls, swaps);
	if (knob("call_mode", CALL_NONE) || failed || !calls)
		return -1;
	return swaps;
}

TEST_F_TIMEOUT(parent, call_swapped_under_an_interrupt, 3600)
{
	EXPECT_LT(0, swap_under_calls(self->fd, CALL_HARDIRQ));
}

TEST_F_TIMEOUT(parent, call_swapped_under_its_trigger, 3600)
{
	EXPECT_LT(0, swap_under_calls(self->fd, CALL_TRIGGER));
}

TEST_F_TIMEOUT(parent, call_swapped_under_a_worker, 3600)
{
	EXPECT_LT(0, swap_under_calls(self->fd, CALL_WORKER));
}

/* The parent calls all the while that the file is closed and opened. */
TEST_F_TIMEOUT(parent, closed_while_the_parent_calls, 300)
{
	int mode, i;

	for (mode = CALL_HARDIRQ; mode <= CALL_WORKER; mode++) {
		ASSERT_OK(knob("call_mode", mode));
		for (i = 0; i < 20; i++) {
			int call = eventfd(0, EFD_NONBLOCK);

			ASSERT_OK(negotiate(self->fd));
			ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, i % 2, call));
			ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &call));
			ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
			close(call);
			CLOSE_NODE();
			OPEN_NODE();
			OWN();
		}
	}
}

FIXTURE(probe) {
	long system;
};

FIXTURE_SETUP(probe)
{
	NEEDS_TEST_PARENT();
	ASSERT_OK(parent_fresh(NAME, STYLE_SET_MAP));
}

FIXTURE_TEARDOWN(probe)
{
	nl_del_if_there(NAME);
	knobs_reset();
}

/* A device that the driver does not take: refused, and nothing freed twice. */
TEST_F_TIMEOUT(probe, refused_probe, 300)
{
	char node[NODE_LEN];
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_OK(knob("style", STYLE_NEITHER));
		ASSERT_OK(parent_add(NAME, NULL));
		EXPECT_NE(0, access("/sys/bus/vdpa/devices/" NAME "/driver", F_OK));
		ASSERT_OK(nl_del(NAME));
		ASSERT_OK(knob("style", STYLE_SET_MAP));
		ASSERT_OK(parent_add(NAME, node));
		ASSERT_OK(nl_del(NAME));
	}
}

struct opener {
	char node[NODE_LEN];
	bool stop;
	long opened;
	int wrong;
};

static void *open_on(void *arg)
{
	struct opener *o = arg;

	while (!__atomic_load_n(&o->stop, __ATOMIC_ACQUIRE)) {
		int fd = open(o->node, O_RDWR | O_CLOEXEC), r;

		if (fd < 0)
			continue;
		o->opened++;
		r = vioctl(fd, VHOST_SET_OWNER, NULL);
		if (r && r != -ENODEV)
			o->wrong = r;
		close(fd);
	}
	return NULL;
}

/* Who opens the node the moment it appears finds all of it there. */
TEST_F_TIMEOUT(probe, opened_as_soon_as_it_is_there, 300)
{
	struct opener o = {};
	pthread_t t;
	int i;

	NOT_TRIED_ON_C("the kernel crashes");
	ASSERT_OK(parent_add(NAME, o.node));
	ASSERT_OK(nl_del(NAME));
	ASSERT_EQ(0, pthread_create(&t, NULL, open_on, &o));
	for (i = 0; i < 30; i++) {
		char node[NODE_LEN];

		ASSERT_OK(parent_add(NAME, node));
		EXPECT_STREQ(o.node, node);
		ASSERT_OK(nl_del(NAME));
	}
	__atomic_store_n(&o.stop, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	EXPECT_LT(0, o.opened);
	EXPECT_EQ(0, o.wrong);
}

TEST_HARNESS_MAIN
