/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio-net driver in userspace, as small as it can be: two split rings in
 * one shared mapping, frames that are sent and come back from a simulator that
 * loops them.
 */
#ifndef VDPA_TEST_VIRTIO_H
#define VDPA_TEST_VIRTIO_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "vdpa_test.h"

#define RX		0
#define TX		1
#define RING_SIZE	64	/* descriptors a queue */
#define BUF_SIZE	2048UL
#define RING_AREA	0x10000UL
#define BUF_AREA	(RING_SIZE * BUF_SIZE)
#define NIC_MEM		(2 * RING_AREA + 2 * BUF_AREA)
#define WAIT_MS		10000

struct nic_queue {
	struct vring vr;
	char *bufs;
	uint64_t bufs_iova;
	uint64_t ring_iova;
	int kick;
	int call;
	uint16_t avail;		/* the next available index */
	uint16_t used;		/* the next used index to look at */
};

struct nic {
	int fd;
	struct vdpa_caps caps;
	uint64_t iova;
	char *mem;
	uint32_t num;
	struct nic_queue q[2];
	uint32_t next_tx;	/* sequence numbers of frames */
	uint32_t next_rx;
};

/* The rings, empty, their counters at base. */
static inline void nic_lay_out(struct nic *nic, uint16_t base)
{
	int i;

	memset(nic->mem, 0, 2 * RING_AREA);
	for (i = 0; i < 2; i++) {
		struct nic_queue *q = &nic->q[i];

		vring_init(&q->vr, nic->num, nic->mem + i * RING_AREA, PAGE);
		q->ring_iova = nic->iova + i * RING_AREA;
		q->bufs = nic->mem + 2 * RING_AREA + i * BUF_AREA;
		q->bufs_iova = nic->iova + 2 * RING_AREA + i * BUF_AREA;
		q->avail = base;
		q->used = base;
		q->vr.avail->idx = base;
		q->vr.used->idx = base;
	}
}

/* Memory, eventfds and rings; the device hears nothing of it yet. */
static inline int nic_init(struct nic *nic, int fd)
{
	int i, r;

	memset(nic, 0, sizeof(*nic));
	nic->fd = fd;
	r = vdpa_get_caps(fd, &nic->caps);
	if (r)
		return r;
	nic->iova = nic->caps.iova;
	nic->num = RING_SIZE < nic->caps.num_max ? RING_SIZE : nic->caps.num_max;
	nic->mem = shared_pages(NIC_MEM);
	if (!nic->mem)
		return -ENOMEM;
	nic_lay_out(nic, 0);
	for (i = 0; i < 2; i++) {
		nic->q[i].kick = eventfd(0, EFD_NONBLOCK);
		nic->q[i].call = eventfd(0, EFD_NONBLOCK);
	}
	return 0;
}

static inline int nic_map(struct nic *nic)
{
	return iotlb_map(nic->fd, nic->iova, NIC_MEM, nic->mem);
}

/* All that the device is to know of a queue, in the order that QEMU says it. */
static inline int nic_set_up_queue(struct nic *nic, int i, uint16_t base)
{
	struct nic_queue *q = &nic->q[i];
	int fd = nic->fd, r;

	r = vring_state(fd, VHOST_SET_VRING_NUM, i, nic->num);
	r = r ?: vring_state(fd, VHOST_SET_VRING_BASE, i, base);
	r = r ?: vring_addr(fd, i, q->ring_iova,
			    q->ring_iova + ((char *)q->vr.avail - (char *)q->vr.desc),
			    q->ring_iova + ((char *)q->vr.used - (char *)q->vr.desc));
	r = r ?: vring_file(fd, VHOST_SET_VRING_KICK, i, q->kick);
	return r ?: vring_file(fd, VHOST_SET_VRING_CALL, i, q->call);
}

static inline int nic_enable(struct nic *nic)
{
	int r = vring_state(nic->fd, VHOST_VDPA_SET_VRING_ENABLE, RX, 1);

	return r ?: vring_state(nic->fd, VHOST_VDPA_SET_VRING_ENABLE, TX, 1);
}

/* From reset to DRIVER_OK. The memory is mapped already. */
static inline int nic_start(struct nic *nic, uint16_t base)
{
	int r = negotiate(nic->fd);

	r = r ?: nic_set_up_queue(nic, RX, base);
	r = r ?: nic_set_up_queue(nic, TX, base);
	r = r ?: nic_enable(nic);
	return r ?: set_status(nic->fd, STATUS_RUNNING);
}

static inline void nic_post(struct nic_queue *q, uint32_t len, uint16_t flags)
{
	uint16_t slot = q->avail & (q->vr.num - 1);

	q->vr.desc[slot].addr = q->bufs_iova + slot * BUF_SIZE;
	q->vr.desc[slot].len = len;
	q->vr.desc[slot].flags = flags;
	q->vr.avail->ring[slot] = slot;
	q->avail++;
	__atomic_store_n(&q->vr.avail->idx, q->avail, __ATOMIC_RELEASE);
}

static inline void nic_kick(struct nic_queue *q)
{
	uint64_t one = 1;

	if (write(q->kick, &one, sizeof(one)) != sizeof(one))
		abort();
}

static inline void nic_post_rx(struct nic *nic)
{
	struct nic_queue *q = &nic->q[RX];

	memset(q->bufs + (q->avail & (q->vr.num - 1)) * BUF_SIZE, 0xee, BUF_SIZE);
	nic_post(q, BUF_SIZE, VRING_DESC_F_WRITE);
}

#define HDR		sizeof(struct virtio_net_hdr_v1)
#define MIN_LEN		(HDR + ETH_HLEN + sizeof(uint32_t))

/* What frame number seq looks like; its length differs from its neighbours'. */
static inline uint32_t nic_frame(char *buf, uint32_t seq)
{
	uint32_t len = MIN_LEN + 46 + seq % 1400, i;
	struct ethhdr *eth = (void *)(buf + HDR);

	memset(buf, 0, HDR);
	memset(eth->h_dest, 0xff, ETH_ALEN);
	memset(eth->h_source, 0x02, ETH_ALEN);
	eth->h_proto = 0xb588;
	memcpy(buf + HDR + ETH_HLEN, &seq, sizeof(seq));
	for (i = MIN_LEN; i < len; i++)
		buf[i] = (char)(seq * 7 + i);
	return len;
}

static inline void nic_post_tx(struct nic *nic)
{
	struct nic_queue *q = &nic->q[TX];
	char *buf = q->bufs + (q->avail & (q->vr.num - 1)) * BUF_SIZE;

	nic_post(q, nic_frame(buf, nic->next_tx++), 0);
}

static inline uint16_t nic_used(struct nic_queue *q)
{
	return __atomic_load_n(&q->vr.used->idx, __ATOMIC_ACQUIRE);
}

/* Clear an eventfd and say how often it was signalled. */
static inline uint64_t drain(int fd)
{
	uint64_t v;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

/* Wait for the call eventfd until the used index is want: 0 or -ETIMEDOUT. */
static inline int nic_wait(struct nic_queue *q, uint16_t want)
{
	struct pollfd p = { .fd = q->call, .events = POLLIN };

	while (nic_used(q) != want) {
		if (poll(&p, 1, WAIT_MS) != 1)
			return -ETIMEDOUT;
		drain(q->call);
	}
	return 0;
}

/* The same without an eventfd to wait for. */
static inline int nic_wait_polling(struct nic_queue *q, uint16_t want)
{
	int i;

	for (i = 0; nic_used(q) != want; i++) {
		if (i == WAIT_MS)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/* Take the frames that came in and hold them against what was sent. */
static inline int nic_check_rx(struct nic *nic)
{
	struct nic_queue *q = &nic->q[RX];
	char want[BUF_SIZE];

	while (q->used != nic_used(q)) {
		struct vring_used_elem *e;
		uint32_t len;
		char *got;

		e = &q->vr.used->ring[q->used & (q->vr.num - 1)];
		if (e->id >= q->vr.num)
			return -ERANGE;
		got = q->bufs + e->id * BUF_SIZE;
		len = nic_frame(want, nic->next_rx);
		if (e->len != len)
			return -EMSGSIZE;
		/* The header is the device's to fill in. */
		if (memcmp(got + HDR, want + HDR, len - HDR))
			return -EBADMSG;
		if (len < BUF_SIZE && (unsigned char)got[len] != 0xee)
			return -EOVERFLOW;
		nic->next_rx++;
		q->used++;
	}
	return 0;
}

/* Send n frames and get each of them back: 0 or what went wrong. */
static inline int nic_echo(struct nic *nic, int n)
{
	int i, r;

	for (i = 0; i < n; i++)
		nic_post_rx(nic);
	nic_kick(&nic->q[RX]);
	for (i = 0; i < n; i++)
		nic_post_tx(nic);
	nic_kick(&nic->q[TX]);
	r = nic_wait(&nic->q[RX], nic->q[RX].avail);
	r = r ?: nic_wait(&nic->q[TX], nic->q[TX].avail);
	nic->q[TX].used = nic_used(&nic->q[TX]);
	r = r ?: nic_check_rx(nic);
	if (!r && nic->next_rx != nic->next_tx)
		r = -ENODATA;
	return r;
}

#endif
