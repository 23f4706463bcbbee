// SPDX-License-Identifier: GPL-2.0

//! Differences of the kernel crate between the supported series.
//!
//! The rest of the code uses the names of the newest series. Kbuild sets `before_linux_7_3` for
//! trees of Linux 7.2. When support for 7.2 ends, remove everything that depends on it, and then
//! the functions that only pass on a name of the kernel crate.

use kernel::prelude::*;

/// Expands to the module of the calling crate, as a `&'static ThisModule`.
#[cfg(not(before_linux_7_3))]
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "`module!` is in the calling crate"
)]
macro_rules! this_module {
    () => {
        ::kernel::module::this_module::<crate::LocalModule>()
    };
}

/// Expands to the module of the calling crate, as a `&'static ThisModule`.
#[cfg(before_linux_7_3)]
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "`module!` is in the calling crate"
)]
macro_rules! this_module {
    () => {
        &crate::THIS_MODULE
    };
}

/// Initialises `slot` in place with `init`.
///
/// # Safety
///
/// - `slot` must be valid for writes and hold no value.
/// - If this succeeds, the value must not move before it is dropped. If it fails, `slot` holds no
///   value.
#[cfg(not(before_linux_7_3))]
#[inline(always)]
pub unsafe fn raw_try_init<T, E>(slot: *mut T, init: impl PinInit<T, E>) -> Result<(), E> {
    // SAFETY: The caller guarantees that `slot` is valid for writes, holds no value and is pinned
    // if this succeeds.
    unsafe { pin_init::raw_try_init(slot, init) }
}

/// Initialises `slot` in place with `init`.
///
/// # Safety
///
/// - `slot` must be valid for writes and hold no value.
/// - If this succeeds, the value must not move before it is dropped. If it fails, `slot` holds no
///   value.
#[cfg(before_linux_7_3)]
#[inline(always)]
pub unsafe fn raw_try_init<T, E>(slot: *mut T, init: impl PinInit<T, E>) -> Result<(), E> {
    // SAFETY: The caller guarantees that `slot` is valid for writes, holds no value and is pinned
    // if this succeeds.
    unsafe { init.__pinned_init(slot) }
}

/// Memory barriers between CPUs.
pub mod barrier {
    #[cfg(not(before_linux_7_3))]
    use kernel::sync::barrier::{smp_mb, Full, Read, Write};

    /// Orders all earlier reads before all later reads.
    #[inline(always)]
    pub fn smp_rmb() {
        #[cfg(not(before_linux_7_3))]
        smp_mb(Read);
        #[cfg(before_linux_7_3)]
        kernel::sync::barrier::smp_rmb();
    }

    /// Orders all earlier writes before all later writes.
    #[inline(always)]
    pub fn smp_wmb() {
        #[cfg(not(before_linux_7_3))]
        smp_mb(Write);
        #[cfg(before_linux_7_3)]
        kernel::sync::barrier::smp_wmb();
    }

    /// Orders all earlier accesses before all later accesses.
    #[inline(always)]
    pub fn smp_full_mb() {
        #[cfg(not(before_linux_7_3))]
        smp_mb(Full);
        #[cfg(before_linux_7_3)]
        kernel::sync::barrier::smp_mb();
    }
}
