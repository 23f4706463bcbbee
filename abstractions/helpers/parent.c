// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of the library vdpa_parent: static inlines as functions, and the call
 * of a queue's callback, whose type (irqreturn_t) Rust and C do not hash alike
 * under KCFI.
 */

#include <linux/bottom_half.h>
#include <linux/kthread.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pfn.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/vdpa.h>
#include <net/netlink.h>
#include <uapi/linux/vdpa.h>

#include "../common/bindings.h"

bool vdpa_parent_name_taken(struct vdpa_device *vdev, const char *name)
{
	struct device *dev = bus_find_device_by_name(vdev->dev.bus, NULL, name);

	put_device(dev);
	return dev;
}

/*
 * The driver above may schedule NAPI: with bottom halves off here, the softirq
 * runs when they come back on and not at the next interrupt.
 */
void vdpa_parent_callback_call(const struct vdpa_callback *cb)
{
	if (!cb->callback)
		return;
	local_bh_disable();
	cb->callback(cb->private);
	local_bh_enable();
}

/*
 * Whether a page is RAM that a guest may name. Reserved pages are holes and the
 * kernel's image, with two exceptions that userspace can have pinned: the zero
 * page and device memory that has a place in the direct map.
 */
static bool vdpa_parent_is_guest_ram(unsigned long pfn)
{
	struct page *page;

	if (!pfn_valid(pfn))
		return false;
	page = pfn_to_page(pfn);
	if (PageHighMem(page))
		return false;
	return !PageReserved(page) || is_zero_pfn(pfn) || is_zone_device_page(page);
}

/*
 * The address in the direct map of len bytes at a physical address that a guest
 * gave; NULL if not all of them are RAM.
 */
void *vdpa_parent_guest_ram(phys_addr_t pa, size_t len)
{
	unsigned long pfn = PHYS_PFN(pa), last;
	phys_addr_t end;

	if (!len || check_add_overflow(pa, len - 1, &end) ||
	    PFN_PHYS((phys_addr_t)PHYS_PFN(end)) + offset_in_page(end) != end)
		return NULL;
	for (last = PHYS_PFN(end); pfn <= last; pfn++)
		if (!vdpa_parent_is_guest_ram(pfn))
			return NULL;
	return page_address(pfn_to_page(PHYS_PFN(pa))) + offset_in_page(pa);
}

#if IS_ENABLED(CONFIG_KUNIT)
phys_addr_t vdpa_parent_page_to_phys(const struct page *page)
{
	return page_to_phys(page);
}
#endif

/* Only a kernel thread that uses no address space can take one. */
bool vdpa_parent_use_mm(struct mm_struct *mm)
{
	if (!(current->flags & PF_KTHREAD) || current->mm)
		return false;
	kthread_use_mm(mm);
	return true;
}

/* User addresses come from guests as numbers; what does not fit is out of reach. */
static bool vdpa_parent_user_fits(u64 addr, size_t len)
{
	return addr <= ULONG_MAX && len <= ULONG_MAX - (unsigned long)addr;
}

size_t vdpa_parent_user_read(void *to, u64 from, size_t len)
{
	if (!vdpa_parent_user_fits(from, len))
		return len;
	return copy_from_user(to, (const void __user *)(unsigned long)from, len);
}

size_t vdpa_parent_user_write(u64 to, const void *from, size_t len)
{
	if (!vdpa_parent_user_fits(to, len))
		return len;
	return copy_to_user((void __user *)(unsigned long)to, from, len);
}

int vdpa_parent_user_load_u16(u16 *value, u64 from)
{
	if (!vdpa_parent_user_fits(from, sizeof(*value)))
		return -EFAULT;
	return get_user(*value, (u16 __user *)(unsigned long)from);
}

int vdpa_parent_user_store_u16(u64 to, u16 value)
{
	if (!vdpa_parent_user_fits(to, sizeof(value)))
		return -EFAULT;
	return put_user(value, (u16 __user *)(unsigned long)to);
}

int vdpa_parent_vq_stat(struct sk_buff *msg, const char *name, u64 value)
{
	int err = nla_put_string(msg, VDPA_ATTR_DEV_VENDOR_ATTR_NAME, name);

	if (err)
		return err;
	return nla_put_u64_64bit(msg, VDPA_ATTR_DEV_VENDOR_ATTR_VALUE, value, VDPA_ATTR_PAD);
}
