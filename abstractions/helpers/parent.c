// SPDX-License-Identifier: GPL-2.0
/*
 * What parents need from C: static inlines, and the call of a queue's callback,
 * whose type (irqreturn_t) Rust and C do not hash alike under KCFI.
 */
#include "common.h"

#include <linux/bottom_half.h>
#include <linux/highmem.h>
#include <linux/memremap.h>
#include <linux/pfn.h>
#include <linux/vdpa.h>
#include <net/netlink.h>
#include <uapi/linux/vdpa.h>

/*
 * The driver above may schedule NAPI: with bottom halves off here, the softirq
 * runs when they come back on and not at the next interrupt.
 */
void rvv_callback_call(const struct vdpa_callback *cb)
{
	if (!cb->callback)
		return;
	local_bh_disable();
	cb->callback(cb->private);
	local_bh_enable();
}

/*
 * Map the page of a physical address that a guest gave, and return the mapping
 * of that very byte; NULL if there is no RAM. Reserved pages are holes and the
 * kernel's image, with two exceptions that userspace can have pinned: the zero
 * page and device memory that has a place in the direct map.
 */
void *rvv_guest_map(phys_addr_t pa)
{
	unsigned long pfn = PHYS_PFN(pa);
	struct page *page;

	if (PFN_PHYS((phys_addr_t)pfn) + offset_in_page(pa) != pa || !pfn_valid(pfn))
		return NULL;
	page = pfn_to_page(pfn);
	if (PageReserved(page) && !is_zero_pfn(pfn) && !is_zone_device_page(page))
		return NULL;
	return kmap_local_page(page) + offset_in_page(pa);
}

void rvv_guest_unmap(const void *addr)
{
	kunmap_local(addr);
}

int rvv_vq_stat(struct sk_buff *msg, const char *name, u64 value)
{
	int err = nla_put_string(msg, VDPA_ATTR_DEV_VENDOR_ATTR_NAME, name);

	if (err)
		return err;
	return nla_put_u64_64bit(msg, VDPA_ATTR_DEV_VENDOR_ATTR_VALUE, value, VDPA_ATTR_PAD);
}
