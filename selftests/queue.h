/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The driver's side of one virtqueue, split or packed, with one descriptor a
 * buffer, for devices that use buffers in order.
 */
#ifndef VDPA_TEST_QUEUE_H
#define VDPA_TEST_QUEUE_H

#include <linux/virtio_ring.h>

#include "vdpa_test.h"

#define VQ_AREA		(3 * PAGE)	/* of the largest queue here */
#define VQ_MAX		64

struct vq {
	bool packed;
	uint16_t num;
	char *mem;
	uint64_t iova;
	int kick;
	int call;
	uint16_t avail;		/* packed: a slot; split: a counter */
	uint16_t used;
	bool avail_wrap;
	bool used_wrap;
	uint32_t posted;	/* buffers, ever */
	uint32_t taken;
};

static inline struct vring_desc *vq_split_desc(struct vq *q)
{
	return (void *)q->mem;
}

static inline struct vring_packed_desc *vq_packed_desc(struct vq *q)
{
	return (void *)q->mem;
}

static inline struct vring_avail *vq_avail(struct vq *q)
{
	return (void *)(q->mem + PAGE);
}

static inline struct vring_used *vq_used(struct vq *q)
{
	return (void *)(q->mem + 2 * PAGE);
}

/* An empty queue in VQ_AREA bytes of mem, which the device sees at iova. */
static inline void vq_init(struct vq *q, bool packed, uint16_t num, char *mem, uint64_t iova)
{
	int kick = q->kick, call = q->call;

	memset(mem, 0, VQ_AREA);
	*q = (struct vq){
		.packed = packed, .num = num, .mem = mem, .iova = iova,
		.kick = kick, .call = call, .avail_wrap = true, .used_wrap = true,
	};
}

static inline uint32_t vq_in_flight(struct vq *q)
{
	return q->posted - q->taken;
}

/* Make a buffer available; its number is that of its slot. */
static inline void vq_post(struct vq *q, uint64_t addr, uint32_t len, bool write)
{
	uint16_t slot = q->avail % q->num, flags = write ? VRING_DESC_F_WRITE : 0;

	q->posted++;
	if (!q->packed) {
		vq_split_desc(q)[slot] = (struct vring_desc){
			.addr = addr, .len = len, .flags = flags,
		};
		vq_avail(q)->ring[slot] = slot;
		q->avail++;
		__atomic_store_n(&vq_avail(q)->idx, q->avail, __ATOMIC_RELEASE);
		return;
	}
	vq_packed_desc(q)[slot].addr = addr;
	vq_packed_desc(q)[slot].len = len;
	vq_packed_desc(q)[slot].id = slot;
	flags |= q->avail_wrap << VRING_PACKED_DESC_F_AVAIL |
		 !q->avail_wrap << VRING_PACKED_DESC_F_USED;
	__atomic_store_n(&vq_packed_desc(q)[slot].flags, flags, __ATOMIC_RELEASE);
	if (++q->avail == q->num) {
		q->avail = 0;
		q->avail_wrap = !q->avail_wrap;
	}
}

/* The next buffer that the device has used: its slot, -EAGAIN or what is wrong. */
static inline int vq_take(struct vq *q, uint32_t *len)
{
	uint16_t slot = q->used % q->num, flags;
	uint32_t id;

	if (!q->packed) {
		if (q->used == __atomic_load_n(&vq_used(q)->idx, __ATOMIC_ACQUIRE))
			return -EAGAIN;
		id = vq_used(q)->ring[slot].id;
		*len = vq_used(q)->ring[slot].len;
		q->used++;
	} else {
		flags = __atomic_load_n(&vq_packed_desc(q)[slot].flags, __ATOMIC_ACQUIRE);
		if (!!(flags & 1 << VRING_PACKED_DESC_F_AVAIL) != q->used_wrap ||
		    !!(flags & 1 << VRING_PACKED_DESC_F_USED) != q->used_wrap)
			return -EAGAIN;
		id = vq_packed_desc(q)[slot].id;
		*len = vq_packed_desc(q)[slot].len;
		if (++q->used == q->num) {
			q->used = 0;
			q->used_wrap = !q->used_wrap;
		}
	}
	q->taken++;
	/* In order, so nothing is used twice or before it is available. */
	return id == slot && q->taken <= q->posted ? slot : -ERANGE;
}

/* Where an empty queue begins, as VHOST_SET_VRING_BASE has it. */
static inline uint32_t vq_initial_base(bool packed)
{
	return packed ? 0x80008000 : 0;
}

/* How many buffers a device that was saved at base has not looked at. */
static inline uint32_t vq_left(struct vq *q, uint32_t base)
{
	uint16_t at = base & 0x7fff;

	if (!q->packed)
		return (uint16_t)(q->avail - base);
	return at == q->avail && !!(base & 0x8000) == q->avail_wrap ? 0 :
	       (q->avail + q->num - at - 1) % q->num + 1;
}

/* All that the device is to know of it. */
static inline int vq_set_up(struct vq *q, int fd, int index, uint32_t base)
{
	int r = vring_state(fd, VHOST_SET_VRING_NUM, index, q->num);

	r = r ?: vring_state(fd, VHOST_SET_VRING_BASE, index, base);
	r = r ?: vring_addr(fd, index, q->iova, q->iova + PAGE, q->iova + 2 * PAGE);
	r = r ?: vring_file(fd, VHOST_SET_VRING_KICK, index, q->kick);
	r = r ?: vring_file(fd, VHOST_SET_VRING_CALL, index, q->call);
	return r ?: vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, index, 1);
}

static inline void signal_eventfd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN)
		abort();
}

#endif
