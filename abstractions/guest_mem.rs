// SPDX-License-Identifier: GPL-2.0

//! Guest memory, as a device in software reaches it: an IOVA, translated to a physical address,
//! mapped page by page.
//!
//! The guest changes this memory at any time. It is therefore only copied, never borrowed.

use super::{
    bindings,
    iotlb::{Iotlb, Map},
};
use core::{cell::Cell, ptr::NonNull};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// What an address space translates with.
#[derive(Clone, Copy)]
pub(crate) enum Translation<'a> {
    /// IOVAs are physical addresses.
    Identity,
    /// Only what the IOTLB has can be reached.
    Iotlb(&'a Iotlb),
}

/// The memory of one address space. Whoever has it keeps the translation from changing.
pub(crate) struct GuestMemory<'a> {
    translation: Translation<'a>,
    /// The last range that was found: rings and buffers usually lie in the same one.
    last: Cell<Option<Map>>,
}

/// A byte of a page that is mapped into the kernel, until it is dropped.
///
/// # Invariants
///
/// The mapping came from `rvv_guest_map()`. It reaches to the end of the page.
struct Mapped(NonNull<u8>);

impl Mapped {
    /// Maps a physical address.
    fn new(pa: u64) -> Result<Self> {
        // SAFETY: Any address may be asked for; the answer is null where there is no RAM.
        let ptr = unsafe { bindings::rvv_guest_map(pa) };
        // INVARIANT: Fresh from `rvv_guest_map()`.
        Ok(Self(NonNull::new(ptr.cast()).ok_or(EFAULT)?))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: By the invariant, and mappings are undone in reverse order as they nest.
        unsafe { bindings::rvv_guest_unmap(self.0.as_ptr().cast()) }
    }
}

impl<'a> GuestMemory<'a> {
    /// The memory seen through a translation.
    pub(crate) fn new(translation: Translation<'a>) -> Self {
        Self {
            translation,
            last: Cell::new(None),
        }
    }

    /// Translates the first of `len` bytes (not 0) at `iova`, and says how many of them lie
    /// behind each other in the same page.
    ///
    /// Errors: `EFAULT` when nothing is mapped there with this permission.
    fn translate(&self, iova: u64, len: usize, perm: u32) -> Result<(u64, usize)> {
        let (pa, room) = match self.translation {
            Translation::Identity => (iova, u64::MAX),
            Translation::Iotlb(iotlb) => {
                let known = self.last.get();
                let map = known
                    .filter(|map| map.start <= iova && iova <= map.last)
                    .or_else(|| iotlb.first(iova, iova))
                    .ok_or(EFAULT)?;
                self.last.set(Some(map));
                if map.perm & perm != perm {
                    return Err(EFAULT);
                }
                // The range contains `iova`, so neither subtraction wraps.
                let pa = map.addr.checked_add(iova.wrapping_sub(map.start));
                let room = map.last.wrapping_sub(iova).saturating_add(1);
                (pa.ok_or(EFAULT)?, room)
            }
        };
        let page_rest = PAGE_SIZE - (pa as usize & (PAGE_SIZE - 1));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Ok((pa, len.min(page_rest).min(room)))
    }

    /// Copies from guest memory.
    ///
    /// Errors: `EFAULT` when not all of it is mapped for reading; `into` is then changed in part.
    pub(crate) fn read(&self, mut iova: u64, mut into: &mut [u8]) -> Result {
        while !into.is_empty() {
            let (pa, len) = self.translate(iova, into.len(), bindings::VHOST_MAP_RO)?;
            let page = Mapped::new(pa)?;
            let (now, rest) = into.split_at_mut_checked(len).ok_or(EFAULT)?;
            // SAFETY: The mapping reaches to the end of the page, which `len` bytes do not
            // leave. `memcpy()` is C's, to which races with the guest do no harm.
            unsafe { bindings::memcpy(now.as_mut_ptr().cast(), page.0.as_ptr().cast(), now.len()) };
            into = rest;
            if !into.is_empty() {
                iova = iova.checked_add(len as u64).ok_or(EFAULT)?;
            }
        }
        Ok(())
    }

    /// Copies to guest memory.
    ///
    /// Errors: `EFAULT` when not all of it is mapped for writing; it is then written in part.
    pub(crate) fn write(&self, mut iova: u64, mut from: &[u8]) -> Result {
        while !from.is_empty() {
            let (pa, len) = self.translate(iova, from.len(), bindings::VHOST_MAP_WO)?;
            let page = Mapped::new(pa)?;
            let (now, rest) = from.split_at_checked(len).ok_or(EFAULT)?;
            // SAFETY: As in `read`.
            unsafe { bindings::memcpy(page.0.as_ptr().cast(), now.as_ptr().cast(), now.len()) };
            from = rest;
            if !from.is_empty() {
                iova = iova.checked_add(len as u64).ok_or(EFAULT)?;
            }
        }
        Ok(())
    }

    /// Maps the page of an aligned `u16`.
    fn map_u16(&self, iova: u64, perm: u32) -> Result<Mapped> {
        let (pa, len) = self.translate(iova, 2, perm)?;
        if pa & 1 != 0 || len != 2 {
            return Err(EFAULT);
        }
        Mapped::new(pa)
    }

    /// Loads a `u16` in one access.
    ///
    /// Errors: `EFAULT` when it is not mapped for reading, or not aligned.
    pub(crate) fn load_u16(&self, iova: u64) -> Result<u16> {
        let page = self.map_u16(iova, bindings::VHOST_MAP_RO)?;
        // SAFETY: Mapped and aligned; volatile, as the guest may change it.
        Ok(unsafe { page.0.as_ptr().cast::<u16>().read_volatile() })
    }

    /// Stores a `u16` in one access.
    ///
    /// Errors: `EFAULT` when it is not mapped for writing, or not aligned.
    pub(crate) fn store_u16(&self, iova: u64, value: u16) -> Result {
        let page = self.map_u16(iova, bindings::VHOST_MAP_WO)?;
        // SAFETY: Mapped and aligned; volatile, as the guest may look at it.
        unsafe { page.0.as_ptr().cast::<u16>().write_volatile(value) };
        Ok(())
    }
}
