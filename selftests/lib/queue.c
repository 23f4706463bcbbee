// SPDX-License-Identifier: GPL-2.0
#include "queue.h"

void vq_init(struct vq *q, bool packed, uint16_t num, char *mem, uint64_t iova)
{
	int kick = q->kick, call = q->call;

	memset(mem, 0, VQ_AREA);
	*q = (struct vq){
		.packed = packed, .num = num, .mem = mem, .iova = iova,
		.kick = kick, .call = call, .avail_wrap = true, .used_wrap = true,
	};
}

static uint16_t vq_packed_flags(uint16_t flags, bool wrap)
{
	return flags | wrap << VRING_PACKED_DESC_F_AVAIL | !wrap << VRING_PACKED_DESC_F_USED;
}

uint16_t vq_post_chain(struct vq *q, const struct vq_seg *segs, int n)
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

void vq_post(struct vq *q, uint64_t addr, uint32_t len, bool write)
{
	struct vq_seg seg = { addr, len, write };

	vq_post_chain(q, &seg, 1);
}

int vq_take(struct vq *q, uint32_t *len)
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

int vq_take_within(struct vq *q, uint32_t *len, int ms)
{
	int slot, i;

	for (i = 0; (slot = vq_take(q, len)) == -EAGAIN; i++) {
		if (i == ms)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return slot;
}

uint32_t vq_left(struct vq *q, uint32_t base)
{
	uint16_t at = base & 0x7fff;

	if (!q->packed)
		return (uint16_t)(q->avail - base);
	return at == q->avail && !!(base & 0x8000) == q->avail_wrap ? 0 :
	       (q->avail + q->num - at - 1) % q->num + 1;
}

int vq_set_up(struct vq *q, int fd, int index, uint32_t base)
{
	int r = vring_state(fd, VHOST_SET_VRING_NUM, index, q->num);

	r = r ?: vring_state(fd, VHOST_SET_VRING_BASE, index, base);
	r = r ?: vring_addr(fd, index, q->iova, q->iova + PAGE, q->iova + 2 * PAGE);
	r = r ?: vring_file(fd, VHOST_SET_VRING_KICK, index, q->kick);
	r = r ?: vring_file(fd, VHOST_SET_VRING_CALL, index, q->call);
	return r ?: vring_state(fd, VHOST_VDPA_SET_VRING_ENABLE, index, 1);
}

int vring_wait(const struct vring *vr, uint16_t want, int ms)
{
	int i;

	for (i = 0; vring_used_idx(vr) != want; i++) {
		if (i == ms)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

int vring_place(int fd, int index, const struct vring *vr, uint64_t iova, uint32_t base)
{
	int r = vring_state(fd, VHOST_SET_VRING_NUM, index, vr->num);

	r = r ?: vring_state(fd, VHOST_SET_VRING_BASE, index, base);
	return r ?: vring_addr(fd, index, iova, iova + ((char *)vr->avail - (char *)vr->desc),
			       iova + ((char *)vr->used - (char *)vr->desc));
}

void signal_eventfd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN)
		abort();
}

uint64_t drain(int fd)
{
	uint64_t v;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}
