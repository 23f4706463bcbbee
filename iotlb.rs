// SPDX-License-Identifier: GPL-2.0

//! Address spaces: the IOTLB of each, and who owns the memory behind its ranges.
//!
//! A [`Mapping`] is a value that owns its pins and their memlock charge, or its file. It is dropped
//! only once the device can no longer reach it: the device's map goes first, the pins last.
//!
//! The interval tree that parents walk in `set_map` is the kernel's `struct vhost_iotlb`. Beside
//! it, by start address, stand the mappings that own what the tree's ranges point to.
//!
//! # When a parent's `set_map` fails
//!
//! The parent's table may then be empty or the old one; nobody can know. A failed insert removes
//! its ranges and pushes the table without them. A failed removal keeps ranges and pins. A failed
//! push at the end of a batch keeps the new ranges and the pins of the removed ones. In each case
//! the space is *stale*: its table is pushed again with the next message. C ignores such failures.

use crate::abstractions::{
    gup::{Charge, Pages},
    iommu::Domain,
    iotlb::OwnedIotlb,
    trace,
    usermap::MapFile,
    vdpa::{Device, IovaRange, MapStyle},
};
use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
};

/// What a mapping keeps alive. Pins are dropped before the charge that pays for them.
pub(crate) enum Backing {
    /// Physical memory.
    Pinned { pages: Pages, _charge: Charge },
    /// A shared mapping of a file, for parents that use virtual addresses.
    File(MapFile),
}

/// One range of an address space.
pub(crate) struct Mapping {
    /// First IOVA.
    pub(crate) iova: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Physical or user virtual address.
    pub(crate) addr: u64,
    /// `VHOST_ACCESS_*`.
    pub(crate) perm: u32,
    pub(crate) backing: Backing,
}

impl Mapping {
    fn last(&self) -> u64 {
        self.iova.wrapping_add(self.size).wrapping_sub(1)
    }

    fn pinned(&self) -> u64 {
        match &self.backing {
            Backing::Pinned { pages, .. } => pages.npages(),
            Backing::File(_) => 0,
        }
    }

    fn opaque(&self) -> *mut c_void {
        match &self.backing {
            Backing::Pinned { .. } => core::ptr::null_mut(),
            Backing::File(file) => file.opaque(),
        }
    }
}

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

    /// Lets the device reach one mapping.
    fn map(&self, asid: u32, map: &Mapping) -> Result {
        match (self.dev.map_style(), self.domain) {
            (MapStyle::DmaMap, _) => {
                self.dev
                    .dma_map(asid, map.iova, map.size, map.addr, map.perm, map.opaque())
            }
            (MapStyle::Platform, Some(domain)) => {
                domain.map(map.iova, map.addr, map.size, map.perm)
            }
            (MapStyle::Platform, None) => Err(ENODEV),
            (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Keeps the device from one mapping.
    fn unmap(&self, asid: u32, map: &Mapping) -> Result {
        match (self.dev.map_style(), self.domain) {
            (MapStyle::DmaMap, _) => self.dev.dma_unmap(asid, map.iova, map.size),
            (MapStyle::Platform, Some(domain)) => domain.unmap(map.iova, map.size),
            (MapStyle::Platform, None) => Ok(()),
            (MapStyle::SetMap, _) => Ok(()),
        }
    }

    /// Takes everything away from the device in one address space, above all the 1:1 map that a
    /// parent has at rest: a process that owns the device must reach only what it mapped.
    pub(crate) fn forbid_all(&self, asid: u32, range: IovaRange) -> Result {
        match self.dev.map_style() {
            MapStyle::SetMap => self.dev.set_map(asid, &mut *OwnedIotlb::new(1)?),
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
    /// What parents see.
    table: OwnedIotlb,
    /// Who owns it, by first IOVA. Always the same ranges as `table`.
    owned: RBTree<u64, Mapping>,
    /// Mappings that are out of `table` but that the device may still reach.
    held: KVVec<Mapping>,
    /// `table` has changes that a batch has yet to push.
    dirty: bool,
    /// The last push failed.
    stale: bool,
    /// Pages pinned by `owned` and `held`.
    pinned: u64,
}

impl AddressSpace {
    /// An empty space for at most `limit` ranges.
    pub(crate) fn new(asid: u32, limit: u32) -> Result<Self> {
        Ok(Self {
            asid,
            table: OwnedIotlb::new(limit)?,
            owned: RBTree::new(),
            held: KVVec::new(),
            dirty: false,
            stale: false,
            pinned: 0,
        })
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> u32 {
        self.table.len()
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        self.table.limit().saturating_sub(self.table.len()) as usize
    }

    /// How many pages are pinned.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Whether pins wait for a push.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether any range intersects `[start, last]`.
    pub(crate) fn overlaps(&self, start: u64, last: u64) -> bool {
        self.table.first(start, last).is_some()
    }

    /// Adds mappings; all of them or none.
    ///
    /// In a batch a parent that takes whole tables is not told before the batch ends. Errors:
    /// `EEXIST`, `ENOSPC`, `ENOMEM`, or the parent's.
    pub(crate) fn insert(
        &mut self,
        target: &Target<'_>,
        maps: KVVec<Mapping>,
        batch: bool,
    ) -> Result {
        if maps.iter().any(|m| self.overlaps(m.iova, m.last())) {
            return Err(EEXIST);
        }
        if maps.len() > self.room() {
            return Err(ENOSPC);
        }
        let (Some(first), Some(last)) =
            (maps.first().map(|m| m.iova), maps.last().map(Mapping::last))
        else {
            return Ok(());
        };
        // All that can fail for want of memory does so before anything has changed.
        self.held.reserve(maps.len(), GFP_KERNEL)?;
        let mut nodes = KVVec::with_capacity(maps.len(), GFP_KERNEL)?;
        for map in maps {
            nodes.push((RBTreeNodeReservation::new(GFP_KERNEL)?, map), GFP_KERNEL)?;
        }
        for (node, map) in nodes {
            if let Err(e) = self.insert_one(target, node, map) {
                if target.whole_table() {
                    // The device has not seen these; what was held before stays held.
                    let mark = self.held.len();
                    self.take_out(first, last);
                    self.drop_held(mark);
                } else {
                    // What the parent refuses to give back stays in the space, and so pinned.
                    let _ = self.withdraw(target, first, last);
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
            self.take_out(first, last);
            // The table as it was; if that fails too, the pins stay held.
            let _ = self.push(target);
        }
        pushed
    }

    /// Adds one mapping to the table and, unless it takes whole tables, to the device.
    fn insert_one(
        &mut self,
        target: &Target<'_>,
        node: RBTreeNodeReservation<u64, Mapping>,
        map: Mapping,
    ) -> Result {
        self.table
            .add(map.iova, map.last(), map.addr, map.perm, map.opaque())?;
        if let Err(e) = target.map(self.asid, &map) {
            self.table.remove(map.iova, map.last());
            return Err(e);
        }
        self.pinned = self.pinned.wrapping_add(map.pinned());
        self.owned.insert(node.into_node(map.iova, map));
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
        let n = self.table.iter(start, last).count();
        self.held.reserve(n, GFP_KERNEL)?;
        let mark = self.held.len();
        self.take_out(start, last);
        self.dirty = true;
        if batch {
            return Ok(n as u64);
        }
        if let Err(e) = self.push(target) {
            self.put_back(mark);
            return Err(e);
        }
        Ok(n as u64)
    }

    /// Removes mappings one by one from a device that is told of each.
    fn withdraw(&mut self, target: &Target<'_>, start: u64, last: u64) -> Result<u64> {
        let mut n = 0u64;
        while let Some(range) = self.table.first(start, last) {
            if let Some(map) = self.owned.get(&range.start) {
                target.unmap(self.asid, map)?;
            }
            self.table.remove(range.start, range.last);
            if let Some(map) = self.owned.remove(&range.start) {
                self.pinned = self.pinned.wrapping_sub(map.pinned());
            }
            n = n.wrapping_add(1);
        }
        Ok(n)
    }

    /// Moves the mappings of a range from the table to `held`, which must have room.
    fn take_out(&mut self, start: u64, last: u64) {
        while let Some(range) = self.table.first(start, last) {
            self.table.remove(range.start, range.last);
            if let Some(map) = self.owned.remove(&range.start) {
                if let Err(e) = self.held.push_within_capacity(map) {
                    // Not reached: callers reserved. A leak is the safe way out.
                    core::mem::forget(e);
                }
            }
        }
    }

    /// Moves the mappings that `take_out` appended after `mark` back into the table. Those for
    /// which there is no memory stay held.
    fn put_back(&mut self, mark: usize) {
        while self.held.len() > mark {
            let Ok(reservation) = RBTreeNodeReservation::new(GFP_KERNEL) else {
                return;
            };
            let Some(map) = self.held.pop() else {
                return;
            };
            let added = self
                .table
                .add(map.iova, map.last(), map.addr, map.perm, map.opaque());
            if added.is_err() {
                if let Err(e) = self.held.push_within_capacity(map) {
                    core::mem::forget(e);
                }
                return;
            }
            self.owned.insert(reservation.into_node(map.iova, map));
        }
    }

    /// Gives the parent the table as it is. What was held for it can then go.
    pub(crate) fn push(&mut self, target: &Target<'_>) -> Result {
        if target.whole_table() {
            let done = target.dev.set_map(self.asid, &mut self.table);
            trace::set_map(self.asid, self.table.len(), &done);
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
            if let Some(map) = self.held.pop() {
                self.pinned = self.pinned.wrapping_sub(map.pinned());
            }
        }
    }

    /// Ends the space: the device first, then the memory. Call after a reset of the device.
    ///
    /// Returns how many pages had to be leaked because the parent would not let go of them.
    pub(crate) fn release(mut self, target: &Target<'_>) -> u64 {
        if target.whole_table() {
            self.table.clear();
            if target.dev.set_map(self.asid, &mut self.table).is_err() {
                let leaked = self.pinned;
                core::mem::forget(self.owned);
                core::mem::forget(self.held);
                return leaked;
            }
            return 0;
        }
        let mut leaked = 0u64;
        while let Some(range) = self.table.first(0, u64::MAX) {
            self.table.remove(range.start, range.last);
            if let Some(map) = self.owned.remove(&range.start) {
                if target.unmap(self.asid, &map).is_err() {
                    leaked = leaked.wrapping_add(map.pinned());
                    core::mem::forget(map);
                }
            }
        }
        leaked
    }
}
