// SPDX-License-Identifier: GPL-2.0

//! Address spaces: the IOTLB of each, which owns the memory behind its ranges.
//!
//! A mapping owns its pins or its file; the table that it is in has the charge for the pins. Both
//! are dropped only once the device can no longer reach the memory: first the device's map goes,
//! then the pins.
//!
//! Parents walk the interval tree of the kernel's `struct vhost_iotlb` in `set_map`; its ranges own
//! the mappings (`abstractions/bus_driver/memory/mapping.rs`).
//!
//! # Failures of `set_map`
//!
//! The parent may then have the old table or an empty one, and there is no way to find out. A
//! failed insert removes its ranges and pushes the table without them. A failed removal keeps
//! ranges and pins. A failed push at the end of a batch keeps the new ranges and the pins of the
//! removed ones. Unless that second push succeeds, the space is *stale*: its table is pushed
//! again with the next message outside of a batch. C ignores such failures.
//!
//! # Bounds
//!
//! A table has at most `max_iotlb_entries` ranges. At most twice as many are held for the device,
//! by a batch or after failures: before there would be more, the table is pushed, and if the parent
//! refuses it the message fails and changes nothing.

use kernel::prelude::*;
use vdpa_bus_driver::{
    iommu::Domain,
    iotlb::{Iotlb, Map},
    mapping::{Mappings, Table},
    trace,
    vdpa::{Device, IovaRange, MapStyle},
};

/// The device that is told of mappings, and the way in which it takes them.
pub(crate) struct Target<'a> {
    dev: &'a Device,
    style: MapStyle,
    domain: Option<&'a Domain>,
    /// The IOVAs that may be mapped.
    range: IovaRange,
}

impl<'a> Target<'a> {
    /// Creates the target for a device. `domain` must be `Some` exactly if the device is behind the
    /// platform's IOMMU.
    pub(crate) fn new(dev: &'a Device, domain: Option<&'a Domain>, range: IovaRange) -> Self {
        Self {
            dev,
            style: dev.map_style(),
            domain,
            range,
        }
    }

    fn whole_table(&self) -> bool {
        self.style == MapStyle::SetMap
    }

    /// Maps one range for the device. Does nothing for a parent that takes whole tables.
    fn map(&self, asid: u32, map: &Map) -> Result {
        match (self.style, self.domain) {
            (MapStyle::DmaMap, _) => self.dev.dma_map(asid, map),
            (MapStyle::Platform, Some(domain)) => {
                domain.map(map.start, map.addr, map.size(), map.perm)
            }
            (MapStyle::Platform, None) => Err(ENODEV),
            (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Unmaps one range from the device. Does nothing for a parent that takes whole tables.
    fn unmap(&self, asid: u32, map: &Map) -> Result {
        match (self.style, self.domain) {
            (MapStyle::DmaMap, _) => self.dev.dma_unmap(asid, map.start, map.size()),
            (MapStyle::Platform, Some(domain)) => domain.unmap(map.start, map.size()),
            (MapStyle::Platform, None) | (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Passes the table of an address space to the parent.
    #[inline]
    fn set_map(&self, asid: u32, table: &Iotlb) -> Result {
        let done = self.dev.set_map(asid, table);
        trace::set_map(self.dev, asid, table.len(), &done);
        done
    }

    /// Unmaps everything in one address space, above all the 1:1 map that a parent has by default:
    /// a process that owns the device must reach only what it mapped.
    ///
    /// `empty` is an IOTLB without ranges.
    pub(crate) fn unmap_all(&self, asid: u32, empty: &Iotlb) -> Result {
        match self.style {
            MapStyle::SetMap => self.set_map(asid, empty),
            MapStyle::DmaMap => {
                let IovaRange { first, last } = self.range;
                let size = last.wrapping_sub(first).saturating_add(1);
                self.dev.dma_unmap(asid, first, size)
            }
            MapStyle::Platform => Ok(()),
        }
    }

    /// Calls `reset_map`. Returns true on success. Always false for the platform's IOMMU, whose
    /// maps are not the parent's.
    fn reset_map(&self, asid: u32) -> bool {
        self.style != MapStyle::Platform
            && self.dev.has_reset_map()
            && self.dev.reset_map(asid).is_ok()
    }
}

/// Numbers of mapped ranges and pinned pages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mapped {
    /// The number of ranges in the IOTLB.
    pub(crate) ranges: u64,
    /// The number of pages that are pinned for these and for held ranges.
    pub(crate) pinned: u64,
}

impl Mapped {
    /// Returns the sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            ranges: self.ranges.wrapping_add(other.ranges),
            pinned: self.pinned.wrapping_add(other.pinned),
        }
    }

    /// Returns the larger of each number.
    fn max(self, other: Self) -> Self {
        Self {
            ranges: self.ranges.max(other.ranges),
            pinned: self.pinned.max(other.pinned),
        }
    }
}

/// An address space.
pub(crate) struct AddressSpace {
    asid: u32,
    /// The table that parents see. It owns the memory of its ranges, and the held ranges.
    table: Table,
    /// True if `table` has changes that the end of a batch has to push.
    dirty: bool,
    /// True if the last push failed.
    stale: bool,
    /// True if the parent may have ranges of this space.
    reachable: bool,
    peak: Mapped,
}

/// Result of [`AddressSpace::release`].
pub(crate) struct Released {
    /// True if the device reaches nothing through the space any more.
    pub(crate) unmapped: bool,
    /// The number of pages that stay pinned for good, because the parent did not unmap them.
    pub(crate) leaked: u64,
}

impl AddressSpace {
    /// Creates an empty space for at most `limit` ranges. Errors: `ENOMEM`.
    pub(crate) fn new(asid: u32, limit: u32) -> Result<Self> {
        Ok(Self {
            asid,
            table: Table::new(limit)?,
            dirty: false,
            stale: false,
            reachable: false,
            peak: Mapped::default(),
        })
    }

    /// Returns the number of ranges.
    fn len(&self) -> u32 {
        self.table.iotlb().len()
    }

    /// Returns the number of ranges that still fit.
    pub(crate) fn room(&self) -> usize {
        self.table.iotlb().limit().saturating_sub(self.len()) as usize
    }

    /// Returns what is mapped in the space.
    pub(crate) fn mapped(&self) -> Mapped {
        Mapped {
            ranges: self.len().into(),
            pinned: self.table.pinned(),
        }
    }

    /// Returns the most that was mapped in the space.
    pub(crate) fn peak(&self) -> Mapped {
        self.peak
    }

    /// Returns the number of ranges that are held until the next push.
    pub(crate) fn held(&self) -> usize {
        self.table.held()
    }

    /// Checks that `[start, last]` may be mapped. Errors: `EINVAL` outside of the IOVAs that the
    /// device allows, `EEXIST` if any of it is mapped.
    pub(crate) fn check_range(&self, target: &Target<'_>, (start, last): (u64, u64)) -> Result {
        if !target.range.holds(start, last) {
            return Err(EINVAL);
        }
        if self.table.iotlb().first(start, last).is_some() {
            return Err(EEXIST);
        }
        Ok(())
    }

    /// Adds mappings, all of which must be in `[start, last]`: all of them or none.
    ///
    /// In a batch, a parent that takes whole tables is told at the end of the batch. Errors: those
    /// of `check_range`, `ENOSPC`, `ENOMEM`, or the parent's.
    pub(crate) fn insert(
        &mut self,
        target: &Target<'_>,
        (start, last): (u64, u64),
        maps: &mut Mappings,
        batch: bool,
    ) -> Result {
        self.check_range(target, (start, last))?;
        if maps.len() > self.room() {
            return Err(ENOSPC);
        }
        if maps.is_empty() {
            return if batch { Ok(()) } else { self.sync_map(target) };
        }
        self.bound_held(target)?;
        let asid = self.asid;
        self.reachable |= !target.whole_table();
        let inserted = self.table.add(maps, |map| target.map(asid, map));
        self.peak = self.peak.max(self.mapped());
        if inserted.is_err() {
            if target.whole_table() {
                // The device has not seen these ranges; those that were held before stay held.
                let mark = self.table.held();
                self.table.defer_unpin(start, last);
                self.table.drop_held(mark);
            } else {
                // Ranges that the parent refuses to unmap stay in the space, and pinned.
                let _ = self.unmap_range(target, start, last);
            }
            return inserted;
        }
        if !target.whole_table() {
            return Ok(());
        }
        self.dirty = true;
        if batch {
            return Ok(());
        }
        let pushed = self.push(target);
        if pushed.is_err() {
            self.table.defer_unpin(start, last);
            // Push the table as it was before. If that fails too, the pins stay held.
            let _ = self.push(target);
        }
        pushed
    }

    /// Removes every mapping that intersects `[start, last]`, whole. Returns their number.
    ///
    /// Errors: the parent's. Mappings that it still has then stay.
    pub(crate) fn remove(
        &mut self,
        target: &Target<'_>,
        start: u64,
        last: u64,
        batch: bool,
    ) -> Result<u64> {
        if !target.whole_table() {
            return self.unmap_range(target, start, last);
        }
        self.bound_held(target)?;
        let mark = self.table.held();
        self.table.defer_unpin(start, last);
        let n = self.table.held().saturating_sub(mark);
        self.dirty = true;
        if !batch {
            if let Err(e) = self.push(target) {
                self.table.restore(mark);
                return Err(e);
            }
        }
        Ok(n as u64)
    }

    /// Pushes the table if as many ranges are held as it can have. Errors: the parent's.
    fn bound_held(&mut self, target: &Target<'_>) -> Result {
        if self.table.held() < self.table.iotlb().limit() as usize {
            return Ok(());
        }
        self.push(target)
    }

    /// Removes mappings one by one, for a parent that is told of each range.
    fn unmap_range(&mut self, target: &Target<'_>, start: u64, last: u64) -> Result<u64> {
        let asid = self.asid;
        // The device is told first, then the memory is released.
        self.table
            .remove(start, last, |map| target.unmap(asid, map))
    }

    /// Pushes the table to the parent. Releases the held ranges if that succeeds.
    ///
    /// Inlined because nearly every message calls it.
    #[inline(always)]
    pub(crate) fn push(&mut self, target: &Target<'_>) -> Result {
        if target.whole_table() {
            let asid = self.asid;
            let empty = self.len() == 0;
            self.reachable |= !empty;
            let done = target.set_map(asid, self.table.iotlb());
            if done.is_err() {
                self.stale = true;
                return done;
            }
            self.reachable = !empty;
        }
        self.dirty = false;
        self.stale = false;
        self.table.drop_held(0);
        Ok(())
    }

    /// Pushes the table if the last push failed, or if a batch was cut short.
    ///
    /// For messages that do not change the table. The others push it anyway.
    pub(crate) fn sync_map(&mut self, target: &Target<'_>) -> Result {
        if self.stale || self.dirty {
            self.push(target)
        } else {
            Ok(())
        }
    }

    /// Records that the device was kept from the whole space. Like in C, ranges and pins of the
    /// table stay; held ranges are released.
    pub(crate) fn mark_unmapped(&mut self) {
        self.dirty = false;
        self.stale = false;
        self.reachable = false;
        self.table.drop_held(0);
    }

    /// Ends the space: the device is told first, then the memory is released. Call it after a reset
    /// of the device.
    ///
    /// `empty` is an IOTLB without ranges. `at_rest` says that the reset succeeded: a parent that
    /// does not unmap may then go back to its default map instead. If it does neither, the pins are
    /// leaked. Files are not: parents that use them have references of their own.
    ///
    /// Most spaces need at most one op of the parent.
    pub(crate) fn release(mut self, target: &Target<'_>, empty: &Iotlb, at_rest: bool) -> Released {
        let unmapped = match target.style {
            _ if !self.reachable => Ok(()),
            MapStyle::Platform => self.unmap_range(target, 0, u64::MAX).map(|_| ()),
            MapStyle::SetMap | MapStyle::DmaMap => target.unmap_all(self.asid, empty),
        };
        if unmapped.is_ok() || (at_rest && target.reset_map(self.asid)) {
            self.table.release_all();
            return Released {
                unmapped: true,
                leaked: 0,
            };
        }
        let mut leaked = 0u64;
        if !target.whole_table() {
            // Ranges that it unmaps one by one need not be leaked.
            while self.unmap_range(target, 0, u64::MAX).is_err() {
                // The first range that is left is the one that the parent refused to unmap.
                leaked = leaked.wrapping_add(self.table.leak_first());
            }
        }
        Released {
            unmapped: false,
            leaked: leaked.wrapping_add(self.table.leak_all()),
        }
    }
}
