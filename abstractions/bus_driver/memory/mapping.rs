// SPDX-License-Identifier: GPL-2.0

//! Mappings: memory that a device may reach, and the table that owns them.
//!
//! Parents walk a `struct vhost_iotlb`, so that is where the mappings live: each of its ranges owns
//! what it points to. A mapping that is added becomes a range, and taking the range out gives the
//! mapping back.

use crate::{
    bindings,
    gup::{Charge, Pages},
    inline_vec::InlineVec,
    iotlb::{Detached, DetachedRanges, Iotlb, Map, OwnedIotlb},
    usermap::MapFile,
};
use kernel::{page::PAGE_SHIFT, prelude::*};

/// One range of an address space, and the memory behind it, which is given back on drop.
///
/// # Invariants
///
/// Without an opaque pointer we own one pin on each page of the range, with one we own that
/// `vdpa_map_file`.
pub struct Mapping(Map);

impl Mapping {
    /// Pinned memory at `iova`.
    pub fn pinned(iova: u64, perm: u32, pages: Pages) -> Self {
        let last = iova.wrapping_add(pages.size()).wrapping_sub(1);
        // SAFETY: Null is no pointer to follow.
        let map = unsafe { Map::new(iova, last, pages.phys(), perm, core::ptr::null_mut()) };
        // INVARIANT: The pins are ours now.
        pages.into_pins();
        Self(map)
    }

    /// `size` bytes of a file, mapped at `uaddr` in the owner's address space.
    pub fn file(iova: u64, size: u64, uaddr: u64, perm: u32, file: MapFile) -> Self {
        let last = iova.wrapping_add(size).wrapping_sub(1);
        // INVARIANT: The file is ours now.
        // SAFETY: The pointer is that of a `vdpa_map_file`, which lives until `drop` puts the file.
        Self(unsafe { Map::new(iova, last, uaddr, perm, file.into_opaque()) })
    }

    /// What a range owned.
    ///
    /// # Safety
    ///
    /// It must have owned what a mapping owns, and own it no more.
    unsafe fn from_map(map: Map) -> Self {
        // INVARIANT: The caller gives it up.
        Self(map)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let map = &self.0;
        if map.opaque().is_null() {
            let write = map.perm & bindings::VHOST_ACCESS_WO != 0;
            // SAFETY: By the invariant the pins are ours.
            drop(unsafe { Pages::from_pins(map.addr, map.size(), write) });
        } else {
            // SAFETY: By the invariant the file is ours.
            drop(unsafe { MapFile::from_opaque(map.opaque()) });
        }
    }
}

/// Mappings that are to be added together, and what pays for their pins. The pins are dropped
/// first.
pub struct Mappings {
    list: InlineVec<Mapping>,
    charge: Option<Charge>,
}

impl Mappings {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            list: InlineVec::new(),
            charge: None,
        }
    }

    /// Has the charge pay for them.
    pub fn set_charge(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    /// Adds one.
    #[inline]
    pub fn push(&mut self, mapping: Mapping) -> Result {
        self.list.push(mapping)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Default for Mappings {
    fn default() -> Self {
        Self::new()
    }
}

/// An IOTLB whose ranges own the memory they point to; and ranges that are *held*: they are out of
/// the IOTLB, but the device may still reach them.
///
/// What pays for the pins is counted once for all of them.
///
/// # Invariants
///
/// Every range of `iotlb` and of `held` is a [`Mapping`] that was added. Their pages are `pinned`
/// altogether, and `charge` counts no fewer.
///
/// A table that is dropped leaks the pins of what is in it, because nobody said that the device
/// cannot reach them any more: who knows calls [`Table::release_all`].
pub struct Table {
    iotlb: OwnedIotlb,
    held: DetachedRanges,
    charge: Option<Charge>,
    pinned: u64,
}

/// After how many ranges others can run.
const RESCHED: usize = 1024;

/// The number of pages that a range has pinned.
fn pages_of(map: &Map) -> u64 {
    if map.opaque().is_null() {
        map.size() >> PAGE_SHIFT
    } else {
        0
    }
}

/// Gives back what a range owns, whose pages `pinned` counts.
///
/// # Safety
///
/// The range was in a table's `iotlb` or `held` and is there no more.
unsafe fn release(pinned: &mut u64, map: Map) {
    *pinned = pinned.wrapping_sub(pages_of(&map));
    // SAFETY: By the invariant of the table it was a mapping, and nobody else gives it back.
    drop(unsafe { Mapping::from_map(map) });
}

impl Table {
    /// An empty table for at most `limit` ranges.
    pub fn new(limit: u32) -> Result<Self> {
        // INVARIANT: No ranges.
        Ok(Self {
            iotlb: OwnedIotlb::new(limit)?,
            held: DetachedRanges::new(),
            charge: None,
            pinned: 0,
        })
    }

    /// The IOTLB, to look at.
    pub fn iotlb(&self) -> &Iotlb {
        &self.iotlb
    }

    /// How many pages its ranges have pinned, the held ones too.
    pub fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Adds mappings, in order, and has `f` tell the device of each, up to the first that fails: it and
    /// those behind it are dropped. Errors: those of [`OwnedIotlb::add`] and of `f`.
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
                // The mapping is not the range's yet.
                drop(self.iotlb.take(map.start, map.last).detach());
                return Err(e);
            }
            // INVARIANT: Now it is.
            self.pinned = self.pinned.wrapping_add(pages_of(map));
            Ok(())
        });
        if added.is_err() {
            self.trim();
        }
        added
    }

    /// Adds a range.
    #[inline]
    fn add_range(&mut self, map: &Map) -> Result {
        let (start, last) = (map.start, map.last);
        let iotlb = &mut self.iotlb;
        // SAFETY: The map is a mapping's, which owns the file, if there is one; and the range, once it
        // owns the mapping's file, is taken out before the file is put.
        unsafe { iotlb.add_with_opaque(start, last, map.addr, map.perm, map.opaque()) }
    }

    /// Pays no longer for pages that are not pinned.
    fn trim(&mut self) {
        if let Some(charge) = &mut self.charge {
            // INVARIANT: No fewer than there are.
            charge.limit(self.pinned);
        }
    }

    /// Gives back every range that intersects `[start, last]` and that `f` lets go; their number.
    ///
    /// Errors: that of `f`. Its range, and those behind it, stay.
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
                    // SAFETY: It was just taken out.
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

    /// How many ranges are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Holds every range that intersects `[start, last]`.
    pub fn defer_unpin(&mut self, start: u64, last: u64) {
        // INVARIANT: They go from one to the other.
        if self.iotlb.detach_all(start, last, &mut self.held) {
            return;
        }
        let mut taking = self.iotlb.take(start, last);
        while let Some(range) = taking.detach() {
            self.held.push(range);
        }
    }

    /// Puts back what was held after the first `mark`, to where it was.
    pub fn restore(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Some(range) = self.held.pop() else {
                return;
            };
            // INVARIANT: It goes from one to the other.
            self.iotlb.attach(range);
        }
    }

    /// Gives back what was held after the first `mark`; the device must not reach it.
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
            // SAFETY: It was just taken out.
            unsafe { release(&mut self.pinned, range.map()) };
            if self.held.len() % RESCHED == 0 {
                // SAFETY: A table is changed where sleeping is allowed: what it gives back is unpinned
                // under folio locks.
                unsafe { bindings::vhost_vdpa_resched() };
            }
        }
        self.trim();
    }

    /// Gives back everything; the device must not reach any of it.
    pub fn release_all(&mut self) {
        self.defer_unpin(0, u64::MAX);
        self.drop_held(0);
    }

    /// Takes out the first range without giving back its pins, because a device may still reach
    /// them; the number of its pages. A file is given back: a parent that reads it holds it itself.
    pub fn leak_first(&mut self) -> u64 {
        match self.iotlb.take(0, u64::MAX).detach() {
            Some(range) => self.leak_range(&range),
            None => 0,
        }
    }

    /// Does what `leak_first` does for everything that is in the table or held.
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
            // SAFETY: It was just taken out.
            unsafe { release(&mut self.pinned, map) };
            return 0;
        }
        // A range by itself gives nothing back.
        if let Some(charge) = &mut self.charge {
            core::mem::forget(charge.split(pages));
        }
        self.pinned = self.pinned.wrapping_sub(pages);
        pages
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Not reached with pins in it; see the type.
        kernel::warn_on!(self.leak_all() != 0);
    }
}

#[kunit_tests(rust_vhost_vdpa_table)]
mod tests {
    use super::*;

    const SIZE: u64 = 0x1000;

    /// A table of `n` ranges with room between them, which own nothing.
    fn iotlb(n: u64) -> Result<OwnedIotlb> {
        let mut iotlb = OwnedIotlb::new(8)?;
        for i in 0..n {
            let start = 2 * i * SIZE;
            iotlb.add(start, start + SIZE - 1, i, 3)?;
        }
        Ok(iotlb)
    }

    /// Which of the ranges intersect `[start, last]`, a bit each.
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
            // Each pair of ends: inside of, between, before and behind ranges.
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
