// SPDX-License-Identifier: GPL-2.0
/*
 * One variable of every structure that we share with the kernel's vdpa and vhost
 * modules without being told by anything when it changes. Never linked or run:
 * check-layout.sh reads the debug information of the object.
 */
#include <linux/cdev.h>
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/uio.h>
#include <linux/vdpa.h>
#include <linux/vhost_iotlb.h>
#include <linux/irqbypass.h>
#include <linux/virtio.h>
#include "vhost.h"

#define PROBE(type) struct type probe_##type

/* in vdpa.ko */
PROBE(vdpa_device);
PROBE(vdpa_config_ops);
PROBE(vdpa_driver);
PROBE(vdpa_mgmt_dev);
PROBE(vdpa_mgmtdev_ops);
PROBE(vdpa_dev_set_config);
PROBE(vdpa_callback);
PROBE(vdpa_notification_area);
PROBE(vdpa_vq_state);
PROBE(vdpa_iova_range);
/* in vhost.ko and vhost_iotlb.ko */
PROBE(vhost_dev);
PROBE(vhost_virtqueue);
PROBE(vhost_vring_call);
PROBE(vhost_msg_node);
PROBE(vhost_worker);
PROBE(vhost_iotlb);
PROBE(vhost_iotlb_map);
PROBE(vhost_msg);
PROBE(vhost_msg_v2);
PROBE(vhost_iotlb_msg);
/* in irqbypass.ko and the kernel itself */
PROBE(device);
PROBE(cdev);
PROBE(file);
PROBE(file_operations);
PROBE(kiocb);
PROBE(iov_iter);
PROBE(vm_area_struct);
PROBE(vm_operations_struct);
PROBE(vm_fault);
PROBE(mm_struct);
PROBE(page);
PROBE(irq_bypass_producer);
PROBE(virtio_device_id);
union virtio_map probe_virtio_map;
