/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads: the headers that the kernel crate does not bind, and the
 * prototypes of the C helpers in helpers/.
 */
#ifndef VHOST_VDPA_BINDINGS_H
#define VHOST_VDPA_BINDINGS_H

#include <linux/eventfd.h>
#include <linux/iommu.h>
#include <linux/irqbypass.h>
#include <linux/mm.h>
#include <linux/vdpa.h>
#include <linux/vhost.h>
#include <linux/vhost_iotlb.h>
#include <linux/virtio.h>
#include <uapi/linux/vdpa.h>
#include <uapi/linux/vhost_types.h>
#include <uapi/linux/virtio_config.h>
#include <uapi/linux/virtio_ids.h>
#include <uapi/linux/virtio_net.h>
#include <uapi/linux/virtio_ring.h>

#include "vhost.h"

/* helpers/common.h: both modules */
unsigned long rvv_spin_lock_irqsave(spinlock_t *lock);
bool rvv_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void rvv_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);

/* helpers/parent.c: parents */
void rvv_callback_call(const struct vdpa_callback *cb);
void *rvv_guest_map(phys_addr_t pa);
void rvv_guest_unmap(const void *addr);
int rvv_vq_stat(struct sk_buff *msg, const char *name, u64 value);

/* helpers/driver.c: the driver */

#endif /* VHOST_VDPA_BINDINGS_H */
