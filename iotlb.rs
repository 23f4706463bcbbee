// SPDX-License-Identifier: GPL-2.0

//! Address spaces: the IOTLB of each, and who owns the memory behind its ranges.
//!
//! A mapping owns its pins, or its file; the table that it is in pays for the pins. They are dropped
//! only once the device can no longer reach them: the device's map goes first, the pins last.
//!
//! The interval tree that parents walk in `set_map` is the kernel's `struct vhost_iotlb`; its ranges
//! own the mappings (`abstractions/bus_driver/memory/mapping.rs`).
//!
//! # When a parent's `set_map` fails
//!
//! The parent's table may then be empty or the old one; nobody can know. A failed insert removes
//! its ranges and pushes the table without them. A failed removal keeps ranges and pins. A failed
//! push at the end of a batch keeps the new ranges and the pins of the removed ones. In each case
//! the space is *stale*: its table is pushed again with the next message. C ignores such failures.
//!
//! # Bounds
//!
//! A table has as many ranges as `max_iotlb_entries` says. What is held for the device, by a batch or
//! after failures, is no more than twice that: before it could become more the table is pushed, and if
//! the parent refuses it the message fails and changes nothing.

use kernel::prelude::*;
use vdpa_bus_driver::{
    iommu::Domain,
    iotlb::{Iotlb, Map},
    mapping::{Mappings, Table},
    trace,
    vdpa::{Device, IovaRange, MapStyle},
};

/// Where mappings go: the device, and how it wants to be told.
pub(crate) struct Target<'a> {
    dev: &'a Device,
    style: MapStyle,
    domain: Option<&'a Domain>,
    /// IOVAs that may be mapped.
    range: IovaRange,
}

impl<'a> Target<'a> {
    /// `domain` is there exactly for devices behind the platform's IOMMU.
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

    /// Lets the device reach one range.
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

    /// Keeps the device from one range.
    fn unmap(&self, asid: u32, map: &Map) -> Result {
        match (self.style, self.domain) {
            (MapStyle::DmaMap, _) => self.dev.dma_unmap(asid, map.start, map.size()),
            (MapStyle::Platform, Some(domain)) => domain.unmap(map.start, map.size()),
            (MapStyle::Platform, None) | (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Gives the parent the table of an address space.
    #[inline]
    fn set_map(&self, asid: u32, table: &Iotlb) -> Result {
        let done = self.dev.set_map(asid, table);
        trace::set_map(self.dev, asid, table.len(), &done);
        done
    }

    /// Takes everything away from the device in one address space, above all the 1:1 map that a
    /// parent has at rest: a process that owns the device must reach only what it mapped.
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

    /// Has the parent forget its maps for its default one; whether it did. Maps of the platform's IOMMU
    /// are not the parent's to forget.
    fn reset_map(&self, asid: u32) -> bool {
        self.style != MapStyle::Platform
            && self.dev.has_reset_map()
            && self.dev.reset_map(asid).is_ok()
    }
}

/// How much is mapped.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mapped {
    /// Ranges of the IOTLB.
    pub(crate) ranges: u64,
    /// Pages that are pinned, for them and for what is held.
    pub(crate) pinned: u64,
}

impl Mapped {
    /// The sum.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            ranges: self.ranges.wrapping_add(other.ranges),
            pinned: self.pinned.wrapping_add(other.pinned),
        }
    }

    /// The larger of each number.
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
    /// What parents see; it owns the memory it maps, and what it holds for the device.
    table: Table,
    /// `table` has changes that a batch has yet to push.
    dirty: bool,
    /// The last push failed.
    stale: bool,
    /// The parent may have ranges of it.
    reachable: bool,
    peak: Mapped,
}

/// The end of an address space.
pub(crate) struct Released {
    /// The device reaches nothing through it.
    pub(crate) unmapped: bool,
    /// Pages that stay pinned for good because the parent would not let go of them.
    pub(crate) leaked: u64,
}

impl AddressSpace {
    /// An empty space for at most `limit` ranges.
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

    /// How many ranges there are.
    fn len(&self) -> u32 {
        self.table.iotlb().len()
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        self.table.iotlb().limit().saturating_sub(self.len()) as usize
    }

    /// How much is mapped in it.
    pub(crate) fn mapped(&self) -> Mapped {
        Mapped {
            ranges: self.len().into(),
            pinned: self.table.pinned(),
        }
    }

    /// The most that was mapped in it.
    pub(crate) fn peak(&self) -> Mapped {
        self.peak
    }

    /// Returns how many ranges are held until the next push.
    pub(crate) fn held(&self) -> usize {
        self.table.held()
    }

    /// Checks that `[start, last]` may be mapped. Errors: `EINVAL` outside of what the device allows,
    /// `EEXIST` where any of it is mapped.
    pub(crate) fn check_range(&self, target: &Target<'_>, (start, last): (u64, u64)) -> Result {
        if !target.range.holds(start, last) {
            return Err(EINVAL);
        }
        if self.table.iotlb().first(start, last).is_some() {
            return Err(EEXIST);
        }
        Ok(())
    }

    /// Adds mappings, all of which lie in `[start, last]`; all of them or none.
    ///
    /// In a batch a parent that takes whole tables is not told before the batch ends. Errors: those of
    /// `check_range`, `ENOSPC`, `ENOMEM`, or the parent's.
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
                // The device has not seen these; what was held before stays held.
                let mark = self.table.held();
                self.table.defer_unpin(start, last);
                self.table.drop_held(mark);
            } else {
                // What the parent refuses to give back stays in the space, and so pinned.
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
            // The table as it was; if that fails too, the pins stay held.
            let _ = self.push(target);
        }
        pushed
    }

    /// Removes every mapping that intersects `[start, last]`, whole; the number removed.
    ///
    /// Errors: the parent's; what it still maps then stays.
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

    /// Pushes the table before more is held than it may have ranges. Errors: the parent's.
    fn bound_held(&mut self, target: &Target<'_>) -> Result {
        if self.table.held() < self.table.iotlb().limit() as usize {
            return Ok(());
        }
        self.push(target)
    }

    /// Removes mappings one by one from a device that is told of each.
    fn unmap_range(&mut self, target: &Target<'_>, start: u64, last: u64) -> Result<u64> {
        let asid = self.asid;
        // The device first, then the memory.
        self.table
            .remove(start, last, |map| target.unmap(asid, map))
    }

    /// Gives the parent the table as it is. What was held for it can then go.
    ///
    /// Part of nearly every message, and short.
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
    /// Messages that change the table push it anyway; this is for those that do not.
    pub(crate) fn sync_map(&mut self, target: &Target<'_>) -> Result {
        if self.stale || self.dirty {
            self.push(target)
        } else {
            Ok(())
        }
    }

    /// After the device was kept from everything: ranges and pins of the table stay, as in C, but
    /// nothing is held any more.
    pub(crate) fn mark_unmapped(&mut self) {
        self.dirty = false;
        self.stale = false;
        self.reachable = false;
        self.table.drop_held(0);
    }

    /// Ends the space: the device first, then the memory. Call after a reset of the device.
    ///
    /// `empty` is an IOTLB without ranges. `at_rest` says that the reset succeeded: where the parent does
    /// not unmap, it may then go back to its default map instead. Where it does neither, pins are
    /// leaked; files are not, which parents that use them hold themselves.
    ///
    /// Most spaces need one op or none of the parent.
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
            // What it gives back one by one need not be leaked.
            while self.unmap_range(target, 0, u64::MAX).is_err() {
                // The first that is left is the one that it refused.
                leaked = leaked.wrapping_add(self.table.leak_first());
            }
        }
        Released {
            unmapped: false,
            leaked: leaked.wrapping_add(self.table.leak_all()),
        }
    }
}
