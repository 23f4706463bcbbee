// SPDX-License-Identifier: GPL-2.0

//! A process's address space, bound to a device that works on user virtual addresses.
//!
//! C: `kthread_use_mm()`, `include/linux/kthread.h`; the ops `bind_mm` and `unbind_mm`.
//!
//! A parent keeps the [`BoundMm`] in its state and uses it like this: its thread clones it under
//! the lock of the state, calls [`BoundMm::with`] without the lock, and inside takes the lock and
//! asks [`UserAccess::is_of`] whether that is still what is bound. `unbind_mm`, which takes the
//! lock too, is then the end of every use. [`BoundMm::with`] may be the last user of the address
//! space and tear it down, which is why it goes around the lock.
//!
//! A user access can fault and then takes `mmap_lock`. C's vhost_vdpa calls `set_map`, `dma_map` and
//! `dma_unmap` with `mmap_lock` held, so these ops take no lock that is held over a user access.

use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    mm::{Mm, MmWithUser},
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

/// A reference to the address space that a driver bound to a device.
///
/// It keeps the `mm_struct`, not the mappings: the process may end at any time.
#[derive(Clone)]
pub struct BoundMm(ARef<Mm>);

/// Proof that the current thread may use the user addresses of an address space.
///
/// An access may sleep, for as long as a page fault takes: with userfaultfd that is up to the
/// process.
///
/// # Invariants
///
/// The current thread uses the address space with `kthread_use_mm()` for `'a`.
pub struct UserAccess<'a> {
    mm: &'a MmWithUser,
    _thread: NotThreadSafe,
}

/// Ends what `vdpa_parent_use_mm()` began.
///
/// # Invariants
///
/// `vdpa_parent_use_mm()` succeeded for this address space on the current thread, once.
struct InUse<'a> {
    mm: &'a MmWithUser,
    _thread: NotThreadSafe,
}

impl<'a> InUse<'a> {
    /// Makes the current thread use an address space; `None` if it cannot, see [`BoundMm::with`].
    fn new(mm: &'a MmWithUser) -> Option<Self> {
        // SAFETY: The address space has users for `'a`, and this is undone on drop.
        let used = unsafe { bindings::vdpa_parent_use_mm(mm.as_raw()) };
        // INVARIANT: Just done.
        used.then_some(Self {
            mm,
            _thread: PhantomData,
        })
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant; the type is not `Send`, so this is the same thread.
        unsafe { bindings::kthread_unuse_mm(self.mm.as_raw()) }
    }
}

impl BoundMm {
    /// Takes a reference to the argument of `bind_mm`.
    pub fn new(mm: &Mm) -> Self {
        Self(ARef::from(mm))
    }

    /// Calls `f` with the user addresses of the process in reach of the current thread.
    ///
    /// `None`, and no call, when the process has ended, when the current thread is not a kernel
    /// thread, or when it uses an address space already: calls do not nest. May sleep; the caller
    /// holds no lock, as the last user of an address space tears it down here.
    pub fn with<R>(&self, f: impl FnOnce(&UserAccess<'_>) -> R) -> Option<R> {
        let mm = self.0.mmget_not_zero()?;
        let in_use = InUse::new(&mm)?;
        // INVARIANT: `in_use` lives longer than this.
        let access = UserAccess {
            mm: in_use.mm,
            _thread: PhantomData,
        };
        Some(f(&access))
    }
}

impl UserAccess<'_> {
    /// Whether these are the addresses of `bound`.
    pub fn is_of(&self, bound: &BoundMm) -> bool {
        core::ptr::eq(self.mm.as_raw(), bound.0.as_raw())
    }

    /// Copies from a user address.
    ///
    /// Errors: `EFAULT` when not all of it can be read; `into` is then changed in part.
    pub fn read(&self, from: u64, into: &mut [u8]) -> Result {
        // SAFETY: The buffer is ours to write. Any user address may be given.
        let left =
            unsafe { bindings::vdpa_parent_user_read(into.as_mut_ptr().cast(), from, into.len()) };
        if left == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Copies to a user address.
    ///
    /// Errors: `EFAULT` when not all of it can be written; it is then written in part.
    pub fn write(&self, to: u64, from: &[u8]) -> Result {
        // SAFETY: The buffer is ours to read. Any user address may be given.
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
        // SAFETY: `value` is a local. Any user address may be given.
        to_result(unsafe { bindings::vdpa_parent_user_load_u16(&mut value, from) })?;
        Ok(value)
    }

    /// Stores an aligned `u16` in one access. Errors: `EFAULT`.
    pub fn store_u16(&self, to: u64, value: u16) -> Result {
        // SAFETY: Any user address may be given.
        to_result(unsafe { bindings::vdpa_parent_user_store_u16(to, value) })
    }
}
