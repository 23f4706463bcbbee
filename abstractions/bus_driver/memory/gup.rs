// SPDX-License-Identifier: GPL-2.0

//! Pinned user pages, and the limit that they count against.
//!
//! C: `mm/gup.c`, `mm_struct::pinned_vm`, `RLIMIT_MEMLOCK`.

use super::file_pages::{Folios, Front, MIN_PAGES};
use crate::{
    bindings,
    result::to_result, //
};
use core::{
    mem::{replace, MaybeUninit},
    ptr::NonNull, //
};
use kernel::{
    mm::Mm,
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    sync::aref::ARef, //
};

/// Returns the address space of the calling process, or `None` in a kernel thread.
pub fn current_mm() -> Option<ARef<Mm>> {
    // SAFETY: The function only reads `current->mm`, which no other thread changes.
    let mm = NonNull::new(unsafe { bindings::vhost_vdpa_current_mm() })?;
    // SAFETY: `current->mm` is valid during the call, which takes a reference.
    Some(ARef::from(unsafe { Mm::from_raw(mm.as_ptr()) }))
}

/// Returns true if `mm` is the address space of the calling process.
pub fn is_current_mm(mm: &Mm) -> bool {
    // SAFETY: The function only reads `current->mm`, which no other thread changes.
    mm.as_raw() == unsafe { bindings::vhost_vdpa_current_mm() }
}

/// Pages that an address space counts as pinned. Dropping it subtracts them.
///
/// # Invariants
///
/// `pages` pages of `mm->pinned_vm` were added for this object.
pub struct Charge {
    mm: ARef<Mm>,
    pages: u64,
}

impl Charge {
    /// Counts `pages` more pages as pinned.
    ///
    /// Adds to the count first and then checks the sum, so that two devices of one process cannot
    /// both pass the check. Errors: `ENOMEM` above `RLIMIT_MEMLOCK` without `CAP_IPC_LOCK`.
    pub fn new(mm: ARef<Mm>, pages: u64) -> Result<Self> {
        let signed = i64::try_from(pages)?;
        // SAFETY: `mm` is a reference to the address space.
        let sum = unsafe { bindings::vhost_vdpa_mm_pinned_add(mm.as_raw(), signed) };
        // INVARIANT: The call above added the pages.
        let charge = Self { mm, pages };
        // SAFETY: The function reads a limit of `current`, whose `signal_struct` lives as long as
        // it runs.
        let limit = unsafe { bindings::vhost_vdpa_rlimit_memlock() } >> PAGE_SHIFT;
        if u64::try_from(sum).map_or(true, |sum| sum > limit as u64)
            // SAFETY: `capable()` needs an existing capability, and looks at `current` only.
            && !unsafe { bindings::capable(bindings::CAP_IPC_LOCK as c_int) }
        {
            return Err(ENOMEM);
        }
        Ok(charge)
    }

    /// Merges another charge of the same address space into this one.
    pub fn merge(&mut self, mut other: Self) {
        if other.mm.as_raw() == self.mm.as_raw() {
            // INVARIANT: The pages of `other` are added for this object now.
            self.pages = self.pages.wrapping_add(other.pages);
            other.pages = 0;
        } else {
            // Not reached: a file has one owner. The pages stay counted, which errs on the safe
            // side of the limit.
            core::mem::forget(other);
        }
    }

    /// Subtracts all but `pages` pages.
    pub fn limit(&mut self, pages: u64) {
        if self.pages > pages {
            self.release(self.pages.wrapping_sub(pages));
        }
    }

    /// Subtracts `pages` pages, which must not be more than there are.
    fn release(&mut self, pages: u64) {
        // INVARIANT: The call below subtracts them from the count.
        self.pages = self.pages.wrapping_sub(pages);
        // SAFETY: `mm` is a reference to the address space.
        unsafe {
            bindings::vhost_vdpa_mm_pinned_add(self.mm.as_raw(), (pages as i64).wrapping_neg())
        };
    }

    /// Splits off `pages` pages of the charge, or all of it if it has fewer.
    pub fn split(&mut self, pages: u64) -> Self {
        let pages = pages.min(self.pages);
        self.pages = self.pages.wrapping_sub(pages);
        // INVARIANT: Together both have the pages that one had.
        Self {
            mm: self.mm.clone(),
            pages,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.pages != 0 {
            self.release(self.pages);
        }
    }
}

/// Physically contiguous user pages with long-term pins. Dropping it unpins them.
///
/// # Invariants
///
/// We own one pin on each of the `npages` pages from `pfn` on.
pub struct Pages {
    pfn: u64,
    npages: u64,
    /// True if the device may have written to the pages: they are then marked dirty when unpinned.
    write: bool,
}

impl Pages {
    /// Returns the physical address of the first byte.
    pub fn phys(&self) -> u64 {
        self.pfn << PAGE_SHIFT
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.npages << PAGE_SHIFT
    }

    /// Appends pages that follow in physical memory; returns them as the error if they do not.
    fn append(&mut self, next: Self) -> Result<(), Self> {
        if self.pfn.wrapping_add(self.npages) != next.pfn {
            return Err(next);
        }
        // INVARIANT: The pins move from `next`, which must not drop them.
        self.npages = self.npages.wrapping_add(next.npages);
        core::mem::forget(next);
        Ok(())
    }

    /// Leaves the pins to the caller, who takes them back with `from_pins`.
    pub(super) fn into_pins(self) {
        core::mem::forget(self);
    }

    /// Takes over the pins on `size` bytes of whole pages at physical address `phys`.
    ///
    /// # Safety
    ///
    /// The caller must own one pin on each of the pages, as after `into_pins`, and give it up.
    pub(super) unsafe fn from_pins(phys: u64, size: u64, write: bool) -> Self {
        // INVARIANT: The caller gives up its pins.
        Self {
            pfn: phys >> PAGE_SHIFT,
            npages: size >> PAGE_SHIFT,
            write,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the invariant we own one pin on each of the pages, and drop it once.
        unsafe {
            bindings::vhost_vdpa_unpin_pages(
                self.pfn as c_ulong,
                self.npages as c_ulong,
                self.write,
            )
        }
    }
}

/// Largest number of pages that one call into GUP pins: 64 KiB of page pointers.
const BATCH: usize = 8192;
/// Largest number of pages for which the page pointers are on the stack.
const SMALL: usize = 16;

/// Collects pinned pages into physically contiguous runs, and passes each run to `each`.
struct Runs<F> {
    /// The last run, which the next pages may continue.
    run: Option<Pages>,
    each: F,
}

impl<F: FnMut(Pages) -> Result> Runs<F> {
    /// Adds the pages that come next. Errors: that of `each` for the previous run.
    fn push(&mut self, found: Pages) -> Result {
        let ended = match &mut self.run {
            Some(run) => run.append(found).err().map(|next| replace(run, next)),
            none => {
                *none = Some(found);
                None
            }
        };
        ended.map_or(Ok(()), &mut self.each)
    }

    /// Passes the last run to `each`.
    fn end(mut self) -> Result {
        self.run.map_or(Ok(()), &mut self.each)
    }
}

/// Pins `npages` pages of the calling process at `uaddr` (page aligned), and calls `each` for every
/// run of physically contiguous pages.
///
/// Sleeps, takes `mmap_lock` and faults pages in: hold no lock that a page fault could need.
/// Errors: `EFAULT` if nothing is mapped or a permission is missing, `ENOMEM`, `EINTR` if the
/// process is being killed, or that of `each`. After an error only pages that `each` was given are
/// still pinned.
pub fn pin(uaddr: u64, npages: u64, write: bool, each: impl FnMut(Pages) -> Result) -> Result {
    let mut runs = Runs { run: None, each };
    if npages < MIN_PAGES {
        pin_by_address(uaddr, npages, write, &mut runs)?;
        return runs.end();
    }
    let mut folios = Folios::new();
    let mut addr = uaddr;
    let mut left = npages;
    while left > 0 {
        give_way()?;
        let done = match folios.pin(addr, left, write)? {
            Front::Pinned(n) => {
                folios.take().try_for_each(|pages| runs.push(pages))?;
                n
            }
            Front::ByAddress(n) => {
                // More than asked for: if these are small folios, the next ones probably are, too.
                let n = n.max(BATCH as u64).min(left);
                pin_by_address(addr, n, write, &mut runs)?;
                n
            }
        };
        addr = addr.wrapping_add(done << PAGE_SHIFT);
        left = left.wrapping_sub(done);
    }
    runs.end()
}

/// Lets other tasks run between two steps. Errors: `EINTR` if the process is being killed.
fn give_way() -> Result {
    // SAFETY: Callers may sleep: they pin pages.
    if unsafe { bindings::vhost_vdpa_killed_or_resched() } {
        return Err(EINTR);
    }
    Ok(())
}

/// Pins pages by address, whatever backs them. Errors: those of [`pin`].
fn pin_by_address<F>(uaddr: u64, npages: u64, write: bool, runs: &mut Runs<F>) -> Result
where
    F: FnMut(Pages) -> Result,
{
    let mut flags = bindings::FOLL_LONGTERM;
    if write {
        flags |= bindings::FOLL_WRITE;
    }
    let batch = usize::try_from(npages)?.min(BATCH);
    let mut small = [MaybeUninit::<*mut bindings::page>::uninit(); SMALL];
    let mut large = KVVec::<*mut bindings::page>::new();
    let list = if batch <= SMALL {
        small.as_mut_ptr().cast()
    } else {
        large.reserve(batch, GFP_KERNEL)?;
        large.as_mut_ptr()
    };
    let mut addr = uaddr;
    let mut left = npages;
    while left > 0 {
        give_way()?;
        let want = left.min(batch as u64) as c_int;
        // SAFETY: `list` has room for `batch` pointers, and `want` is no more than that.
        let got =
            unsafe { bindings::pin_user_pages_fast(addr as c_ulong, want, flags as c_uint, list) };
        to_result(got)?;
        if got == 0 {
            return Err(EFAULT);
        }
        let mut at = 0;
        while at < got {
            // SAFETY: `at` is below `got`, the number of pointers that GUP wrote.
            let first = unsafe { list.add(at as usize) };
            let mut pfn = 0;
            // SAFETY: GUP wrote `got - at` pointers from `first` on, to pages that it pinned.
            let n = unsafe {
                bindings::vhost_vdpa_contiguous_pages(first, got.wrapping_sub(at), &mut pfn)
            };
            // INVARIANT: The call into GUP pinned these pages, and no other run has them.
            let found = Pages {
                pfn: pfn as u64,
                npages: n as u64,
                write,
            };
            at = at.wrapping_add(n);
            if let Err(e) = runs.push(found) {
                // SAFETY: GUP pinned the rest of the list, and no run owns these pins yet.
                unsafe {
                    bindings::unpin_user_pages(
                        list.add(at as usize),
                        got.wrapping_sub(at) as c_ulong,
                    )
                };
                return Err(e);
            }
        }
        addr = addr.wrapping_add(got as u64 * PAGE_SIZE as u64);
        left = left.wrapping_sub(got as u64);
    }
    Ok(())
}
