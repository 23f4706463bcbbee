// SPDX-License-Identifier: GPL-2.0

//! Pinned folios of shared files: memory that is found in the page cache, not by walking addresses.
//!
//! C: `memfd_pin_folios()`, `mm/gup.c`.
//!
//! Guests of vDPA devices have their memory in a memfd, mostly on huge pages. Pinning that by address
//! costs time for each page, by file for each folio. What is pinned is the same: the folios of a shared
//! mapping are those of its file. Only folios that are there are pinned by file. What is missing, not up to
//! date, poisoned or beyond the end of the file is left to a fault at its address, which knows the
//! memory policy of the mapping and whom to tell; so is memory of mappings with userfaultfd or guard
//! regions, and memory on small folios, which costs no less by file.

use crate::{bindings, gup::Pages};
use kernel::{
    current,
    mm::virt::VmaRef,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// The most folios that one step pins.
const STEP: usize = 512;
/// The most pages that one step pins: 4 GiB.
const STEP_PAGES: u64 = 1 << 20;
/// Smaller folios are pinned by address.
const MIN_FOLIO: u64 = 32;
/// Fewer pages in a row are pinned by address, and so are messages that are smaller.
pub(super) const MIN_PAGES: u64 = 512;

/// Says how the pages from an address on are pinned.
pub(super) enum Front {
    /// So many of them were pinned by file.
    Pinned(u64),
    /// They have to be pinned by address: so many, or some where it is 0.
    ByAddress(u64),
}

/// Part of a file's page cache: what a range of a shared mapping shows.
struct Part {
    file: *mut bindings::file,
    /// The index of the first page, and how many pages there are.
    index: u64,
    npages: u64,
}

/// A folio that the page cache had.
struct Found {
    /// The index in the file of its first page.
    index: u64,
    /// The frame number of that page.
    pfn: u64,
    npages: u64,
}

impl Found {
    /// Looks at a folio; `None` if it is not to be pinned by file.
    ///
    /// # Safety
    ///
    /// The caller must have a reference to or a pin on the folio, which is one of a file.
    unsafe fn new(folio: *mut bindings::folio) -> Option<Self> {
        let (mut index, mut pfn) = (0, 0);
        // SAFETY: The caller vouches for the folio; the others are locals.
        let npages = unsafe { bindings::vhost_vdpa_folio_usable(folio, &mut index, &mut pfn) };
        let npages = npages as u64;
        (npages >= MIN_FOLIO).then_some(Self {
            index: index as u64,
            pfn: pfn as u64,
            npages,
        })
    }

    /// Returns how many pages there are of it from `index` of the file on, and the first's frame number.
    fn from(&self, index: u64) -> Option<(u64, u64)> {
        let skip = index.checked_sub(self.index)?;
        let npages = self.npages.checked_sub(skip).filter(|n| *n > 0)?;
        Some((npages, self.pfn.wrapping_add(skip)))
    }
}

impl Part {
    /// Returns how many of its first pages can be pinned by file, as things are now.
    ///
    /// # Safety
    ///
    /// The file must stay: `mmap_lock` is held and a mapping has it.
    unsafe fn usable(&self) -> u64 {
        let last = self.index.saturating_add(self.npages).wrapping_sub(1);
        let mut next = self.index as c_ulong;
        let (mut good, mut folios) = (0u64, 0);
        while good < self.npages && folios < STEP {
            let mut batch = bindings::folio_batch::default();
            // SAFETY: The caller vouches for the file; the others are locals.
            let n = unsafe {
                let mapping = (*self.file).f_mapping;
                bindings::filemap_get_folios_contig(mapping, &mut next, last as c_ulong, &mut batch)
            };
            let mut ended = n == 0;
            for folio in batch.folios.iter().copied().take(n as usize) {
                // SAFETY: The function above took a reference to each.
                let found = unsafe { Found::new(folio) };
                // SAFETY: The reference is ours, and the folio is not used again.
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

    /// Pins its first pages, up to as many as there are in [`STEP`] folios. Returns how many it were: none
    /// where the file's memory cannot be pinned so.
    ///
    /// # Safety
    ///
    /// The file must stay: `mmap_lock` is held and a mapping has it.
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
        // SAFETY: The caller vouches for the file, and `raw` has room for `STEP` folios.
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
        // An error says that this is no file of shmem or hugetlbfs, or that it ended, or that there is
        // no memory to move a folio to. A fault at the address finds out, and says so.
        let n = usize::try_from(n).unwrap_or(0);
        // SAFETY: There is room for `STEP`, which `n` is no more than, and so many were written.
        unsafe { raw.inc_len(n) };
        let mut done = 0u64;
        for (at, &folio) in raw.iter().enumerate() {
            // Folios may have been split or replaced since they were looked at.
            // SAFETY: The pin is ours.
            let found = unsafe { Found::new(folio) };
            let here = found.and_then(|f| f.from(self.index.wrapping_add(done)));
            let left = self.npages.wrapping_sub(done);
            let Some((npages, pfn)) = here.filter(|_| left > 0) else {
                // SAFETY: The pins on the rest are ours.
                unsafe { unpin(raw.get(at..).unwrap_or_default()) };
                break;
            };
            let npages = npages.min(left);
            // One pin for each page, as by address: it is by pages that they are given back.
            // SAFETY: The folio is pinned.
            if unsafe { bindings::vhost_vdpa_folio_pin_pages(folio, npages as c_uint) } != 0 {
                // SAFETY: The pins on the rest are ours, one on this folio, too.
                unsafe { unpin(raw.get(at..).unwrap_or_default()) };
                return Err(ENOMEM);
            }
            // SAFETY: The pins were taken by the two calls above.
            let pages = unsafe { Pages::from_pins(pfn << PAGE_SHIFT, npages << PAGE_SHIFT, write) };
            if pinned.push_within_capacity(pages).is_err() {
                // Not reached: there is room for as many as there are folios.
                // SAFETY: The pins on those behind this one are ours; this one's went with `pages`.
                unsafe { unpin(raw.get(at.wrapping_add(1)..).unwrap_or_default()) };
                return Err(ENOMEM);
            }
            done = done.wrapping_add(npages);
        }
        Ok(done)
    }
}

/// Gives up one pin on each folio.
///
/// # Safety
///
/// The pins must be the caller's.
unsafe fn unpin(folios: &[*mut bindings::folio]) {
    for &folio in folios {
        // SAFETY: The caller vouches for the pin.
        unsafe { bindings::unpin_folio(folio) };
    }
}

/// The folios of one step.
pub(super) struct Folios {
    raw: KVec<*mut bindings::folio>,
    pinned: KVec<Pages>,
}

impl Folios {
    /// None. Memory is taken once there are some.
    pub(super) const fn new() -> Self {
        Self {
            raw: KVec::new(),
            pinned: KVec::new(),
        }
    }

    /// Takes what the last step pinned, in order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Pages> + '_ {
        self.pinned.drain_all()
    }

    /// Pins by file what the calling process has mapped from `addr` on (page aligned), up to `npages`
    /// pages or as many as one step can; [`Folios::take`] gives them out.
    ///
    /// Takes `mmap_lock`, and holds it until the pins are there: as long as there is a writable mapping,
    /// nobody can seal the file against writes. Errors: `ENOMEM`.
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

/// Returns what of its file `vma` shows in the `npages` pages at `addr`, which are in it, up to the end of the
/// file; `None` if these are not the file's, or must not be taken for them.
fn part_of(vma: &VmaRef, addr: u64, npages: u64, write: bool) -> Option<Part> {
    let (mut index, mut pages) = (0, 0);
    // SAFETY: A `VmaRef` is valid and its lock held; the others are locals.
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
