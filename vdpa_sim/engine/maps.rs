// SPDX-License-Identifier: GPL-2.0

//! Translation of the simulators: the maps that a driver passed, or the identity.

use crate::{
    engine::{Class, Engine},
    space::Table,
};
use kernel::prelude::*;
use vdpa_parent::{
    guest_mem::{Range, To, Translate, READ, WRITE},
    iotlb::{Iotlb, OwnedIotlb},
};

/// Identity map: every IOVA is a physical address.
const ALL: Range = Range {
    start: 0,
    last: u64::MAX,
    to: To::Address(0),
    perm: READ | WRITE,
};

/// Maps of one address space. If `None`, IOVAs are physical addresses, as virtio_vdpa expects.
pub struct Maps(Option<OwnedIotlb>);

impl Maps {
    /// The identity map.
    pub const IDENTITY: Self = Self(None);

    /// Copies the argument of `set_map`, with room for `limit` ranges.
    ///
    /// The copy is made before a lock is taken: only the exchange needs one, and if the copy fails,
    /// the old maps stay.
    fn copy_of(iotlb: &Iotlb, limit: u32) -> Result<Self> {
        let mut copy = OwnedIotlb::new(limit)?;
        for map in iotlb.iter(0, u64::MAX) {
            copy.add(map.start, map.last, map.addr, map.perm)?;
        }
        Ok(Self(Some(copy)))
    }

    /// Returns the maps, and whether they are new. New maps are empty and have room for `limit`
    /// ranges: they replace the identity map, because a driver that adds or removes a range wants
    /// no others.
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

/// Returns the last address of a range of `size` bytes. Errors: `EINVAL` if `size` is 0 or the
/// range wraps around.
fn last_of(iova: u64, size: u64) -> Result<u64> {
    let last = iova.checked_add(size.checked_sub(1).ok_or(EINVAL)?);
    last.ok_or(EINVAL)
}

/// Ops for maps, with room for `limit` ranges in each address space.
impl<C: Class> Engine<C, Maps> {
    /// Replaces the maps of an address space.
    ///
    /// Errors: `EINVAL` if it does not exist, `ENOSPC`, `ENOMEM`. The old maps then stay.
    pub fn set_map(&self, asid: u32, iotlb: &Iotlb, limit: u32) -> Result {
        let new = Maps::copy_of(iotlb, limit)?;
        let old = self.change_maps(asid, |maps| core::mem::replace(maps, new));
        // Freed without a lock.
        old.map(drop)
    }

    /// Adds a map to an address space.
    ///
    /// Errors: `EINVAL` if it does not exist or the range is invalid, `ENOSPC`, `ENOMEM`.
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
            // Only then does this replace maps that units may use.
            self.quiesce();
        }
        self.maps_changed();
        result
    }

    /// Removes maps from an address space.
    ///
    /// Errors: `EINVAL` if it does not exist or the range is invalid, `ENOMEM`.
    pub fn dma_unmap(&self, asid: u32, iova: u64, size: u64, limit: u32) -> Result {
        let last = last_of(iova, size)?;
        self.change_maps(asid, |maps| {
            maps.own(limit)?.0.remove(iova, last);
            Ok(())
        })?
    }

    /// Resets an address space to the identity map.
    ///
    /// Errors: `EINVAL` if it does not exist.
    pub fn reset_map(&self, asid: u32) -> Result {
        let old = self.change_maps(asid, |maps| core::mem::replace(maps, Maps::IDENTITY));
        old.map(drop)
    }

    /// Ends the use of a process's addresses. The maps are emptied first, so that these addresses
    /// are never taken for physical ones.
    pub fn unbind(&self) {
        self.change_all_maps(|maps| {
            if let Some(maps) = &mut maps.0 {
                maps.clear();
            }
        });
        // Not before the maps are empty: a unit may run, if a reset failed.
        self.bind(None);
    }

    /// Does the same as [`Self::reset_map`] for every address space.
    pub fn reset_maps(&self) {
        self.change_all_maps(|maps| *maps = Maps::IDENTITY);
    }
}
