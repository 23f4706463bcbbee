// SPDX-License-Identifier: GPL-2.0

//! Mappings: memory that a device may reach, and the table that owns them.
//!
//! Parents walk a `struct vhost_iotlb`, so that is where the mappings live: each of its ranges owns
//! what it points to. A mapping that is added becomes a range, and taking the range out gives the
//! mapping back.

use super::{
    bindings,
    few::Few,
    gup::{Charge, Pages},
    iotlb::{Iotlb, Map, OwnedIotlb},
    usermap::MapFile,
};
use kernel::{page::PAGE_SHIFT, prelude::*};

/// What keeps a mapping's memory.
enum Backing {
    /// Physical memory, pinned.
    Pinned(Pages),
    /// A shared mapping of a file, for parents that use virtual addresses.
    File(MapFile),
}

/// One range of an address space, and the memory behind it, which is given back on drop.
pub(crate) struct Mapping {
    iova: u64,
    size: u64,
    addr: u64,
    perm: u32,
    backing: Backing,
}

impl Mapping {
    /// Pinned memory at `iova`.
    pub(crate) fn pinned(iova: u64, perm: u32, pages: Pages) -> Self {
        Self {
            iova,
            size: pages.size(),
            addr: pages.phys(),
            perm,
            backing: Backing::Pinned(pages),
        }
    }

    /// `size` bytes of a file, mapped at `uaddr` in the owner's address space.
    pub(crate) fn file(iova: u64, size: u64, uaddr: u64, perm: u32, file: MapFile) -> Self {
        Self {
            iova,
            size,
            addr: uaddr,
            perm,
            backing: Backing::File(file),
        }
    }

    /// What parents are told of it.
    fn as_map(&self) -> Map {
        let opaque = match &self.backing {
            Backing::Pinned(_) => core::ptr::null_mut(),
            Backing::File(file) => file.opaque(),
        };
        let last = self.iova.wrapping_add(self.size).wrapping_sub(1);
        Map::new(self.iova, last, self.addr, self.perm, opaque)
    }
}

/// Mappings that are to be added together, and what pays for their pins. The pins are dropped
/// first.
pub(crate) struct Mappings {
    list: Few<Mapping>,
    charge: Option<Charge>,
}

impl Mappings {
    /// None yet, but room for `n`.
    pub(crate) fn with_capacity(n: usize) -> Result<Self> {
        Ok(Self {
            list: Few::with_capacity(n)?,
            charge: None,
        })
    }

    /// The same, paid for.
    pub(crate) fn paid_by(self, charge: Charge) -> Self {
        Self {
            charge: Some(charge),
            ..self
        }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, mapping: Mapping) -> Result {
        self.list.push(mapping)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// How much room for held ranges is kept. A batch may need room for millions, but only once.
const HELD_ROOM: usize = 256;

/// An IOTLB whose ranges own the memory they point to; and ranges that are *held*: they are out of
/// the IOTLB, but the device may still reach them.
///
/// What pays for the pins is counted once for all of them.
///
/// # Invariants
///
/// Every range of `iotlb` and of `held` came from `add`. One without an opaque pointer owns one pin
/// on each of its pages, one with an opaque pointer owns that `vdpa_map_file`. The pages are
/// `pinned` altogether, and `charge` counts no fewer.
pub(crate) struct Table {
    iotlb: OwnedIotlb,
    held: KVVec<Map>,
    charge: Option<Charge>,
    pinned: u64,
}

/// The number of pages that a range has pinned.
fn pages_of(map: &Map) -> u64 {
    if map.opaque().is_null() {
        map.size() >> PAGE_SHIFT
    } else {
        0
    }
}

impl Table {
    /// An empty table for at most `limit` ranges.
    pub(crate) fn new(limit: u32) -> Result<Self> {
        // INVARIANT: No ranges.
        Ok(Self {
            iotlb: OwnedIotlb::new(limit)?,
            held: KVVec::new(),
            charge: None,
            pinned: 0,
        })
    }

    /// The IOTLB, to look at.
    pub(crate) fn iotlb(&self) -> &Iotlb {
        &self.iotlb
    }

    /// How many pages its ranges have pinned, the held ones too.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Takes over what pays for mappings that are to be added now. When that is over, or has failed,
    /// one of the functions that give something back must be called if not all were added.
    pub(crate) fn pay(&mut self, maps: Mappings) -> Few<Mapping> {
        match (&mut self.charge, maps.charge) {
            (Some(all), Some(charge)) => all.merge(charge),
            (none, charge) => *none = charge.or(none.take()),
        }
        maps.list
    }

    /// Adds a mapping that was paid for, and has `f` tell the device. On an error it is dropped but
    /// stays paid for, see [`Self::pay`]. Errors: those of [`Iotlb::add`] and of `f`.
    pub(crate) fn add(&mut self, mapping: Mapping, f: impl FnOnce(&Map) -> Result) -> Result {
        let map = mapping.as_map();
        self.add_range(&map)?;
        // INVARIANT: What the mapping owned is now the range's.
        match mapping.backing {
            Backing::Pinned(pages) => {
                self.pinned = self.pinned.wrapping_add(pages.npages());
                pages.into_pins();
            }
            Backing::File(file) => file.into_opaque(),
        }
        let told = f(&map);
        if told.is_err() {
            if let Ok(Some(map)) = self.iotlb.take_if(map.start, map.last, |_| Ok(())) {
                // SAFETY: It was just taken out.
                unsafe { self.give_back(map) };
            }
        }
        told
    }

    /// Adds a range.
    fn add_range(&mut self, map: &Map) -> Result {
        let (start, last) = (map.start, map.last);
        (self.iotlb).add(start, last, map.addr, map.perm, map.opaque())
    }

    /// Gives back what a range owns.
    ///
    /// # Safety
    ///
    /// The range was in `iotlb` or `held` and is there no more.
    unsafe fn give_back(&mut self, map: Map) {
        if map.opaque().is_null() {
            let write = map.perm & bindings::VHOST_ACCESS_WO != 0;
            // SAFETY: By the invariant, the pins of these pages were the range's.
            let pages = unsafe { Pages::from_pins(map.addr, map.size(), write) };
            self.pinned = self.pinned.wrapping_sub(pages.npages());
        } else {
            // SAFETY: By the invariant, the file was the range's.
            drop(unsafe { MapFile::from_opaque(map.opaque()) });
        }
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
    pub(crate) fn remove(
        &mut self,
        start: u64,
        last: u64,
        mut f: impl FnMut(&Map) -> Result,
    ) -> Result<u64> {
        let mut n = 0u64;
        let done = loop {
            match self.iotlb.take_if(start, last, &mut f) {
                Ok(Some(map)) => {
                    // SAFETY: It was just taken out.
                    unsafe { self.give_back(map) };
                    n = n.wrapping_add(1);
                }
                Ok(None) => break Ok(n),
                Err(e) => break Err(e),
            }
        };
        self.trim();
        done
    }

    /// Makes room for holding `n` more ranges.
    pub(crate) fn reserve_held(&mut self, n: usize) -> Result {
        Ok(self.held.reserve(n, GFP_KERNEL)?)
    }

    /// How many ranges are held.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Holds every range that intersects `[start, last]`, as many as there is room for.
    pub(crate) fn hold(&mut self, start: u64, last: u64) {
        while self.held.len() < self.held.capacity() {
            let Ok(Some(map)) = self.iotlb.take_if(start, last, |_| Ok(())) else {
                return;
            };
            // INVARIANT: It goes from one to the other. There is room.
            let _ = self.held.push_within_capacity(map);
        }
    }

    /// Puts back what was held after the first `mark`. That for which there is no memory stays held.
    pub(crate) fn put_back(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Some(map) = self.held.pop() else {
                return;
            };
            if self.add_range(&map).is_err() {
                // There is the room that it was in.
                let _ = self.held.push_within_capacity(map);
                return;
            }
        }
    }

    /// Gives back what was held after the first `mark`; the device must not reach it.
    pub(crate) fn drop_held(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Some(map) = self.held.pop() else {
                break;
            };
            // SAFETY: It was just taken out.
            unsafe { self.give_back(map) };
        }
        self.trim();
        if mark == 0 && self.held.capacity() > HELD_ROOM {
            self.held = KVVec::new();
        }
    }

    /// Calls `f` with the IOTLB as a parent is given it.
    pub(crate) fn lend<R>(&mut self, f: impl FnOnce(&mut Iotlb) -> R) -> R {
        f(&mut self.iotlb)
    }

    /// Forgets the first range without giving anything back, because a device may still reach it;
    /// the number of its pages.
    pub(crate) fn leak_first(&mut self) -> u64 {
        let Ok(Some(map)) = self.iotlb.take_if(0, u64::MAX, |_| Ok(())) else {
            return 0;
        };
        let pages = pages_of(&map);
        if let Some(charge) = &mut self.charge {
            core::mem::forget(charge.split(pages));
        }
        self.pinned = self.pinned.wrapping_sub(pages);
        pages
    }

    /// As `leak_first`, for everything.
    pub(crate) fn leak(mut self) {
        if let Some(charge) = self.charge.take() {
            core::mem::forget(charge);
        }
        // A range by itself gives nothing back.
        self.held = KVVec::new();
        self.iotlb.clear();
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.drop_held(0);
        let _ = self.remove(0, u64::MAX, |_| Ok(()));
    }
}
