// SPDX-License-Identifier: GPL-2.0
#include "pages.h"
#include "virtio.h"

void nic_lay_out(struct nic *nic, uint16_t base)
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

int nic_init(struct nic *nic, int fd)
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

int nic_set_up_queue_as(struct nic *nic, int i, int index, uint16_t base)
{
	struct nic_queue *q = &nic->q[i];
	int fd = nic->fd, r;

	r = vring_place(fd, index, &q->vr, q->ring_iova, base);
	r = r ?: vring_file(fd, VHOST_SET_VRING_KICK, index, q->kick);
	return r ?: vring_file(fd, VHOST_SET_VRING_CALL, index, q->call);
}

int nic_set_up_queue(struct nic *nic, int i, uint16_t base)
{
	return nic_set_up_queue_as(nic, i, i, base);
}

int nic_enable(struct nic *nic)
{
	int r = vring_state(nic->fd, VHOST_VDPA_SET_VRING_ENABLE, RX, 1);

	return r ?: vring_state(nic->fd, VHOST_VDPA_SET_VRING_ENABLE, TX, 1);
}

int nic_start(struct nic *nic, uint16_t base)
{
	int r = negotiate(nic->fd);

	r = r ?: nic_set_up_queue(nic, RX, base);
	r = r ?: nic_set_up_queue(nic, TX, base);
	r = r ?: nic_enable(nic);
	return r ?: set_status(nic->fd, STATUS_RUNNING);
}

void nic_post(struct nic_queue *q, uint32_t len, uint16_t flags)
{
	uint16_t slot = q->avail & (q->vr.num - 1);

	q->vr.desc[slot].addr = q->bufs_iova + slot * BUF_SIZE;
	q->vr.desc[slot].len = len;
	q->vr.desc[slot].flags = flags;
	q->vr.avail->ring[slot] = slot;
	q->avail++;
	__atomic_store_n(&q->vr.avail->idx, q->avail, __ATOMIC_RELEASE);
}

void nic_post_rx(struct nic *nic)
{
	struct nic_queue *q = &nic->q[RX];

	memset(q->bufs + (q->avail & (q->vr.num - 1)) * BUF_SIZE, 0xee, BUF_SIZE);
	nic_post(q, BUF_SIZE, VRING_DESC_F_WRITE);
}

uint32_t nic_frame(char *buf, uint32_t seq)
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

void nic_post_tx(struct nic *nic)
{
	struct nic_queue *q = &nic->q[TX];
	char *buf = q->bufs + (q->avail & (q->vr.num - 1)) * BUF_SIZE;

	nic_post(q, nic_frame(buf, nic->next_tx++), 0);
}

int nic_wait(struct nic_queue *q, uint16_t want)
{
	struct pollfd p = { .fd = q->call, .events = POLLIN };

	while (nic_used(q) != want) {
		if (poll(&p, 1, WAIT_MS) != 1)
			return -ETIMEDOUT;
		drain(q->call);
	}
	return 0;
}

int nic_check_rx(struct nic *nic)
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

void nic_post_frames(struct nic *nic, int n)
{
	int i;

	for (i = 0; i < n; i++)
		nic_post_rx(nic);
	for (i = 0; i < n; i++)
		nic_post_tx(nic);
}

void nic_send(struct nic *nic, int n)
{
	nic_post_frames(nic, n);
	nic_kick(&nic->q[TX]);
}

int nic_receive(struct nic *nic)
{
	int r = nic_wait_polling(&nic->q[RX], nic->q[RX].avail);

	r = r ?: nic_wait_polling(&nic->q[TX], nic->q[TX].avail);
	r = r ?: nic_check_rx(nic);
	return r ?: nic->next_rx == nic->next_tx ? 0 : -ENODATA;
}

int nic_echo(struct nic *nic, int n)
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
