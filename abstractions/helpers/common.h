/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Static inlines of the kernel that both the driver and the parents call, as
 * functions. Included once by the C object of each module.
 */
#include "../bindings.h"

unsigned long rvv_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

bool rvv_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	unsigned long irqflags;

	if (!spin_trylock_irqsave(lock, irqflags))
		return false;
	*flags = irqflags;
	return true;
}

void rvv_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}
