// SPDX-License-Identifier: GPL-2.0
/*
 * The knobs that our simulators have in debugfs: the call that is to fail fails,
 * once; what is above the simulator notices, and goes on when the call works again.
 *
 * MGMTDEV says whose devices to make, NICs or disks.
 */
#include <endian.h>
#include <linux/if_ether.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>

#include "vdpa_test.h"
#include "mgmt.h"
#include "queue.h"
#include "sync.h"

#define NAME		"selftest_k"
#define SIZE		512
#define OUT		(2 * VQ_AREA)		/* offsets in the memory */
#define IN		(OUT + PAGE)
#define MEM		(IN + PAGE)
#define EXTRA		0x20000000UL		/* where single pages are mapped */
#define UNTOUCHED	0x5e
#define WAIT_MS		60000
#define QUIET_US	50000

FIXTURE(sim_faults) {
	char node[NODE_LEN];
	char dir[96];
	bool disk;
	bool whole_tables;	/* set_map, not dma_map */
	bool use_va;
	struct vdpa_caps caps;
	int fd;
	int nq;
	struct vq q[2];		/* a NIC receives on the first; a disk has one */
	char *mem;
	char *page;
	long system;
};

static int set_knob(const char *dir, const char *name, const char *value)
{
	return write_path(value, "%s/%s", dir, name);
}

static long get_knob(const char *dir, const char *name)
{
	char path[160], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '?';
	close(fd);
	return text[0] >= '0' && text[0] <= '9' ? atol(text) : -EBADMSG;
}

/* How many maps address space 0 has; where one begins at iova, *found says so. */
static int maps_of(const char *dir, uint64_t iova, bool *found)
{
	unsigned long long start;
	char path[160], line[128];
	unsigned int asid;
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/maps", dir);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	*found = false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%u %llx", &asid, &start) != 2 || asid)
			continue;
		n++;
		*found |= start == iova;
	}
	fclose(f);
	return n;
}

#define FAIL(name, n)		set_knob(self->dir, "fail_" name, n)
#define LEFT(name)		get_knob(self->dir, "fail_" name)
/* The ops with which maps come and go. */
#define MAP_OP			(self->whole_tables ? "fail_set_map" : "fail_dma_map")
#define UNMAP_OP		(self->whole_tables ? "fail_set_map" : "fail_dma_unmap")

#define IS_MAPPED(iova) ({						\
	bool found_ = false;						\
	EXPECT_LE(0, maps_of(self->dir, iova, &found_));		\
	found_;								\
})

FIXTURE_SETUP(sim_faults)
{
	const char *parent = getenv("MGMTDEV");
	const char *module;
	int i;

	self->fd = -1;
	if (!parent || strncmp(parent, "rust_vdpasim_", 13))
		SKIP(return, "no simulator of ours: it has no knobs");
	/* It does not hear of all errors: see deviations. */
	NOT_TRIED_ON_C("it ignores that set_map failed");
	self->disk = strstr(parent, "blk");
	module = self->disk ? "rust_vdpa_sim_blk" : "rust_vdpa_sim_net";
	snprintf(self->dir, sizeof(self->dir), "/sys/kernel/debug/%s/%s", module, NAME);
	self->whole_tables = module_flag(module, "batch_mapping");
	self->use_va = module_flag(module, "use_va");
	mgmt_del_if_there(NAME);
	ASSERT_OK(mgmt_add(NAME, self->node));
	if (access(self->dir, F_OK))
		SKIP(return, "no debugfs");
	self->system = pinned_system();
	self->nq = self->disk ? 1 : 2;
	for (i = 0; i < self->nq; i++) {
		self->q[i].kick = eventfd(0, EFD_NONBLOCK);
		self->q[i].call = eventfd(0, EFD_NONBLOCK);
	}
	self->mem = shared_pages(MEM);
	self->page = shared_pages(PAGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(NULL, self->page);
	self->fd = open_owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(vdpa_get_caps(self->fd, &self->caps));
}

FIXTURE_TEARDOWN(sim_faults)
{
	if (self->fd >= 0)
		close(self->fd);
	mgmt_del_if_there(NAME);
	EXPECT_EQ(0, pinned_self());
	if (self->mem)
		EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

/* From reset to a running device without requests. */
static int start(int fd, struct vq *q, int nq, char *mem, uint64_t iova)
{
	int i, r = negotiate(fd);

	for (i = 0; i < nq && !r; i++) {
		vq_init(&q[i], false, 16, mem + i * VQ_AREA, iova + i * VQ_AREA);
		r = vq_set_up(&q[i], fd, i, 0);
	}
	return r ?: set_status(fd, STATUS_RUNNING);
}

/* Something to do: for a NIC a frame that comes back, for a disk a sector to be read. */
static void post(struct vq *q, int nq, char *mem, uint64_t iova)
{
	memset(mem + OUT, 0, PAGE);
	memset(mem + IN, UNTOUCHED, PAGE);
	if (nq == 1) {
		struct virtio_blk_outhdr header = { .type = htole32(VIRTIO_BLK_T_IN) };

		memcpy(mem + OUT, &header, sizeof(header));
		vq_post_chain(q, (struct vq_seg[]){
			{ iova + OUT, sizeof(header), false },
			{ iova + IN, SIZE + 1, true },
		}, 2);
	} else {
		memset(mem + OUT + sizeof(struct virtio_net_hdr_v1), 0xff, ETH_ALEN);
		vq_post(&q[0], iova + IN, PAGE, true);
		vq_post(&q[1], iova + OUT, sizeof(struct virtio_net_hdr_v1) + 64, false);
	}
	signal_eventfd(q[nq - 1].kick);
}

/* Whether it was done, so far. */
static bool is_done(struct vq *q, char *mem)
{
	uint32_t len;

	return vq_take(&q[0], &len) >= 0 && mem[IN] != UNTOUCHED;
}

/* Wait for it: 0 or -ETIMEDOUT. */
static int done(struct vq *q, int nq, char *mem)
{
	uint32_t len;
	int i;

	for (i = 0; !is_done(q, mem); i++) {
		if (i == WAIT_MS)
			return -ETIMEDOUT;
		usleep(1000);
	}
	/* The other half of an echo. */
	return nq > 1 && vq_take_within(&q[1], &len, WAIT_MS) < 0 ? -ETIMEDOUT : 0;
}

#define MAP_ALL()	iotlb_map(self->fd, self->caps.iova, MEM, self->mem)
/*
 * Memory that is not contiguous becomes several maps. Where the device learns of them one by one, it goes on
 * as soon as it has the rings: what these point to comes first.
 */
#define MAP_RINGS_LAST() (iotlb_map(self->fd, self->caps.iova + OUT, MEM - OUT, self->mem + OUT) ?: \
			  iotlb_map(self->fd, self->caps.iova, OUT, self->mem))
#define START()		start(self->fd, self->q, self->nq, self->mem, self->caps.iova)
#define POST()		post(self->q, self->nq, self->mem, self->caps.iova)
#define DONE()		done(self->q, self->nq, self->mem)
#define MAP_PAGE(at)	iotlb_map(self->fd, at, PAGE, self->page)

TEST_F(sim_faults, knobs)
{
	static const char *const knobs[] = {
		"fail_set_map", "fail_dma_map", "fail_dma_unmap", "fail_reset_map",
		"fail_reset", "fail_suspend", "fail_resume", "delay_completions_us",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++) {
		EXPECT_EQ(0, get_knob(self->dir, knobs[i]));
		EXPECT_OK(set_knob(self->dir, knobs[i], "4294967295"));
		EXPECT_EQ(4294967295, get_knob(self->dir, knobs[i]));
		EXPECT_ERRNO(EINVAL, set_knob(self->dir, knobs[i], "many"));
		EXPECT_EQ(4294967295, get_knob(self->dir, knobs[i]));
		EXPECT_OK(set_knob(self->dir, knobs[i], "0"));
		EXPECT_EQ(0, get_knob(self->dir, knobs[i]));
	}
}

TEST_F(sim_faults, reset_on_open)
{
	ASSERT_OK(close(self->fd));
	ASSERT_OK(FAIL("reset", "1"));
	self->fd = open_owned(self->node);
	EXPECT_EQ(-EIO, self->fd);
	EXPECT_EQ(0, LEFT("reset"));
	self->fd = open_owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
}

/* Who opens a device is to reach nothing: where that cannot be had, it is not opened. */
TEST_F(sim_faults, maps_on_open)
{
	ASSERT_OK(close(self->fd));
	ASSERT_OK(set_knob(self->dir, UNMAP_OP, "1"));
	self->fd = open_owned(self->node);
	EXPECT_EQ(-EIO, self->fd);
	EXPECT_EQ(0, get_knob(self->dir, UNMAP_OP));
	self->fd = open_owned(self->node);
	ASSERT_LE(0, self->fd);
	EXPECT_FALSE(IS_MAPPED(0));
}

TEST_F(sim_faults, nth_map)
{
	ASSERT_OK(set_knob(self->dir, MAP_OP, "2"));
	ASSERT_OK(MAP_PAGE(EXTRA));
	EXPECT_EQ(1, get_knob(self->dir, MAP_OP));
	EXPECT_ERRNO(EFAULT, MAP_PAGE(EXTRA + 2 * PAGE));
	EXPECT_EQ(0, get_knob(self->dir, MAP_OP));
	EXPECT_TRUE(IS_MAPPED(EXTRA));
	EXPECT_FALSE(IS_MAPPED(EXTRA + 2 * PAGE));
	EXPECT_EQ(self->use_va ? 0 : 1, pinned_self());
	ASSERT_OK(MAP_PAGE(EXTRA + 2 * PAGE));
	EXPECT_TRUE(IS_MAPPED(EXTRA + 2 * PAGE));
	EXPECT_EQ(self->use_va ? 0 : 2, pinned_self());
}

TEST_F(sim_faults, unmap)
{
	ASSERT_OK(MAP_PAGE(EXTRA));
	ASSERT_OK(set_knob(self->dir, UNMAP_OP, "1"));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, EXTRA, PAGE));
	EXPECT_EQ(0, get_knob(self->dir, UNMAP_OP));
	/* The device has it still, so it is pinned still. */
	EXPECT_TRUE(IS_MAPPED(EXTRA));
	EXPECT_EQ(self->use_va ? 0 : 1, pinned_self());
	EXPECT_ERRNO(EFAULT, MAP_PAGE(EXTRA));
	EXPECT_OK(iotlb_unmap(self->fd, EXTRA, PAGE));
	EXPECT_FALSE(IS_MAPPED(EXTRA));
	EXPECT_EQ(0, pinned_self());
}

/* What a NIC or a disk is at work on while maps fail is not touched by that. */
TEST_F(sim_faults, maps_of_a_running_device)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	ASSERT_OK(DONE());
	ASSERT_OK(set_knob(self->dir, MAP_OP, "1"));
	EXPECT_ERRNO(EFAULT, MAP_PAGE(EXTRA));
	POST();
	EXPECT_OK(DONE());
	ASSERT_OK(MAP_PAGE(EXTRA));
	ASSERT_OK(set_knob(self->dir, UNMAP_OP, "1"));
	EXPECT_ERRNO(EFAULT, iotlb_unmap(self->fd, EXTRA, PAGE));
	POST();
	EXPECT_OK(DONE());
}

TEST_F(sim_faults, reset)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	ASSERT_OK(FAIL("reset", "1"));
	EXPECT_ERRNO(EIO, set_status(self->fd, 0));
	EXPECT_EQ(0, LEFT("reset"));
	/* It runs as if nothing had been said. */
	EXPECT_EQ(STATUS_RUNNING, get_status(self->fd));
	POST();
	EXPECT_OK(DONE());
	EXPECT_OK(set_status(self->fd, 0));
	EXPECT_EQ(0, get_status(self->fd));
}

TEST_F(sim_faults, suspend_and_resume)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	ASSERT_OK(FAIL("suspend", "1"));
	EXPECT_ERRNO(EIO, vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_EQ(0, LEFT("suspend"));
	POST();
	EXPECT_OK(DONE());

	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(FAIL("resume", "1"));
	EXPECT_ERRNO(EIO, vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_EQ(0, LEFT("resume"));
	POST();
	usleep(QUIET_US);
	EXPECT_FALSE(is_done(self->q, self->mem));
	EXPECT_EQ(1, vring_get(self->fd, VHOST_GET_VRING_BASE, 0));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(DONE());
}

/*
 * A file is closed whatever the parent says. Nothing is pinned then, and a device that
 * was not reset, which may be at its queues still, reaches nothing.
 */
TEST_F(sim_faults, close)
{
	static const char *const ops[] = { "fail_reset", "fail_reset_map" };
	int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		ASSERT_OK(MAP_ALL());
		ASSERT_OK(START());
		POST();
		ASSERT_OK(DONE());
		ASSERT_OK(set_knob(self->dir, ops[i], "1"));
		ASSERT_OK(close(self->fd));
		EXPECT_EQ(0, get_knob(self->dir, ops[i])) {
			TH_LOG("%s", ops[i]);
		}
		EXPECT_FALSE(IS_MAPPED(self->caps.iova));
		EXPECT_FALSE(IS_MAPPED(0));
		EXPECT_EQ(0, pinned_self());
		self->fd = open_owned(self->node);
		ASSERT_LE(0, self->fd);
		EXPECT_EQ(0, get_status(self->fd));
		EXPECT_FALSE(IS_MAPPED(0));
	}
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
	/* Without faults it is left as it was found: with the 1:1 map, and at rest. */
	ASSERT_OK(close(self->fd));
	self->fd = -1;
	EXPECT_TRUE(IS_MAPPED(0));
}

/*
 * --- Rings that are not mapped, and rings that are impossible. The first are no fault of
 * the ring: the queue rests and goes on. The second break the queue, and the driver hears
 * of it.
 */

/* Wait until the status has a bit. */
static bool wait_status(int fd, uint8_t bit)
{
	int i;

	for (i = 0; i < WAIT_MS / 10; i++) {
		if (get_status(fd) & bit)
			return true;
		usleep(10000);
	}
	return false;
}

/* What "queues" in debugfs says of a queue, without its number. */
static int queue_line(const char *dir, int idx, char *line, size_t len)
{
	char path[160], want[16];
	int r = -ENOENT;
	FILE *f;

	snprintf(path, sizeof(path), "%s/queues", dir);
	snprintf(want, sizeof(want), "%d ", idx);
	line[0] = 0;
	f = fopen(path, "r");
	if (!f)
		return -errno;
	while (r && fgets(line, len, f))
		if (!strncmp(line, want, strlen(want)))
			r = 0;
	fclose(f);
	if (!r) {
		memmove(line, line + strlen(want), strlen(line + strlen(want)) + 1);
		line[strcspn(line, "\n")] = 0;
	}
	return r;
}

#define EXPECT_QUEUE(idx, want) do {					\
	char line_[128];						\
	EXPECT_OK(queue_line(self->dir, idx, line_, sizeof(line_)));	\
	EXPECT_STREQ(want, line_);					\
} while (0)

/* The queue that a request is posted on. */
#define LAST_QUEUE	(self->nq - 1)

TEST_F(sim_faults, unmapped_ring_rests)
{
	int i;

	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	for (i = 0; i < 4; i++) {
		POST();
		ASSERT_OK(DONE()) {
			TH_LOG("round %d", i);
		}
		EXPECT_QUEUE(LAST_QUEUE, "running");
		ASSERT_OK(iotlb_unmap(self->fd, self->caps.iova, MEM));
		POST();
		usleep(QUIET_US);
		EXPECT_FALSE(is_done(self->q, self->mem));
		EXPECT_EQ(STATUS_RUNNING, get_status(self->fd));
		EXPECT_QUEUE(LAST_QUEUE, "resting: its ring is not mapped");
		ASSERT_OK(MAP_RINGS_LAST());
		/* Every other time the map alone wakes it: the kick was heard already. */
		if (i % 2)
			signal_eventfd(self->q[LAST_QUEUE].kick);
		ASSERT_OK(DONE()) {
			TH_LOG("round %d, after the map", i);
		}
	}
	EXPECT_EQ(2 * i, vring_get(self->fd, VHOST_GET_VRING_BASE, LAST_QUEUE));
}

/* Half of the ring is mapped: the index can be read, the descriptors cannot. */
TEST_F(sim_faults, half_mapped_ring_rests)
{
	uint64_t descs;
	char *page;

	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	POST();
	ASSERT_OK(DONE());
	/* All but the page of the descriptors. */
	descs = LAST_QUEUE * VQ_AREA;
	page = self->mem + descs;
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	ASSERT_OK(iotlb_unmap(self->fd, self->caps.iova, MEM));
	if (descs)
		ASSERT_OK(iotlb_map(self->fd, self->caps.iova, descs, self->mem));
	ASSERT_OK(iotlb_map(self->fd, self->caps.iova + descs + PAGE, MEM - descs - PAGE,
			    page + PAGE));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	POST();
	usleep(QUIET_US);
	EXPECT_FALSE(is_done(self->q, self->mem));
	EXPECT_EQ(STATUS_RUNNING, get_status(self->fd));
	ASSERT_OK(iotlb_map(self->fd, self->caps.iova + descs, PAGE, page));
	EXPECT_OK(DONE());
	POST();
	EXPECT_OK(DONE());
}

TEST_F(sim_faults, broken_ring_needs_reset)
{
	int config = eventfd(0, EFD_NONBLOCK), i;
	struct vq *q = &self->q[LAST_QUEUE];
	struct pollfd p = { .fd = config, .events = POLLIN };
	uint64_t calls = 0;

	ASSERT_OK(MAP_ALL());
	for (i = 0; i < 2; i++) {
		ASSERT_OK(START());
		ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &config));
		POST();
		ASSERT_OK(DONE());
		/* More than the ring has. */
		__atomic_store_n(&vq_avail(q)->idx, q->avail + q->num + 1, __ATOMIC_RELEASE);
		signal_eventfd(q->kick);
		ASSERT_TRUE(wait_status(self->fd, VIRTIO_CONFIG_S_NEEDS_RESET));
		ASSERT_EQ(1, poll(&p, 1, WAIT_MS));
		ASSERT_EQ(8, read(config, &calls, 8));
		EXPECT_EQ(1, calls);
		EXPECT_EQ(STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET, get_status(self->fd));
		EXPECT_QUEUE(LAST_QUEUE, "broken: more is available than the ring has descriptors");
		/* Once, and for as long as it is not reset. */
		signal_eventfd(q->kick);
		usleep(QUIET_US);
		EXPECT_EQ(-1, read(config, &calls, 8));
		EXPECT_OK(set_status(self->fd, STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET));
		EXPECT_EQ(STATUS_RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET, get_status(self->fd));
		ASSERT_OK(set_status(self->fd, 0));
		EXPECT_EQ(0, get_status(self->fd));
		EXPECT_QUEUE(LAST_QUEUE, "stopped");
		/* Without PERSIST the reset took the maps. */
		ASSERT_OK(iotlb_unmap(self->fd, self->caps.iova, MEM));
		ASSERT_OK(MAP_ALL());
	}
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
	close(config);
}

/* The driver leaves it to the device how descriptors are to be aligned. */
TEST_F(sim_faults, impossible_layout_needs_reset)
{
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(negotiate(self->fd));
	vq_init(&self->q[0], false, 16, self->mem, self->caps.iova);
	ASSERT_OK(vq_set_up(&self->q[0], self->fd, 0, 0));
	ASSERT_OK(vring_addr(self->fd, 0, self->caps.iova + 8, self->caps.iova + PAGE,
			     self->caps.iova + 2 * PAGE));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_TRUE(wait_status(self->fd, VIRTIO_CONFIG_S_NEEDS_RESET));
	EXPECT_QUEUE(0, "broken: an area is misaligned or wraps around");
}

/* What changes while the device is suspended is told once it is resumed, and once. */
TEST_F(sim_faults, config_change_while_suspended)
{
	int config = eventfd(0, EFD_NONBLOCK);
	struct pollfd p = { .fd = config, .events = POLLIN };
	uint64_t calls = 0;

	if (self->disk)
		SKIP(return, "nothing in a disk's config space changes");
	ASSERT_OK(MAP_ALL());
	ASSERT_OK(START());
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &config));
	ASSERT_EQ(0, mgmt_run("vdpa dev set name " NAME " mac 02:00:00:00:00:11"));
	ASSERT_EQ(1, poll(&p, 1, WAIT_MS));
	ASSERT_EQ(8, read(config, &calls, 8));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_EQ(0, mgmt_run("vdpa dev set name " NAME " mac 02:00:00:00:00:12"));
	ASSERT_EQ(0, mgmt_run("vdpa dev set name " NAME " mac 02:00:00:00:00:13"));
	usleep(QUIET_US);
	EXPECT_EQ(-1, read(config, &calls, 8));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	ASSERT_EQ(1, poll(&p, 1, 5000));
	ASSERT_EQ(8, read(config, &calls, 8));
	EXPECT_EQ(1, calls);
	/* It was told: the next RESUME has nothing to say. Nor has a device that was reset. */
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_EQ(0, mgmt_run("vdpa dev set name " NAME " mac 02:00:00:00:00:14"));
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(START());
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	usleep(QUIET_US);
	EXPECT_EQ(-1, read(config, &calls, 8));
	close(config);
}

/* Not before so much time has passed, however slow the machine is. */
TEST_F(sim_faults, delay)
{
	uint64_t began;

	/* Before its threads have anything to do: none is in the middle of a run. */
	ASSERT_OK(set_knob(self->dir, "delay_completions_us", "700000"));
	ASSERT_OK(MAP_ALL());
	began = now_ns();
	ASSERT_OK(START());
	POST();
	EXPECT_OK(DONE());
	EXPECT_LE(700000000, now_ns() - began);
	/* An op waits for nobody who sleeps: what is posted meanwhile is not done after it. */
	POST();
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(set_knob(self->dir, "delay_completions_us", "0"));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(DONE());
}

/* --- Two linked NICs: what one may do to the other. */

#define PEERS		2
#define FRAMES		(2 * VQ_AREA)		/* offsets in the memory of each */
#define LONG		0x12000UL		/* more than any frame */
#define BUFFERS		(FRAMES + LONG)
#define BUFFER		2048UL
#define CABLE_MEM	(BUFFERS + 16 * BUFFER)
#define MAX_FRAME	(65535 + ETH_HLEN + 4)	/* what the MTU can say, and a tag */
#define HDR		sizeof(struct virtio_net_hdr_v1)
#define HDR_LEGACY	sizeof(struct virtio_net_hdr)

struct end {
	char name[16];
	char node[NODE_LEN];
	int fd;
	uint64_t iova;
	char *mem;
	struct vq q[2];
};

FIXTURE(link) {
	struct end end[PEERS];
};

FIXTURE_VARIANT(link) {
	bool packed;
};

FIXTURE_VARIANT_ADD(link, split) { .packed = false };
FIXTURE_VARIANT_ADD(link, packed) { .packed = true };

FIXTURE_SETUP(link)
{
	const char *parent = getenv("MGMTDEV");
	char dir[96];
	struct vdpa_caps caps;
	int i, k;

	for (i = 0; i < PEERS; i++)
		self->end[i].fd = -1;
	if (!parent || strcmp(parent, "rust_vdpasim_net"))
		SKIP(return, "no NIC simulator of ours: it has no links");
	for (i = 0; i < PEERS; i++) {
		struct end *e = &self->end[i];

		snprintf(e->name, sizeof(e->name), "selftest_%c", 'a' + i);
		mgmt_del_if_there(e->name);
		/* All features, packed rings among them, of a NIC with one pair. */
		ASSERT_OK(mgmt_add_on(e->name, parent, "device_features 0x7389f0028", e->node));
		e->fd = open_owned(e->node);
		ASSERT_LE(0, e->fd);
		ASSERT_OK(vdpa_get_caps(e->fd, &caps));
		e->iova = caps.iova;
		e->mem = shared_pages(CABLE_MEM);
		ASSERT_NE(NULL, e->mem);
		ASSERT_OK(iotlb_map(e->fd, e->iova, CABLE_MEM, e->mem));
		for (k = 0; k < 2; k++) {
			e->q[k].kick = eventfd(0, EFD_NONBLOCK);
			e->q[k].call = eventfd(0, EFD_NONBLOCK);
		}
	}
	snprintf(dir, sizeof(dir), "/sys/kernel/debug/rust_vdpa_sim_net/%s", self->end[0].name);
	if (access(dir, F_OK))
		SKIP(return, "no debugfs");
	ASSERT_OK(set_knob(dir, "peer", self->end[1].name));
}

FIXTURE_TEARDOWN(link)
{
	int i;

	for (i = 0; i < PEERS; i++) {
		if (self->end[i].fd >= 0)
			close(self->end[i].fd);
		mgmt_del_if_there(self->end[i].name);
	}
}

static int plug_in(struct end *e, uint64_t features)
{
	bool packed = features & FEATURE(VIRTIO_F_RING_PACKED);
	int i, r = negotiate_features(e->fd, features);

	for (i = 0; i < 2 && !r; i++) {
		vq_init(&e->q[i], packed, 16, e->mem + i * VQ_AREA, e->iova + i * VQ_AREA);
		r = vq_set_up(&e->q[i], e->fd, i, vq_initial_base(packed));
	}
	return r ?: set_status(e->fd, STATUS_RUNNING);
}

static uint64_t ring_features(bool packed)
{
	return FEATURES_MODERN | (packed ? FEATURE(VIRTIO_F_RING_PACKED) : 0);
}

static void post_buffer(struct end *e)
{
	vq_post(&e->q[0], e->iova + BUFFERS + vq_next_slot(&e->q[0]) * BUFFER, BUFFER, true);
}

/* Send so many bytes, header and all, and wait until they are sent. */
static int transmit(struct end *e, size_t header, uint32_t len)
{
	uint32_t used;

	memset(e->mem + FRAMES, 0, header);
	memset(e->mem + FRAMES + header, 0xff, ETH_ALEN);
	vq_post(&e->q[1], e->iova + FRAMES, len, false);
	signal_eventfd(e->q[1].kick);
	return vq_take_within(&e->q[1], &used, WAIT_MS) < 0 ? -ETIMEDOUT : 0;
}

/*
 * Send until a frame arrives: what comes before the receiver looked at its rings for the
 * first time is lost. Nothing is on its way on return.
 */
static int link_up(struct end *a, size_t header, struct end *b)
{
	uint32_t len;
	int i, r, slot = -EAGAIN;

	for (i = 0; i < 100 && slot < 0; i++) {
		r = transmit(a, header, header + 60);
		if (r)
			return r;
		if (!vq_in_flight(&b->q[0]))
			post_buffer(b);
		slot = vq_take_within(&b->q[0], &len, 300);
	}
	while (slot >= 0) {
		if (!vq_in_flight(&b->q[0]))
			post_buffer(b);
		signal_eventfd(b->q[0].kick);
		slot = vq_take_within(&b->q[0], &len, 500);
	}
	return i < 100 ? 0 : -ETIMEDOUT;
}

/* A number of "vdpa dev vstats show". */
static long vstat(const char *name, int idx, const char *key)
{
	char text[2048];

	return mgmt_vstats(name, idx, text, sizeof(text)) ? -1 : number_after(text, key);
}

TEST_F(link, long_frames_do_not_silence_the_peer)
{
	struct end *a = &self->end[0], *b = &self->end[1];
	uint32_t len;
	int i;

	/* Without VERSION_1 the header has ten bytes, with it twelve. */
	ASSERT_OK(plug_in(a, ring_features(variant->packed) & ~FEATURE(VIRTIO_F_VERSION_1)));
	ASSERT_OK(plug_in(b, ring_features(variant->packed)));
	ASSERT_OK(link_up(a, HDR_LEGACY, b));
	for (i = 0; i < 4; i++)
		post_buffer(b);
	ASSERT_OK(transmit(a, HDR_LEGACY, HDR_LEGACY + 64));
	ASSERT_LE(0, vq_take_within(&b->q[0], &len, WAIT_MS));
	EXPECT_EQ(HDR + 64, len);
	/* One byte more than a frame can have. */
	ASSERT_OK(transmit(a, HDR_LEGACY, HDR_LEGACY + MAX_FRAME + 1));
	ASSERT_OK(transmit(a, HDR_LEGACY, HDR_LEGACY + 65));
	ASSERT_LE(0, vq_take_within(&b->q[0], &len, 5000));
	EXPECT_EQ(HDR + 65, len);
	EXPECT_EQ(1, vstat(a->name, 1, "tx errors"));
	/* The longest: the buffer is too small, so it goes back unused. */
	ASSERT_OK(transmit(a, HDR_LEGACY, HDR_LEGACY + MAX_FRAME));
	ASSERT_LE(0, vq_take_within(&b->q[0], &len, 5000));
	EXPECT_EQ(0, len);
	ASSERT_OK(transmit(a, HDR_LEGACY, HDR_LEGACY + 66));
	ASSERT_LE(0, vq_take_within(&b->q[0], &len, 5000));
	EXPECT_EQ(HDR + 66, len);
	EXPECT_EQ(1, vstat(b->name, 0, "rx errors"));
	EXPECT_EQ(1, vstat(a->name, 1, "tx errors"));
}

/* Whether the device wants no kick for its receive queue. */
static bool kicks_are_suppressed(struct end *e)
{
	struct vq *q = &e->q[0];

	if (q->packed) {
		struct vring_packed_desc_event *event = (void *)vq_used(q);

		return __atomic_load_n(&event->flags, __ATOMIC_ACQUIRE) ==
		       VRING_PACKED_EVENT_FLAG_DISABLE;
	}
	return __atomic_load_n(&vq_used(q)->flags, __ATOMIC_ACQUIRE) & VRING_USED_F_NO_NOTIFY;
}

/* Buffers for frames that did not come yet need no kick; the frame that waits for one does. */
TEST_F(link, receive_kicks_are_suppressed)
{
	struct end *a = &self->end[0], *b = &self->end[1];
	uint32_t len;
	int i, round;

	ASSERT_OK(plug_in(a, ring_features(variant->packed)));
	ASSERT_OK(plug_in(b, ring_features(variant->packed)));
	ASSERT_OK(link_up(a, HDR, b));
	for (round = 0; round < 3; round++) {
		while (vq_in_flight(&b->q[0]) < 1)
			post_buffer(b);
		ASSERT_OK(transmit(a, HDR, HDR + 64));
		ASSERT_LE(0, vq_take_within(&b->q[0], &len, WAIT_MS));
		EXPECT_EQ(HDR + 64, len);
		for (i = 0; i < 5000 && !kicks_are_suppressed(b); i++)
			usleep(1000);
		EXPECT_TRUE(kicks_are_suppressed(b));
		/* There is no buffer for this one. */
		ASSERT_OK(transmit(a, HDR, HDR + 70));
		for (i = 0; i < 5000 && kicks_are_suppressed(b); i++)
			usleep(1000);
		EXPECT_FALSE(kicks_are_suppressed(b));
		post_buffer(b);
		signal_eventfd(b->q[0].kick);
		ASSERT_LE(0, vq_take_within(&b->q[0], &len, WAIT_MS));
		EXPECT_EQ(HDR + 70, len);
	}
}

TEST_HARNESS_MAIN
