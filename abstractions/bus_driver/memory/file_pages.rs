// SPDX-License-Identifier: GPL-2.0

//! Pins folios of shared files, which are found in the page cache and not by address.
//!
//! C: `memfd_pin_folios()`, `mm/gup.c`.
//!
//! Guests of vDPA devices have their memory in a memfd, mostly on huge pages. Pinning by address
//! costs time for each page, pinning by file for each folio. Both pin the same memory: the folios
//! of a shared mapping are those of its file. Only folios in the page cache are pinned by file.
//! Folios that are missing, not up to date, poisoned or beyond the end of the file are left to a
//! page fault at the address, which follows the mapping's memory policy and reports errors.
//! Mappings with userfaultfd or guard regions are pinned by address too, and so are small folios,
//! which are no cheaper by file.

use crate::{bindings, gup::Pages};
use kernel::{
    current,
    mm::virt::VmaRef,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Largest number of folios that one step pins.
const STEP: usize = 512;
/// Largest number of pages that one step pins: 4 GiB.
const STEP_PAGES: u64 = 1 << 20;
/// Smallest folio, in pages, that is pinned by file.
const MIN_FOLIO: u64 = 32;
/// Smallest run of pages that is pinned by file. Smaller messages are pinned by address.
pub(super) const MIN_PAGES: u64 = 512;

/// Result of one step, for the pages from an address on.
pub(super) enum Front {
    /// This many pages were pinned by file.
    Pinned(u64),
    /// This many pages have to be pinned by address; if 0, at least the next ones.
    ByAddress(u64),
}

/// Part of a file's page cache that a range of a shared mapping shows.
struct Part {
    file: *mut bindings::file,
    /// The index of the first page. `npages` pages follow from it.
    index: u64,
    npages: u64,
}

/// Folio that was found in the page cache.
struct Found {
    /// The index in the file of the folio's first page.
    index: u64,
    /// The frame number of that page.
    pfn: u64,
    npages: u64,
}

impl Found {
    /// Looks at a folio. Returns `None` if it must not be pinned by file, or is too small.
    ///
    /// # Safety
    ///
    /// The caller must have a reference to or a pin on the folio, which must be one of a file.
    unsafe fn new(folio: *mut bindings::folio) -> Option<Self> {
        let (mut index, mut pfn) = (0, 0);
        // SAFETY: The caller guarantees a valid folio; the other pointers are valid for writes.
        let npages = unsafe { bindings::vhost_vdpa_folio_usable(folio, &mut index, &mut pfn) };
        let npages = npages as u64;
        (npages >= MIN_FOLIO).then_some(Self {
            index: index as u64,
            pfn: pfn as u64,
            npages,
        })
    }

    /// Returns the number of the folio's pages from `index` of the file on, and the frame number of
    /// the first. Returns `None` if the folio does not contain `index`.
    fn from(&self, index: u64) -> Option<(u64, u64)> {
        let skip = index.checked_sub(self.index)?;
        let npages = self.npages.checked_sub(skip).filter(|n| *n > 0)?;
        Some((npages, self.pfn.wrapping_add(skip)))
    }
}

impl Part {
    /// Returns how many of the part's first pages can be pinned by file at present.
    ///
    /// # Safety
    ///
    /// The file must stay valid: `mmap_lock` is held and a mapping has the file.
    unsafe fn usable(&self) -> u64 {
        let last = self.index.saturating_add(self.npages).wrapping_sub(1);
        let mut next = self.index as c_ulong;
        let (mut good, mut folios) = (0u64, 0);
        while good < self.npages && folios < STEP {
            let mut batch = bindings::folio_batch::default();
            // SAFETY: The caller guarantees a valid file; the other pointers are valid for writes.
            let n = unsafe {
                let mapping = (*self.file).f_mapping;
                bindings::filemap_get_folios_contig(mapping, &mut next, last as c_ulong, &mut batch)
            };
            let mut ended = n == 0;
            for folio in batch.folios.iter().copied().take(n as usize) {
                // SAFETY: `filemap_get_folios_contig()` took a reference to each folio.
                let found = unsafe { Found::new(folio) };
                // SAFETY: `filemap_get_folios_contig()` took this reference, and the folio is not
                // used again.
                unsafe { bindings::vhost_vdpa_folio_put(folio) };
                match found.and_then(|f| f.from(self.index.wrapping_add(good))) {
                    Some((npages, _)) if !ended => good = good.wrapping_add(npages),
                    _ => ended = true,
                }
            }
            if ended {
                break;
            }
            folios += n as usize;
        }
        good.min(self.npages)
    }

    /// Pins the part's first pages, at most [`STEP`] folios. Returns the number of pages that were
    /// pinned: 0 if the file's memory cannot be pinned by file.
    ///
    /// # Safety
    ///
    /// The file must stay valid: `mmap_lock` is held and a mapping has the file.
    unsafe fn pin(&self, write: bool, into: &mut Folios) -> Result<u64> {
        let start = self.index << PAGE_SHIFT;
        let end = start
            .wrapping_add(self.npages << PAGE_SHIFT)
            .wrapping_sub(1);
        let Folios { raw, pinned } = into;
        let mut offset = 0;
        raw.clear();
        raw.reserve(STEP, GFP_KERNEL)?;
        pinned.reserve(STEP, GFP_KERNEL)?;
        // SAFETY: The caller guarantees a valid file, and `raw` has room for `STEP` folios.
        let n = unsafe {
            bindings::memfd_pin_folios(
                self.file,
                start as bindings::loff_t,
                end as bindings::loff_t,
                raw.as_mut_ptr(),
                STEP as c_uint,
                &mut offset,
            )
        };
        // An error means that this is not a file of shmem or hugetlbfs, that the file ended, or
        // that there is no memory to move a folio to. A page fault at the address then finds out
        // which and reports it.
        let n = usize::try_from(n).unwrap_or(0);
        // SAFETY: `memfd_pin_folios()` wrote `n` folios, at most `STEP`, for which there is room.
        unsafe { raw.inc_len(n) };
        let mut done = 0u64;
        for (at, &folio) in raw.iter().enumerate() {
            // Folios may have been split or replaced since `usable` looked at them.
            // SAFETY: `memfd_pin_folios()` pinned the folio.
            let found = unsafe { Found::new(folio) };
            let here = found.and_then(|f| f.from(self.index.wrapping_add(done)));
            let left = self.npages.wrapping_sub(done);
            let Some((npages, pfn)) = here.filter(|_| left > 0) else {
                // SAFETY: We still own the pins on the folios from `at` on.
                unsafe { unpin(raw.get(at..).unwrap_or_default()) };
                break;
            };
            let npages = npages.min(left);
            // One pin for each page, as by address, because pins are dropped page by page.
            // SAFETY: We own a pin on the folio.
            if unsafe { bindings::vhost_vdpa_folio_pin_pages(folio, npages as c_uint) } != 0 {
                // SAFETY: We still own the pins on the folios from `at` on, one on this folio too.
                unsafe { unpin(raw.get(at..).unwrap_or_default()) };
                return Err(ENOMEM);
            }
            // SAFETY: The two calls above took one pin on each of these pages.
            let pages = unsafe { Pages::from_pins(pfn << PAGE_SHIFT, npages << PAGE_SHIFT, write) };
            if pinned.push_within_capacity(pages).is_err() {
                // Not reached: there is room for as many elements as there are folios.
                // SAFETY: We still own the pins on the folios behind this one; `pages` dropped
                // those on this one.
                unsafe { unpin(raw.get(at.wrapping_add(1)..).unwrap_or_default()) };
                return Err(ENOMEM);
            }
            done = done.wrapping_add(npages);
        }
        Ok(done)
    }
}

/// Drops one pin on each folio.
///
/// # Safety
///
/// The caller must own these pins.
unsafe fn unpin(folios: &[*mut bindings::folio]) {
    for &folio in folios {
        // SAFETY: The caller owns the pin.
        unsafe { bindings::unpin_folio(folio) };
    }
}

/// Folios that one step pins.
pub(super) struct Folios {
    raw: KVec<*mut bindings::folio>,
    pinned: KVec<Pages>,
}

impl Folios {
    /// Creates an empty list. Memory is allocated when a step pins folios.
    pub(super) const fn new() -> Self {
        Self {
            raw: KVec::new(),
            pinned: KVec::new(),
        }
    }

    /// Removes and returns what the last step pinned, in order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Pages> + '_ {
        self.pinned.drain_all()
    }

    /// Pins by file what the calling process has mapped at `addr` (page aligned): at most `npages`
    /// pages and at most as many as one step allows. [`Folios::take`] returns the pinned pages.
    ///
    /// Takes `mmap_lock`, and holds it until the pages are pinned: as long as a writable mapping
    /// exists, nobody can seal the file against writes. Errors: `ENOMEM`, `EFAULT` in a kernel
    /// thread.
    pub(super) fn pin(&mut self, addr: u64, npages: u64, write: bool) -> Result<Front> {
        let current = current!();
        let mm = current.mm().ok_or(EFAULT)?;
        let lock = mm.mmap_read_lock();
        let Some(vma) = lock.vma_lookup(usize::try_from(addr)?) else {
            return Ok(Front::ByAddress(npages));
        };
        let in_vma = ((vma.end() as u64).wrapping_sub(addr) >> PAGE_SHIFT).min(npages);
        let Some(mut part) = part_of(vma, addr, in_vma, write) else {
            return Ok(Front::ByAddress(in_vma));
        };
        part.npages = part.npages.min(STEP_PAGES);
        // SAFETY: The VMA has the file, and `lock` is held.
        part.npages = unsafe { part.usable() };
        if part.npages < MIN_PAGES.min(npages) {
            return Ok(Front::ByAddress(part.npages));
        }
        // SAFETY: The VMA has the file, and `lock` is held.
        Ok(match unsafe { part.pin(write, self) }? {
            0 => Front::ByAddress(0),
            n => Front::Pinned(n),
        })
    }
}

/// Returns the part of its file that `vma` shows in the `npages` pages at `addr`, up to the end of
/// the file. The pages must be inside of `vma`. Returns `None` if these pages are not the file's,
/// or may not be pinned by file.
fn part_of(vma: &VmaRef, addr: u64, npages: u64, write: bool) -> Option<Part> {
    let (mut index, mut pages) = (0, 0);
    // SAFETY: A `VmaRef` is valid and locked; the other pointers are valid for writes.
    let file = unsafe {
        bindings::vhost_vdpa_vma_file_at(
            vma.as_ptr(),
            addr as c_ulong,
            write,
            &mut index,
            &mut pages,
        )
    };
    (!file.is_null()).then_some(Part {
        file,
        index: index as u64,
        npages: npages.min((pages as u64).saturating_sub(index as u64)),
    })
}
