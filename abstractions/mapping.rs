// SPDX-License-Identifier: GPL-2.0

//! Mappings: memory that a device may reach, and the table that owns them.
//!
//! Parents walk a `struct vhost_iotlb`, so that is where the mappings live: each of its ranges owns
//! what it points to. A mapping that is added becomes a range, and taking the range out gives the
//! mapping back.

use super::{
    bindings,
    gup::{Charge, Pages},
    iotlb::{Iotlb, Map, OwnedIotlb},
    usermap::MapFile,
};
use kernel::prelude::*;

/// What keeps a mapping's memory. Pins are dropped before the charge that pays for them.
pub(crate) enum Backing {
    /// Physical memory, pinned and charged.
    Pinned(Pages, Charge),
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
    pub(crate) fn pinned(iova: u64, perm: u32, pages: Pages, charge: Charge) -> Self {
        Self {
            iova,
            size: pages.size(),
            addr: pages.phys(),
            perm,
            backing: Backing::Pinned(pages, charge),
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

    /// The last IOVA.
    pub(crate) fn last(&self) -> u64 {
        self.iova.wrapping_add(self.size).wrapping_sub(1)
    }

    /// How many pages are pinned.
    pub(crate) fn npages(&self) -> u64 {
        match &self.backing {
            Backing::Pinned(pages, _) => pages.npages(),
            Backing::File(_) => 0,
        }
    }

    /// What parents are told of it.
    pub(crate) fn as_map(&self) -> Map {
        let opaque = match &self.backing {
            Backing::Pinned(..) => core::ptr::null_mut(),
            Backing::File(file) => file.opaque(),
        };
        Map::new(self.iova, self.last(), self.addr, self.perm, opaque)
    }
}

/// An IOTLB whose ranges own the memory they point to.
///
/// # Invariants
///
/// Every range of `iotlb` came from `add`. One without an opaque pointer owns one pin on each of
/// its pages, and as many pages of `charge`; one with an opaque pointer owns that `vdpa_map_file`.
pub(crate) struct Table {
    iotlb: OwnedIotlb,
    charge: Option<Charge>,
    pinned: u64,
}

impl Table {
    /// An empty table for at most `limit` ranges.
    pub(crate) fn new(limit: u32) -> Result<Self> {
        // INVARIANT: No ranges.
        Ok(Self {
            iotlb: OwnedIotlb::new(limit)?,
            charge: None,
            pinned: 0,
        })
    }

    /// The IOTLB, to look at.
    pub(crate) fn iotlb(&self) -> &Iotlb {
        &self.iotlb
    }

    /// How many pages its ranges have pinned.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Adds a mapping; on an error it is given back. See [`Iotlb::add`] for the errors.
    pub(crate) fn add(&mut self, mapping: Mapping) -> Result<(), (Error, Mapping)> {
        let map = mapping.as_map();
        if let Err(e) = self
            .iotlb
            .add(map.start, map.last, map.addr, map.perm, map.opaque())
        {
            return Err((e, mapping));
        }
        self.pinned = self.pinned.wrapping_add(mapping.npages());
        // INVARIANT: What the mapping owned is now the range's.
        match mapping.backing {
            Backing::Pinned(pages, charge) => {
                pages.into_pins();
                match &mut self.charge {
                    Some(all) => all.merge(charge),
                    none => *none = Some(charge),
                }
            }
            Backing::File(file) => {
                file.into_opaque();
            }
        }
        Ok(())
    }

    /// Takes out the first mapping that intersects `[start, last]`.
    pub(crate) fn take(&mut self, start: u64, last: u64) -> Option<Mapping> {
        self.take_if(start, last, |_| Ok(())).ok().flatten()
    }

    /// As `take`, if `f` lets it go; else its error.
    pub(crate) fn take_if(
        &mut self,
        start: u64,
        last: u64,
        f: impl FnOnce(&Map) -> Result,
    ) -> Result<Option<Mapping>> {
        let map = self.iotlb.take_if(start, last, f)?;
        Ok(map.and_then(|map| self.give_back(map)))
    }

    /// Makes a mapping of a range that is no longer there.
    fn give_back(&mut self, map: Map) -> Option<Mapping> {
        let backing = if map.opaque().is_null() {
            // SAFETY: By the invariant, the pins of these pages were the range's.
            let pages = unsafe {
                Pages::from_pins(
                    map.addr,
                    map.size(),
                    map.perm & bindings::VHOST_ACCESS_WO != 0,
                )
            };
            let charge = self.charge.as_mut()?.split(pages.npages());
            Backing::Pinned(pages, charge)
        } else {
            // SAFETY: By the invariant, the file was the range's.
            Backing::File(unsafe { MapFile::from_opaque(map.opaque()) })
        };
        let mapping = Mapping {
            iova: map.start,
            size: map.size(),
            addr: map.addr,
            perm: map.perm,
            backing,
        };
        self.pinned = self.pinned.wrapping_sub(mapping.npages());
        Some(mapping)
    }

    /// Calls `f` with the IOTLB as a parent is given it.
    pub(crate) fn lend<R>(&mut self, f: impl FnOnce(&mut Iotlb) -> R) -> R {
        f(&mut self.iotlb)
    }

    /// Forgets everything without giving it back: for memory that a device may still reach.
    pub(crate) fn leak(mut self) {
        if let Some(charge) = self.charge.take() {
            core::mem::forget(charge);
        }
        self.iotlb.clear();
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        while self.take(0, u64::MAX).is_some() {}
    }
}
