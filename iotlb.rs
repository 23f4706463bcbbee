// SPDX-License-Identifier: GPL-2.0

//! Address spaces: the IOTLB of each, and who owns the memory behind its ranges.
//!
//! A mapping owns its pins, or its file; the table that it is in pays for the pins. They are dropped
//! only once the device can no longer reach them: the device's map goes first, the pins last.
//!
//! The interval tree that parents walk in `set_map` is the kernel's `struct vhost_iotlb`; its ranges
//! own the mappings (`abstractions/mapping.rs`).
//!
//! # When a parent's `set_map` fails
//!
//! The parent's table may then be empty or the old one; nobody can know. A failed insert removes
//! its ranges and pushes the table without them. A failed removal keeps ranges and pins. A failed
//! push at the end of a batch keeps the new ranges and the pins of the removed ones. In each case
//! the space is *stale*: its table is pushed again with the next message. C ignores such failures.

use crate::abstractions::{
    iommu::Domain,
    iotlb::{Iotlb, Map},
    mapping::{Mappings, Table},
    trace,
    vdpa::{Device, IovaRange, MapStyle},
};
use kernel::prelude::*;

/// Where mappings go: the device, and how it wants to be told.
pub(crate) struct Target<'a> {
    dev: &'a Device,
    domain: Option<&'a Domain>,
}

impl<'a> Target<'a> {
    /// `domain` is there exactly for devices behind the platform's IOMMU.
    pub(crate) fn new(dev: &'a Device, domain: Option<&'a Domain>) -> Self {
        Self { dev, domain }
    }

    fn whole_table(&self) -> bool {
        self.dev.map_style() == MapStyle::SetMap
    }

    /// Lets the device reach one range.
    fn map(&self, asid: u32, map: &Map) -> Result {
        match (self.dev.map_style(), self.domain) {
            (MapStyle::DmaMap, _) => self.dev.dma_map(
                asid,
                map.start,
                map.size(),
                map.addr,
                map.perm,
                map.opaque(),
            ),
            (MapStyle::Platform, Some(domain)) => {
                domain.map(map.start, map.addr, map.size(), map.perm)
            }
            (MapStyle::Platform, None) => Err(ENODEV),
            (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Keeps the device from one range.
    fn unmap(&self, asid: u32, map: &Map) -> Result {
        match (self.dev.map_style(), self.domain) {
            (MapStyle::DmaMap, _) => self.dev.dma_unmap(asid, map.start, map.size()),
            (MapStyle::Platform, Some(domain)) => domain.unmap(map.start, map.size()),
            (MapStyle::Platform, None) | (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Takes everything away from the device in one address space, above all the 1:1 map that a
    /// parent has at rest: a process that owns the device must reach only what it mapped.
    ///
    /// `empty` is an IOTLB without ranges.
    pub(crate) fn forbid_all(&self, asid: u32, range: IovaRange, empty: &mut Iotlb) -> Result {
        match self.dev.map_style() {
            MapStyle::SetMap => {
                let done = self.dev.set_map(asid, empty);
                trace::set_map(asid, empty.len(), &done);
                done
            }
            MapStyle::DmaMap => {
                let size = range.last.wrapping_sub(range.first).saturating_add(1);
                self.dev.dma_unmap(asid, range.first, size)
            }
            MapStyle::Platform => Ok(()),
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
}

impl AddressSpace {
    /// An empty space for at most `limit` ranges.
    pub(crate) fn new(asid: u32, limit: u32) -> Result<Self> {
        Ok(Self {
            asid,
            table: Table::new(limit)?,
            dirty: false,
            stale: false,
        })
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> u32 {
        self.table.iotlb().len()
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        self.table.iotlb().limit().saturating_sub(self.len()) as usize
    }

    /// How many pages are pinned.
    pub(crate) fn pinned(&self) -> u64 {
        self.table.pinned()
    }

    /// Whether pins wait for a push.
    pub(crate) fn holds(&self) -> bool {
        self.table.held() > 0
    }

    /// Whether any range intersects `[start, last]`.
    pub(crate) fn overlaps(&self, start: u64, last: u64) -> bool {
        self.table.iotlb().first(start, last).is_some()
    }

    /// Adds mappings, all of which lie in `[start, last]`; all of them or none.
    ///
    /// In a batch a parent that takes whole tables is not told before the batch ends. Errors:
    /// `EEXIST`, `ENOSPC`, `ENOMEM`, or the parent's.
    pub(crate) fn insert(
        &mut self,
        target: &Target<'_>,
        (start, last): (u64, u64),
        maps: Mappings,
        batch: bool,
    ) -> Result {
        if self.overlaps(start, last) {
            return Err(EEXIST);
        }
        if maps.len() > self.room() {
            return Err(ENOSPC);
        }
        if maps.is_empty() {
            return if batch { Ok(()) } else { self.settle(target) };
        }
        // For undoing, which must not fail for want of memory.
        if target.whole_table() {
            self.table.reserve_held(maps.len())?;
        }
        let inserted = self.insert_each(target, maps);
        if inserted.is_err() {
            if target.whole_table() {
                // The device has not seen these; what was held before stays held.
                let mark = self.table.held();
                self.table.hold(start, last);
                self.table.drop_held(mark);
            } else {
                // What the parent refuses to give back stays in the space, and so pinned.
                let _ = self.withdraw(target, start, last);
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
            self.table.hold(start, last);
            // The table as it was; if that fails too, the pins stay held.
            let _ = self.push(target);
        }
        pushed
    }

    /// Adds mappings to the table and, unless it takes whole tables, to the device, up to the first
    /// that fails.
    fn insert_each(&mut self, target: &Target<'_>, maps: Mappings) -> Result {
        let asid = self.asid;
        for mapping in self.table.pay(maps) {
            self.table.add(mapping, |map| target.map(asid, map))?;
        }
        Ok(())
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
            return self.withdraw(target, start, last);
        }
        let n = self.table.iotlb().iter(start, last).count();
        self.table.reserve_held(n)?;
        let mark = self.table.held();
        self.table.hold(start, last);
        self.dirty = true;
        if !batch {
            if let Err(e) = self.push(target) {
                self.table.put_back(mark);
                return Err(e);
            }
        }
        Ok(n as u64)
    }

    /// Removes mappings one by one from a device that is told of each.
    fn withdraw(&mut self, target: &Target<'_>, start: u64, last: u64) -> Result<u64> {
        let asid = self.asid;
        // The device first, then the memory.
        self.table
            .remove(start, last, |map| target.unmap(asid, map))
    }

    /// Gives the parent the table as it is. What was held for it can then go.
    pub(crate) fn push(&mut self, target: &Target<'_>) -> Result {
        if target.whole_table() {
            let asid = self.asid;
            let done = self.table.lend(|iotlb| target.dev.set_map(asid, iotlb));
            trace::set_map(asid, self.len(), &done);
            if done.is_err() {
                self.stale = true;
                return done;
            }
        }
        self.dirty = false;
        self.stale = false;
        self.table.drop_held(0);
        Ok(())
    }

    /// Pushes the table if the last push failed, or if a batch was cut short.
    ///
    /// Messages that change the table push it anyway; this is for those that do not.
    pub(crate) fn settle(&mut self, target: &Target<'_>) -> Result {
        if self.stale || self.dirty {
            self.push(target)
        } else {
            Ok(())
        }
    }

    /// After the device was kept from everything: ranges and pins of the table stay, as in C, but
    /// nothing is held any more.
    pub(crate) fn forgotten_by_device(&mut self) {
        self.dirty = false;
        self.stale = false;
        self.table.drop_held(0);
    }

    /// Ends the space: the device first, then the memory. Call after a reset of the device.
    ///
    /// `empty` is an IOTLB without ranges. Returns how many pages had to be leaked because the parent
    /// would not let go of them.
    pub(crate) fn release(mut self, target: &Target<'_>, empty: &mut Iotlb) -> u64 {
        if target.whole_table() {
            let pinned = self.pinned();
            let emptied = target.forbid_all(self.asid, IovaRange::ALL, empty);
            if emptied.is_err() {
                self.table.leak();
                return pinned;
            }
            return 0;
        }
        let mut leaked = 0u64;
        while self.withdraw(target, 0, u64::MAX).is_err() {
            // The first that is left is the one that it refused.
            leaked = leaked.wrapping_add(self.table.leak_first());
        }
        leaked
    }
}
