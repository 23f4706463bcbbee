// SPDX-License-Identifier: GPL-2.0

//! Pinned user pages and what they count against.
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

/// The address space of the calling process; `None` in a kernel thread.
pub fn current_mm() -> Option<ARef<Mm>> {
    // SAFETY: Only reads `current->mm`, which a thread changes for itself only.
    let mm = NonNull::new(unsafe { bindings::vhost_vdpa_current_mm() })?;
    // SAFETY: `current->mm` is valid for the duration of the call.
    Some(ARef::from(unsafe { Mm::from_raw(mm.as_ptr()) }))
}

/// Whether the calling process owns `mm`.
pub fn is_current_mm(mm: &Mm) -> bool {
    // SAFETY: Only reads `current->mm`, which a thread changes for itself only.
    mm.as_raw() == unsafe { bindings::vhost_vdpa_current_mm() }
}

/// Pages counted as pinned by an address space; given back when dropped.
///
/// # Invariants
///
/// `pages` of `mm->pinned_vm` are ours.
pub struct Charge {
    mm: ARef<Mm>,
    pages: u64,
}

impl Charge {
    /// Counts `pages` more pages.
    ///
    /// The count is taken first and the limit checked on its result, so two devices of one process
    /// cannot both pass. Errors: `ENOMEM` above `RLIMIT_MEMLOCK` without `CAP_IPC_LOCK`.
    pub fn new(mm: ARef<Mm>, pages: u64) -> Result<Self> {
        let signed = i64::try_from(pages)?;
        // SAFETY: `mm` is valid.
        let sum = unsafe { bindings::vhost_vdpa_mm_pinned_add(mm.as_raw(), signed) };
        // INVARIANT: Just counted.
        let charge = Self { mm, pages };
        // SAFETY: Reads a limit of `current`, which has its `signal_struct` for as long as it runs.
        let limit = unsafe { bindings::vhost_vdpa_rlimit_memlock() } >> PAGE_SHIFT;
        if u64::try_from(sum).map_or(true, |sum| sum > limit as u64)
            // SAFETY: `capable()` wants a capability that exists, and looks at `current` only.
            && !unsafe { bindings::capable(bindings::CAP_IPC_LOCK as c_int) }
        {
            return Err(ENOMEM);
        }
        Ok(charge)
    }

    /// Adds another charge of the same address space to this one.
    pub fn merge(&mut self, mut other: Self) {
        if other.mm.as_raw() == self.mm.as_raw() {
            // INVARIANT: What `other` owned is ours now.
            self.pages = self.pages.wrapping_add(other.pages);
            other.pages = 0;
        } else {
            // Not reached: a file has one owner. The pages stay counted, which errs on the safe
            // side of the limit.
            core::mem::forget(other);
        }
    }

    /// Gives back all but `pages`.
    pub fn limit(&mut self, pages: u64) {
        if self.pages > pages {
            self.release(self.pages.wrapping_sub(pages));
        }
    }

    /// Gives back `pages`, which are no more than there are.
    fn release(&mut self, pages: u64) {
        // INVARIANT: They are counted no more, see below.
        self.pages = self.pages.wrapping_sub(pages);
        // SAFETY: `mm` is valid.
        unsafe {
            bindings::vhost_vdpa_mm_pinned_add(self.mm.as_raw(), (pages as i64).wrapping_neg())
        };
    }

    /// Splits off `pages` of the charge, at most all of it.
    pub fn split(&mut self, pages: u64) -> Self {
        let pages = pages.min(self.pages);
        self.pages = self.pages.wrapping_sub(pages);
        // INVARIANT: Together they own what one owned.
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

/// Physically contiguous user pages, pinned for long; unpinned when dropped.
///
/// # Invariants
///
/// We own one pin on each of the `npages` pages from `pfn`.
pub struct Pages {
    pfn: u64,
    npages: u64,
    /// Whether the device may have written, so that the pages count as dirty.
    write: bool,
}

impl Pages {
    /// The physical address of the first byte.
    pub fn phys(&self) -> u64 {
        self.pfn << PAGE_SHIFT
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.npages << PAGE_SHIFT
    }

    /// Appends the pages that follow in memory; returns them if they do not.
    fn append(&mut self, next: Self) -> Result<(), Self> {
        if self.pfn.wrapping_add(self.npages) != next.pfn {
            return Err(next);
        }
        // INVARIANT: The pins move from `next`, which must not give them up.
        self.npages = self.npages.wrapping_add(next.npages);
        core::mem::forget(next);
        Ok(())
    }

    /// Leaves the pins to the caller, who gives them back with `from_pins`.
    pub(super) fn into_pins(self) {
        core::mem::forget(self);
    }

    /// Takes over pins: `size` bytes of whole pages at physical address `phys`.
    ///
    /// # Safety
    ///
    /// The caller must own one pin on each of the pages, as after `into_pins`.
    pub(super) unsafe fn from_pins(phys: u64, size: u64, write: bool) -> Self {
        // INVARIANT: The caller vouches for the pins.
        Self {
            pfn: phys >> PAGE_SHIFT,
            npages: size >> PAGE_SHIFT,
            write,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the invariant, one pin on each of them is ours to give up.
        unsafe {
            bindings::vhost_vdpa_unpin_pages(
                self.pfn as c_ulong,
                self.npages as c_ulong,
                self.write,
            )
        }
    }
}

/// How many pages one call into GUP pins. 64 KiB of page pointers.
const BATCH: usize = 8192;
/// For how many pages the pointers are kept on the stack.
const SMALL: usize = 16;

/// Physically contiguous pages that are found one after the other, and who gets them.
struct Runs<F> {
    /// The run that may go on.
    run: Option<Pages>,
    each: F,
}

impl<F: FnMut(Pages) -> Result> Runs<F> {
    /// Adds what follows. Errors: that of `each` for what came before.
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

    /// Hands out the last run.
    fn end(mut self) -> Result {
        self.run.map_or(Ok(()), &mut self.each)
    }
}

/// Pins `npages` pages of the calling process from `uaddr` on (page aligned); `each` gets every run of
/// physically contiguous ones.
///
/// Sleeps, takes `mmap_lock` and faults pages in: hold no lock that a page fault could need. Errors:
/// `EFAULT` where nothing is mapped or permission is missing, `ENOMEM`, `EINTR` when the process is being
/// killed meanwhile, or that of `each`. On an error nothing stays pinned but what `each` was given.
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
                // More than asked for: what follows on small folios is likely to go on so.
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

/// Lets others run between two steps. Errors: `EINTR` when the process is being killed.
fn give_way() -> Result {
    // SAFETY: Who pins pages may sleep.
    if unsafe { bindings::vhost_vdpa_killed_or_resched() } {
        return Err(EINTR);
    }
    Ok(())
}

/// Pins pages wherever they come from.
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
        // SAFETY: `list` has room for `batch` pointers.
        let got =
            unsafe { bindings::pin_user_pages_fast(addr as c_ulong, want, flags as c_uint, list) };
        to_result(got)?;
        if got == 0 {
            return Err(EFAULT);
        }
        let mut at = 0;
        while at < got {
            // SAFETY: `at` is below `got`, and GUP wrote that many pointers.
            let first = unsafe { list.add(at as usize) };
            let mut pfn = 0;
            // SAFETY: GUP wrote `got - at` pointers from `first` on, to pages that it pinned.
            let n = unsafe {
                bindings::vhost_vdpa_contiguous_pages(first, got.wrapping_sub(at), &mut pfn)
            };
            // INVARIANT: These pins were taken by the call above.
            let found = Pages {
                pfn: pfn as u64,
                npages: n as u64,
                write,
            };
            at = at.wrapping_add(n);
            if let Err(e) = runs.push(found) {
                // SAFETY: The rest of the list, pinned but not yet owned by a run.
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
