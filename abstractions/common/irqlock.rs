// SPDX-License-Identifier: GPL-2.0

//! Spin lock that disables interrupts, for data that callbacks in interrupt context access.
//!
//! C: `spin_lock_irqsave()`, `include/linux/spinlock.h`.

use crate::bindings;
use kernel::{
    prelude::*,
    sync::lock::{Backend, Lock}, //
};

/// Spin lock that may be taken in any context but NMI.
pub type IrqSpinLock<T> = Lock<T, IrqSpinLockBackend>;

/// Backend of [`IrqSpinLock`].
pub struct IrqSpinLockBackend;

// SAFETY: A `spinlock_t` excludes other CPUs, and with interrupts disabled nothing on this CPU can
// take it again. `relock` is the default and so uses the same locking method.
unsafe impl Backend for IrqSpinLockBackend {
    type State = bindings::spinlock_t;
    /// The interrupt flags to restore.
    type GuardState = c_ulong;

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller guarantees that `ptr` is valid for writes, and that name and key stay
        // valid.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The caller guarantees that the lock is initialised.
        unsafe { bindings::vdpa_common_spin_lock_irqsave(ptr) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: The caller guarantees that the lock is initialised; `flags` is valid for writes.
        unsafe { bindings::vdpa_common_spin_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    unsafe fn unlock(ptr: *mut Self::State, flags: &Self::GuardState) {
        // SAFETY: The caller owns the lock and passes the flags that its lock call returned.
        unsafe { bindings::vdpa_common_spin_unlock_irqrestore(ptr, *flags) }
    }

    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller guarantees that the lock is initialised.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}
