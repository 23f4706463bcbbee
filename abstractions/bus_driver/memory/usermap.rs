// SPDX-License-Identifier: GPL-2.0

//! Files behind user virtual addresses, for parents that use these (VDUSE).
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

/// File and offset into it, to which a map's opaque pointer leads.
///
/// # Invariants
///
/// The pointer came from `vhost_vdpa_map_file_new()`, and only this object owns it.
pub struct MapFile(NonNull<bindings::vdpa_map_file>);

// SAFETY: A `struct file` is reference counted and not tied to a thread.
unsafe impl Send for MapFile {}
// SAFETY: No method takes a shared reference.
unsafe impl Sync for MapFile {}

impl MapFile {
    /// Returns the pointer that parents expect. It owns the file until `from_opaque` takes it back.
    pub(super) fn into_opaque(self) -> *mut c_void {
        let opaque = self.0.as_ptr().cast();
        core::mem::forget(self);
        opaque
    }

    /// Takes back the file that an opaque pointer owns.
    ///
    /// # Safety
    ///
    /// `opaque` must come from `into_opaque`, and must be taken back only once.
    pub(super) unsafe fn from_opaque(opaque: *mut c_void) -> Self {
        // SAFETY: By this function's contract it is the pointer of a `MapFile`, which is not null.
        // INVARIANT: The caller gives up the pointer.
        Self(unsafe { NonNull::new_unchecked(opaque.cast()) })
    }

    /// Takes a reference to the file behind `uaddr` of `vma`. Errors: `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `vma` must be a mapping of a file.
    unsafe fn new(vma: &VmaRef, uaddr: u64) -> Result<Self> {
        // SAFETY: A `VmaRef` is valid and locked; the caller guarantees that it maps a file.
        let map = unsafe { bindings::vhost_vdpa_map_file_new(vma.as_ptr(), uaddr) };
        // INVARIANT: The pointer is new, and nobody else has it.
        Ok(Self(NonNull::new(map).ok_or(ENOMEM)?))
    }
}

impl Drop for MapFile {
    fn drop(&mut self) {
        // SAFETY: By the invariant we own the pointer, and it is freed once.
        unsafe { bindings::vhost_vdpa_map_file_free(self.0.as_ptr()) }
    }
}

/// Finds the files behind `size` bytes at `uaddr` of `mm`, for a parent that reads or writes them.
///
/// Calls `each` for every part that one shared mapping of a file covers, with its offset from
/// `uaddr`, its size, both in bytes, and the file. `each` runs with `mmap_lock` held; its errors
/// end the search. Returns the number of bytes in private or device memory, which parents that use
/// virtual addresses cannot reach. Errors: `EINVAL` for a hole, `EACCES` if a shared mapping lacks
/// a permission, `ENOMEM`, or that of `each`.
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
        // SAFETY: A `VmaRef` is valid and locked.
        let file = unsafe { (*vma.as_ptr()).vm_file };
        if has & flags::SHARED != 0 && !device && !file.is_null() {
            if (write && has & flags::WRITE == 0) || (read && has & flags::READ == 0) {
                return Err(EACCES);
            }
            // SAFETY: The VMA has a file, as was checked above, under the lock.
            each(offset, len, unsafe { MapFile::new(vma, addr) }?)?;
        } else {
            unshared = unshared.saturating_add(len);
        }
        offset = offset.wrapping_add(len);
    }
    Ok(unshared)
}
