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

#include "queue.h"

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
void nic_lay_out(struct nic *nic, uint16_t base);

/* Memory, eventfds and rings; the device hears nothing of it yet. */
int nic_init(struct nic *nic, int fd);

static inline int nic_map(struct nic *nic)
{
	return iotlb_map(nic->fd, nic->iova, NIC_MEM, nic->mem);
}

/* All that the device is to know of a queue, in the order that QEMU says it. */
int nic_set_up_queue(struct nic *nic, int i, uint16_t base);

/* The same for one that the device knows by another number. */
int nic_set_up_queue_as(struct nic *nic, int i, int index, uint16_t base);

int nic_enable(struct nic *nic);

/* From reset to DRIVER_OK. The memory is mapped already. */
int nic_start(struct nic *nic, uint16_t base);

void nic_post(struct nic_queue *q, uint32_t len, uint16_t flags);

static inline void nic_kick(struct nic_queue *q)
{
	signal_eventfd(q->kick);
}

void nic_post_rx(struct nic *nic);

#define HDR		sizeof(struct virtio_net_hdr_v1)
#define MIN_LEN		(HDR + ETH_HLEN + sizeof(uint32_t))

/* What frame number seq looks like; its length differs from its neighbours'. */
uint32_t nic_frame(char *buf, uint32_t seq);

void nic_post_tx(struct nic *nic);

static inline uint16_t nic_used(struct nic_queue *q)
{
	return vring_used_idx(&q->vr);
}

/* Wait for the call eventfd until the used index is want: 0 or -ETIMEDOUT. */
int nic_wait(struct nic_queue *q, uint16_t want);

/* The same without an eventfd to wait for. */
static inline int nic_wait_polling(struct nic_queue *q, uint16_t want)
{
	return vring_wait(&q->vr, want, WAIT_MS);
}

/* Take the frames that came in and hold them against what was sent. */
int nic_check_rx(struct nic *nic);

/* Post n frames, and buffers for what comes back. */
void nic_post_frames(struct nic *nic, int n);

/* The same, and tell the device: they are on their way. */
void nic_send(struct nic *nic, int n);

/* Wait for all of them, without an eventfd. */
int nic_receive(struct nic *nic);

/* Send n frames and get each of them back: 0 or what went wrong. */
int nic_echo(struct nic *nic, int n);

#endif
