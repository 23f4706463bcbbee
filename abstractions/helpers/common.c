// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of the library vdpa_common: static inlines of the kernel that both
 * the driver and the parents call, as functions, and ranges moved between IOTLBs.
 */
#include <linux/interval_tree_generic.h>
#include <linux/spinlock.h>
#include <linux/vhost_iotlb.h>

#include "../common/bindings.h"
#include "version.h"

unsigned long vdpa_common_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

bool vdpa_common_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	unsigned long irqflags;

	if (!spin_trylock_irqsave(lock, irqflags))
		return false;
	*flags = irqflags;
	return true;
}

void vdpa_common_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

/* As in drivers/vhost/iotlb.c, which takes ranges out of its tree only to free them. */
#define START(map)	((map)->start)
#define LAST(map)	((map)->last)
INTERVAL_TREE_DEFINE(struct vhost_iotlb_map, rb, __u64, __subtree_last,
		     START, LAST, static __maybe_unused inline, vdpa_common_itree);

void vdpa_common_iotlb_detach(struct vhost_iotlb *iotlb, struct vhost_iotlb_map *map)
{
	vdpa_common_itree_remove(map, &iotlb->root);
	list_del(&map->link);
	iotlb->nmaps--;
}

/*
 * Takes out all ranges at once if they all intersect [start, last]. Their links lead
 * from one to the next, and on to *head, which becomes the first of them.
 */
bool vdpa_common_iotlb_detach_all(struct vhost_iotlb *iotlb, u64 start, u64 last,
				  struct list_head **head)
{
	struct rb_node *left = rb_first_cached(&iotlb->root);
	struct rb_node *right = rb_last(&iotlb->root.rb_root);

	/* None overlaps another, so those in between do if the outer ones do. */
	if (!left || rb_entry(left, struct vhost_iotlb_map, rb)->last < start ||
	    rb_entry(right, struct vhost_iotlb_map, rb)->start > last)
		return false;
	iotlb->list.prev->next = *head;
	*head = iotlb->list.next;
	INIT_LIST_HEAD(&iotlb->list);
	iotlb->root = RB_ROOT_CACHED;
	iotlb->nmaps = 0;
	return true;
}

void vdpa_common_iotlb_attach(struct vhost_iotlb *iotlb, struct vhost_iotlb_map *map)
{
	iotlb->nmaps++;
	vdpa_common_itree_insert(map, &iotlb->root);
	list_add_tail(&map->link, &iotlb->list);
}
