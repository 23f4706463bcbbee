// SPDX-License-Identifier: GPL-2.0

//! What the simulators translate with: the maps that a driver gave, or none of its own.

use crate::{
    engine::{Class, Engine},
    space::Table,
};
use kernel::prelude::*;
use vdpa_parent::{
    guest_mem::{Range, To, Translate, READ, WRITE},
    iotlb::{Iotlb, OwnedIotlb},
};

/// Every address is a physical one.
const ALL: Range = Range {
    start: 0,
    last: u64::MAX,
    to: To::Address(0),
    perm: READ | WRITE,
};

/// The maps of one address space; without any of its own, addresses are physical ones, as
/// virtio_vdpa expects.
pub struct Maps(Option<OwnedIotlb>);

impl Maps {
    /// No maps of its own.
    pub const IDENTITY: Self = Self(None);

    /// A copy of what a driver gave to `set_map`, with room for `limit` ranges.
    ///
    /// It is made before any lock is taken: only the exchange needs one, and when the copy fails
    /// the maps before it stay.
    fn copy_of(iotlb: &Iotlb, limit: u32) -> Result<Self> {
        let mut copy = OwnedIotlb::new(limit)?;
        for map in iotlb.iter(0, u64::MAX) {
            copy.add(map.start, map.last, map.addr, map.perm)?;
        }
        Ok(Self(Some(copy)))
    }

    /// The maps of its own, empty at first and with room for `limit` ranges: whoever adds or
    /// removes one wants no others. The flag says whether they are new.
    fn own(&mut self, limit: u32) -> Result<(&mut OwnedIotlb, bool)> {
        match &mut self.0 {
            Some(maps) => Ok((maps, false)),
            none => Ok((none.insert(OwnedIotlb::new(limit)?), true)),
        }
    }
}

impl Table for Maps {
    fn find(&self, iova: u64) -> Option<Range> {
        match &self.0 {
            None => Some(ALL),
            Some(maps) => Translate::find(&**maps, iova),
        }
    }

    fn show(&self, f: &mut dyn FnMut(Range)) {
        match &self.0 {
            None => f(ALL),
            Some(maps) => maps
                .iter(0, u64::MAX)
                .filter_map(|map| Translate::find(&**maps, map.start))
                .for_each(f),
        }
    }
}

/// The last address of a range of `size` bytes.
fn last_of(iova: u64, size: u64) -> Result<u64> {
    let last = iova.checked_add(size.checked_sub(1).ok_or(EINVAL)?);
    last.ok_or(EINVAL)
}

/// The ops that concern maps, with room for `limit` ranges in each address space.
impl<C: Class> Engine<C, Maps> {
    /// Replaces the maps of an address space.
    ///
    /// Errors: `EINVAL` when there is no such one, `ENOSPC`, `ENOMEM`; the maps before it stay.
    pub fn set_map(&self, asid: u32, iotlb: &Iotlb, limit: u32) -> Result {
        let new = Maps::copy_of(iotlb, limit)?;
        let old = self.change_maps(asid, |maps| core::mem::replace(maps, new));
        // Freed without a lock.
        old.map(drop)
    }

    /// Adds a map to an address space.
    ///
    /// Errors: `EINVAL` when there is no such one or the range is impossible, `ENOSPC`, `ENOMEM`.
    pub fn dma_map(
        &self,
        asid: u32,
        iova: u64,
        size: u64,
        addr: u64,
        perm: u32,
        limit: u32,
    ) -> Result {
        let last = last_of(iova, size)?;
        let (result, new) = self.space(asid)?.change(|maps| {
            let (maps, new) = maps.own(limit)?;
            let result = maps.add(iova, last, addr, perm);
            Ok::<_, Error>((result, new))
        })?;
        if new {
            // Only then does something end that was there before.
            self.quiesce();
        }
        self.maps_changed();
        result
    }

    /// Removes maps from an address space.
    ///
    /// Errors: `EINVAL` when there is no such one or the range is impossible, `ENOMEM`.
    pub fn dma_unmap(&self, asid: u32, iova: u64, size: u64, limit: u32) -> Result {
        let last = last_of(iova, size)?;
        self.change_maps(asid, |maps| {
            maps.own(limit)?.0.remove(iova, last);
            Ok(())
        })?
    }

    /// Takes an address space back to physical addresses.
    ///
    /// Errors: `EINVAL` when there is no such one.
    pub fn reset_map(&self, asid: u32) -> Result {
        let old = self.change_maps(asid, |maps| core::mem::replace(maps, Maps::IDENTITY));
        old.map(drop)
    }

    /// Ends the use of a process's addresses. Maps to them are removed, so that nobody takes them
    /// for physical ones.
    pub fn unbind(&self) {
        self.change_all_maps(|maps| {
            if let Some(maps) = &mut maps.0 {
                maps.clear();
            }
        });
        // Not before they are empty: a unit may run, if a reset failed.
        self.bind(None);
    }

    /// As `reset_map`, for every address space.
    pub fn reset_maps(&self) {
        self.change_all_maps(|maps| *maps = Maps::IDENTITY);
    }
}
