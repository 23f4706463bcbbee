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
#include <uapi/linux/virtio_blk.h>
#include <uapi/linux/virtio_config.h>
#include <uapi/linux/virtio_ids.h>
#include <uapi/linux/virtio_net.h>
#include <uapi/linux/virtio_ring.h>

#include "vhost.h"

/* helpers/common.c: the driver and the parents */
unsigned long rvv_spin_lock_irqsave(spinlock_t *lock);
bool rvv_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void rvv_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
void rvv_iotlb_detach(struct vhost_iotlb *iotlb, struct vhost_iotlb_map *map);
bool rvv_iotlb_detach_all(struct vhost_iotlb *iotlb, u64 start, u64 last,
			  struct list_head **head);
void rvv_iotlb_attach(struct vhost_iotlb *iotlb, struct vhost_iotlb_map *map);

/* helpers/parent.c: parents */
bool rvv_vdpa_name_taken(struct vdpa_device *vdev, const char *name);
void rvv_callback_call(const struct vdpa_callback *cb);
void *rvv_guest_ram(phys_addr_t pa, size_t len);
phys_addr_t rvv_page_to_phys(const struct page *page); /* for tests */
bool rvv_use_mm(struct mm_struct *mm);
size_t rvv_user_read(void *to, u64 from, size_t len);
size_t rvv_user_write(u64 to, const void *from, size_t len);
int rvv_user_load_u16(u16 *value, u64 from);
int rvv_user_store_u16(u64 to, u16 value);
int rvv_vq_stat(struct sk_buff *msg, const char *name, u64 value);

/* helpers/sim_params.h: the module parameters that every simulator has */
struct rvv_sim_params {
	int max_iotlb_entries;
	u16 queue_size;
	bool use_va;
	bool batch_mapping;
};

/* helpers/sim_net.c: the network simulator */
struct rvv_sim_params rvv_net_sim_params(void);

/* helpers/mlx5.c */
int rvv_mlx5_max_iotlb_entries(void);

/* helpers/sim_blk.c: the block simulator */
bool rvv_blk_shared_backend(void);
u64 rvv_blk_capacity(void);
u16 rvv_blk_num_queues(void);
u64 rvv_blk_memory_size(void);
struct rvv_sim_params rvv_blk_sim_params(void);

/* helpers/driver.c: the driver */
int rvv_max_iotlb_entries(void);
void rvv_call_slot_signal(void *slot); /* in Rust: eventfd.rs */
void rvv_call_slot_callback(struct vdpa_callback *cb, bool callback, void *private,
			    struct eventfd_ctx *trigger);
int rvv_vdpa_reset(struct vdpa_device *vdev, u32 flags);
int rvv_vdpa_set_features(struct vdpa_device *vdev, u64 features);
void *rvv_vdpa_get_drvdata(const struct vdpa_device *vdev);
void rvv_vdpa_set_drvdata(struct vdpa_device *vdev, void *data);
struct device *rvv_vdpa_dma_dev(struct vdpa_device *vdev);
struct iommu_domain *rvv_iommu_domain_alloc(struct device *dev);
bool rvv_iommu_cache_coherent(struct device *dev);
bool rvv_iommu_aperture(struct iommu_domain *domain, u64 *first, u64 *last);
int rvv_iommu_map(struct iommu_domain *domain, u64 iova, u64 pa, u64 size, u32 perm);
void rvv_eventfd_signal(struct eventfd_ctx *ctx);
int rvv_srcu_init(struct srcu_struct *ssp);
void rvv_srcu_cleanup(struct srcu_struct *ssp);
bool rvv_gate_enter(struct srcu_struct *ssp, const bool *open, unsigned long *counter);
void rvv_gate_leave(struct srcu_struct *ssp, unsigned long counter);
unsigned long rvv_page_to_pfn(const struct page *page);
int rvv_contiguous_pages(struct page **pages, int n, unsigned long *first);
struct file *rvv_vma_file_at(struct vm_area_struct *vma, unsigned long addr, bool write,
			     pgoff_t *index, pgoff_t *pages);
unsigned long rvv_folio_usable(struct folio *folio, pgoff_t *index, unsigned long *pfn);
void rvv_folio_put(struct folio *folio);
int rvv_folio_pin_pages(struct folio *folio, unsigned int n);
void rvv_unpin_pages(unsigned long pfn, unsigned long n, bool dirty);
int rvv_minor_alloc(void);
void rvv_minor_free(int minor);
dev_t rvv_mkdev(unsigned int major, unsigned int minor);
unsigned int rvv_major(dev_t dev);
int rvv_device_set_name(struct device *dev, int minor);
struct address_space *rvv_file_mapping(struct file *file);
struct cdev *rvv_inode_cdev(struct inode *inode);
unsigned int rvv_inode_minor(const struct inode *inode);
void rvv_resched(void);
bool rvv_killed_or_resched(void);
unsigned long rvv_rlimit_memlock(void);
s64 rvv_mm_pinned_add(struct mm_struct *mm, s64 pages);
struct vdpa_map_file *rvv_map_file_new(const struct vm_area_struct *vma, u64 uaddr);
void rvv_map_file_free(struct vdpa_map_file *map);
void rvv_vma_set_doorbell(struct vm_area_struct *vma,
			  const struct vm_operations_struct *ops);
u32 rvv_array_index_nospec(u32 idx, u32 len);
void rvv_trace_map(int minor, u32 asid, u64 iova, u64 size, u64 uaddr, u32 perm,
		   u64 entries, int ret);
void rvv_trace_unmap(int minor, u32 asid, u64 iova, u64 size, u64 entries, int ret);
void rvv_trace_set_map(u32 asid, u32 entries, int ret);
void rvv_trace_reset(int minor, bool clean_map, int ret);
void rvv_trace_backend_features(int minor, u64 offered, u64 acked, int ret);
void rvv_trace_remove(int minor, bool was_open);
struct mm_struct *rvv_current_mm(void);
void rvv_mutex_lock(struct mutex *lock);
void rvv_mutex_unlock(struct mutex *lock);

#endif /* VHOST_VDPA_BINDINGS_H */
