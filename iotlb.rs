// SPDX-License-Identifier: GPL-2.0

//! Address spaces: the IOTLB of each, and who owns the memory behind its ranges.
//!
//! A [`Mapping`] is a value that owns its pins and their memlock charge, or its file. It is dropped
//! only once the device can no longer reach it: the device's map goes first, the pins last.
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
    few::Few,
    iommu::Domain,
    iotlb::{Iotlb, Map, OwnedIotlb},
    mapping::{Mapping, Table},
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

/// How much room for held mappings is kept. A batch may need room for millions, but only once.
const HELD_ROOM: usize = 256;

/// An address space.
pub(crate) struct AddressSpace {
    asid: u32,
    /// What parents see; it owns the memory it maps.
    table: Table,
    /// What the device is given in the end, which must not fail for want of memory.
    empty: OwnedIotlb,
    /// Mappings that are out of `table` but that the device may still reach.
    held: KVVec<Mapping>,
    /// Pages pinned by `held`.
    held_pages: u64,
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
            empty: OwnedIotlb::new(1)?,
            held: KVVec::new(),
            held_pages: 0,
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
        self.table.pinned().wrapping_add(self.held_pages)
    }

    /// Whether pins wait for a push.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
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
        maps: Few<Mapping>,
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
            self.held.reserve(maps.len(), GFP_KERNEL)?;
        }
        for mapping in maps {
            if let Err(e) = self.insert_one(target, mapping) {
                if target.whole_table() {
                    // The device has not seen these; what was held before stays held.
                    let mark = self.held.len();
                    self.take_out(start, last);
                    self.drop_held(mark);
                } else {
                    // What the parent refuses to give back stays in the space, and so pinned.
                    let _ = self.withdraw(target, start, last);
                }
                return Err(e);
            }
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
            self.take_out(start, last);
            // The table as it was; if that fails too, the pins stay held.
            let _ = self.push(target);
        }
        pushed
    }

    /// Adds one mapping to the table and, unless it takes whole tables, to the device.
    fn insert_one(&mut self, target: &Target<'_>, mapping: Mapping) -> Result {
        let map = mapping.as_map();
        self.table.add(mapping).map_err(|(e, _)| e)?;
        let mapped = target.map(self.asid, &map);
        if mapped.is_err() {
            drop(self.table.take(map.start, map.last));
        }
        mapped
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
        self.held.reserve(n, GFP_KERNEL)?;
        let mark = self.held.len();
        self.take_out(start, last);
        self.dirty = true;
        if !batch {
            if let Err(e) = self.push(target) {
                self.put_back(mark);
                return Err(e);
            }
        }
        Ok(n as u64)
    }

    /// Removes mappings one by one from a device that is told of each.
    fn withdraw(&mut self, target: &Target<'_>, start: u64, last: u64) -> Result<u64> {
        let mut n = 0u64;
        let asid = self.asid;
        let unmap = |map: &Map| target.unmap(asid, map);
        // The device first, then the memory.
        while let Some(mapping) = self.table.take_if(start, last, unmap)? {
            drop(mapping);
            n = n.wrapping_add(1);
        }
        Ok(n)
    }

    /// Holds a mapping that the device may still reach. Callers reserved room.
    fn hold(&mut self, mapping: Mapping) {
        let pages = mapping.npages();
        match self.held.push_within_capacity(mapping) {
            Ok(()) => self.held_pages = self.held_pages.wrapping_add(pages),
            // Not reached; a leak is the safe way out.
            Err(e) => core::mem::forget(e),
        }
    }

    /// Moves the mappings of a range from the table to `held`, which must have room.
    fn take_out(&mut self, start: u64, last: u64) {
        while let Some(mapping) = self.table.take(start, last) {
            self.hold(mapping);
        }
    }

    /// Moves the mappings that `take_out` appended after `mark` back into the table. Those for
    /// which there is no memory stay held.
    fn put_back(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Some(mapping) = self.held.pop() else {
                return;
            };
            self.held_pages = self.held_pages.wrapping_sub(mapping.npages());
            if let Err((_, mapping)) = self.table.add(mapping) {
                self.hold(mapping);
                return;
            }
        }
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
        self.drop_held(0);
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
        self.drop_held(0);
    }

    /// Drops what was held after `mark`; the device must not reach it.
    fn drop_held(&mut self, mark: usize) {
        while self.held.len() > mark {
            if let Some(mapping) = self.held.pop() {
                self.held_pages = self.held_pages.wrapping_sub(mapping.npages());
            }
        }
        if mark == 0 && self.held.capacity() > HELD_ROOM {
            self.held = KVVec::new();
        }
    }

    /// Ends the space: the device first, then the memory. Call after a reset of the device.
    ///
    /// Returns how many pages had to be leaked because the parent would not let go of them.
    pub(crate) fn release(mut self, target: &Target<'_>) -> u64 {
        if target.whole_table() {
            let pinned = self.pinned();
            let emptied = target.forbid_all(self.asid, IovaRange::ALL, &mut self.empty);
            if emptied.is_err() {
                self.table.leak();
                core::mem::forget(self.held);
                return pinned;
            }
            return 0;
        }
        let mut leaked = 0u64;
        while let Some(map) = self.table.iotlb().first(0, u64::MAX) {
            let unmapped = target.unmap(self.asid, &map);
            if let Some(mapping) = self.table.take(map.start, map.last) {
                if unmapped.is_err() {
                    leaked = leaked.wrapping_add(mapping.npages());
                    core::mem::forget(mapping);
                }
            }
        }
        leaked
    }
}
