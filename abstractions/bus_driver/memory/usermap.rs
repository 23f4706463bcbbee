// SPDX-License-Identifier: GPL-2.0

//! Files behind user virtual addresses: what parents that use them (VDUSE) are given.
//!
//! C: `struct vdpa_map_file`, `include/linux/vdpa.h`.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    mm::{
        virt::{flags, VmaRef},
        MmWithUser, //
    },
    prelude::*, //
};

/// A file and an offset into it, as parents find them behind a map's opaque pointer.
///
/// # Invariants
///
/// The pointer came from `vhost_vdpa_map_file_new()`, and it is ours.
pub struct MapFile(NonNull<bindings::vdpa_map_file>);

// SAFETY: A `struct file` is reference counted and not tied to a thread.
unsafe impl Send for MapFile {}
// SAFETY: Nothing is changed through a shared reference.
unsafe impl Sync for MapFile {}

impl MapFile {
    /// The pointer that parents expect, which now owns the file: `from_opaque` gives it back.
    pub(super) fn into_opaque(self) -> *mut c_void {
        let opaque = self.0.as_ptr().cast();
        core::mem::forget(self);
        opaque
    }

    /// Takes over what an opaque pointer points to.
    ///
    /// # Safety
    ///
    /// `opaque` must come from `into_opaque`, and be given back once.
    pub(super) unsafe fn from_opaque(opaque: *mut c_void) -> Self {
        // SAFETY: The pointer is that of a `MapFile`, which is not null.
        // INVARIANT: The caller gives it up.
        Self(unsafe { NonNull::new_unchecked(opaque.cast()) })
    }

    /// Takes the file behind `uaddr` of `vma`.
    ///
    /// # Safety
    ///
    /// `vma` must be a mapping of a file.
    unsafe fn new(vma: &VmaRef, uaddr: u64) -> Result<Self> {
        // SAFETY: The VMA is valid and locked, and the caller vouches for the file.
        let map = unsafe { bindings::vhost_vdpa_map_file_new(vma.as_ptr(), uaddr) };
        // INVARIANT: Just made.
        Ok(Self(NonNull::new(map).ok_or(ENOMEM)?))
    }
}

impl Drop for MapFile {
    fn drop(&mut self) {
        // SAFETY: Ours by the invariant.
        unsafe { bindings::vhost_vdpa_map_file_free(self.0.as_ptr()) }
    }
}

/// Finds the files behind `size` bytes at `uaddr` of `mm`, for a parent that will read or write.
///
/// `each` gets every part that one shared mapping of a file covers: its offset from `uaddr` and its
/// size, both in bytes, and the file. It is called with `mmap_lock` held, and its errors end the search.
/// Returns how many bytes lie in private or device memory, which parents that use virtual addresses
/// cannot reach. Errors: `EINVAL` for a hole, `EACCES` where a shared mapping lacks the permission
/// asked for.
pub fn lookup(
    mm: &MmWithUser,
    (uaddr, size): (u64, u64),
    write: bool,
    read: bool,
    mut each: impl FnMut(u64, u64, MapFile) -> Result,
) -> Result<u64> {
    let lock = mm.mmap_read_lock();
    let mut unshared = 0u64;
    let mut offset = 0u64;
    while offset < size {
        let addr = uaddr.checked_add(offset).ok_or(EINVAL)?;
        let vma = lock.vma_lookup(usize::try_from(addr)?).ok_or(EINVAL)?;
        let len = size
            .wrapping_sub(offset)
            .min((vma.end() as u64).wrapping_sub(addr));
        let has = vma.flags();
        let device = has & (flags::IO | flags::PFNMAP) != 0;
        // SAFETY: The VMA is valid and locked.
        let file = unsafe { (*vma.as_ptr()).vm_file };
        if has & flags::SHARED != 0 && !device && !file.is_null() {
            if (write && has & flags::WRITE == 0) || (read && has & flags::READ == 0) {
                return Err(EACCES);
            }
            // SAFETY: Just looked at.
            each(offset, len, unsafe { MapFile::new(vma, addr) }?)?;
        } else {
            unshared = unshared.saturating_add(len);
        }
        offset = offset.wrapping_add(len);
    }
    Ok(unshared)
}
