// SPDX-License-Identifier: GPL-2.0
/*
 * rust_mlx5_compat: memory keys, their exchange while queues run, groups with
 * address spaces of their own, both resets, the control queue, and moving.
 */
#include <pthread.h>

#include "vdpa_test.h"
#include "mgmt.h"
#include "virtio.h"

#define GROUP_DATA	0
#define GROUP_CVQ	1
#define GROUP_DESC	2
#define CVQ		2	/* with one pair of queues */
#define DEBUGFS		"/sys/kernel/debug/rust_mlx5_compat/"
#define FAR		0x100000000ULL	/* far behind what the NIC has */

#define BACKEND_ASIDS	(BACKEND(IOTLB_MSG_V2) | BACKEND(IOTLB_ASID) | \
			 BACKEND(DESC_ASID))
#define FEATURES_CVQ	(FEATURES_MODERN | FEATURE(VIRTIO_NET_F_CTRL_VQ) | \
			 FEATURE(VIRTIO_NET_F_CTRL_MAC_ADDR) | \
			 FEATURE(VIRTIO_NET_F_CTRL_VLAN) | \
			 FEATURE(VIRTIO_NET_F_MAC))

FIXTURE(mlx5) {
	int fd;
	struct nic nic;
	char *other;		/* as much memory as the NIC has */
};

FIXTURE_SETUP(mlx5)
{
	const char *parent = getenv("MGMTDEV");

	if (!parent || !strstr(parent, "mlx5_compat"))
		SKIP(return, "not a device of rust_mlx5_compat");
	OPEN_OR_SKIP(self->fd);
	ASSERT_OK(vioctl(self->fd, VHOST_SET_OWNER, NULL));
	ASSERT_OK(nic_init(&self->nic, self->fd));
	self->other = shared_pages(NIC_MEM);
	ASSERT_NE(NULL, self->other);
}

FIXTURE_TEARDOWN(mlx5)
{
	close(self->fd);
}

/*
 * A map for a device that runs, and is to find every piece at once. C gives
 * the parent a table for each physically contiguous piece of a message outside
 * a batch, and a queue that finds half of its ring stops for good.
 */
static int map_at_once(int fd, uint32_t asid, uint64_t iova, uint64_t size, void *p)
{
	int r;

	if (!on_c_driver())
		return iotlb_map_asid(fd, asid, iova, size, p);
	r = iotlb_batch(fd, asid, true);
	r = r ?: iotlb_map_asid(fd, asid, iova, size, p);
	return r ?: iotlb_batch(fd, asid, false);
}

/* Whether frames that were sent go nowhere. */
static bool at_rest(struct nic *nic)
{
	uint16_t used = nic_used(&nic->q[TX]);

	usleep(200000);
	return nic_used(&nic->q[TX]) == used && used != nic->q[TX].avail;
}

TEST_F(mlx5, groups_and_address_spaces)
{
	int fd = self->fd;

	EXPECT_EQ(3, self->nic.caps.nvqs);
	EXPECT_EQ(3, self->nic.caps.ngroups);
	EXPECT_EQ(2, self->nic.caps.nas);
	EXPECT_EQ(256, self->nic.caps.num_max);
	EXPECT_TRUE(self->nic.caps.backend & BACKEND(DESC_ASID));
	EXPECT_TRUE(self->nic.caps.backend & BACKEND(IOTLB_PERSIST));
	EXPECT_TRUE(self->nic.caps.backend & BACKEND(ENABLE_AFTER_DRIVER_OK));
	EXPECT_EQ(GROUP_DATA, vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, RX));
	EXPECT_EQ(GROUP_DATA, vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, TX));
	EXPECT_EQ(GROUP_CVQ, vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, CVQ));
	EXPECT_EQ(GROUP_DESC, vring_get(fd, VHOST_VDPA_GET_VRING_DESC_GROUP, RX));
	EXPECT_EQ(GROUP_DESC, vring_get(fd, VHOST_VDPA_GET_VRING_DESC_GROUP, TX));
	EXPECT_EQ(GROUP_CVQ, vring_get(fd, VHOST_VDPA_GET_VRING_DESC_GROUP, CVQ));
}

TEST_F(mlx5, features_that_it_insists_on)
{
	int fd = self->fd;

	EXPECT_FALSE(self->nic.caps.features & FEATURE(VIRTIO_F_RING_PACKED));
	ASSERT_OK(set_status(fd, STATUS_ACK));
	ASSERT_OK(set_status(fd, STATUS_DRIVER));
	EXPECT_ERRNO(EINVAL, set_features(fd, FEATURE(VIRTIO_F_VERSION_1)));
	EXPECT_ERRNO(EINVAL, set_features(fd, FEATURES_MODERN |
					  FEATURE(VIRTIO_NET_F_MQ)));
	EXPECT_OK(set_features(fd, FEATURES_MODERN | FEATURE(VIRTIO_NET_F_MQ) |
			       FEATURE(VIRTIO_NET_F_CTRL_VQ)));
}

TEST_F(mlx5, queues_exist_as_features_say)
{
	int fd = self->fd;

	/* Without a control queue there is no third queue. */
	ASSERT_OK(negotiate(fd));
	EXPECT_ERRNO(EINVAL, vring_addr(fd, CVQ, 0x1000, 0x2000, 0x3000));
	EXPECT_OK(vring_addr(fd, TX, 0x1000, 0x2000, 0x3000));
	ASSERT_OK(set_status(fd, 0));
	ASSERT_OK(set_status(fd, STATUS_DRIVER));
	ASSERT_OK(set_features(fd, FEATURES_CVQ));
	EXPECT_OK(vring_addr(fd, CVQ, 0x1000, 0x2000, 0x3000));
}

/* --- keys */

TEST_F(mlx5, many_ranges)
{
	struct nic *nic = &self->nic;
	uint64_t off;

	/* Page by page, every other with a neighbour of its own permission. */
	ASSERT_OK(iotlb_batch(self->fd, 0, true));
	for (off = 0; off < NIC_MEM; off += PAGE)
		ASSERT_OK(iotlb_v2(self->fd, 0, VHOST_IOTLB_UPDATE, nic->iova + off,
				   PAGE, nic->mem + off,
				   off < 2 * RING_AREA + BUF_AREA || off / PAGE % 2 ?
				   VHOST_ACCESS_RW : VHOST_ACCESS_RO));
	ASSERT_OK(iotlb_batch(self->fd, 0, false));
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, nic->num));
	EXPECT_OK(nic_echo(nic, nic->num));
}

TEST_F(mlx5, holes_swallow_what_is_written)
{
	struct nic *nic = &self->nic;
	size_t rx = 2 * RING_AREA, tx = rx + BUF_AREA;
	char want[BUF_SIZE];
	size_t i;

	/* The receive buffers are a hole between the rings and the others. */
	ASSERT_OK(iotlb_map(self->fd, nic->iova, rx, nic->mem));
	ASSERT_OK(iotlb_map(self->fd, nic->iova + tx, BUF_AREA, nic->mem + tx));
	ASSERT_OK(nic_start(nic, 0));
	nic_send(nic, 1);
	ASSERT_OK(nic_wait_polling(&nic->q[RX], 1));
	EXPECT_EQ(nic_frame(want, 0), nic->q[RX].vr.used->ring[0].len);
	for (i = 0; i < BUF_SIZE; i++)
		ASSERT_EQ((char)0xee, nic->q[RX].bufs[i]);
	/* No harm was done: with a map, frames arrive. */
	nic->q[RX].used++;
	nic->next_rx++;
	ASSERT_OK(iotlb_map(self->fd, nic->iova + rx, BUF_AREA, nic->mem + rx));
	EXPECT_OK(nic_echo(nic, 4));
}

TEST_F(mlx5, holes_read_as_zeroes)
{
	struct nic *nic = &self->nic;
	struct nic_queue *q = &nic->q[TX];
	size_t hole = 2 * RING_AREA + BUF_AREA + PAGE;
	unsigned int len, i;
	char *got = nic->q[RX].bufs;

	ASSERT_OK(iotlb_map(self->fd, nic->iova, hole, nic->mem));
	ASSERT_OK(iotlb_map(self->fd, nic->iova + hole + PAGE,
			    NIC_MEM - hole - PAGE, nic->mem + hole + PAGE));
	memset(nic->mem + hole, 0x55, PAGE);
	ASSERT_OK(nic_start(nic, 0));
	nic_post_rx(nic);
	nic_post_tx(nic);
	/* The head of a frame, and its rest from the hole. */
	len = MIN_LEN + 100;
	q->vr.desc[0].len = MIN_LEN;
	q->vr.desc[0].flags = VRING_DESC_F_NEXT;
	q->vr.desc[0].next = 1;
	q->vr.desc[1].addr = nic->iova + hole;
	q->vr.desc[1].len = 100;
	q->vr.desc[1].flags = 0;
	nic_kick(q);
	ASSERT_OK(nic_wait_polling(&nic->q[RX], 1));
	EXPECT_EQ(len, nic->q[RX].vr.used->ring[0].len);
	EXPECT_EQ(0, memcmp(got + HDR, q->bufs + HDR, MIN_LEN - HDR));
	for (i = MIN_LEN; i < len; i++)
		ASSERT_EQ(0, got[i]);
	EXPECT_EQ((char)0xee, got[len]);
}

TEST_F(mlx5, refused_map_leaves_the_key)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 4));
	/* The list of a key cannot span so large a hole. */
	EXPECT_ERRNO(EFAULT, iotlb_map(self->fd, nic->iova + (1ULL << 58), PAGE,
				       self->other));
	EXPECT_OK(nic_echo(nic, 4));
	/* One that it can. */
	EXPECT_OK(iotlb_map(self->fd, nic->iova + (1ULL << 44), PAGE, self->other));
	EXPECT_OK(nic_echo(nic, 4));
}

/* --- maps that change while queues run */

TEST_F(mlx5, key_exchanged_under_traffic)
{
	struct nic *nic = &self->nic;
	int i;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	for (i = 0; i < 100; i++) {
		nic_send(nic, 1 + i % 16);
		if (i % 2) {
			ASSERT_OK(iotlb_unmap(self->fd, nic->iova + FAR, PAGE));
		} else {
			ASSERT_OK(iotlb_map(self->fd, nic->iova + FAR, PAGE, self->other));
		}
		ASSERT_OK(nic_receive(nic)) {
			TH_LOG("round %d", i);
		}
	}
}

struct churner {
	struct nic *nic;
	void *mem;
	bool stop;
	int failed;
	long changes;
};

/* Take a page and give it back, and exchange the page of a batch. */
static void *churn(void *arg)
{
	struct churner *c = arg;
	uint64_t iova = c->nic->iova + FAR;
	int fd = c->nic->fd, r = 0;

	while (!r && !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE)) {
		r = iotlb_map(fd, iova, PAGE, c->mem);
		r = r ?: iotlb_batch(fd, 0, true);
		r = r ?: iotlb_unmap(fd, iova, PAGE);
		r = r ?: iotlb_map(fd, iova, PAGE, c->mem + PAGE);
		r = r ?: iotlb_batch(fd, 0, false);
		r = r ?: iotlb_unmap(fd, iova, PAGE);
		c->changes += 3;
	}
	c->failed = r;
	return NULL;
}

TEST_F_TIMEOUT(mlx5, key_exchanged_by_another_thread, 120)
{
	struct nic *nic = &self->nic;
	struct churner c = { .nic = nic, .mem = self->other };
	pthread_t thread;
	int i, r = 0;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, churn, &c));
	for (i = 0; i < 300 && !r; i++) {
		nic_send(nic, 8);
		r = nic_receive(nic);
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, r);
	EXPECT_EQ(0, c.failed);
	EXPECT_LT(0, c.changes);
	EXPECT_OK(nic_echo(nic, 4));
}

TEST_F(mlx5, buffers_exchanged_while_running)
{
	struct nic *nic = &self->nic;
	size_t bufs = 2 * RING_AREA, tx = bufs + BUF_AREA;
	char *mem[2] = { nic->mem, self->other };
	int i;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	for (i = 1; i <= 20; i++) {
		char *now = mem[i % 2];

		/* The rings stay; the buffers are elsewhere from here on. */
		ASSERT_OK(iotlb_batch(self->fd, 0, true));
		ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
		ASSERT_OK(iotlb_map(self->fd, nic->iova, bufs, nic->mem));
		ASSERT_OK(iotlb_map(self->fd, nic->iova + bufs, NIC_MEM - bufs,
				    now + bufs));
		ASSERT_OK(iotlb_batch(self->fd, 0, false));
		nic->q[RX].bufs = now + bufs;
		nic->q[TX].bufs = now + tx;
		memset(mem[(i + 1) % 2] + bufs, 0x11, NIC_MEM - bufs);
		ASSERT_OK(nic_echo(nic, 7));
		EXPECT_EQ(7 * i, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
	}
}

TEST_F(mlx5, queues_rest_without_a_key)
{
	struct nic *nic = &self->nic;
	int i;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	for (i = 1; i <= 3; i++) {
		ASSERT_OK(nic_echo(nic, 5));
		ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
		EXPECT_EQ(0, pinned_self());
		nic_send(nic, 5);
		EXPECT_TRUE(at_rest(nic));
		/* The state is kept, and the work is not forgotten. */
		EXPECT_EQ(10 * i - 5, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
		ASSERT_OK(map_at_once(self->fd, 0, nic->iova, NIC_MEM, nic->mem));
		ASSERT_OK(nic_receive(nic));
	}
}

TEST_F(mlx5, maps_changed_while_suspended)
{
	struct nic *nic = &self->nic;
	size_t bufs = 2 * RING_AREA, tx = bufs + BUF_AREA;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 6));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(iotlb_unmap(self->fd, nic->iova, NIC_MEM));
	ASSERT_OK(iotlb_map(self->fd, nic->iova, bufs, nic->mem));
	ASSERT_OK(iotlb_map(self->fd, nic->iova + bufs, NIC_MEM - bufs,
			    self->other + bufs));
	nic->q[RX].bufs = self->other + bufs;
	nic->q[TX].bufs = self->other + tx;
	nic_send(nic, 3);
	EXPECT_TRUE(at_rest(nic));
	ASSERT_OK(vioctl(self->fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_OK(nic_receive(nic));
	EXPECT_EQ(9, vring_get(self->fd, VHOST_GET_VRING_BASE, TX));
}

/* --- groups */

/* Rings in address space 1, buffers in 0, at the same addresses. */
static int map_apart(struct nic *nic)
{
	int r = iotlb_map_asid(nic->fd, 1, nic->iova, 2 * RING_AREA, nic->mem);

	nic->q[RX].bufs_iova = nic->iova;
	nic->q[TX].bufs_iova = nic->iova + BUF_AREA;
	return r ?: iotlb_map_asid(nic->fd, 0, nic->iova, 2 * BUF_AREA,
				   nic->mem + 2 * RING_AREA);
}

TEST_F(mlx5, descriptors_in_their_own_address_space)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(set_backend_features(self->fd, BACKEND_ASIDS));
	ASSERT_OK(set_group_asid(self->fd, GROUP_DESC, 1));
	ASSERT_OK(map_apart(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, nic->num));
	ASSERT_OK(nic_echo(nic, nic->num));
	/* Each has a key of its own. */
	ASSERT_OK(iotlb_v2(self->fd, 1, VHOST_IOTLB_INVALIDATE, nic->iova,
			   2 * RING_AREA, NULL, 0));
	nic_send(nic, 2);
	EXPECT_TRUE(at_rest(nic));
	ASSERT_OK(map_at_once(self->fd, 1, nic->iova, 2 * RING_AREA, nic->mem));
	EXPECT_OK(nic_receive(nic));
	ASSERT_OK(iotlb_unmap(self->fd, nic->iova, 2 * BUF_AREA));
	nic_send(nic, 2);
	EXPECT_TRUE(at_rest(nic));
	ASSERT_OK(map_at_once(self->fd, 0, nic->iova, 2 * BUF_AREA,
			      nic->mem + 2 * RING_AREA));
	EXPECT_OK(nic_receive(nic));
}

TEST_F(mlx5, descriptors_without_a_key_are_where_the_buffers_are)
{
	struct nic *nic = &self->nic;
	int i;

	/* On C address space 0 still has the physical key: not tried there. */
	NOT_TRIED_ON_C("the 1:1 map stays");
	ASSERT_OK(set_backend_features(self->fd, BACKEND_ASIDS));
	ASSERT_OK(set_group_asid(self->fd, GROUP_DATA, 1));
	ASSERT_OK(iotlb_map_asid(self->fd, 1, nic->iova, NIC_MEM, nic->mem));
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 8));
	/* A key where there was none is not told to the hardware: rings stay where they are. */
	ASSERT_OK(iotlb_map_asid(self->fd, 0, nic->iova, NIC_MEM, self->other));
	EXPECT_OK(nic_echo(nic, 8));
	/* With the next exchange, of whatever key, it is: rings are in address space 0 now. */
	memcpy(self->other, nic->mem, 2 * RING_AREA);
	ASSERT_OK(iotlb_map_asid(self->fd, 1, nic->iova + FAR, PAGE, nic->mem));
	nic_send(nic, 1);
	EXPECT_TRUE(at_rest(nic));
	for (i = 0; i < 2; i++)
		vring_init(&nic->q[i].vr, nic->num, self->other + i * RING_AREA, PAGE);
	memcpy(self->other, nic->mem, 2 * RING_AREA);
	nic_kick(&nic->q[TX]);
	EXPECT_OK(nic_receive(nic));
	EXPECT_OK(nic_echo(nic, 8));
}

TEST_F(mlx5, reset_moves_groups_back_and_keeps_keys)
{
	struct nic *nic = &self->nic;

	ASSERT_OK(set_backend_features(self->fd, BACKEND_ASIDS |
				       BACKEND(IOTLB_PERSIST)));
	ASSERT_OK(set_group_asid(self->fd, GROUP_DESC, 1));
	ASSERT_OK(map_apart(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 6));
	ASSERT_OK(set_status(self->fd, 0));
	/* In address space 0 there are buffers where the rings were. */
	memset(nic->mem + 2 * RING_AREA, 0, 2 * BUF_AREA);
	nic_lay_out(nic, 0);
	nic->q[RX].bufs_iova = nic->iova;
	nic->q[TX].bufs_iova = nic->iova + BUF_AREA;
	ASSERT_OK(nic_start(nic, 0));
	nic_send(nic, 1);
	EXPECT_TRUE(at_rest(nic));
	ASSERT_OK(set_status(self->fd, 0));
	nic_lay_out(nic, 0);
	nic->q[RX].bufs_iova = nic->iova;
	nic->q[TX].bufs_iova = nic->iova + BUF_AREA;
	nic->next_rx = nic->next_tx;
	ASSERT_OK(set_group_asid(self->fd, GROUP_DESC, 1));
	ASSERT_OK(nic_start(nic, 0));
	EXPECT_OK(nic_echo(nic, 6));
}

TEST_F(mlx5, cleaned_reset_forgets_every_key)
{
	struct nic *nic = &self->nic;

	/* The device would run on the physical key: not tried there. */
	NOT_TRIED_ON_C("the 1:1 map stays");
	/* Without PERSIST. */
	ASSERT_OK(set_backend_features(self->fd, BACKEND_ASIDS));
	ASSERT_OK(set_group_asid(self->fd, GROUP_DESC, 1));
	ASSERT_OK(map_apart(nic));
	ASSERT_OK(nic_start(nic, 0));
	ASSERT_OK(nic_echo(nic, 6));
	ASSERT_OK(set_status(self->fd, 0));
	nic_lay_out(nic, 0);
	nic->q[RX].bufs_iova = nic->iova;
	nic->q[TX].bufs_iova = nic->iova + BUF_AREA;
	ASSERT_OK(set_group_asid(self->fd, GROUP_DESC, 1));
	ASSERT_OK(nic_start(nic, 0));
	nic_send(nic, 1);
	EXPECT_TRUE(at_rest(nic));
}

/* --- the control queue */

struct ctrl {
	struct vring vr;
	char *page;		/* commands, behind the ring */
	uint64_t iova;
	int index;
	int kick;
	int call;
	uint16_t avail;
};

#define CTRL_MEM	(2 * PAGE)

static int ctrl_set_up(struct ctrl *c, int fd, int index, uint64_t iova)
{
	char *mem = shared_pages(CTRL_MEM);
	int r;

	if (!mem)
		return -ENOMEM;
	memset(c, 0, sizeof(*c));
	vring_init(&c->vr, 16, mem, 64);
	c->page = mem + PAGE;
	c->iova = iova;
	c->index = index;
	c->kick = eventfd(0, EFD_NONBLOCK);
	c->call = eventfd(0, EFD_NONBLOCK);
	r = vring_place(fd, index, &c->vr, iova, 0);
	r = r ?: vring_file(fd, VHOST_SET_VRING_KICK, index, c->kick);
	r = r ?: vring_file(fd, VHOST_SET_VRING_CALL, index, c->call);
	return r ?: vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, index, 1);
}

/* Send the command in the first three descriptors: what the device answers, or -ETIMEDOUT. */
static int ctrl_send(struct ctrl *c)
{
	c->page[128] = 0x77;
	c->vr.avail->ring[c->avail % 16] = 0;
	c->avail++;
	__atomic_store_n(&c->vr.avail->idx, c->avail, __ATOMIC_RELEASE);
	signal_eventfd(c->kick);
	return vring_wait(&c->vr, c->avail, WAIT_MS) ?: c->page[128];
}

/* Send a command: what the device answers, or -ETIMEDOUT. */
static int ctrl(struct ctrl *c, uint8_t class, uint8_t cmd, const void *data,
		size_t len)
{
	struct vring_desc *d = c->vr.desc;
	struct virtio_net_ctrl_hdr hdr = { class, cmd };

	memcpy(c->page, &hdr, sizeof(hdr));
	memcpy(c->page + 64, data, len);
	d[0] = (struct vring_desc) { c->iova + PAGE, sizeof(hdr), VRING_DESC_F_NEXT, 1 };
	d[1] = (struct vring_desc) { c->iova + PAGE + 64, len, VRING_DESC_F_NEXT, 2 };
	d[2] = (struct vring_desc) { c->iova + PAGE + 128, 1, VRING_DESC_F_WRITE, 0 };
	return ctrl_send(c);
}

/* The same with two bytes of data, or the answer, at another address. */
static int ctrl_at(struct ctrl *c, uint8_t class, uint8_t cmd, uint64_t data, size_t len,
		   uint64_t answer)
{
	struct virtio_net_ctrl_hdr hdr = { class, cmd };
	struct vring_desc *d = c->vr.desc;

	memcpy(c->page, &hdr, sizeof(hdr));
	memset(c->page + 64, 0, len);
	d[0] = (struct vring_desc) { c->iova + PAGE, sizeof(hdr), VRING_DESC_F_NEXT, 1 };
	d[1] = (struct vring_desc) { data, len, VRING_DESC_F_NEXT, 2 };
	d[2] = (struct vring_desc) { answer, 1, VRING_DESC_F_WRITE, 0 };
	return ctrl_send(c);
}

static int ctrl_u16(struct ctrl *c, uint8_t class, uint8_t cmd, uint16_t value)
{
	return ctrl(c, class, cmd, &value, sizeof(value));
}

/* The NIC with features, its own queues set up, in status FEATURES_OK. */
static int nic_prepare(struct nic *nic, uint64_t features)
{
	int r = set_status(nic->fd, STATUS_DRIVER);

	r = r ?: set_features(nic->fd, features);
	r = r ?: set_status(nic->fd, STATUS_FEATURES);
	r = r ?: nic_set_up_queue(nic, RX, 0);
	r = r ?: nic_set_up_queue(nic, TX, 0);
	return r ?: nic_enable(nic);
}

TEST_F(mlx5, control_queue_in_its_own_address_space)
{
	static const uint8_t mac[6] = { 0x02, 0x12, 0x34, 0x56, 0x78, 0x9a };
	static const uint8_t none[6];
	struct nic *nic = &self->nic;
	uint8_t is[6], was[6];
	struct ctrl c;
	int fd = self->fd;

	ASSERT_OK(set_backend_features(fd, BACKEND_ASIDS));
	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_prepare(nic, FEATURES_CVQ));
	ASSERT_OK(ctrl_set_up(&c, fd, CVQ, nic->iova));
	ASSERT_OK(set_group_asid(fd, GROUP_CVQ, 1));
	ASSERT_OK(iotlb_map_asid(fd, 1, nic->iova, CTRL_MEM, c.page - PAGE));
	ASSERT_OK(set_status(fd, STATUS_RUNNING));
	ASSERT_OK(read_config(fd, 0, was, 6));
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl(&c, VIRTIO_NET_CTRL_MAC,
				       VIRTIO_NET_CTRL_MAC_ADDR_SET, none, 6));
	ASSERT_OK(read_config(fd, 0, is, 6));
	EXPECT_EQ(0, memcmp(is, was, 6));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl(&c, VIRTIO_NET_CTRL_MAC,
				      VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6));
	ASSERT_OK(read_config(fd, 0, is, 6));
	EXPECT_EQ(0, memcmp(is, mac, 6));
	/* Both groups work at the same time. */
	EXPECT_OK(nic_echo(nic, 8));
	/* And back to the first address, for whoever comes next. */
	EXPECT_EQ(VIRTIO_NET_OK, ctrl(&c, VIRTIO_NET_CTRL_MAC,
				      VIRTIO_NET_CTRL_MAC_ADDR_SET, was, 6));
}

TEST_F(mlx5, control_queue_answers)
{
	struct nic *nic = &self->nic;
	struct ctrl c;
	int fd = self->fd;
	uint8_t on = 1;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_prepare(nic, FEATURES_CVQ));
	ASSERT_OK(ctrl_set_up(&c, fd, CVQ, nic->iova + FAR));
	ASSERT_OK(iotlb_map(fd, nic->iova + FAR, CTRL_MEM, c.page - PAGE));
	ASSERT_OK(set_status(fd, STATUS_RUNNING));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_ADD, 7));
	/* mlx5 has it already. */
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					   VIRTIO_NET_CTRL_VLAN_ADD, 7));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_DEL, 7));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_ADD, 7));
	/* MQ was not negotiated, and receive modes do not exist. */
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					   VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1));
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl(&c, VIRTIO_NET_CTRL_RX,
				       VIRTIO_NET_CTRL_RX_PROMISC, &on, 1));
	/* Too short. */
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl(&c, VIRTIO_NET_CTRL_MAC,
				       VIRTIO_NET_CTRL_MAC_ADDR_SET, "12345", 5));
	EXPECT_EQ(c.avail, vring_get(fd, VHOST_GET_VRING_BASE, CVQ));
	/* It stands still while the device is suspended, and goes on after. */
	ASSERT_OK(vioctl(fd, VHOST_VDPA_SUSPEND, NULL));
	ASSERT_OK(vioctl(fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_DEL, 7));
}

/* Software serves the control queue: it has no null key, so a hole is an error. */
TEST_F(mlx5, control_queue_finds_nothing_in_holes)
{
	struct nic *nic = &self->nic;
	struct ctrl c;
	uint64_t hole;
	int fd = self->fd;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_prepare(nic, FEATURES_CVQ));
	ASSERT_OK(ctrl_set_up(&c, fd, CVQ, nic->iova + FAR));
	ASSERT_OK(iotlb_map(fd, nic->iova + FAR, CTRL_MEM, c.page - PAGE));
	ASSERT_OK(set_status(fd, STATUS_RUNNING));
	/* Between what the NIC has and what the control queue has. */
	hole = nic->iova + FAR / 2;
	ASSERT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_ADD, 9));
	/* The number of the VLAN is in a hole: hardware would read 0 there. */
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_at(&c, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD,
					  hole, 2, c.iova + PAGE + 128));
	/* The answer is in a hole: it goes nowhere, and nothing says that it was written. */
	EXPECT_EQ(0x77, ctrl_at(&c, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL,
				c.iova + PAGE + 64, 2, hole));
	EXPECT_EQ(0, c.vr.used->ring[(c.avail - 1) % 16].len);
	/* The queue goes on. */
	EXPECT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_ADD, 10));
}

/* mlx5_vdpa looks at no feature before it changes the address. */
TEST_F(mlx5, control_queue_sets_the_mac_without_a_feature)
{
	static const uint8_t mac[6] = { 0x02, 0x12, 0x34, 0x56, 0x78, 0x9b };
	struct nic *nic = &self->nic;
	uint8_t is[6], was[6];
	struct ctrl c;
	int fd = self->fd;

	ASSERT_OK(nic_map(nic));
	ASSERT_OK(nic_prepare(nic, FEATURES_MODERN | FEATURE(VIRTIO_NET_F_CTRL_VQ)));
	ASSERT_OK(ctrl_set_up(&c, fd, CVQ, nic->iova + FAR));
	ASSERT_OK(iotlb_map(fd, nic->iova + FAR, CTRL_MEM, c.page - PAGE));
	ASSERT_OK(set_status(fd, STATUS_RUNNING));
	ASSERT_OK(read_config(fd, 0, was, 6));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl(&c, VIRTIO_NET_CTRL_MAC,
				      VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6));
	ASSERT_OK(read_config(fd, 0, is, 6));
	EXPECT_EQ(0, memcmp(is, mac, 6));
	/* For VLANs and several pairs it does. */
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					   VIRTIO_NET_CTRL_VLAN_ADD, 7));
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					   VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1));
	EXPECT_EQ(VIRTIO_NET_OK, ctrl(&c, VIRTIO_NET_CTRL_MAC,
				      VIRTIO_NET_CTRL_MAC_ADDR_SET, was, 6));
}

/* --- devices of a test's own */

FIXTURE(own) {
	int fd[2];
};

static const char *const own_names[] = { "mlx5_a", "mlx5_b" };

/* Add a device with options and open it: its file or -errno. */
static int own_open(const char *name, const char *options)
{
	char node[NODE_LEN];

	if (mgmt_add_on(name, getenv("MGMTDEV"), options, node))
		return -ENODEV;
	return open_owned(node);
}

FIXTURE_SETUP(own)
{
	const char *parent = getenv("MGMTDEV");

	self->fd[0] = -1;
	self->fd[1] = -1;
	if (!parent || !strstr(parent, "mlx5_compat"))
		SKIP(return, "not a device of rust_mlx5_compat");
}

FIXTURE_TEARDOWN(own)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (self->fd[i] >= 0)
			close(self->fd[i]);
		mgmt_del_if_there(own_names[i]);
	}
}

struct key {
	unsigned int pieces, directs, pages;
	unsigned long exchanges;
};

/* What debugfs shows of the key of address space 0: 0 or -ENOENT. */
static int read_key_file(const char *name, struct key *k)
{
	char path[128], line[128];
	FILE *f;

	snprintf(path, sizeof(path), DEBUGFS "%s/keys", name);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	memset(k, 0, sizeof(*k));
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "0 pieces %u direct %u pages %u", &k->pieces, &k->directs,
		       &k->pages);
		sscanf(line, "exchanges %lu", &k->exchanges);
	}
	fclose(f);
	return 0;
}

TEST_F(own, key_is_made_of_the_ranges)
{
	uint64_t iova = 0x10000000;
	char *mem = shared_pages(64 * PAGE);
	struct key k, before;
	int fd;

	self->fd[0] = own_open(own_names[0], "");
	ASSERT_LE(0, self->fd[0]);
	fd = self->fd[0];
	if (read_key_file(own_names[0], &k) == -ENOENT)
		SKIP(return, "no debugfs");
	ASSERT_OK(iotlb_map(fd, iova, 16 * PAGE, mem));
	ASSERT_OK(iotlb_map(fd, iova + 16 * PAGE, 16 * PAGE, mem + 32 * PAGE));
	/* Neighbours are joined, wherever their pages are. */
	ASSERT_OK(read_key_file(own_names[0], &k));
	EXPECT_EQ(1, k.pieces);
	EXPECT_EQ(1, k.directs);
	EXPECT_LE(1, k.pages);
	EXPECT_GE(32, k.pages);
	/* Another permission, and a hole of more than one entry. */
	ASSERT_OK(iotlb_v2(fd, 0, VHOST_IOTLB_UPDATE, iova + 32 * PAGE, PAGE, mem,
			   VHOST_ACCESS_RO));
	ASSERT_OK(iotlb_map(fd, iova + (3ULL << 30), PAGE, mem));
	ASSERT_OK(read_key_file(own_names[0], &before));
	EXPECT_EQ(6, before.pieces);
	EXPECT_EQ(3, before.directs);
	/* The same table is another key of the same shape: mlx5_vdpa compares nothing. */
	ASSERT_OK(iotlb_batch(fd, 0, true));
	ASSERT_OK(iotlb_unmap(fd, iova + 16 * PAGE, 16 * PAGE));
	ASSERT_OK(iotlb_map(fd, iova + 16 * PAGE, 16 * PAGE, mem + 32 * PAGE));
	ASSERT_OK(iotlb_batch(fd, 0, false));
	ASSERT_OK(read_key_file(own_names[0], &k));
	EXPECT_EQ(before.pieces, k.pieces);
	EXPECT_EQ(before.exchanges + 1, k.exchanges);
	before = k;
	ASSERT_OK(iotlb_unmap(fd, iova + (3ULL << 30), PAGE));
	ASSERT_OK(read_key_file(own_names[0], &k));
	EXPECT_EQ(2, k.pieces);
	EXPECT_LT(before.exchanges, k.exchanges);
}

/* The numbers of a queue that "vdpa dev vstats show" knows: 0, or what it exits with. */
static int vstats(const char *name, int idx, long *received, long *completed)
{
	char text[2048];
	int r = mgmt_vstats(name, idx, text, sizeof(text));

	*received = number_after(text, "received_desc");
	*completed = number_after(text, "completed_desc");
	return r;
}

TEST_F(own, statistics_are_those_of_mlx5)
{
	long received, completed;
	struct nic nic;
	struct ctrl c;
	int fd, i;

	self->fd[0] = own_open(own_names[0], "");
	ASSERT_LE(0, self->fd[0]);
	fd = self->fd[0];
	ASSERT_OK(nic_init(&nic, fd));
	/* Hardware counts what it serves: there is nothing to ask before. */
	EXPECT_NE(0, vstats(own_names[0], TX, &received, &completed));
	ASSERT_OK(nic_map(&nic));
	ASSERT_OK(nic_prepare(&nic, FEATURES_CVQ));
	ASSERT_OK(ctrl_set_up(&c, fd, CVQ, nic.iova + FAR));
	ASSERT_OK(iotlb_map(fd, nic.iova + FAR, CTRL_MEM, c.page - PAGE));
	ASSERT_OK(set_status(fd, STATUS_RUNNING));
	ASSERT_OK(nic_echo(&nic, 5));
	for (i = RX; i <= TX; i++) {
		EXPECT_EQ(0, vstats(own_names[0], i, &received, &completed));
		EXPECT_EQ(5, received);
		EXPECT_EQ(5, completed);
	}
	EXPECT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_VLAN,
					  VIRTIO_NET_CTRL_VLAN_ADD, 7));
	EXPECT_EQ(0, vstats(own_names[0], CVQ, &received, &completed));
	EXPECT_EQ(1, received);
	EXPECT_EQ(1, completed);
	ASSERT_OK(vioctl(fd, VHOST_VDPA_SUSPEND, NULL));
	EXPECT_NE(0, vstats(own_names[0], TX, &received, &completed));
	EXPECT_EQ(0, vstats(own_names[0], CVQ, &received, &completed));
	ASSERT_OK(vioctl(fd, VHOST_VDPA_RESUME, NULL));
	EXPECT_EQ(0, vstats(own_names[0], TX, &received, &completed));
}

/* Queues that cannot be set up with the new key: the map change is rolled back. */
TEST_F(own, failed_set_up_rolls_the_map_back)
{
	struct key before, k;
	struct nic nic;
	char *other;
	int fd;

	self->fd[0] = own_open(own_names[0], "");
	ASSERT_LE(0, self->fd[0]);
	fd = self->fd[0];
	if (read_key_file(own_names[0], &k) == -ENOENT)
		SKIP(return, "no debugfs");
	if (on_c_driver())
		SKIP(return, "C does not hear of all errors: see deviations");
	other = shared_pages(PAGE);
	ASSERT_NE(NULL, other);
	ASSERT_OK(nic_init(&nic, fd));
	ASSERT_OK(nic_map(&nic));
	/* Nothing runs: there is nothing to set up. */
	ASSERT_OK(write_path("1", DEBUGFS "%s/fail_set_up", own_names[0]));
	ASSERT_OK(iotlb_map(fd, nic.iova + FAR, PAGE, other));
	ASSERT_OK(iotlb_unmap(fd, nic.iova + FAR, PAGE));
	ASSERT_OK(nic_start(&nic, 0));
	ASSERT_OK(nic_echo(&nic, 4));
	ASSERT_OK(read_key_file(own_names[0], &before));
	EXPECT_ERRNO(EFAULT, iotlb_map(fd, nic.iova + FAR, PAGE, other));
	ASSERT_OK(read_key_file(own_names[0], &k));
	EXPECT_EQ(before.pieces, k.pieces);
	EXPECT_EQ(before.pages, k.pages);
	EXPECT_OK(nic_echo(&nic, 4));
	ASSERT_OK(iotlb_map(fd, nic.iova + FAR, PAGE, other));
	ASSERT_OK(read_key_file(own_names[0], &k));
	EXPECT_LT(before.pieces, k.pieces);
	EXPECT_OK(nic_echo(&nic, 4));
}

TEST_F(own, state_moves_to_another_device)
{
	struct nic nic;
	int i, base[2];

	for (i = 0; i < 2; i++) {
		self->fd[i] = own_open(own_names[i], "mac 02:00:00:00:00:07");
		ASSERT_LE(0, self->fd[i]);
	}
	ASSERT_OK(nic_init(&nic, self->fd[0]));
	ASSERT_OK(nic_map(&nic));
	ASSERT_OK(nic_start(&nic, 0));
	ASSERT_OK(nic_echo(&nic, 13));
	for (i = 0; i < 10; i++) {
		/* Some may be done, some not: none is lost or comes twice. */
		nic_send(&nic, 16);
		ASSERT_OK(vioctl(nic.fd, VHOST_VDPA_SUSPEND, NULL));
		base[RX] = vring_get(nic.fd, VHOST_GET_VRING_BASE, RX);
		base[TX] = vring_get(nic.fd, VHOST_GET_VRING_BASE, TX);
		ASSERT_LE(0, base[RX]);
		ASSERT_LE(0, base[TX]);
		EXPECT_EQ(base[TX], nic_used(&nic.q[TX]));
		EXPECT_EQ(base[RX], nic_used(&nic.q[RX]));
		nic.fd = self->fd[(i + 1) % 2];
		ASSERT_OK(nic_map(&nic));
		ASSERT_OK(negotiate(nic.fd));
		ASSERT_OK(nic_set_up_queue(&nic, RX, base[RX]));
		ASSERT_OK(nic_set_up_queue(&nic, TX, base[TX]));
		ASSERT_OK(nic_enable(&nic));
		ASSERT_OK(set_status(nic.fd, STATUS_RUNNING));
		ASSERT_OK(nic_receive(&nic));
		ASSERT_OK(set_status(self->fd[i % 2], 0));
		ASSERT_OK(iotlb_unmap(self->fd[i % 2], nic.iova, NIC_MEM));
	}
}

TEST_F(own, queues_of_several_pairs)
{
	uint64_t features = FEATURES_CVQ | FEATURE(VIRTIO_NET_F_MQ);
	struct nic nic;
	struct ctrl c;
	int i, fd;

	self->fd[0] = own_open(own_names[0], "max_vqp 3");
	ASSERT_LE(0, self->fd[0]);
	fd = self->fd[0];
	ASSERT_OK(nic_init(&nic, fd));
	EXPECT_EQ(7, nic.caps.nvqs);
	ASSERT_OK(nic_map(&nic));
	ASSERT_OK(set_status(fd, STATUS_DRIVER));
	ASSERT_OK(set_features(fd, features));
	ASSERT_OK(set_status(fd, STATUS_FEATURES));
	EXPECT_EQ(GROUP_DATA, vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, 5));
	EXPECT_EQ(GROUP_CVQ, vring_get(fd, VHOST_VDPA_GET_VRING_GROUP, 6));
	/* The NIC's queues are those of the second pair. */
	for (i = 0; i < 2; i++) {
		ASSERT_OK(nic_set_up_queue_as(&nic, i, 2 + i, 0));
		ASSERT_OK(vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, 2 + i, 1));
	}
	ASSERT_OK(ctrl_set_up(&c, fd, 6, nic.iova + FAR));
	ASSERT_OK(iotlb_map(fd, nic.iova + FAR, CTRL_MEM, c.page - PAGE));
	ASSERT_OK(set_status(fd, STATUS_RUNNING));
	/* One pair is in use until the driver asks for more. */
	nic_send(&nic, 2);
	EXPECT_TRUE(at_rest(&nic));
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					   VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0));
	EXPECT_EQ(VIRTIO_NET_ERR, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					   VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 4));
	ASSERT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 3));
	EXPECT_OK(nic_receive(&nic));
	EXPECT_OK(nic_echo(&nic, 8));
	ASSERT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 1));
	nic_send(&nic, 2);
	EXPECT_TRUE(at_rest(&nic));
	EXPECT_EQ(10, vring_get(fd, VHOST_GET_VRING_BASE, 3));
	ASSERT_EQ(VIRTIO_NET_OK, ctrl_u16(&c, VIRTIO_NET_CTRL_MQ,
					  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2));
	EXPECT_OK(nic_receive(&nic));
}

TEST_HARNESS_MAIN
