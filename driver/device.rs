// SPDX-License-Identifier: GPL-2.0

//! Life of a device: open, start, reset, stop, and revocation when the device is removed.
//!
//! # Locking
//!
//! Outermost first:
//!
//! 1. `device_lock` of the vdpa device and vdpa core's locks (around probe and removal).
//! 2. vhost core's mutexes (around vhost core's own ioctls, over user copies; and around all of
//!    `VHOST_SET_OWNER`). Removal takes none of them.
//! 3. [`VhostVdpa::state`]: the only way to the device, so parents see one op at a time; never held
//!    over user copies or page faults. So removal, which takes it, waits for parents only.
//! 4. Access to the device ([`vdpa_bus_driver::revocable`]): SRCU; the device stays as long as a
//!    guard is held.
//! 5. The parent's own locks.
//! 6. [`CallSlots`]' lock, taken by parents' callbacks, with interrupts off; then the eventfd's.
//!
//! `mmap_lock` is taken while pinning, outside of `state`. Kicks, and page faults in doorbells,
//! access the device and take none of our locks.
//!
//! # End of a file
//!
//! [`VhostVdpa::stop`] undoes it, once; [`State::active`] is true as long as there is something to
//! undo. `close()` calls it if it gets access to the device. If access was revoked, removal has
//! called it or will, because removal revokes access before it takes the state's lock.

use super::debug;
use crate::{
    backend_features,
    iotlb::{AddressSpace, Mapped, Target},
};
use kernel::{
    mm::Mm,
    prelude::*,
    rbtree::RBTree,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};
use vdpa_bus_driver::{
    doorbell::DoorbellMaps,
    eventfd::{CallSlots, EventFd, Source},
    iommu::Domain,
    iotlb::OwnedIotlb,
    irqbypass::Producer,
    revocable::{AccessToken, DeviceMutex},
    trace,
    vdpa::{Device, IovaRange, MapStyle},
};

/// A device, from probe until the device is removed and its last file is closed.
#[pin_data]
pub(crate) struct VhostVdpa {
    /// The N in the device's name, for tracepoints.
    pub(super) minor: i32,
    /// The number of queues; queue indices are below it.
    pub(super) nvqs: u32,
    pub(super) ngroups: u32,
    pub(super) nas: u32,
    pub(super) use_va: bool,
    /// True while a file is open. Only one file can be open at a time.
    pub(super) opened: Atomic<bool>,
    /// The backend features that userspace acked last. Written with the state locked.
    pub(super) backend_features: Atomic<u64>,
    /// The slots of parents' callbacks. They live as long as the node, so that a late call of a
    /// parent finds an empty slot.
    pub(crate) calls: CallSlots,
    pub(super) stats: debug::Stats,
    /// Number of kicks of each queue.
    pub(super) kicks: KVVec<debug::Kicks>,
    /// Records which refusals were logged.
    pub(super) told: debug::Told,
    #[pin]
    pub(super) state: DeviceMutex<State>,
}

/// State of the open file. While no file is open it is empty, except for the counters and what is
/// known about the parent.
pub(crate) struct State {
    /// True if there is something for [`VhostVdpa::stop`] to undo.
    active: bool,
    /// The address space of the process that owns the device.
    pub(super) owner: Option<ARef<Mm>>,
    /// True while the parent has the owner's address space bound.
    pub(super) mm_bound: bool,
    /// The IOVAs that may be mapped.
    pub(super) range: IovaRange,
    /// The address spaces that were used, by ID.
    pub(super) spaces: RBTree<u32, AddressSpace>,
    /// The address space of the open batch.
    pub(super) batch: Option<u32>,
    /// Counters of messages since the device was probed.
    pub(super) counts: debug::Counts,
    /// Preallocated IOTLB without ranges, so that [`Target::unmap_all`] cannot fail with `ENOMEM`.
    empty: OwnedIotlb,
    /// The IOMMU domain of a device behind the platform's IOMMU.
    pub(super) domain: Option<Domain>,
    /// Interrupts that are offered for bypass, by queue.
    pub(super) producers: KVec<Option<Pin<KBox<Producer>>>>,
    /// Eventfds for errors, by queue.
    pub(super) errors: KVec<Option<EventFd>>,
    /// The virtio features that the parent accepted.
    pub(super) features: u64,
    /// The largest size of a queue, as the parent reported it after the last reset.
    pub(super) vq_num_max: u16,
    pub(super) suspended: bool,
    /// True if a reset brought the parent's default map back, and it was not cleared since.
    pub(super) identity_mapped: bool,
    /// For each address space: true if the device may reach memory through it that the open file
    /// did not map.
    foreign: KVVec<bool>,
    /// For each group: true if it may be in another address space than 0.
    pub(super) moved: KVVec<bool>,
    /// The maps of the open file, which are zapped on removal.
    doorbells: Option<Arc<DoorbellMaps>>,
}

impl State {
    fn new(nvqs: u32, ngroups: u32, nas: u32) -> Result<Self> {
        let mut producers = KVec::with_capacity(nvqs as usize, GFP_KERNEL)?;
        let mut errors = KVec::with_capacity(nvqs as usize, GFP_KERNEL)?;
        for _ in 0..nvqs {
            producers.push(None, GFP_KERNEL)?;
            errors.push(None, GFP_KERNEL)?;
        }
        // Another driver may have used the device before.
        let foreign = KVVec::from_elem(true, nas as usize, GFP_KERNEL)?;
        let moved = KVVec::from_elem(true, ngroups as usize, GFP_KERNEL)?;
        Ok(Self {
            active: false,
            owner: None,
            mm_bound: false,
            range: IovaRange::ALL,
            spaces: RBTree::new(),
            batch: None,
            counts: debug::Counts::default(),
            empty: OwnedIotlb::new(1)?,
            domain: None,
            producers,
            errors,
            features: 0,
            vq_num_max: 0,
            suspended: false,
            identity_mapped: false,
            foreign,
            moved,
            doorbells: None,
        })
    }

    /// Resets the state to that before the file was opened. Address spaces must be released first.
    fn clear(&mut self) {
        self.active = false;
        self.owner = None;
        self.mm_bound = false;
        self.range = IovaRange::ALL;
        self.batch = None;
        self.domain = None;
        for error in &mut self.errors {
            *error = None;
        }
        self.features = 0;
        self.vq_num_max = 0;
        self.suspended = false;
        self.identity_mapped = false;
    }

    /// Returns what is mapped in all address spaces, and the sum of their peaks.
    pub(super) fn mapped(&self) -> (Mapped, Mapped) {
        let mut sums = (Mapped::default(), Mapped::default());
        for space in self.spaces.values() {
            sums = (sums.0.plus(space.mapped()), sums.1.plus(space.peak()));
        }
        sums
    }

    /// Unmaps what others left in an address space. `EINVAL` if it does not exist.
    pub(super) fn empty_space(&mut self, dev: &Device, asid: u32) -> Result {
        let Some(foreign) = self.foreign.get_mut(asid as usize) else {
            return Err(EINVAL);
        };
        if *foreign {
            let target = Target::new(dev, self.domain.as_ref(), self.range);
            target.unmap_all(asid, &self.empty)?;
            *foreign = false;
        }
        Ok(())
    }
}

impl VhostVdpa {
    pub(crate) fn new(dev: &Device, minor: i32, token: AccessToken) -> Result<Arc<Self>> {
        let nvqs = dev.nvqs();
        let mut kicks = KVVec::with_capacity(nvqs as usize, GFP_KERNEL)?;
        for _ in 0..nvqs {
            kicks.push(debug::Kicks::default(), GFP_KERNEL)?;
        }
        let calls = CallSlots::new(dev)?;
        let state = State::new(nvqs, dev.ngroups(), dev.nas())?;
        Arc::pin_init(
            try_pin_init!(Self {
                minor,
                nvqs,
                ngroups: dev.ngroups(),
                nas: dev.nas(),
                use_va: dev.use_va(),
                opened: Atomic::new(false),
                backend_features: Atomic::new(0),
                calls,
                stats: debug::Stats::default(),
                kicks,
                told: debug::Told::default(),
                state <- DeviceMutex::new(token, state),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Calls `f` with the device, under the state's lock. `ENODEV` once the device is gone.
    pub(super) fn ask<R>(&self, f: impl FnOnce(&Device) -> R) -> Result<R> {
        let mut locked = self.state.lock();
        let (_state, dev) = locked.try_access()?;
        Ok(f(&dev))
    }

    /// Returns true if userspace acked that maps survive a reset.
    fn persistent(&self) -> bool {
        self.backend_features.load(Relaxed) & backend_features::IOTLB_PERSIST != 0
    }

    /// Prepares the device for the file that is being opened.
    pub(super) fn start(&self, doorbells: Arc<DoorbellMaps>) -> Result {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        // As in C, no map is cleaned here. `prepare_device` empties the address spaces.
        self.reset_device(&dev, false)?;
        state.active = true;
        let prepared = self.prepare_device(state, &dev);
        if prepared.is_err() {
            self.stop(state, &dev);
        } else {
            state.doorbells = Some(doorbells);
        }
        prepared
    }

    /// Prepares a device after a reset, so that it reaches no memory, whoever used it before.
    fn prepare_device(&self, state: &mut State, dev: &Device) -> Result {
        state.vq_num_max = dev.get_vq_num_max();
        if dev.map_style() == MapStyle::Platform {
            let attached = Domain::attach(dev).inspect_err(|e| {
                if *e == ENOTSUPP {
                    self.told.incoherent_iommu(self.minor);
                }
            });
            state.domain = Some(attached?);
        }
        state.range = dev
            .get_iova_range()
            .or_else(|| state.domain.as_ref().and_then(Domain::aperture))
            .unwrap_or(IovaRange::ALL);
        self.gather_groups(state, dev)?;
        // With every group in space 0 the device reaches no other space, so the others are emptied
        // when they are first used. A parent with a default map may have it in any space, and has
        // few spaces.
        let default_map = dev.has_reset_map() || dev.has_compat_reset();
        let count = if default_map || !self.moves_groups(dev) {
            self.nas
        } else {
            1
        };
        for asid in 0..count {
            // Removal must wait for one op only, not for all of them.
            if !self.state.is_accessible() {
                return Err(ENODEV);
            }
            state.empty_space(dev, asid)?;
        }
        Ok(())
    }

    /// Returns true if groups can be in different address spaces.
    fn moves_groups(&self, dev: &Device) -> bool {
        self.nas > 1 && dev.has_set_group_asid()
    }

    /// Moves the groups that may be elsewhere back to address space 0: a parent may leave them
    /// where they are when it is reset (VDUSE does).
    fn gather_groups(&self, state: &mut State, dev: &Device) -> Result {
        if !self.moves_groups(dev) {
            return Ok(());
        }
        for (group, moved) in (0u32..).zip(state.moved.iter_mut()) {
            if *moved {
                if !self.state.is_accessible() {
                    return Err(ENODEV);
                }
                dev.set_group_asid(group, 0)?;
                *moved = false;
            }
        }
        Ok(())
    }

    /// Resets the device and counts the reset.
    fn reset_device(&self, dev: &Device, clean_map: bool) -> Result {
        let done = dev.reset(clean_map);
        self.stats.resets.add(1, Relaxed);
        trace::reset(self.minor, clean_map, &done);
        done
    }

    /// Clears the default map that a reset brought back. Until this succeeded the device is not
    /// started and nothing is mapped: it could reach all of memory.
    pub(super) fn clear_identity_map(&self, state: &mut State, dev: &Device) -> Result {
        if state.identity_mapped {
            for asid in 0..self.nas {
                state.empty_space(dev, asid)?;
                // At once, and not when all spaces are empty: the next one may fail.
                if let Some(space) = state.spaces.get_mut(&asid) {
                    space.mark_unmapped();
                }
            }
            state.identity_mapped = false;
        }
        Ok(())
    }

    /// Resets the device for `SET_STATUS(0)`. If the parent refuses, nothing changes.
    ///
    /// The parent's maps survive if userspace acked `IOTLB_PERSIST`, or if the parent does not
    /// clean them. Our ranges and pins survive in any case.
    pub(super) fn reset(&self, state: &mut State, dev: &Device) -> Result {
        let clean = !self.persistent();
        self.reset_device(dev, clean)?;
        state.suspended = false;
        state.batch = None;
        self.calls.unregister_unset(dev);
        state.vq_num_max = dev.get_vq_num_max();
        // Behind the platform's IOMMU the map is in our domain, which no parent cleans.
        if clean && dev.has_compat_reset() && dev.map_style() != MapStyle::Platform {
            // The parent is back at its 1:1 map, which userspace must not use.
            state.identity_mapped = true;
            state.foreign.fill(true);
        }
        // An earlier reset may have failed to clear the 1:1 map. No table is pushed until it is
        // cleared: otherwise a space that is already empty would be filled again while the others
        // are emptied.
        if state.identity_mapped {
            self.clear_identity_map(state, dev)?;
        } else {
            let target = Target::new(dev, state.domain.as_ref(), state.range);
            for space in state.spaces.values_mut() {
                space.sync_map(&target)?;
            }
        }
        Ok(())
    }

    /// Undoes what the open file set up: on release, on removal, and if an open failed.
    ///
    /// Resets the device first, and removes its maps before the pins. Errors do not stop this. Does
    /// nothing if there is nothing to undo.
    ///
    /// Removal waits for this: a reset, one op for each callback, and one for each address space
    /// through which the device may reach something.
    fn stop(&self, state: &mut State, dev: &Device) {
        if !state.active {
            return;
        }
        for producer in &mut state.producers {
            *producer = None;
        }
        let reset = self.reset_device(dev, !self.persistent());
        if state.mm_bound {
            dev.unbind_mm();
        }
        self.calls.unregister_all(dev);
        self.stats.closed(state.mapped().1);
        let mut spaces = core::mem::replace(&mut state.spaces, RBTree::new());
        let target = Target::new(dev, state.domain.as_ref(), state.range);
        let mut leaked = 0u64;
        for (asid, foreign) in (0u32..).zip(state.foreign.iter_mut()) {
            if let Some(space) = spaces.remove(&asid) {
                let end = space.release(&target, &state.empty, reset.is_ok());
                leaked = leaked.saturating_add(end.leaked);
                *foreign |= !end.unmapped;
            }
        }
        if leaked != 0 {
            dev_warn!(
                dev.device(),
                "the parent did not unmap: {leaked} pages stay pinned for good\n"
            );
        }
        // A device that was not reset may still process its queues, at addresses that userspace
        // chose. The next open finds it without maps, but must not find it with the 1:1 map.
        if reset.is_ok() && dev.has_reset_map() {
            for asid in 0..self.nas {
                let _ = dev.reset_map(asid);
            }
        }
        if dev.has_reset_map() || dev.has_compat_reset() {
            state.foreign.fill(true);
        }
        self.backend_features.store(0, Relaxed);
        state.clear();
    }

    /// Takes the device away from the process that has it open.
    ///
    /// Access was revoked, so no call on the file reaches the device any more. Undoes what the file
    /// set up, unless the file was closed before. Runs under vdpa core's lock and waits for nothing
    /// but the parent.
    pub(crate) fn end_for_removal(&self, dev: &Device) {
        let mut state = self.state.lock();
        trace::remove(self.minor, state.doorbells.is_some());
        if let Some(doorbells) = &state.doorbells {
            // The file drops the maps, so that the last reference to an inode is not put here.
            doorbells.zap();
        }
        // One last signal, so that a process that polls finds the device gone.
        for error in state.errors.iter().flatten() {
            error.signal();
        }
        if let Some(config) = self.calls.get(Source::Config) {
            config.signal();
        }
        // Access was revoked and no guard is left, so nobody else uses the device. `stop` runs
        // without the lock: callers get `ENODEV`, and must not wait for the parent.
        match State::new(0, 0, 0) {
            Ok(rest) => {
                let mut ended = core::mem::replace(&mut *state, rest);
                state.doorbells = ended.doorbells.take();
                state.counts = core::mem::take(&mut ended.counts);
                drop(state);
                self.stop(&mut ended, dev);
            }
            Err(_) => self.stop(&mut state, dev),
        }
    }

    /// Undoes what the file set up when it is closed, unless removal does so.
    pub(super) fn close(&self) {
        let mut locked = self.state.lock();
        let doorbells = locked.doorbells.take();
        if let Ok((state, dev)) = locked.try_access() {
            self.stop(state, &dev);
        }
        drop(locked);
        drop(doorbells);
    }
}
