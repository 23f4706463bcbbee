/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads: the headers that the kernel crate does not bind, and the
 * prototypes of the C helpers in abstractions/helpers/.
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
unsigned long vdpa_common_spin_lock_irqsave(spinlock_t *lock);
bool vdpa_common_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void vdpa_common_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
void vdpa_common_iotlb_detach(struct vhost_iotlb *iotlb, struct vhost_iotlb_map *map);
bool vdpa_common_iotlb_detach_all(struct vhost_iotlb *iotlb, u64 start, u64 last,
				  struct list_head **head);
void vdpa_common_iotlb_attach(struct vhost_iotlb *iotlb, struct vhost_iotlb_map *map);

/* helpers/parent.c: parents */
bool vdpa_parent_name_taken(struct vdpa_device *vdev, const char *name);
void vdpa_parent_callback_call(const struct vdpa_callback *cb);
void *vdpa_parent_guest_ram(phys_addr_t pa, size_t len);
phys_addr_t vdpa_parent_page_to_phys(const struct page *page); /* for tests */
bool vdpa_parent_use_mm(struct mm_struct *mm);
size_t vdpa_parent_user_read(void *to, u64 from, size_t len);
size_t vdpa_parent_user_write(u64 to, const void *from, size_t len);
int vdpa_parent_user_load_u16(u16 *value, u64 from);
int vdpa_parent_user_store_u16(u64 to, u16 value);
int vdpa_parent_vq_stat(struct sk_buff *msg, const char *name, u64 value);

/* helpers/sim_params.h: the module parameters that every simulator has */
struct vdpa_sim_params {
	int max_iotlb_entries;
	u16 queue_size;
	bool use_va;
	bool batch_mapping;
};

/* helpers/sim_net.c: the network simulator */
struct vdpa_sim_params vdpa_sim_net_params(void);

/* helpers/mlx5.c */
int mlx5_compat_max_iotlb_entries(void);

/* helpers/sim_blk.c: the block simulator */
bool vdpa_sim_blk_shared_backend(void);
u64 vdpa_sim_blk_capacity(void);
u16 vdpa_sim_blk_num_queues(void);
u64 vdpa_sim_blk_memory_size(void);
struct vdpa_sim_params vdpa_sim_blk_params(void);

/* helpers/driver.c: the driver */
int vhost_vdpa_max_iotlb_entries(void);
void vhost_vdpa_call_slot_signal(void *slot); /* in Rust: eventfd.rs */
void vhost_vdpa_call_slot_callback(struct vdpa_callback *cb, bool callback, void *private,
				   struct eventfd_ctx *trigger);
int vhost_vdpa_reset(struct vdpa_device *vdev, u32 flags);
int vhost_vdpa_set_features(struct vdpa_device *vdev, u64 features);
void *vhost_vdpa_get_drvdata(const struct vdpa_device *vdev);
void vhost_vdpa_set_drvdata(struct vdpa_device *vdev, void *data);
struct device *vhost_vdpa_dma_dev(struct vdpa_device *vdev);
struct iommu_domain *vhost_vdpa_iommu_domain_alloc(struct device *dev);
bool vhost_vdpa_iommu_cache_coherent(struct device *dev);
bool vhost_vdpa_iommu_aperture(struct iommu_domain *domain, u64 *first, u64 *last);
int vhost_vdpa_iommu_map(struct iommu_domain *domain, u64 iova, u64 pa, u64 size, u32 perm);
void vhost_vdpa_eventfd_signal(struct eventfd_ctx *ctx);
int vhost_vdpa_srcu_init(struct srcu_struct *ssp);
void vhost_vdpa_srcu_cleanup(struct srcu_struct *ssp);
bool vhost_vdpa_try_access(struct srcu_struct *ssp, const bool *accessible, unsigned long *counter);
void vhost_vdpa_end_access(struct srcu_struct *ssp, unsigned long counter);
unsigned long vhost_vdpa_page_to_pfn(const struct page *page);
int vhost_vdpa_contiguous_pages(struct page **pages, int n, unsigned long *first);
struct file *vhost_vdpa_vma_file_at(struct vm_area_struct *vma, unsigned long addr, bool write,
				    pgoff_t *index, pgoff_t *pages);
unsigned long vhost_vdpa_folio_usable(struct folio *folio, pgoff_t *index, unsigned long *pfn);
void vhost_vdpa_folio_put(struct folio *folio);
int vhost_vdpa_folio_pin_pages(struct folio *folio, unsigned int n);
void vhost_vdpa_unpin_pages(unsigned long pfn, unsigned long n, bool dirty);
int vhost_vdpa_minor_alloc(void);
void vhost_vdpa_minor_free(int minor);
dev_t vhost_vdpa_mkdev(unsigned int major, unsigned int minor);
unsigned int vhost_vdpa_major(dev_t dev);
int vhost_vdpa_device_set_name(struct device *dev, int minor);
struct address_space *vhost_vdpa_file_mapping(struct file *file);
struct cdev *vhost_vdpa_inode_cdev(struct inode *inode);
unsigned int vhost_vdpa_inode_minor(const struct inode *inode);
void vhost_vdpa_resched(void);
bool vhost_vdpa_killed_or_resched(void);
unsigned long vhost_vdpa_rlimit_memlock(void);
s64 vhost_vdpa_mm_pinned_add(struct mm_struct *mm, s64 pages);
struct vdpa_map_file *vhost_vdpa_map_file_new(const struct vm_area_struct *vma, u64 uaddr);
void vhost_vdpa_map_file_free(struct vdpa_map_file *map);
void vhost_vdpa_vma_set_doorbell(struct vm_area_struct *vma,
				 const struct vm_operations_struct *ops);
u32 vhost_vdpa_array_index_nospec(u32 idx, u32 len);
void vhost_vdpa_trace_map(int minor, u32 asid, u64 iova, u64 size, u64 uaddr, u32 perm,
			  u64 entries, int ret);
void vhost_vdpa_trace_unmap(int minor, u32 asid, u64 iova, u64 size, u64 entries, int ret);
void vhost_vdpa_trace_set_map(const struct vdpa_device *vdpa, u32 asid, u32 entries, int ret);
void vhost_vdpa_trace_reset(int minor, bool clean_map, int ret);
void vhost_vdpa_trace_backend_features(int minor, u64 offered, u64 acked, int ret);
void vhost_vdpa_trace_remove(int minor, bool was_open);
struct mm_struct *vhost_vdpa_current_mm(void);
void vhost_vdpa_mutex_lock(struct mutex *lock);
void vhost_vdpa_mutex_unlock(struct mutex *lock);

#endif /* VHOST_VDPA_BINDINGS_H */
