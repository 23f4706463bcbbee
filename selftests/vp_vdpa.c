// SPDX-License-Identifier: GPL-2.0
/*
 * vp_vdpa as the parent: a virtio-blk PCI device with two queues behind the
 * platform's IOMMU, with real doorbells and real queue interrupts. Run by
 * tools/suites/vp-vdpa/vp-vdpa.sh, which gives
 *
 *   VP_BLK=PCI-ADDRESS	the disk; sector n holds the 32-bit number n 128 times
 *   VP_NETS="A B"	two NICs on one hub
 *   VP_VDPA_KO=FILE	what to load after the parent was unloaded
 *
 * Each test makes its device and removes it.
 */
#include <ctype.h>
#include <linux/virtio_blk.h>
#include <pthread.h>

#include "vdpa_test.h"
#include "mgmt.h"
#include "modules/irqbypass_test.h"
#include "virtio.h"

#define NAME		"selftest_vp"
#define SECTORS		16384
#define SECTOR		512UL
#define SERIAL		"vp-vdpa-test"

/* One area that stays mapped; data has pages of its own, mapped beside it. */
#define QUEUE_AREA	0x4000UL	/* a ring; used begins at a page */
#define HDR_OFF		(2 * QUEUE_AREA)
#define STATUS_OFF	(HDR_OFF + PAGE)
#define AREA		(STATUS_OFF + PAGE)
#define DATA_LEN	(4 * PAGE)
#define VQ_NUM		16
#define NO_STATUS	0xaa
#define MODULE_MS	60000	/* modules load and unload at their own pace */

struct blk {
	int fd;
	uint64_t iova;
	uint64_t data_iova;
	char *mem;
	unsigned char *data;
	struct blk_queue {
		struct vring vr;
		int kick;
		int call;
		uint16_t avail;
		volatile uint16_t *bell;
	} q[2];
};

static int blk_init(struct blk *b, int fd)
{
	struct vdpa_caps caps;
	int i, r;

	memset(b, 0, sizeof(*b));
	b->fd = fd;
	r = vdpa_get_caps(fd, &caps);
	if (r)
		return r;
	/* QEMU's device takes a ring at 0 as none at all. */
	b->iova = caps.iova;
	b->data_iova = b->iova + 0x100000;
	b->mem = shared_pages(AREA);
	b->data = shared_pages(DATA_LEN);
	if (!b->mem || !b->data)
		return -ENOMEM;
	for (i = 0; i < 2; i++) {
		b->q[i].kick = eventfd(0, EFD_NONBLOCK);
		b->q[i].call = eventfd(0, EFD_NONBLOCK);
	}
	return 0;
}

static void blk_exit(struct blk *b)
{
	int i;

	if (b->mem)
		munmap(b->mem, AREA);
	if (b->data)
		munmap(b->data, DATA_LEN);
	for (i = 0; i < 2; i++) {
		if (b->q[i].bell)
			munmap((void *)b->q[i].bell, PAGE);
		close(b->q[i].kick);
		close(b->q[i].call);
	}
}

static int blk_map(struct blk *b)
{
	int r = iotlb_map(b->fd, b->iova, AREA, b->mem);

	return r ?: iotlb_map(b->fd, b->data_iova, DATA_LEN, b->data);
}

static void blk_lay_out(struct blk *b)
{
	int i;

	memset(b->mem, 0, AREA);
	for (i = 0; i < 2; i++) {
		vring_init(&b->q[i].vr, VQ_NUM, b->mem + i * QUEUE_AREA, PAGE);
		b->q[i].avail = 0;
	}
}

#define WITH_KICK	1
#define WITH_CALL	2
#define WITH_BOTH	3

/* From reset to before DRIVER_OK; what says which eventfds the queues get. */
static int blk_prepare(struct blk *b, int what0, int what1)
{
	int i, what[2] = { what0, what1 }, r = negotiate(b->fd);

	blk_lay_out(b);
	for (i = 0; i < 2 && !r; i++) {
		struct blk_queue *q = &b->q[i];

		r = vring_place(b->fd, i, &q->vr, b->iova + i * QUEUE_AREA, 0);
		r = r ?: vring_file(b->fd, VHOST_SET_VRING_KICK, i,
				    what[i] & WITH_KICK ? q->kick : -1);
		r = r ?: vring_file(b->fd, VHOST_SET_VRING_CALL, i,
				    what[i] & WITH_CALL ? q->call : -1);
		r = r ?: vring_state(b->fd, VHOST_VDPA_SET_VRING_ENABLE, i, 1);
	}
	return r;
}

static int blk_start(struct blk *b, int what0, int what1)
{
	return blk_prepare(b, what0, what1) ?: set_status(b->fd, STATUS_RUNNING);
}

/* Put one request into the ring; the device hears nothing of it. */
static void blk_post(struct blk *b, int i, uint32_t type, uint64_t sector,
		     uint32_t off, uint32_t len)
{
	struct blk_queue *q = &b->q[i];
	struct virtio_blk_outhdr *hdr = (void *)(b->mem + HDR_OFF + i * 64);
	struct vring_desc *d = q->vr.desc;

	*hdr = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	b->mem[STATUS_OFF + i] = (char)NO_STATUS;
	d[0] = (struct vring_desc){
		.addr = b->iova + HDR_OFF + i * 64,
		.len = sizeof(*hdr),
		.flags = VRING_DESC_F_NEXT,
		.next = 1,
	};
	d[1] = (struct vring_desc){
		.addr = b->data_iova + off,
		.len = len,
		.flags = VRING_DESC_F_NEXT |
			 (type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE),
		.next = 2,
	};
	d[2] = (struct vring_desc){
		.addr = b->iova + STATUS_OFF + i,
		.len = 1,
		.flags = VRING_DESC_F_WRITE,
	};
	q->vr.avail->ring[q->avail % VQ_NUM] = 0;
	q->avail++;
	__atomic_store_n(&q->vr.avail->idx, q->avail, __ATOMIC_SEQ_CST);
}

static uint16_t blk_used(struct blk *b, int i)
{
	return vring_used_idx(&b->q[i].vr);
}

static void blk_kick(struct blk *b, int i)
{
	signal_eventfd(b->q[i].kick);
}

/* The device's answer to the request: its status byte, or -ETIMEDOUT. */
static int blk_wait(struct blk *b, int i, int call, int ms)
{
	struct pollfd p = { .fd = call, .events = POLLIN };

	while (blk_used(b, i) != b->q[i].avail) {
		if (poll(&p, 1, ms) != 1)
			return -ETIMEDOUT;
		drain(call);
	}
	return (unsigned char)b->mem[STATUS_OFF + i];
}

static int blk_wait_polling(struct blk *b, int i, int ms)
{
	return vring_wait(&b->q[i].vr, b->q[i].avail, ms) ?: (unsigned char)b->mem[STATUS_OFF + i];
}

/* Read a sector by kick and call eventfd and look at it: 0 or what was wrong. */
static int blk_read(struct blk *b, int i, uint32_t sector)
{
	uint32_t *p = (uint32_t *)b->data;
	int n, r;

	memset(b->data, 0xee, SECTOR);
	blk_post(b, i, VIRTIO_BLK_T_IN, sector, 0, SECTOR);
	blk_kick(b, i);
	r = blk_wait(b, i, b->q[i].call, WAIT_MS);
	if (r)
		return r;
	for (n = 0; n < SECTOR / 4; n++)
		if (p[n] != sector)
			return -EBADMSG;
	return b->data[SECTOR] == 0 ? 0 : -EOVERFLOW;
}

static int blk_ring_bell(struct blk *b, int i)
{
	if (!b->q[i].bell) {
		void *p = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, b->fd, i * PAGE);

		if (p == MAP_FAILED)
			return -errno;
		b->q[i].bell = p;
	}
	*b->q[i].bell = i;
	return 0;
}

/* The interrupts of one of the parent's vectors, or -1 without that vector. */
static long vector_count(const char *suffix)
{
	char line[1024], name[64];
	long sum = -1;
	FILE *f = fopen("/proc/interrupts", "r");

	if (!f)
		return -1;
	snprintf(name, sizeof(name), "vp-vdpa[%s]-%s", getenv("VP_BLK"), suffix);
	while (fgets(line, sizeof(line), f)) {
		char *p = strchr(line, ':');

		if (!p || !strstr(line, name))
			continue;
		for (sum = 0, p++; ; ) {
			char *end;
			long v = strtol(p, &end, 10);

			if (end == p || (*end && !isspace(*end)))
				break;
			sum += v;
			p = end;
		}
		break;
	}
	fclose(f);
	return sum;
}

static int add_pci(const char *name, const char *pci, char *node)
{
	char mgmtdev[128];

	snprintf(mgmtdev, sizeof(mgmtdev), "pci/%s", pci);
	return mgmt_add_on(name, mgmtdev, "", node);
}

static int add_device(char *node)
{
	return add_pci(NAME, getenv("VP_BLK"), node);
}

static int pci_driver(const char *verb)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "echo %s >/sys/bus/pci/drivers/vp-vdpa/%s",
		 getenv("VP_BLK"), verb);
	return mgmt_run(cmd);
}

FIXTURE(vp) {
	char node[NODE_LEN];
	int fd;
	struct blk b;
	long system;
};

FIXTURE_SETUP(vp)
{
	self->fd = -1;
	if (!getenv("VP_BLK"))
		SKIP(return, "no VP_BLK: run by tools/suites/vp-vdpa/vp-vdpa.sh");
	self->system = pinned_system();
	ASSERT_OK(add_device(self->node));
	self->fd = open_owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(blk_init(&self->b, self->fd));
	ASSERT_OK(blk_map(&self->b));
}

FIXTURE_TEARDOWN(vp)
{
	if (!getenv("VP_BLK"))
		return;
	if (self->fd >= 0)
		close(self->fd);
	blk_exit(&self->b);
	mgmt_del_if_there(NAME);
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
	EXPECT_EQ(-1, vector_count("config"));
}

TEST_F(vp, io_by_eventfds)
{
	struct blk *b = &self->b;
	int i;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	for (i = 0; i < 50; i++)
		ASSERT_EQ(0, blk_read(b, i & 1, i * 321 % SECTORS));
	/* Who it is. */
	memset(b->data, 0, SECTOR);
	blk_post(b, 0, VIRTIO_BLK_T_GET_ID, 0, 0, VIRTIO_BLK_ID_BYTES);
	blk_kick(b, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, b->q[0].call, WAIT_MS));
	EXPECT_STREQ(SERIAL, (char *)b->data);
}

TEST_F(vp, write_and_read_back)
{
	struct blk *b = &self->b;
	uint32_t *p = (uint32_t *)b->data, i;
	const uint32_t sector = 4242;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	for (i = 0; i < SECTOR / 4; i++)
		p[i] = ~i;
	blk_post(b, 0, VIRTIO_BLK_T_OUT, sector, 0, SECTOR);
	blk_kick(b, 0);
	ASSERT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, b->q[0].call, WAIT_MS));
	/* Through the other queue, into another page. */
	blk_post(b, 1, VIRTIO_BLK_T_IN, sector, PAGE, SECTOR);
	blk_kick(b, 1);
	ASSERT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 1, b->q[1].call, WAIT_MS));
	EXPECT_EQ(0, memcmp(b->data, b->data + PAGE, SECTOR));
	/* As it was. */
	for (i = 0; i < SECTOR / 4; i++)
		p[i] = sector;
	blk_post(b, 0, VIRTIO_BLK_T_OUT, sector, 0, SECTOR);
	blk_kick(b, 0);
	ASSERT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, b->q[0].call, WAIT_MS));
	EXPECT_EQ(0, blk_read(b, 0, sector));
}

TEST_F(vp, platform_iommu)
{
	struct vdpa_caps caps;

	ASSERT_OK(vdpa_get_caps(self->fd, &caps));
	EXPECT_EQ(1, caps.ngroups);
	EXPECT_EQ(1, caps.nas);
	/* Memory is pinned, and the range is what the IOMMU can address. */
	EXPECT_EQ((AREA + DATA_LEN) / PAGE, pinned_self());
	EXPECT_LT(caps.range.last, UINT64_MAX);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, caps.range.last + 1, PAGE,
				       self->b.data));
	/* Nothing depends on the parent but PERSIST, as the IOMMU forgets nothing. */
	EXPECT_EQ(BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_BATCH) |
		  BACKEND(IOTLB_ASID) | BACKEND(IOTLB_PERSIST), caps.backend);
	/* It cannot say where a queue is. */
	EXPECT_ERRNO(EOPNOTSUPP, vring_get(self->fd, VHOST_GET_VRING_BASE, 0));
}

TEST_F(vp, doorbell_rings_the_device)
{
	struct blk *b = &self->b;
	uint32_t *p = (uint32_t *)b->data;
	int i;

	/* No kick eventfd anywhere: the doorbell is the only way. */
	ASSERT_OK(blk_start(b, WITH_CALL, WITH_CALL));
	for (i = 0; i < 20; i++) {
		int q = i & 1;

		blk_post(b, q, VIRTIO_BLK_T_IN, 1000 + i, 0, SECTOR);
		/* QEMU looks at the rings by itself, but only when it starts. */
		if (i == 10)
			EXPECT_ERRNO(ETIMEDOUT, blk_wait(b, q, b->q[q].call, 300));
		ASSERT_OK(blk_ring_bell(b, q));
		ASSERT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, q, b->q[q].call, WAIT_MS));
		EXPECT_EQ(1000 + i, p[0]);
		EXPECT_EQ(1000 + i, p[SECTOR / 4 - 1]);
	}
}

TEST_F(vp, doorbells_are_one_page_each)
{
	struct blk *b = &self->b;
	void *p;

	ASSERT_OK(blk_start(b, WITH_CALL, WITH_CALL));
	EXPECT_OK(blk_ring_bell(b, 0));
	EXPECT_OK(blk_ring_bell(b, 1));
	/* Index 2 is no queue's; the mapping of another file offset neither. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd,
				   2 * PAGE));
	EXPECT_EQ(EINVAL, errno);
	/* It cannot be made readable, nor grow. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
				   self->fd, 0));
	EXPECT_EQ(MAP_FAILED, mremap((void *)b->q[0].bell, PAGE, 2 * PAGE,
				     MREMAP_MAYMOVE));
	/* Moved it still works. */
	p = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(p, mremap((void *)b->q[0].bell, PAGE, PAGE,
			    MREMAP_MAYMOVE | MREMAP_FIXED, p));
	b->q[0].bell = p;
	blk_post(b, 0, VIRTIO_BLK_T_IN, 5, 0, SECTOR);
	EXPECT_OK(blk_ring_bell(b, 0));
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, b->q[0].call, WAIT_MS));
}

TEST_F(vp, update_over_a_doorbell)
{
	void *p = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, p);
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, 0x40000000, PAGE, p));
	*(volatile uint16_t *)p = 0;
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, 0x40000000, PAGE, p));
	munmap(p, PAGE);
}

TEST_F(vp, doorbell_outlives_the_descriptor)
{
	struct blk *b = &self->b;
	int fd = self->fd;

	ASSERT_OK(blk_start(b, WITH_CALL, WITH_CALL));
	ASSERT_OK(blk_ring_bell(b, 0));
	/* The map holds the file, and so the device. */
	ASSERT_EQ(0, close(fd));
	self->fd = -1;
	blk_post(b, 0, VIRTIO_BLK_T_IN, 6, 0, SECTOR);
	*b->q[0].bell = 0;
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, b->q[0].call, WAIT_MS));
	EXPECT_EQ(-EBUSY, open(self->node, O_RDWR) < 0 ? -errno : 0);
	munmap((void *)b->q[0].bell, PAGE);
	b->q[0].bell = NULL;
	self->fd = node_open(self->node);
	EXPECT_LE(0, self->fd);
}

TEST_F(vp, interrupts_are_the_devices)
{
	struct blk *b = &self->b;
	long before;
	int i;

	EXPECT_EQ(-1, vector_count("0"));
	ASSERT_OK(blk_prepare(b, WITH_BOTH, WITH_KICK));
	EXPECT_EQ(-1, vector_count("0"));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	before = vector_count("0");
	ASSERT_LE(0, before);
	EXPECT_LE(0, vector_count("config"));
	/* No eventfd, no vector. */
	EXPECT_EQ(-1, vector_count("1"));
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, blk_read(b, 0, i));
	/* Fewer than requests, if some were seen before their interrupt. */
	EXPECT_LT(before, vector_count("0"));
	/* Without one the queue works all the same. */
	blk_post(b, 1, VIRTIO_BLK_T_IN, 9, 0, SECTOR);
	blk_kick(b, 1);
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait_polling(b, 1, WAIT_MS));
	EXPECT_EQ(0, drain(b->q[1].call));
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_EQ(-1, vector_count("0"));
	EXPECT_EQ(-1, vector_count("config"));
}

TEST_F(vp, call_eventfd_replaced_while_running)
{
	struct blk *b = &self->b;
	int other = eventfd(0, EFD_NONBLOCK), first = b->q[0].call;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	ASSERT_EQ(0, blk_read(b, 0, 1));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, other));
	drain(first);
	blk_post(b, 0, VIRTIO_BLK_T_IN, 2, 0, SECTOR);
	blk_kick(b, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, other, WAIT_MS));
	EXPECT_EQ(0, drain(first));
	/* None, and then the first again. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, -1));
	blk_post(b, 0, VIRTIO_BLK_T_IN, 3, 0, SECTOR);
	blk_kick(b, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait_polling(b, 0, WAIT_MS));
	usleep(50000);
	drain(other);
	EXPECT_EQ(0, drain(first));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, first));
	EXPECT_EQ(0, blk_read(b, 0, 4));
	EXPECT_EQ(0, drain(other));
	close(other);
}

TEST_F(vp, unmapped_memory_is_out_of_reach)
{
	struct blk *b = &self->b;
	size_t i;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	ASSERT_EQ(0, blk_read(b, 0, 77));
	ASSERT_OK(iotlb_unmap(self->fd, b->data_iova, DATA_LEN));
	EXPECT_EQ(AREA / PAGE, pinned_self());
	memset(b->data, 0x55, DATA_LEN);
	blk_post(b, 0, VIRTIO_BLK_T_IN, 78, 0, SECTOR);
	blk_kick(b, 0);
	/* QEMU's device calls a write that went nowhere a success. */
	blk_wait(b, 0, b->q[0].call, 1000);
	for (i = 0; i < DATA_LEN; i++)
		ASSERT_EQ(0x55, b->data[i]);
	/* After a reset it works again; maps stayed, this one comes back. */
	ASSERT_OK(set_status(self->fd, 0));
	memset(b->data, 0, DATA_LEN);
	ASSERT_OK(iotlb_map(self->fd, b->data_iova, DATA_LEN, b->data));
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	EXPECT_EQ(0, blk_read(b, 1, 79));
}

TEST_F(vp, read_only_memory_is_not_written)
{
	struct blk *b = &self->b;

	ASSERT_OK(iotlb_unmap(self->fd, b->data_iova, DATA_LEN));
	ASSERT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, b->data_iova, DATA_LEN,
			   b->data, VHOST_ACCESS_RO));
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	/* What the device reads of it arrives: sector 80 gets its own number. */
	for (size_t i = 0; i < SECTOR / 4; i++)
		((uint32_t *)b->data)[i] = 80;
	blk_post(b, 0, VIRTIO_BLK_T_OUT, 80, 0, SECTOR);
	blk_kick(b, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait(b, 0, b->q[0].call, WAIT_MS));
	memset(b->data, 0x55, DATA_LEN);
	blk_post(b, 0, VIRTIO_BLK_T_IN, 81, 0, SECTOR);
	blk_kick(b, 0);
	blk_wait(b, 0, b->q[0].call, 1000);
	EXPECT_EQ(0x55, b->data[0]);
	EXPECT_EQ(0x55, b->data[SECTOR - 1]);
}

TEST_F(vp, maps_survive_a_reset)
{
	struct blk *b = &self->b;

	/* Whether PERSIST is acked or not: the IOMMU forgets nothing. */
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	ASSERT_EQ(0, blk_read(b, 0, 10));
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	EXPECT_EQ(0, blk_read(b, 0, 11));
	ASSERT_OK(set_status(self->fd, 0));
	ASSERT_OK(set_backend_features(self->fd, BACKEND(IOTLB_MSG_V2) |
				       BACKEND(IOTLB_PERSIST)));
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	EXPECT_EQ(0, blk_read(b, 0, 12));
	EXPECT_EQ((AREA + DATA_LEN) / PAGE, pinned_self());
}

TEST_F(vp, nothing_is_left_to_the_next_owner)
{
	struct blk *b = &self->b;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	ASSERT_EQ(0, blk_read(b, 0, 10));
	ASSERT_EQ(0, close(self->fd));
	EXPECT_EQ(0, pinned_self());
	EXPECT_EQ(-1, vector_count("0"));
	self->fd = node_open(self->node);
	ASSERT_LE(0, self->fd);
	b->fd = self->fd;
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	/* The device finds no ring where the last owner had one. */
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	memset(b->data, 0x55, SECTOR);
	blk_post(b, 0, VIRTIO_BLK_T_IN, 10, 0, SECTOR);
	blk_kick(b, 0);
	EXPECT_ERRNO(ETIMEDOUT, blk_wait(b, 0, b->q[0].call, 500));
	EXPECT_EQ(0x55, b->data[0]);
	ASSERT_OK(set_status(self->fd, 0));
	memset(b->data, 0, SECTOR);
	ASSERT_OK(blk_map(b));
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	EXPECT_EQ(0, blk_read(b, 0, 11));
}

struct swapper {
	struct blk *b;
	int other;
	bool stop;
	int error;
};

static void *swap_calls(void *arg)
{
	struct swapper *s = arg;
	int i;

	for (i = 0; !__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE); i++) {
		int fds[] = { s->b->q[0].call, -1, s->other };
		int r = vring_file(s->b->fd, VHOST_SET_VRING_CALL, 0, fds[i % 3]);

		if (r)
			s->error = r;
	}
	return NULL;
}

/* Interrupts come while the callback is given, taken away and replaced. */
TEST_F(vp, call_swapped_under_interrupts)
{
	struct blk *b = &self->b;
	struct swapper s = { .b = b, .other = eventfd(0, EFD_NONBLOCK) };
	pthread_t thread;
	int i;

	/* It uses the eventfd after it was freed. */
	NOT_TRIED_ON_C("the eventfd is used after it was freed");
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	ASSERT_EQ(0, pthread_create(&thread, NULL, swap_calls, &s));
	for (i = 0; i < 1000; i++) {
		blk_post(b, 0, VIRTIO_BLK_T_IN, i, 0, SECTOR);
		if (i & 1) {
			ASSERT_OK(blk_ring_bell(b, 0));
		} else {
			blk_kick(b, 0);
		}
		ASSERT_EQ(VIRTIO_BLK_S_OK, blk_wait_polling(b, 0, WAIT_MS));
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, s.error);
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, b->q[0].call));
	EXPECT_EQ(0, blk_read(b, 0, 12));
	close(s.other);
}

/* Irq bypass, as the consumer of modules/irqbypass_test.c sees it. */
FIXTURE(bypass) {
	char node[NODE_LEN];
	int fd;
	struct blk b;
	int watch[3];	/* the two calls, and the kick of the second queue */
};

static int watch(int eventfd)
{
	int fd = open(IRQBYPASS_TEST_NODE, O_RDWR | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = ioctl(fd, IRQBYPASS_TEST_WATCH, eventfd);
	return r ? -errno : fd;
}

static struct irqbypass_test_state watched(int fd)
{
	struct irqbypass_test_state s = { .connected = -1U };

	ioctl(fd, IRQBYPASS_TEST_STATE, &s);
	return s;
}

FIXTURE_SETUP(bypass)
{
	int i;

	self->fd = -1;
	for (i = 0; i < 3; i++)
		self->watch[i] = -1;
	if (!getenv("VP_BLK"))
		SKIP(return, "no VP_BLK: run by tools/suites/vp-vdpa/vp-vdpa.sh");
	if (access(IRQBYPASS_TEST_NODE, F_OK))
		SKIP(return, "irqbypass_test.ko is not loaded");
	ASSERT_OK(add_device(self->node));
	self->fd = open_owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(blk_init(&self->b, self->fd));
	ASSERT_OK(blk_map(&self->b));
	self->watch[0] = watch(self->b.q[0].call);
	self->watch[1] = watch(self->b.q[1].call);
	self->watch[2] = watch(self->b.q[1].kick);
	for (i = 0; i < 3; i++)
		ASSERT_LE(0, self->watch[i]);
}

FIXTURE_TEARDOWN(bypass)
{
	int i;

	if (self->fd >= 0)
		close(self->fd);
	for (i = 0; i < 3; i++)
		if (self->watch[i] >= 0)
			close(self->watch[i]);
	if (getenv("VP_BLK"))
		mgmt_del_if_there(NAME);
	blk_exit(&self->b);
}

#define EXPECT_WATCHED(n, is, a, d) do {				\
	struct irqbypass_test_state s_ = watched(n);			\
	EXPECT_EQ((is), s_.connected);					\
	EXPECT_EQ((a), s_.adds);					\
	EXPECT_EQ((d), s_.dels);					\
	/* It comes after the interrupt and goes before it. */		\
	if (a)								\
		EXPECT_EQ(1, s_.live_at_add);				\
	if (d)								\
		EXPECT_EQ(1, s_.live_at_del);				\
} while (0)

TEST_F(bypass, from_driver_ok_to_reset)
{
	struct blk *b = &self->b;
	int round;

	for (round = 0; round < 3; round++) {
		/* The eventfds are set, but the device does not run. */
		ASSERT_OK(blk_prepare(b, WITH_BOTH, WITH_BOTH));
		EXPECT_WATCHED(self->watch[0], 0, round, round);
		ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
		EXPECT_WATCHED(self->watch[0], 1, round + 1, round);
		EXPECT_WATCHED(self->watch[1], 1, round + 1, round);
		EXPECT_NE(watched(self->watch[0]).irq, watched(self->watch[1]).irq);
		EXPECT_EQ(0, blk_read(b, 0, 5));
		/* Said again it is not registered again. */
		ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
		EXPECT_WATCHED(self->watch[0], 1, round + 1, round);
		ASSERT_OK(set_status(self->fd, 0));
		EXPECT_WATCHED(self->watch[0], 0, round + 1, round + 1);
		EXPECT_WATCHED(self->watch[1], 0, round + 1, round + 1);
	}
	EXPECT_WATCHED(self->watch[2], 0, 0, 0);
}

TEST_F(bypass, not_without_a_call_eventfd)
{
	struct blk *b = &self->b;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_KICK));
	EXPECT_WATCHED(self->watch[0], 1, 1, 0);
	EXPECT_WATCHED(self->watch[1], 0, 0, 0);
	/* The queue got no vector at DRIVER_OK, so there is none to offer later. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 1, b->q[1].call));
	EXPECT_WATCHED(self->watch[1], 0, 0, 0);
	EXPECT_WATCHED(self->watch[2], 0, 0, 0);
}

TEST_F(bypass, follows_the_call_eventfd)
{
	struct blk *b = &self->b;
	int other = eventfd(0, EFD_NONBLOCK), w = watch(other), irq;

	ASSERT_LE(0, w);
	/* Before DRIVER_OK only the last one counts. */
	ASSERT_OK(blk_prepare(b, WITH_BOTH, WITH_BOTH));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, other));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_WATCHED(self->watch[0], 0, 0, 0);
	EXPECT_WATCHED(w, 1, 1, 0);
	irq = watched(w).irq;
	/* While it runs it goes with it. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, b->q[0].call));
	EXPECT_WATCHED(w, 0, 1, 1);
	EXPECT_WATCHED(self->watch[0], 1, 1, 0);
	EXPECT_EQ(irq, watched(self->watch[0]).irq);
	/* None takes it away, and one brings it back. */
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, -1));
	EXPECT_WATCHED(self->watch[0], 0, 1, 1);
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 0, b->q[0].call));
	EXPECT_WATCHED(self->watch[0], 1, 2, 1);
	/* A bad descriptor changes nothing for good: interrupts still arrive. */
	EXPECT_ERRNO(EBADF, vring_file(self->fd, VHOST_SET_VRING_CALL, 0, 1023));
	EXPECT_EQ(0, blk_read(b, 0, 12));
	/* The other queue was never touched. */
	EXPECT_WATCHED(self->watch[1], 1, 1, 0);
	close(w);
	close(other);
}

TEST_F(bypass, refused_eventfd_leaves_the_old_one)
{
	struct blk *b = &self->b;

	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	EXPECT_ERRNO(EBADF, vring_file(self->fd, VHOST_SET_VRING_CALL, 0, 1023));
	EXPECT_EQ(0, blk_read(b, 0, 12));
	C_MAY_DIFFER(!watched(self->watch[0]).connected, "bypass is lost until the next eventfd or reset");
	EXPECT_WATCHED(self->watch[0], 1, 1, 0);
}

TEST_F(bypass, ends_at_close)
{
	ASSERT_OK(blk_start(&self->b, WITH_BOTH, WITH_BOTH));
	EXPECT_WATCHED(self->watch[0], 1, 1, 0);
	CLOSE_NODE();
	EXPECT_WATCHED(self->watch[0], 0, 1, 1);
	EXPECT_WATCHED(self->watch[1], 0, 1, 1);
}

TEST_F(bypass, ends_at_removal)
{
	C_WAITS();
	ASSERT_OK(blk_start(&self->b, WITH_BOTH, WITH_BOTH));
	EXPECT_WATCHED(self->watch[0], 1, 1, 0);
	ASSERT_EQ(0, mgmt_del(NAME));
	EXPECT_WATCHED(self->watch[0], 0, 1, 1);
	EXPECT_WATCHED(self->watch[1], 0, 1, 1);
}

/* One eventfd for two queues: the first gets the bypass, both get their calls. */
TEST_F(bypass, shared_eventfd)
{
	struct blk *b = &self->b;
	int call = b->q[1].call;

	ASSERT_OK(blk_prepare(b, WITH_BOTH, WITH_BOTH));
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_CALL, 1, b->q[0].call));
	ASSERT_OK(set_status(self->fd, STATUS_RUNNING));
	EXPECT_WATCHED(self->watch[0], 1, 1, 0);
	EXPECT_WATCHED(self->watch[1], 0, 0, 0);
	b->q[1].call = b->q[0].call;
	EXPECT_EQ(0, blk_read(b, 0, 5));
	EXPECT_EQ(0, blk_read(b, 1, 6));
	b->q[1].call = call;
	ASSERT_OK(set_status(self->fd, 0));
	EXPECT_WATCHED(self->watch[0], 0, 1, 1);
}

/* Everything that is left of the device for an open file. */
static int check_revoked(struct blk *b)
{
	int r = check_gone(b->fd);

	return r ?: pinned_self() ? -EBUSY : 0;
}

/* Ways to lose a device. */
FIXTURE(gone) {
	char node[NODE_LEN];
	int fd;
	struct blk b;
	long system;
	int err, config;
};

FIXTURE_VARIANT(gone) {
	int way;
};

enum { DEL, UNBIND, PCI_UNBIND, PCI_REMOVE, RMMOD };

FIXTURE_VARIANT_ADD(gone, del) {
	.way = DEL,
};

FIXTURE_VARIANT_ADD(gone, unbind) {
	.way = UNBIND,
};

FIXTURE_VARIANT_ADD(gone, pci_unbind) {
	.way = PCI_UNBIND,
};

FIXTURE_VARIANT_ADD(gone, pci_remove) {
	.way = PCI_REMOVE,
};

FIXTURE_VARIANT_ADD(gone, parent_rmmod) {
	.way = RMMOD,
};

static int take_away(int way)
{
	char cmd[128];

	switch (way) {
	case DEL:
		return mgmt_del(NAME);
	case UNBIND:
		return mgmt_unbind(NAME);
	case PCI_UNBIND:
		return pci_driver("unbind");
	case PCI_REMOVE:
		snprintf(cmd, sizeof(cmd), "echo 1 >/sys/bus/pci/devices/%s/remove",
			 getenv("VP_BLK"));
		return mgmt_run(cmd);
	case RMMOD:
		return mgmt_run_for("rmmod vp_vdpa", MODULE_MS);
	}
	return -EINVAL;
}

/* So that there is a node again. */
static int bring_back(int way, char *node)
{
	char cmd[256];
	int r = 0;

	switch (way) {
	case UNBIND:
		return mgmt_bind(NAME, node);
	case PCI_UNBIND:
		r = pci_driver("bind");
		break;
	case PCI_REMOVE:
		/* The newcomer is anybody's: say whose before drivers look at it. */
		snprintf(cmd, sizeof(cmd),
			 "echo 0 >/sys/bus/pci/drivers_autoprobe; echo 1 >/sys/bus/pci/rescan;"
			 "echo 1 >/sys/bus/pci/drivers_autoprobe;"
			 "echo vp-vdpa >/sys/bus/pci/devices/%s/driver_override;"
			 "echo %s >/sys/bus/pci/drivers_probe",
			 getenv("VP_BLK"), getenv("VP_BLK"));
		r = mgmt_run(cmd);
		break;
	case RMMOD:
		snprintf(cmd, sizeof(cmd), "insmod %s", getenv("VP_VDPA_KO"));
		r = mgmt_run_for(cmd, MODULE_MS);
		break;
	}
	return r ?: add_device(node);
}

FIXTURE_SETUP(gone)
{
	self->fd = -1;
	if (!getenv("VP_BLK"))
		SKIP(return, "no VP_BLK: run by tools/suites/vp-vdpa/vp-vdpa.sh");
	C_WAITS();
	if (variant->way == RMMOD && !getenv("VP_VDPA_KO"))
		SKIP(return, "no VP_VDPA_KO to load again");
	self->system = pinned_system();
	ASSERT_OK(add_device(self->node));
	self->fd = open_owned(self->node);
	ASSERT_LE(0, self->fd);
	ASSERT_OK(blk_init(&self->b, self->fd));
	ASSERT_OK(blk_map(&self->b));
	self->err = eventfd(0, EFD_NONBLOCK);
	self->config = eventfd(0, EFD_NONBLOCK);
	ASSERT_OK(vring_file(self->fd, VHOST_SET_VRING_ERR, 0, self->err));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SET_CONFIG_CALL, &self->config));
	ASSERT_OK(blk_start(&self->b, WITH_BOTH, WITH_BOTH));
	ASSERT_EQ(0, blk_read(&self->b, 0, 3));
	drain(self->config);
}

FIXTURE_TEARDOWN(gone)
{
	if (self->fd < 0)
		return;
	close(self->fd);
	blk_exit(&self->b);
	mgmt_del_if_there(NAME);
	EXPECT_EQ(self->system, wait_pinned_system(self->system));
	EXPECT_EQ(-1, vector_count("config"));
}

TEST_F(gone, doorbells_become_a_dummy)
{
	struct blk *b = &self->b, second;
	uint16_t used;
	char node[NODE_LEN];
	int fd;

	/* The first doorbell is in use, the second was never touched. */
	ASSERT_OK(blk_ring_bell(b, 0));
	b->q[1].bell = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, self->fd, PAGE);
	ASSERT_NE(MAP_FAILED, b->q[1].bell);

	ASSERT_EQ(0, take_away(variant->way));
	EXPECT_NE(0, access(self->node, F_OK));
	EXPECT_EQ(-1, vector_count("0"));
	EXPECT_EQ(1, drain(self->err));
	EXPECT_EQ(1, drain(self->config));
	EXPECT_OK(check_revoked(b));

	/* No SIGBUS, and the device does not hear of it. */
	used = blk_used(b, 0);
	blk_post(b, 0, VIRTIO_BLK_T_IN, 1, 0, SECTOR);
	*b->q[0].bell = 0;
	*b->q[1].bell = 1;
	blk_kick(b, 0);
	usleep(100000);
	EXPECT_EQ(used, blk_used(b, 0));

	/* A successor works, and the old doorbell does not ring it. */
	ASSERT_OK(bring_back(variant->way, node));
	fd = open_owned(node);
	ASSERT_LE(0, fd);
	ASSERT_OK(blk_init(&second, fd));
	ASSERT_OK(blk_map(&second));
	ASSERT_OK(blk_start(&second, WITH_BOTH, WITH_BOTH));
	EXPECT_EQ(0, blk_read(&second, 0, 8));
	/* A device that is still at one request may find the next unasked. */
	usleep(500000);
	blk_post(&second, 0, VIRTIO_BLK_T_IN, 9, 0, SECTOR);
	*b->q[0].bell = 0;
	EXPECT_ERRNO(ETIMEDOUT, blk_wait(&second, 0, second.q[0].call, 300));
	/* Nor does closing the old file end it. */
	EXPECT_EQ(-ENODEV, get_status(self->fd));
	munmap((void *)b->q[0].bell, PAGE);
	munmap((void *)b->q[1].bell, PAGE);
	b->q[0].bell = NULL;
	b->q[1].bell = NULL;
	EXPECT_EQ(0, close(self->fd));
	self->fd = fd;
	blk_kick(&second, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, blk_wait(&second, 0, second.q[0].call, WAIT_MS));
	EXPECT_EQ(STATUS_RUNNING, get_status(fd));
	blk_exit(&second);
	/* Signalled once is enough. */
	EXPECT_EQ(0, drain(self->err));
	EXPECT_EQ(0, drain(self->config));
}

struct ringer {
	struct blk *b;
	bool stop;
};

static void *ring_on(void *arg)
{
	struct ringer *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		*r->b->q[0].bell = 0;
		blk_kick(r->b, 0);
	}
	return NULL;
}

TEST_F(gone, while_the_doorbell_is_rung)
{
	struct blk *b = &self->b;
	struct ringer ringer = { .b = b };
	pthread_t thread;
	char node[NODE_LEN];

	ASSERT_OK(blk_ring_bell(b, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, ring_on, &ringer));
	usleep(20000);
	EXPECT_EQ(0, take_away(variant->way));
	usleep(20000);
	__atomic_store_n(&ringer.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_OK(check_revoked(b));
	EXPECT_OK(bring_back(variant->way, node));
}

/* To virtio_vdpa and back, with the file closed or, not on C, open. */
static int rebind(const char *driver)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd),
		 "cd /sys/bus/vdpa && echo %s >devices/" NAME "/driver_override &&"
		 "echo " NAME " >devices/" NAME "/driver/unbind &&"
		 "echo " NAME " >drivers_probe", driver);
	return mgmt_run(cmd);
}

static int check_virtio_disk(void)
{
	uint32_t sector[SECTOR / 4];
	char pattern[128], path[NODE_LEN];
	int fd, r;

	/* Without an IOMMU of its own the device is a child of the PCI device. */
	snprintf(pattern, sizeof(pattern), "/sys/bus/pci/devices/%s/virtio*/block/*",
		 getenv("VP_BLK"));
	r = wait_node(pattern, path, sizeof(path));
	if (r)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = 0;
	if (pread(fd, sector, SECTOR, 123 * SECTOR) != SECTOR)
		r = -errno;
	else if (sector[0] != 123 || sector[SECTOR / 4 - 1] != 123)
		r = -EBADMSG;
	close(fd);
	return r;
}

TEST_F(vp, to_virtio_vdpa_and_back)
{
	struct blk *b = &self->b;
	int round;

	ASSERT_EQ(0, mgmt_run_for("modprobe virtio_vdpa && modprobe virtio_blk",
				  MODULE_MS));
	for (round = 0; round < 2; round++) {
		ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
		ASSERT_EQ(0, blk_read(b, 0, 1));
		CLOSE_NODE();
		/* Its maps are the kernel's own again. */
		ASSERT_EQ(0, rebind("virtio_vdpa"));
		EXPECT_OK(check_virtio_disk());
		ASSERT_EQ(0, rebind("vhost_vdpa"));
		ASSERT_OK(mgmt_find_node(NAME, self->node));
		self->fd = node_open(self->node);
		ASSERT_LE(0, self->fd);
		b->fd = self->fd;
		ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
		ASSERT_OK(blk_map(b));
	}
}

TEST_F(vp, to_virtio_vdpa_while_open)
{
	struct blk *b = &self->b;
	int fd;

	C_WAITS();
	ASSERT_EQ(0, mgmt_run_for("modprobe virtio_vdpa && modprobe virtio_blk",
				  MODULE_MS));
	ASSERT_OK(blk_start(b, WITH_BOTH, WITH_BOTH));
	ASSERT_OK(blk_ring_bell(b, 0));
	ASSERT_EQ(0, rebind("virtio_vdpa"));
	EXPECT_OK(check_revoked(b));
	*b->q[0].bell = 0;
	EXPECT_OK(check_virtio_disk());
	ASSERT_EQ(0, rebind("vhost_vdpa"));
	ASSERT_OK(mgmt_find_node(NAME, self->node));
	EXPECT_OK(check_revoked(b));
	fd = node_open(self->node);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, get_status(fd));
	close(fd);
}

/* Two NICs on one hub: what one sends the other receives. */
TEST(nics_talk)
{
	char *names = getenv("VP_NETS"), pci[2][32], node[NODE_LEN];
	static const char *const name[] = { "selftest_n0", "selftest_n1" };
	struct nic nic[2];
	int i, round;

	if (!names || sscanf(names, "%31s %31s", pci[0], pci[1]) != 2)
		SKIP(return, "no VP_NETS: run by tools/suites/vp-vdpa/vp-vdpa.sh");
	for (i = 0; i < 2; i++) {
		int fd;

		ASSERT_OK(add_pci(name[i], pci[i], node));
		fd = open_owned(node);
		ASSERT_LE(0, fd);
		ASSERT_OK(nic_init(&nic[i], fd));
		ASSERT_OK(nic_map(&nic[i]));
		ASSERT_OK(nic_start(&nic[i], 0));
	}
	for (round = 0; round < 100; round++) {
		struct nic *from = &nic[round & 1], *to = &nic[!(round & 1)];

		nic_post_rx(to);
		nic_kick(&to->q[RX]);
		nic_post_tx(from);
		nic_kick(&from->q[TX]);
		ASSERT_OK(nic_wait(&from->q[TX], from->q[TX].avail));
		ASSERT_OK(nic_wait(&to->q[RX], to->q[RX].avail));
		ASSERT_OK(nic_check_rx(to));
	}
	EXPECT_EQ(50, nic[0].next_rx);
	EXPECT_EQ(50, nic[1].next_rx);
	for (i = 0; i < 2; i++) {
		close(nic[i].fd);
		EXPECT_EQ(0, mgmt_del(name[i]));
	}
}

TEST_HARNESS_MAIN
