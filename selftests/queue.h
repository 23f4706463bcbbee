/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The driver's side of one virtqueue, split or packed, without indirect
 * descriptors, for devices that use buffers in order.
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
	uint32_t descs_posted;	/* the descriptors that they were made of */
	uint32_t descs_taken;
	uint16_t chain[VQ_MAX];	/* how many the buffer has that begins in a slot */
};

/* A part of a buffer. */
struct vq_seg {
	uint64_t addr;
	uint32_t len;
	bool write;		/* for the device */
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

/* How many more descriptors there is room for. */
static inline uint32_t vq_room(struct vq *q)
{
	return q->num - (q->descs_posted - q->descs_taken);
}

/* The slot that the next buffer begins in. */
static inline uint16_t vq_next_slot(struct vq *q)
{
	return q->descs_posted % q->num;
}

static inline uint16_t vq_packed_flags(uint16_t flags, bool wrap)
{
	return flags | wrap << VRING_PACKED_DESC_F_AVAIL | !wrap << VRING_PACKED_DESC_F_USED;
}

/* Make a buffer of several parts available; its number is that of its first slot. */
static inline uint16_t vq_post_chain(struct vq *q, const struct vq_seg *segs, int n)
{
	uint16_t head = vq_next_slot(q), slot, flags, head_flags = 0;
	int k;

	for (k = 0; k < n; k++) {
		slot = (head + k) % q->num;
		flags = (segs[k].write ? VRING_DESC_F_WRITE : 0) |
			(k + 1 < n ? VRING_DESC_F_NEXT : 0);
		if (!q->packed) {
			vq_split_desc(q)[slot] = (struct vring_desc){
				.addr = segs[k].addr, .len = segs[k].len, .flags = flags,
				.next = (slot + 1) % q->num,
			};
			continue;
		}
		vq_packed_desc(q)[slot].addr = segs[k].addr;
		vq_packed_desc(q)[slot].len = segs[k].len;
		vq_packed_desc(q)[slot].id = head;
		flags = vq_packed_flags(flags, q->avail_wrap);
		if (k == 0)
			head_flags = flags;
		else
			vq_packed_desc(q)[slot].flags = flags;
		if (++q->avail == q->num) {
			q->avail = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	q->chain[head] = n;
	q->posted++;
	q->descs_posted += n;
	/* The device looks at the rest once it has seen the head. */
	if (q->packed) {
		__atomic_store_n(&vq_packed_desc(q)[head].flags, head_flags, __ATOMIC_RELEASE);
		return head;
	}
	vq_avail(q)->ring[q->avail % q->num] = head;
	q->avail++;
	__atomic_store_n(&vq_avail(q)->idx, q->avail, __ATOMIC_RELEASE);
	return head;
}

/* The same for a buffer in one part. */
static inline void vq_post(struct vq *q, uint64_t addr, uint32_t len, bool write)
{
	struct vq_seg seg = { addr, len, write };

	vq_post_chain(q, &seg, 1);
}

/* The next buffer that the device has used: its slot, -EAGAIN or what is wrong. */
static inline int vq_take(struct vq *q, uint32_t *len)
{
	uint16_t head = q->descs_taken % q->num, flags;
	uint32_t id;

	if (!q->packed) {
		struct vring_used_elem *e = &vq_used(q)->ring[q->used % q->num];

		if (q->used == __atomic_load_n(&vq_used(q)->idx, __ATOMIC_ACQUIRE))
			return -EAGAIN;
		id = e->id;
		*len = e->len;
		q->used++;
	} else {
		flags = __atomic_load_n(&vq_packed_desc(q)[head].flags, __ATOMIC_ACQUIRE);
		if (!!(flags & 1 << VRING_PACKED_DESC_F_AVAIL) != q->used_wrap ||
		    !!(flags & 1 << VRING_PACKED_DESC_F_USED) != q->used_wrap)
			return -EAGAIN;
		id = vq_packed_desc(q)[head].id;
		*len = vq_packed_desc(q)[head].len;
		q->used += q->chain[head];
		if (q->used >= q->num) {
			q->used -= q->num;
			q->used_wrap = !q->used_wrap;
		}
	}
	/* In order, so nothing is used twice or before it is available. */
	if (id != head || q->taken == q->posted)
		return -ERANGE;
	q->taken++;
	q->descs_taken += q->chain[head];
	return head;
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
