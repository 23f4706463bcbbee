// SPDX-License-Identifier: GPL-2.0

//! Files behind user virtual addresses: what parents that use them (VDUSE) are given.
//!
//! C: `struct vdpa_map_file`, `include/linux/vdpa.h`.

use super::bindings;
use kernel::{
    mm::{
        virt::{flags, VmaRef},
        Mm, //
    },
    page::PAGE_SHIFT,
    prelude::*, //
};

/// A file and an offset into it, as parents find them behind a map's opaque pointer.
///
/// # Invariants
///
/// `file` holds a reference.
pub(crate) struct MapFile(KBox<bindings::vdpa_map_file>);

// SAFETY: A `struct file` is reference counted and not tied to a thread.
unsafe impl Send for MapFile {}
// SAFETY: Nothing is changed through a shared reference.
unsafe impl Sync for MapFile {}

impl MapFile {
    /// The pointer that parents expect. Valid as long as `self`, wherever `self` moves.
    pub(crate) fn opaque(&self) -> *mut c_void {
        core::ptr::from_ref(&*self.0).cast_mut().cast()
    }

    /// Leaves the file to the holder of the opaque pointer, who gives it back with `from_opaque`.
    pub(super) fn into_opaque(self) {
        core::mem::forget(self);
    }

    /// Takes over what an opaque pointer points to.
    ///
    /// # Safety
    ///
    /// `opaque` must come from `opaque` of a `MapFile` that ended with `into_opaque`, and be given
    /// back once.
    pub(super) unsafe fn from_opaque(opaque: *mut c_void) -> Self {
        // SAFETY: The pointer is that of a box, and the caller gives it up.
        Self(unsafe { KBox::from_raw(opaque.cast()) })
    }

    /// Takes the file behind `uaddr` of `vma`, which must be a shared mapping of a file.
    fn new(vma: &VmaRef, uaddr: u64) -> Result<Self> {
        let mut map = KBox::new(bindings::vdpa_map_file::default(), GFP_KERNEL)?;
        // SAFETY: The VMA is valid and locked.
        let pgoff = unsafe { (*vma.as_ptr()).vm_pgoff };
        map.offset = ((pgoff as u64) << PAGE_SHIFT)
            .wrapping_add(uaddr)
            .wrapping_sub(vma.start() as u64);
        // SAFETY: The VMA is valid and locked, and has a file.
        let file = unsafe { (*vma.as_ptr()).vm_file };
        // SAFETY: The VMA holds a reference to its file.
        // INVARIANT: This is our own.
        map.file = unsafe { bindings::rvv_get_file(file) };
        Ok(Self(map))
    }
}

impl Drop for MapFile {
    fn drop(&mut self) {
        // SAFETY: Gives up our reference.
        unsafe { bindings::fput(self.0.file) }
    }
}

/// Finds the files behind `size` bytes at `uaddr` of `mm`, for a parent that will read or write.
///
/// `each` gets every part that one shared mapping of a file covers: its offset from `uaddr` and its
/// size, both in bytes, and the file. It is called with `mmap_lock` held, and its errors end the search.
/// Returns how many bytes lie in private or device memory, which parents that use virtual addresses
/// cannot reach. Errors: `EINVAL` for a hole, `EACCES` where a shared mapping lacks the permission
/// asked for, `ESRCH` for a dead process.
pub(crate) fn lookup(
    mm: &Mm,
    (uaddr, size): (u64, u64),
    write: bool,
    read: bool,
    mut each: impl FnMut(u64, u64, MapFile) -> Result,
) -> Result<u64> {
    let mm = mm.mmget_not_zero().ok_or(ESRCH)?;
    let lock = mm.mmap_read_lock();
    let mut unshared = 0u64;
    let mut offset = 0u64;
    while offset < size {
        let addr = uaddr.checked_add(offset).ok_or(EINVAL)?;
        let vma = lock.vma_lookup(usize::try_from(addr)?).ok_or(EINVAL)?;
        let len = size
            .wrapping_sub(offset)
            .min((vma.end() as u64).wrapping_sub(addr));
        // SAFETY: The VMA is valid and locked.
        if unsafe { bindings::rvv_vma_is_shared_file(vma.as_ptr()) } {
            let has = vma.flags();
            if (write && has & flags::WRITE == 0) || (read && has & flags::READ == 0) {
                return Err(EACCES);
            }
            each(offset, len, MapFile::new(vma, addr)?)?;
        } else {
            unshared = unshared.saturating_add(len);
        }
        offset = offset.wrapping_add(len);
    }
    Ok(unshared)
}
