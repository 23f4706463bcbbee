// SPDX-License-Identifier: GPL-2.0

//! Mappings: memory that a device may reach, and the table that owns it.
//!
//! Parents walk a `struct vhost_iotlb`, so mappings are kept in one: each of its ranges owns the
//! memory that it points to. Adding a mapping makes a range of it; taking the range out makes it a
//! mapping again.

use crate::{
    bindings,
    gup::{Charge, Pages},
    inline_vec::InlineVec,
    iotlb::{Detached, DetachedRanges, Iotlb, Map, OwnedIotlb},
    usermap::MapFile,
};
use kernel::{page::PAGE_SHIFT, prelude::*};

/// Range of an address space, with the memory behind it. Dropping it releases the memory.
///
/// # Invariants
///
/// If the opaque pointer is null, we own one pin on each page of the range; otherwise we own the
/// `vdpa_map_file` behind it.
pub struct Mapping(Map);

impl Mapping {
    /// Creates a mapping of pinned memory at `iova`.
    pub fn pinned(iova: u64, perm: u32, pages: Pages) -> Self {
        let last = iova.wrapping_add(pages.size()).wrapping_sub(1);
        // SAFETY: The opaque pointer is null.
        let map = unsafe { Map::new(iova, last, pages.phys(), perm, core::ptr::null_mut()) };
        // INVARIANT: The mapping owns the pins from here on.
        pages.into_pins();
        Self(map)
    }

    /// Creates a mapping of `size` bytes of a file, which is mapped at `uaddr` in the owner's
    /// address space.
    pub fn file(iova: u64, size: u64, uaddr: u64, perm: u32, file: MapFile) -> Self {
        let last = iova.wrapping_add(size).wrapping_sub(1);
        // INVARIANT: The mapping owns the file from here on.
        // SAFETY: The pointer is a `vdpa_map_file`, which lives until `drop` puts the file.
        Self(unsafe { Map::new(iova, last, uaddr, perm, file.into_opaque()) })
    }

    /// Returns the mapping that a range was made of.
    ///
    /// # Safety
    ///
    /// The range must have owned what a mapping owns, and must not own it any more.
    unsafe fn from_map(map: Map) -> Self {
        // INVARIANT: The caller gives up what the range owned.
        Self(map)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let map = &self.0;
        if map.opaque().is_null() {
            let write = map.perm & bindings::VHOST_ACCESS_WO != 0;
            // SAFETY: By the invariant we own the pins.
            drop(unsafe { Pages::from_pins(map.addr, map.size(), write) });
        } else {
            // SAFETY: By the invariant we own the file, whose pointer came from `into_opaque`.
            drop(unsafe { MapFile::from_opaque(map.opaque()) });
        }
    }
}

/// Mappings that are added together, with the charge for their pins. The pins are dropped before
/// the charge.
pub struct Mappings {
    list: InlineVec<Mapping>,
    charge: Option<Charge>,
}

impl Mappings {
    /// Creates an empty list.
    pub const fn new() -> Self {
        Self {
            list: InlineVec::new(),
            charge: None,
        }
    }

    /// Sets the charge for the pins of all mappings.
    pub fn set_charge(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    /// Appends a mapping. `ENOMEM` drops it.
    #[inline]
    pub fn push(&mut self, mapping: Mapping) -> Result {
        self.list.push(mapping)
    }

    /// Returns the number of mappings.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns true if there are no mappings.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Default for Mappings {
    fn default() -> Self {
        Self::new()
    }
}

/// IOTLB whose ranges own the memory that they point to, and *held* ranges: these are out of the
/// IOTLB, but the device may still reach their memory.
///
/// One charge counts the pins of all of them.
///
/// # Invariants
///
/// Every range of `iotlb` and of `held` is a [`Mapping`] that was added. Together they have
/// `pinned` pages, and `charge` counts at least as many.
///
/// Dropping a table leaks the pins of its ranges, because the device may still reach them. If the
/// device cannot, call [`Table::release_all`] first.
pub struct Table {
    iotlb: OwnedIotlb,
    held: DetachedRanges,
    charge: Option<Charge>,
    pinned: u64,
}

/// Number of ranges after which other tasks may run.
const RESCHED: usize = 1024;

/// Returns the number of pages that a range has pinned.
fn pages_of(map: &Map) -> u64 {
    if map.opaque().is_null() {
        map.size() >> PAGE_SHIFT
    } else {
        0
    }
}

/// Releases the memory of a range, and subtracts its pages from `pinned`.
///
/// # Safety
///
/// The range must have been in a table's `iotlb` or `held`, and must be in neither any more.
unsafe fn release(pinned: &mut u64, map: Map) {
    *pinned = pinned.wrapping_sub(pages_of(&map));
    // SAFETY: By the invariant of the table the range was a mapping, and it is released only here.
    drop(unsafe { Mapping::from_map(map) });
}

impl Table {
    /// Creates an empty table for at most `limit` ranges.
    pub fn new(limit: u32) -> Result<Self> {
        // INVARIANT: There are no ranges.
        Ok(Self {
            iotlb: OwnedIotlb::new(limit)?,
            held: DetachedRanges::new(),
            charge: None,
            pinned: 0,
        })
    }

    /// Returns the IOTLB.
    pub fn iotlb(&self) -> &Iotlb {
        &self.iotlb
    }

    /// Returns the number of pages that all ranges have pinned, including held ones.
    pub fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Adds mappings in order, and calls `f` to tell the device of each, up to the first error. The
    /// mapping that failed and those behind it are dropped. Errors: those of [`OwnedIotlb::add`]
    /// and of `f`.
    pub fn add(&mut self, maps: &mut Mappings, mut f: impl FnMut(&Map) -> Result) -> Result {
        if let Some(charge) = maps.charge.take() {
            match &mut self.charge {
                Some(all) => all.merge(charge),
                none => *none = Some(charge),
            }
        }
        let added = maps.list.drain(|Mapping(map)| {
            self.add_range(map)?;
            if let Err(e) = f(map) {
                // The range does not own the memory yet.
                drop(self.iotlb.take(map.start, map.last).detach());
                return Err(e);
            }
            // INVARIANT: From here on the range owns the memory.
            self.pinned = self.pinned.wrapping_add(pages_of(map));
            Ok(())
        });
        if added.is_err() {
            self.trim();
        }
        added
    }

    /// Adds a range that does not own the memory yet.
    #[inline]
    fn add_range(&mut self, map: &Map) -> Result {
        let (start, last) = (map.start, map.last);
        let iotlb = &mut self.iotlb;
        // SAFETY: `map` belongs to a mapping, which owns the file, if there is one. Once the range
        // owns the file, it is taken out before the file is put.
        unsafe { iotlb.add_with_opaque(start, last, map.addr, map.perm, map.opaque()) }
    }

    /// Reduces the charge to the pages that are pinned.
    fn trim(&mut self) {
        if let Some(charge) = &mut self.charge {
            // INVARIANT: It still counts all pages that are pinned.
            charge.limit(self.pinned);
        }
    }

    /// Releases every range that intersects `[start, last]` and for which `f` succeeds. Returns the
    /// number of these ranges.
    ///
    /// Errors: that of `f`. The range for which it failed, and those behind it, stay.
    pub fn remove(
        &mut self,
        start: u64,
        last: u64,
        mut f: impl FnMut(&Map) -> Result,
    ) -> Result<u64> {
        let mut n = 0u64;
        let mut taking = self.iotlb.take(start, last);
        let done = loop {
            match taking.next_if(&mut f) {
                Ok(Some(map)) => {
                    // SAFETY: `next_if` took the range out of `iotlb`, so the table has it no more.
                    unsafe { release(&mut self.pinned, map) };
                    n = n.wrapping_add(1);
                }
                Ok(None) => break Ok(n),
                Err(e) => break Err(e),
            }
        };
        self.trim();
        done
    }

    /// Returns the number of held ranges.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Moves every range that intersects `[start, last]` from the IOTLB to the held ranges.
    pub fn defer_unpin(&mut self, start: u64, last: u64) {
        // INVARIANT: The ranges move from `iotlb` to `held`.
        if self.iotlb.detach_all(start, last, &mut self.held) {
            return;
        }
        let mut taking = self.iotlb.take(start, last);
        while let Some(range) = taking.detach() {
            self.held.push(range);
        }
    }

    /// Moves all held ranges but the first `mark` back to the IOTLB.
    pub fn restore(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Some(range) = self.held.pop() else {
                return;
            };
            // INVARIANT: The range moves from `held` to `iotlb`.
            self.iotlb.attach(range);
        }
    }

    /// Releases all held ranges but the first `mark`. The device must not reach them any more.
    #[inline]
    pub fn drop_held(&mut self, mark: usize) {
        if self.held.len() > mark {
            self.drop_held_now(mark);
        }
    }

    fn drop_held_now(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Some(range) = self.held.pop() else {
                break;
            };
            // SAFETY: `pop` took the range out of `held`, so the table has it no more.
            unsafe { release(&mut self.pinned, range.map()) };
            if self.held.len() % RESCHED == 0 {
                // SAFETY: Callers may sleep: releasing a range unpins pages, which takes folio
                // locks.
                unsafe { bindings::vhost_vdpa_resched() };
            }
        }
        self.trim();
    }

    /// Releases all ranges, held or not. The device must not reach any of them.
    pub fn release_all(&mut self) {
        self.defer_unpin(0, u64::MAX);
        self.drop_held(0);
    }

    /// Takes out the first range and leaks its pins, because a device may still reach the pages.
    /// Returns the number of these pages. A file is put: a parent that reads it has its own
    /// reference.
    pub fn leak_first(&mut self) -> u64 {
        match self.iotlb.take(0, u64::MAX).detach() {
            Some(range) => self.leak_range(&range),
            None => 0,
        }
    }

    /// Does the same as [`Self::leak_first`] for every range, held or not.
    pub fn leak_all(&mut self) -> u64 {
        self.defer_unpin(0, u64::MAX);
        let mut pages = 0u64;
        while let Some(range) = self.held.pop() {
            pages = pages.wrapping_add(self.leak_range(&range));
        }
        pages
    }

    fn leak_range(&mut self, range: &Detached) -> u64 {
        let map = range.map();
        let pages = pages_of(&map);
        if !map.opaque().is_null() {
            // SAFETY: The callers took the range out of `iotlb` or `held`.
            unsafe { release(&mut self.pinned, map) };
            return 0;
        }
        // Dropping a range leaves its pins alone, so they are leaked; so is the charge for them.
        if let Some(charge) = &mut self.charge {
            core::mem::forget(charge.split(pages));
        }
        self.pinned = self.pinned.wrapping_sub(pages);
        pages
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Not reached with pins in the table; see [`Table`].
        kernel::warn_on!(self.leak_all() != 0);
    }
}

#[kunit_tests(rust_vhost_vdpa_table)]
mod tests {
    use super::*;

    const SIZE: u64 = 0x1000;

    /// Creates an IOTLB of `n` ranges with gaps between them. They own nothing.
    fn iotlb(n: u64) -> Result<OwnedIotlb> {
        let mut iotlb = OwnedIotlb::new(8)?;
        for i in 0..n {
            let start = 2 * i * SIZE;
            iotlb.add(start, start + SIZE - 1, i, 3)?;
        }
        Ok(iotlb)
    }

    /// Returns the ranges that intersect `[start, last]`, one bit each.
    fn ranges(iotlb: &Iotlb, start: u64, last: u64) -> u64 {
        let found = iotlb.iter(start, last).map(|map| 1 << map.addr);
        found.fold(0, |all, bit| all | bit)
    }

    fn pop_all(held: &mut DetachedRanges, mut f: impl FnMut(Detached)) {
        while let Some(range) = held.pop() {
            f(range);
        }
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn defer_and_restore() -> Result {
        for n in 0..5u64 {
            let mut iotlb = iotlb(n)?;
            let all = (1 << n) - 1;
            // Each pair of ends: inside, between, before and behind ranges.
            for (start, last) in (0..12).flat_map(|i| (0..12).map(move |j| (i, j))) {
                let (start, last) = (start * SIZE, last * SIZE);
                let hit = ranges(&iotlb, start, last);
                let mut held = DetachedRanges::new();
                let at_once = iotlb.detach_all(start, last, &mut held);
                assert_eq!(at_once, n > 0 && hit == all);
                let mut taking = iotlb.take(start, last);
                while let Some(range) = taking.detach() {
                    held.push(range);
                }
                assert_eq!(held.len(), hit.count_ones() as usize);
                assert_eq!(ranges(&iotlb, 0, u64::MAX), all & !hit);
                assert_eq!(iotlb.len(), (all & !hit).count_ones());
                pop_all(&mut held, |range| iotlb.attach(range));
                assert_eq!(ranges(&iotlb, 0, u64::MAX), all);
                assert_eq!(u64::from(iotlb.len()), n);
            }
        }
        Ok(())
    }

    #[test]
    fn held_before_stays_behind() -> Result {
        let (mut first, mut second) = (iotlb(2)?, iotlb(3)?);
        let mut held = DetachedRanges::new();
        assert!(first.detach_all(0, u64::MAX, &mut held));
        assert!(second.detach_all(0, u64::MAX, &mut held));
        assert_eq!(held.len(), 5);
        let mut seen = 0u64;
        while held.len() > 2 {
            seen |= held.pop().map_or(0, |range| 1 << range.map().addr);
        }
        assert_eq!(seen, 7);
        seen = 0;
        pop_all(&mut held, |range| seen |= 1 << range.map().addr);
        assert_eq!(seen, 3);
        // Both tables can be used again.
        first.add(0, SIZE - 1, 0, 3)?;
        assert_eq!((first.len(), second.len()), (1, 0));
        Ok(())
    }
}
