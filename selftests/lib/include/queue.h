/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The driver's side of one virtqueue, split or packed, without indirect
 * descriptors, for devices that use buffers in order; and what those need that lay out a
 * struct vring themselves.
 */
#ifndef VDPA_TEST_QUEUE_H
#define VDPA_TEST_QUEUE_H

#include <linux/virtio_ring.h>

#include "vdpa.h"

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
void vq_init(struct vq *q, bool packed, uint16_t num, char *mem, uint64_t iova);

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

/* Make a buffer of several parts available; its number is that of its first slot. */
uint16_t vq_post_chain(struct vq *q, const struct vq_seg *segs, int n);

/* The same for a buffer in one part. */
void vq_post(struct vq *q, uint64_t addr, uint32_t len, bool write);

/* The next buffer that the device has used: its slot, -EAGAIN or what is wrong. */
int vq_take(struct vq *q, uint32_t *len);

/* The same once there is one; or -ETIMEDOUT. */
int vq_take_within(struct vq *q, uint32_t *len, int ms);

/* Where an empty queue begins, as VHOST_SET_VRING_BASE has it. */
static inline uint32_t vq_initial_base(bool packed)
{
	return packed ? 0x80008000 : 0;
}

/* How many buffers a device that was saved at base has not looked at. */
uint32_t vq_left(struct vq *q, uint32_t base);

/* All that the device is to know of it. */
int vq_set_up(struct vq *q, int fd, int index, uint32_t base);

/* What the device has used of a split ring. */
static inline uint16_t vring_used_idx(const struct vring *vr)
{
	return __atomic_load_n(&vr->used->idx, __ATOMIC_ACQUIRE);
}

/* Wait until that is want, without an eventfd to wait for: 0 or -ETIMEDOUT. */
int vring_wait(const struct vring *vr, uint16_t want, int ms);

/* Tell the device of a split ring, which it sees at iova: its size, base and addresses. */
int vring_place(int fd, int index, const struct vring *vr, uint64_t iova, uint32_t base);

void signal_eventfd(int fd);

/* Clear an eventfd and say how often it was signalled. */
uint64_t drain(int fd);

#endif
