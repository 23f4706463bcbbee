// SPDX-License-Identifier: GPL-2.0

//! Address space of a process, bound to a device that uses user virtual addresses.
//!
//! C: `kthread_use_mm()`, `include/linux/kthread.h`; the ops `bind_mm` and `unbind_mm`.
//!
//! A parent keeps the [`BoundMm`] in its state. Its thread clones it under the lock of the state,
//! calls [`BoundMm::with`] without the lock, takes the lock inside, and checks with
//! [`UserAccess::is_of`] that this address space is still bound. `unbind_mm` takes the lock too, so
//! it ends every use. [`BoundMm::with`] may be the last user of the address space and tear it down,
//! so it must not be called under the lock.
//!
//! A user access can fault and then takes `mmap_lock`. C's vhost_vdpa calls `set_map`, `dma_map`
//! and `dma_unmap` with `mmap_lock` held, so these ops must not take a lock that is held during a
//! user access.

use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    mm::{Mm, MmWithUser},
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

/// Reference to the address space that a driver bound to a device.
///
/// It keeps the `mm_struct`, not the mappings: the process may exit at any time.
#[derive(Clone)]
pub struct BoundMm(ARef<Mm>);

/// Token that allows the current thread to access the user addresses of an address space.
///
/// An access may sleep as long as a page fault takes. With userfaultfd the process decides how long
/// that is.
///
/// # Invariants
///
/// The current thread uses the address space with `kthread_use_mm()` for `'a`.
pub struct UserAccess<'a> {
    mm: &'a MmWithUser,
    _thread: NotThreadSafe,
}

/// Guard of an address space in use. Dropping it undoes `vdpa_parent_use_mm()`.
///
/// # Invariants
///
/// `vdpa_parent_use_mm()` succeeded for this address space on the current thread, once.
struct InUse<'a> {
    mm: &'a MmWithUser,
    _thread: NotThreadSafe,
}

impl<'a> InUse<'a> {
    /// Makes the current thread use an address space. Returns `None` if it cannot; see
    /// [`BoundMm::with`].
    fn new(mm: &'a MmWithUser) -> Option<Self> {
        // SAFETY: The address space has users for `'a`, and `drop` undoes this before they go.
        let used = unsafe { bindings::vdpa_parent_use_mm(mm.as_raw()) };
        // INVARIANT: The call succeeded.
        used.then_some(Self {
            mm,
            _thread: PhantomData,
        })
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant this thread uses the address space; the guard is not `Send`, so
        // it is the same thread.
        unsafe { bindings::kthread_unuse_mm(self.mm.as_raw()) }
    }
}

impl BoundMm {
    /// Takes a reference to the argument of `bind_mm`.
    pub fn new(mm: &Mm) -> Self {
        Self(ARef::from(mm))
    }

    /// Makes the current thread use the address space, and calls `f` with access to it.
    ///
    /// Returns `None`, without a call, if the process has exited, if the current thread is not a
    /// kernel thread, or if it uses an address space already: calls do not nest. May sleep. The
    /// caller must not hold a lock, because the last user of an address space tears it down here.
    pub fn with<R>(&self, f: impl FnOnce(&UserAccess<'_>) -> R) -> Option<R> {
        let mm = self.0.mmget_not_zero()?;
        let in_use = InUse::new(&mm)?;
        // INVARIANT: `in_use` lives longer than `access`.
        let access = UserAccess {
            mm: in_use.mm,
            _thread: PhantomData,
        };
        Some(f(&access))
    }
}

impl UserAccess<'_> {
    /// Returns true if these are the addresses of `bound`.
    pub fn is_of(&self, bound: &BoundMm) -> bool {
        core::ptr::eq(self.mm.as_raw(), bound.0.as_raw())
    }

    /// Copies bytes from a user address.
    ///
    /// Errors: `EFAULT` unless all of it can be read; part of `into` may then have changed.
    pub fn read(&self, from: u64, into: &mut [u8]) -> Result {
        // SAFETY: The buffer is valid for writes of its length. The function accepts any user
        // address.
        let left =
            unsafe { bindings::vdpa_parent_user_read(into.as_mut_ptr().cast(), from, into.len()) };
        if left == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Copies bytes to a user address.
    ///
    /// Errors: `EFAULT` unless all of it can be written; part of it may then be written.
    pub fn write(&self, to: u64, from: &[u8]) -> Result {
        // SAFETY: The buffer is valid for reads of its length. The function accepts any user
        // address.
        let left =
            unsafe { bindings::vdpa_parent_user_write(to, from.as_ptr().cast(), from.len()) };
        if left == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Loads an aligned `u16` in one access. Errors: `EFAULT`.
    pub fn load_u16(&self, from: u64) -> Result<u16> {
        let mut value = 0;
        // SAFETY: `value` is valid for writes. The function accepts any user address.
        to_result(unsafe { bindings::vdpa_parent_user_load_u16(&mut value, from) })?;
        Ok(value)
    }

    /// Stores an aligned `u16` in one access. Errors: `EFAULT`.
    pub fn store_u16(&self, to: u64, value: u16) -> Result {
        // SAFETY: The function accepts any user address.
        to_result(unsafe { bindings::vdpa_parent_user_store_u16(to, value) })
    }
}
