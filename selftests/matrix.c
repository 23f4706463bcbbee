// SPDX-License-Identifier: GPL-2.0
/*
 * Who holds which maps after a reset, after a close, after the death of the owner
 * and after removal, for each kind of parent, with IOTLB_PERSIST acknowledged and
 * not. The expected values are in rows[] and after(); they come from what C's
 * driver and its parents do, and from Documentation/deviations.rst.
 *
 * tools/suites/matrix/matrix-vm.sh says what the parent is:
 *
 *   MATRIX_MAPS	platform, set_map, dma_map: who translates, and how it is told;
 *			va, va_dma_map: the same two with addresses of the owner
 *   MATRIX_RESET	platform, legacy, persistent or private, as parent_ops.rs has them
 *   MATRIX_DEV		its name on the bus; VHOST_VDPA_DEV is its node
 *
 * What a parent holds is seen by making it do DMA: one request on a ring that
 * lies in the memory in question. A skip that says "n/a" is a combination that
 * does not exist with this parent.
 */
#include <linux/if_ether.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>

#include "vdpa_test.h"
#include "bus.h"
#include "queue.h"

#define VQ_NUM		16
#define QUEUE_AREA	(2 * PAGE)	/* the used ring begins at a page */
#define HDR_OFF		(2 * QUEUE_AREA)
#define STATUS_OFF	(HDR_OFF + PAGE)
#define DATA_OFF	(STATUS_OFF + PAGE)
#define AREA		(DATA_OFF + 2 * PAGE)
#define AREA_PAGES	(AREA / PAGE)
#define DATA_LEN	512
#define NOT_WRITTEN	0xee
#define WAIT_MS		20000
#define QUIET_US	300000		/* how long nothing must happen */
#define TEST_S		240

enum event {
	SET_STATUS_0,
	SUSPEND_AND_RESET,
	CLOSE,
	KILL,
	REMOVAL,
};

/* What is known of a kind of parent. */
static const struct row {
	const char *maps;
	const char *reset;
	bool offered;		/* IOTLB_PERSIST */
	bool kept_if_acked;	/* the parent's maps, by a reset */
	bool kept_if_not;
	bool pins;		/* else the parent has the owner's addresses */
	bool whole_table;	/* each update tells the parent everything */
	bool identity;		/* a parent at rest has a map of its own, 1:1 */
	bool c_leaves;		/* C's driver leaves the last owner's maps to the next */
} rows[] = {
	/*                           offered  kept     pins   table  identity leaves */
	{ "platform",   "platform",   true,  true, true,   true,  false, false, false },
	{ "set_map",    "legacy",     true,  true, false,  true,  true,  true,  false },
	{ "dma_map",    "legacy",     true,  true, false,  true,  false, true,  false },
	{ "va",         "legacy",     true,  true, false,  false, true,  false, false },
	{ "va_dma_map", "legacy",     true,  true, false,  false, false, false, false },
	{ "set_map",    "persistent", true,  true, true,   true,  true,  true,  false },
	{ "dma_map",    "persistent", true,  true, true,   true,  false, true,  false },
	{ "va",         "private",    false, true, true,   false, true,  false, true },
};

/* A device, the rings in mem, and one request. */
struct probe {
	int fd;
	uint32_t id;
	uint64_t iova;
	char *mem;
	int kick;
	struct vring vr[2];
};

static void lay_out(struct probe *p)
{
	int i;

	memset(p->mem, 0, AREA);
	memset(p->mem + DATA_OFF, NOT_WRITTEN, DATA_LEN);
	for (i = 0; i < 2; i++)
		vring_init(&p->vr[i], VQ_NUM, p->mem + i * QUEUE_AREA, PAGE);
}

/* A buffer of mem at the end of the chain that slot 0 of a queue begins. */
static void chain(struct probe *p, int i, uint64_t off, uint32_t len, uint16_t flags)
{
	struct vring_desc *d = p->vr[i].desc;
	int n = 0;

	while (d[n].len)
		n++;
	d[n] = (struct vring_desc){ .addr = p->iova + off, .len = len, .flags = flags };
	if (n) {
		d[n - 1].flags |= VRING_DESC_F_NEXT;
		d[n - 1].next = n;
	}
	p->vr[i].avail->ring[0] = 0;
	__atomic_store_n(&p->vr[i].avail->idx, 1, __ATOMIC_RELEASE);
}

static int set_up_queue(struct probe *p, int i)
{
	int fd = p->fd, r;

	r = vring_place(fd, i, &p->vr[i], p->iova + i * QUEUE_AREA, 0);
	r = r ?: vring_file(fd, VHOST_SET_VRING_KICK, i, p->kick);
	return r ?: vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, i, 1);
}

/*
 * From reset to a request that the device knows of: something that ends with
 * DATA_OFF being written to.
 */
static int start(struct probe *p)
{
	struct virtio_blk_outhdr *read = (void *)(p->mem + HDR_OFF);
	struct ethhdr *eth = (void *)(p->mem + HDR_OFF + sizeof(struct virtio_net_hdr_v1));
	int r;

	lay_out(p);
	switch (p->id) {
	case VIRTIO_ID_NET:
		/* To everybody, and so back to itself. */
		memset(eth->h_dest, 0xff, ETH_ALEN);
		chain(p, 0, DATA_OFF, DATA_LEN, VRING_DESC_F_WRITE);
		chain(p, 1, HDR_OFF, 128, 0);
		break;
	case VIRTIO_ID_BLOCK:
		*read = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN };
		chain(p, 0, HDR_OFF, sizeof(*read), 0);
		chain(p, 0, DATA_OFF, DATA_LEN, VRING_DESC_F_WRITE);
		chain(p, 0, STATUS_OFF, 1, VRING_DESC_F_WRITE);
		break;
	case VIRTIO_ID_RNG:
		chain(p, 0, DATA_OFF, DATA_LEN, VRING_DESC_F_WRITE);
		break;
	default:
		return -ENODEV;
	}
	r = negotiate(p->fd);
	r = r ?: set_up_queue(p, 0);
	if (p->id == VIRTIO_ID_NET)
		r = r ?: set_up_queue(p, 1);
	r = r ?: set_status(p->fd, STATUS_RUNNING);
	if (!r)
		signal_eventfd(p->kick);
	return r;
}

/* Whether the device wrote to the data. */
static bool written(struct probe *p)
{
	return !all_bytes(p->mem + DATA_OFF, DATA_LEN, NOT_WRITTEN);
}

/* The device must reach the memory: 0, or what happened instead. */
static int reaches(struct probe *p)
{
	int r = start(p);

	r = r ?: vring_wait(&p->vr[0], 1, WAIT_MS);
	return r ?: written(p) ? 0 : -ENODATA;
}

/* It must not: 0, or 1 when it did. When this returns it is reset. */
static int spares(struct probe *p)
{
	int r = start(p);

	if (r)
		return r;
	usleep(QUIET_US);
	r = set_status(p->fd, 0);
	return r ?: vring_used_idx(&p->vr[0]) || written(p);
}

static int map(struct probe *p)
{
	return iotlb_map(p->fd, p->iova, AREA, p->mem);
}

FIXTURE(matrix) {
	const struct row *row;
	struct probe p;
	long system;		/* pinned pages before the test */
	pid_t child;
	int old;		/* the file of a removed device */
};

FIXTURE_VARIANT(matrix) {
	enum event event;
	bool ack;
};

#define VARIANTS(name, what)						\
	FIXTURE_VARIANT_ADD(matrix, name##_acked) {			\
		.event = what,						\
		.ack = true,						\
	};								\
	FIXTURE_VARIANT_ADD(matrix, name##_not_acked) {		\
		.event = what,						\
	}

VARIANTS(set_status_0, SET_STATUS_0);
VARIANTS(suspend_and_reset, SUSPEND_AND_RESET);
VARIANTS(close, CLOSE);
VARIANTS(kill, KILL);
VARIANTS(removal, REMOVAL);

/* The node may have another number after removal. */
static int open_device(struct probe *p)
{
	char node[NODE_LEN];
	int r = mgmt_find_node(getenv("MATRIX_DEV"), node);

	if (r)
		return r;
	p->fd = open_owned(node);
	return p->fd < 0 ? p->fd : 0;
}

FIXTURE_SETUP(matrix)
{
	const char *maps = getenv("MATRIX_MAPS"), *reset = getenv("MATRIX_RESET");
	struct vdpa_caps caps;
	int i;

	self->old = -1;
	self->p.fd = -1;
	if (!maps || !reset || !getenv("MATRIX_DEV"))
		SKIP(return, "tools/suites/matrix/matrix-vm.sh did not say what the parent is");
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(rows[i].maps, maps) && !strcmp(rows[i].reset, reset))
			self->row = &rows[i];
	ASSERT_NE(NULL, self->row);
	if (variant->event == REMOVAL)
		C_WAITS();

	self->system = pinned_system();
	self->p.kick = eventfd(0, EFD_NONBLOCK);
	self->p.mem = shared_pages(AREA);
	ASSERT_NE(NULL, self->p.mem);
	ASSERT_OK(open_device(&self->p));
	ASSERT_OK(vdpa_get_caps(self->p.fd, &caps));
	self->p.id = caps.device_id;
	self->p.iova = caps.iova;
	if (variant->event == SUSPEND_AND_RESET && !(caps.backend & BACKEND(SUSPEND)))
		SKIP(return, "n/a: the parent cannot suspend");
	EXPECT_EQ(self->row->offered, !!(caps.backend & BACKEND(IOTLB_PERSIST)));
	if (variant->ack && !self->row->offered) {
		EXPECT_ERRNO(EOPNOTSUPP, set_backend_features(self->p.fd,
				BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_PERSIST)));
		SKIP(return, "n/a: IOTLB_PERSIST is not offered, and acking it is refused");
	}
}

FIXTURE_TEARDOWN(matrix)
{
	if (self->old >= 0)
		close(self->old);
	if (self->p.fd >= 0)
		close(self->p.fd);
	EXPECT_EQ(0, pinned_self());
	if (self->p.mem)
		EXPECT_EQ(self->system, wait_pinned_system(self->system));
}

/* An owner that has mapped its memory, and whose device has used it. */
static int own(struct probe *p, bool ack)
{
	uint64_t features = BACKEND(IOTLB_MSG_V2) | (ack ? BACKEND(IOTLB_PERSIST) : 0);
	int r = set_backend_features(p->fd, features);

	r = r ?: map(p);
	return r ?: reaches(p);
}

/* The same in a process of its own, which is then killed. */
static int own_and_die(struct probe *p, bool ack)
{
	int ready[2], r = -EIO, status;
	pid_t pid;

	close(p->fd);
	if (pipe(ready))
		return -errno;
	pid = fork();
	if (!pid) {
		r = open_device(p);
		r = r ?: own(p, ack);
		if (write(ready[1], &r, sizeof(r)) == sizeof(r))
			pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &r, sizeof(r)) != sizeof(r))
		r = -EIO;
	close(ready[0]);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return r ?: open_device(p);
}

/* An owner, the event, and the file of the next one where the event ends the first. */
static int happen(struct probe *p, enum event event, bool ack, int *old)
{
	const char *dev = getenv("MATRIX_DEV");
	char node[NODE_LEN];
	int r;

	if (event == KILL)
		return own_and_die(p, ack);
	r = own(p, ack);
	if (r)
		return r;
	switch (event) {
	case SUSPEND_AND_RESET:
		r = vioctl(p->fd, VHOST_VDPA_SUSPEND, NULL);
		return r ?: set_status(p->fd, 0);
	case SET_STATUS_0:
		return set_status(p->fd, 0);
	case CLOSE:
		close(p->fd);
		return open_device(p);
	case REMOVAL:
		*old = p->fd;
		r = bus_unbind(dev);
		r = r ?: bus_bind(dev, node);
		return r ?: open_device(p);
	default:
		return -EINVAL;
	}
}

#define HAPPEN()							\
	ASSERT_OK(happen(&self->p, variant->event, variant->ack, &self->old))

/* Whether the file is still that of the process that mapped. */
static bool same_owner(enum event event)
{
	return event == SET_STATUS_0 || event == SUSPEND_AND_RESET;
}

/* Whether the parent still has the maps. */
static bool after(const struct row *row, enum event event, bool ack)
{
	if (!same_owner(event))
		return false;
	return ack ? row->kept_if_acked : row->kept_if_not;
}

TEST_F_TIMEOUT(matrix, what_the_parent_holds, TEST_S)
{
	int spared;

	HAPPEN();
	if (after(self->row, variant->event, variant->ack)) {
		EXPECT_OK(reaches(&self->p));
		return;
	}
	spared = spares(&self->p);
	C_MAY_DIFFER(self->row->c_leaves && spared == 1, "the 1:1 map stays");
	EXPECT_EQ(0, spared);
}

TEST_F_TIMEOUT(matrix, what_the_iotlb_holds, TEST_S)
{
	struct probe *p = &self->p;
	long pins = self->row->pins ? AREA_PAGES : 0;
	long now = same_owner(variant->event) ? pins : 0;

	HAPPEN();
	EXPECT_EQ(now, pinned_self());
	EXPECT_EQ(self->system + now, wait_pinned_system(self->system + now));
	if (same_owner(variant->event)) {
		/* Any error of a message is EFAULT: here the range is taken. */
		EXPECT_ERRNO(EFAULT, map(p));
		EXPECT_EQ(pins, pinned_self());
		EXPECT_OK(iotlb_unmap(p->fd, p->iova, AREA));
		EXPECT_UNPINNED();
	}
	EXPECT_OK(map(p));
	EXPECT_EQ(pins, pinned_self());
	EXPECT_OK(reaches(p));
}

TEST_F_TIMEOUT(matrix, what_the_next_update_brings_back, TEST_S)
{
	bool back;

	HAPPEN();
	back = after(self->row, variant->event, variant->ack) ||
	       (same_owner(variant->event) && self->row->whole_table);
	ASSERT_OK(iotlb_map(self->p.fd, self->p.iova + 2 * AREA, PAGE, shared_pages(PAGE)));
	EXPECT_OK(back ? reaches(&self->p) : spares(&self->p));
}

/* The rings at their physical address: contiguous only in a huge page. */
static bool use_physical(struct probe *p)
{
	char *mem = physical_area(AREA);

	if (!mem)
		return false;
	p->mem = mem;
	p->iova = physical(mem);
	return true;
}

TEST_F_TIMEOUT(matrix, no_1_to_1_map, TEST_S)
{
	struct probe *p = &self->p;
	int spared;

	if (!self->row->identity)
		SKIP(return, "n/a: the parent has no map of its own");
	HAPPEN();
	/* This memory is ours, so even on C nobody else is written to. */
	if (!use_physical(p))
		SKIP(return, "no huge page");
	spared = spares(p);
	C_MAY_DIFFER(!after(self->row, variant->event, variant->ack) && spared == 1, "the 1:1 map stays");
	EXPECT_EQ(0, spared);
}

TEST_F_TIMEOUT(matrix, what_the_second_owner_sees, TEST_S)
{
	struct probe *p = &self->p;
	struct vdpa_caps before, now;

	ASSERT_OK(vdpa_get_caps(p->fd, &before));
	HAPPEN();
	if (same_owner(variant->event)) {
		close(p->fd);
		ASSERT_OK(open_device(p));
	}
	ASSERT_OK(vdpa_get_caps(p->fd, &now));
	EXPECT_EQ(0, memcmp(&before, &now, sizeof(now)));
	EXPECT_EQ(0, get_status(p->fd));
	/* What the first one acknowledged is not valid for the second. */
	ASSERT_OK(own(p, false));
	ASSERT_OK(set_status(p->fd, 0));
	EXPECT_OK(self->row->kept_if_not ? reaches(p) : spares(p));
}

TEST_F_TIMEOUT(matrix, what_the_old_file_says, TEST_S)
{
	struct vdpa_caps caps;

	if (variant->event != REMOVAL)
		SKIP(return, "n/a: only removal leaves one behind");
	HAPPEN();
	EXPECT_ERRNO(ENODEV, vdpa_get_caps(self->old, &caps));
	EXPECT_ERRNO(ENODEV, iotlb_unmap(self->old, self->p.iova, AREA));
	/* And closing it does nothing to its successor. */
	ASSERT_OK(own(&self->p, variant->ack));
	close(self->old);
	self->old = -1;
	ASSERT_OK(iotlb_map(self->p.fd, self->p.iova + 2 * AREA, PAGE, shared_pages(PAGE)));
	EXPECT_EQ(STATUS_RUNNING, get_status(self->p.fd));
	ASSERT_OK(set_status(self->p.fd, 0));
	ASSERT_OK(iotlb_unmap(self->p.fd, 0, 0));
	ASSERT_OK(map(&self->p));
	EXPECT_OK(reaches(&self->p));
}

TEST_HARNESS_MAIN
