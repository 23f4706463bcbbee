// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of the library vdpa_bus_driver, which is part of rust_vhost_vdpa.ko:
 * static inlines as functions, the callback that parents call, tracepoints, minor
 * numbers, which pages of a file may be pinned, the memory of a map by user address,
 * and the module parameter.
 */
#include <linux/capability.h>
#include <linux/cdev.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/idr.h>
#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_context.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/userfaultfd_k.h>

#include "../common/bindings.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void vhost_vdpa_trace_map(int minor, u32 asid, u64 iova, u64 size, u64 uaddr, u32 perm,
			  u64 entries, int ret)
{
	trace_vhost_vdpa_map(minor, asid, iova, size, uaddr, perm, entries, ret);
}

void vhost_vdpa_trace_unmap(int minor, u32 asid, u64 iova, u64 size, u64 entries, int ret)
{
	trace_vhost_vdpa_unmap(minor, asid, iova, size, entries, ret);
}

void vhost_vdpa_trace_set_map(const struct vdpa_device *vdpa, u32 asid, u32 entries, int ret)
{
	trace_vhost_vdpa_set_map(&vdpa->dev, asid, entries, ret);
}

void vhost_vdpa_trace_reset(int minor, bool clean_map, int ret)
{
	trace_vhost_vdpa_reset(minor, clean_map, ret);
}

void vhost_vdpa_trace_backend_features(int minor, u64 offered, u64 acked, int ret)
{
	trace_vhost_vdpa_backend_features(minor, offered, acked, ret);
}

void vhost_vdpa_trace_remove(int minor, bool was_open)
{
	trace_vhost_vdpa_remove(minor, was_open);
}

/* As in C's vhost_vdpa: same name, same permissions, same default. */
static int max_iotlb_entries = 2048;
module_param(max_iotlb_entries, int, 0444);
MODULE_PARM_DESC(max_iotlb_entries,
		 "Maximum number of iotlb entries per address space. (default: 2048)");

int vhost_vdpa_max_iotlb_entries(void)
{
	return max_iotlb_entries;
}

/*
 * irqreturn_t callbacks are defined in C because clang and rustc disagree about
 * their KCFI type.
 */
static irqreturn_t vhost_vdpa_call_slot_cb(void *private)
{
	vhost_vdpa_call_slot_signal(private);
	return IRQ_HANDLED;
}

void vhost_vdpa_call_slot_callback(struct vdpa_callback *cb, bool callback, void *private,
				   struct eventfd_ctx *trigger)
{
	cb->callback = callback ? vhost_vdpa_call_slot_cb : NULL;
	cb->private = private;
	cb->trigger = trigger;
}

int vhost_vdpa_reset(struct vdpa_device *vdev, u32 flags)
{
	return vdpa_reset(vdev, flags);
}

int vhost_vdpa_set_features(struct vdpa_device *vdev, u64 features)
{
	return vdpa_set_features(vdev, features);
}

void *vhost_vdpa_get_drvdata(const struct vdpa_device *vdev)
{
	return vdpa_get_drvdata(vdev);
}

void vhost_vdpa_set_drvdata(struct vdpa_device *vdev, void *data)
{
	vdpa_set_drvdata(vdev, data);
}

struct device *vhost_vdpa_dma_dev(struct vdpa_device *vdev)
{
	return vdpa_get_map(vdev).dma_dev;
}

struct iommu_domain *vhost_vdpa_iommu_domain_alloc(struct device *dev)
{
	return iommu_paging_domain_alloc(dev);
}

bool vhost_vdpa_iommu_cache_coherent(struct device *dev)
{
	return device_iommu_capable(dev, IOMMU_CAP_CACHE_COHERENCY);
}

bool vhost_vdpa_iommu_aperture(struct iommu_domain *domain, u64 *first, u64 *last)
{
	if (!domain->geometry.force_aperture)
		return false;
	*first = domain->geometry.aperture_start;
	*last = domain->geometry.aperture_end;
	return true;
}

int vhost_vdpa_iommu_map(struct iommu_domain *domain, u64 iova, u64 pa, u64 size, u32 perm)
{
	int prot = IOMMU_CACHE;

	if (perm & VHOST_ACCESS_RO)
		prot |= IOMMU_READ;
	if (perm & VHOST_ACCESS_WO)
		prot |= IOMMU_WRITE;
	return iommu_map(domain, iova, pa, size, prot, GFP_KERNEL_ACCOUNT);
}

void vhost_vdpa_eventfd_signal(struct eventfd_ctx *ctx)
{
	eventfd_signal(ctx);
}

int vhost_vdpa_srcu_init(struct srcu_struct *ssp)
{
	return init_srcu_struct_fast(ssp);
}

void vhost_vdpa_srcu_cleanup(struct srcu_struct *ssp)
{
	cleanup_srcu_struct(ssp);
}

/* Each call into a device begins here: without memory barriers, and in one call from Rust. */
bool vhost_vdpa_try_access(struct srcu_struct *ssp, const bool *accessible, unsigned long *counter)
{
	struct srcu_ctr __percpu *ctr = srcu_read_lock_fast(ssp);

	if (likely(smp_load_acquire(accessible))) {
		*counter = (unsigned long __force)ctr;
		return true;
	}
	srcu_read_unlock_fast(ssp, ctr);
	return false;
}

void vhost_vdpa_end_access(struct srcu_struct *ssp, unsigned long counter)
{
	srcu_read_unlock_fast(ssp, (struct srcu_ctr __percpu __force *)counter);
}

unsigned long vhost_vdpa_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

/*
 * How many pages from the start of the list are physically contiguous, and where. Called for
 * each page of scattered memory: one call for both.
 */
int vhost_vdpa_contiguous_pages(struct page **pages, int n, unsigned long *first)
{
	*first = page_to_pfn(pages[0]);
	return num_pages_contiguous(pages, n);
}

/*
 * The file whose pages @vma shows at @addr, the index of the first, and how many whole pages the file has; NULL
 * if what is there is not the file's or the file not one that memfd_pin_folios() takes, if its owner must see
 * each fault, or if the access is not allowed.
 */
struct file *vhost_vdpa_vma_file_at(struct vm_area_struct *vma, unsigned long addr, bool write,
				    pgoff_t *index, pgoff_t *pages)
{
	vm_flags_t need = VM_SHARED | (write ? VM_WRITE : VM_READ);
	struct file *file = vma->vm_file;

	if (!file || (vma->vm_flags & need) != need)
		return NULL;
	if (vma->vm_flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_MAYBE_GUARD))
		return NULL;
	if (!shmem_mapping(file->f_mapping) && !is_file_hugepages(file))
		return NULL;
	if (userfaultfd_armed(vma) || !arch_vma_access_permitted(vma, write, false, false))
		return NULL;
	*index = linear_page_index(vma, addr);
	*pages = i_size_read(file->f_mapping->host) >> PAGE_SHIFT;
	return file;
}

/*
 * How many pages a folio of a file has, the index of the first and its frame; 0 if it is not to be pinned by
 * file: its contents are not to be had, or it has to move first, which a fault does in smaller steps.
 */
unsigned long vhost_vdpa_folio_usable(struct folio *folio, pgoff_t *index, unsigned long *pfn)
{
	if (!folio_test_uptodate(folio) || folio_contain_hwpoisoned_page(folio) ||
	    folio_is_zone_movable(folio))
		return 0;
	*index = folio->index;
	*pfn = folio_pfn(folio);
	return folio_nr_pages(folio);
}

void vhost_vdpa_folio_put(struct folio *folio)
{
	folio_put(folio);
}

/* Makes one pin on a folio one for each of its pages in use, as by address. */
int vhost_vdpa_folio_pin_pages(struct folio *folio, unsigned int n)
{
	return n > 1 ? folio_add_pins(folio, n - 1) : 0;
}

/* In steps of 1 GiB, between which others can run. */
void vhost_vdpa_unpin_pages(unsigned long pfn, unsigned long n, bool dirty)
{
	while (n) {
		unsigned long step = min(n, SZ_1G >> PAGE_SHIFT);

		unpin_user_page_range_dirty_lock(pfn_to_page(pfn), step, dirty);
		pfn += step;
		n -= step;
		if (n)
			cond_resched();
	}
}

static DEFINE_IDA(vhost_vdpa_minors);

int vhost_vdpa_minor_alloc(void)
{
	return ida_alloc_max(&vhost_vdpa_minors, MINORMASK, GFP_KERNEL);
}

void vhost_vdpa_minor_free(int minor)
{
	ida_free(&vhost_vdpa_minors, minor);
}

dev_t vhost_vdpa_mkdev(unsigned int major, unsigned int minor)
{
	return MKDEV(major, minor);
}

unsigned int vhost_vdpa_major(dev_t dev)
{
	return MAJOR(dev);
}

int vhost_vdpa_device_set_name(struct device *dev, int minor)
{
	return dev_set_name(dev, "vhost-vdpa-%u", minor);
}

struct address_space *vhost_vdpa_file_mapping(struct file *file)
{
	return file->f_mapping;
}

struct cdev *vhost_vdpa_inode_cdev(struct inode *inode)
{
	return inode->i_cdev;
}

unsigned int vhost_vdpa_inode_minor(const struct inode *inode)
{
	return iminor(inode);
}

/* In a long loop: lets others run. */
void vhost_vdpa_resched(void)
{
	cond_resched();
}

/* As vhost_vdpa_resched(), and tells whether going on is pointless. */
bool vhost_vdpa_killed_or_resched(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}

unsigned long vhost_vdpa_rlimit_memlock(void)
{
	return rlimit(RLIMIT_MEMLOCK);
}

s64 vhost_vdpa_mm_pinned_add(struct mm_struct *mm, s64 pages)
{
	return atomic64_add_return(pages, &mm->pinned_vm);
}

/* Here and not in a KBox, which needs twice the instructions, for each map by user address. */
struct vdpa_map_file *vhost_vdpa_map_file_new(const struct vm_area_struct *vma, u64 uaddr)
{
	struct vdpa_map_file *map = kmalloc_obj(*map);

	if (!map)
		return NULL;
	map->offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) + uaddr - vma->vm_start;
	map->file = get_file(vma->vm_file);
	return map;
}

void vhost_vdpa_map_file_free(struct vdpa_map_file *map)
{
	fput(map->file);
	kfree(map);
}

void vhost_vdpa_vma_set_doorbell(struct vm_area_struct *vma,
				 const struct vm_operations_struct *ops)
{
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = ops;
}

u32 vhost_vdpa_array_index_nospec(u32 idx, u32 len)
{
	return array_index_nospec(idx, len);
}

struct mm_struct *vhost_vdpa_current_mm(void)
{
	return current->mm;
}

void vhost_vdpa_mutex_lock(struct mutex *lock)
{
	mutex_lock(lock);
}

void vhost_vdpa_mutex_unlock(struct mutex *lock)
{
	mutex_unlock(lock);
}
