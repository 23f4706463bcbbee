// SPDX-License-Identifier: GPL-2.0

//! A device: how it is opened and started, reset and stopped, and taken away from who has it open.
//!
//! # Locking
//!
//! Outermost first:
//!
//! 1. `device_lock` of the vdpa device and vdpa core's locks (around probe and removal).
//! 2. vhost core's mutexes (around vhost core's own ioctls, over user copies; and around all of
//!    `VHOST_SET_OWNER`). Removal takes none of them.
//! 3. [`VhostVdpa::state`]: the only way to the device, so parents see one op at a time; never held over
//!    user copies or page faults, so that removal, which takes it, waits for parents only.
//! 4. Access to the device ([`vdpa_bus_driver::revocable`]): SRCU; the device stays as long as a guard
//!    is held.
//! 5. The parent's own locks.
//! 6. [`CallSlots`]' lock, taken by parents' callbacks, with interrupts off; then the eventfd's.
//!
//! `mmap_lock` is taken while pinning, outside `state`. Page faults in doorbells and kicks access the
//! device and take none of our locks.
//!
//! # Who ends what a file set up
//!
//! [`VhostVdpa::stop`], once. [`State::active`] says that there is something to end. `close()` ends it
//! if it gets access to the device; if access was revoked, removal has ended it or will, because it
//! revokes access before it takes the state's lock.

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

/// A device, from probe until both it is removed and its last file is closed.
#[pin_data]
pub(crate) struct VhostVdpa {
    /// The N in the device's name, for tracepoints.
    pub(super) minor: i32,
    /// The number of queues; queue indices are below it.
    pub(super) nvqs: u32,
    pub(super) ngroups: u32,
    pub(super) nas: u32,
    pub(super) use_va: bool,
    /// True while a file is open. There is one at a time.
    pub(super) opened: Atomic<bool>,
    /// The backend features that were acked last. Written with the state locked.
    pub(super) backend_features: Atomic<u64>,
    /// The slots of parents' callbacks. They live as long as the node: a parent that calls late
    /// finds an empty one.
    pub(crate) calls: CallSlots,
    pub(super) stats: debug::Stats,
    /// Kicks of each queue.
    pub(super) kicks: KVVec<debug::Kicks>,
    /// Records what the log was told once.
    pub(super) told: debug::Told,
    #[pin]
    pub(super) state: DeviceMutex<State>,
}

/// State of the open file. Empty while there is none, but for what is counted, and what is known of
/// the parent.
pub(crate) struct State {
    /// There is something that [`VhostVdpa::stop`] has to end.
    active: bool,
    /// The process that owns the device.
    pub(super) owner: Option<ARef<Mm>>,
    /// True while the parent has the owner's address space.
    pub(super) mm_bound: bool,
    /// IOVAs that may be mapped.
    pub(super) range: IovaRange,
    /// The address spaces that were used, by id.
    pub(super) spaces: RBTree<u32, AddressSpace>,
    /// The address space of the batch that is open.
    pub(super) batch: Option<u32>,
    /// What messages did since the device came.
    pub(super) counts: debug::Counts,
    /// What a device is given that is to reach nothing: there, so that memory cannot be short.
    empty: OwnedIotlb,
    /// The IOMMU domain of a device behind the platform's IOMMU.
    pub(super) domain: Option<Domain>,
    /// Interrupts offered for bypass, by queue.
    pub(super) producers: KVec<Option<Pin<KBox<Producer>>>>,
    /// Eventfds for errors, by queue.
    pub(super) errors: KVec<Option<EventFd>>,
    /// The virtio features that the parent took.
    pub(super) features: u64,
    /// The largest queue, as the parent said after the last reset.
    pub(super) vq_num_max: u16,
    pub(super) suspended: bool,
    /// A reset brought the parent's default map back, and it has not been taken away again yet.
    pub(super) identity_mapped: bool,
    /// For each address space: the device may reach something through it that the open file did not
    /// map.
    foreign: KVVec<bool>,
    /// For each group: it may be in another address space than 0.
    pub(super) moved: KVVec<bool>,
    /// The maps of the file that is open, to be taken away on removal.
    mapping: Option<Arc<DoorbellMaps>>,
}

impl State {
    fn new(nvqs: u32, ngroups: u32, nas: u32) -> Result<Self> {
        let mut producers = KVec::with_capacity(nvqs as usize, GFP_KERNEL)?;
        let mut errors = KVec::with_capacity(nvqs as usize, GFP_KERNEL)?;
        for _ in 0..nvqs {
            producers.push(None, GFP_KERNEL)?;
            errors.push(None, GFP_KERNEL)?;
        }
        // Another driver may have had the device before.
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
            mapping: None,
        })
    }

    /// Back to how it was before the file was opened; address spaces must be released already.
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

    /// How much is mapped in all address spaces, and the most there was in each.
    pub(super) fn mapped(&self) -> (Mapped, Mapped) {
        let mut sums = (Mapped::default(), Mapped::default());
        for space in self.spaces.values() {
            sums = (sums.0.plus(space.mapped()), sums.1.plus(space.peak()));
        }
        sums
    }

    /// Takes away what others left in an address space.
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

    /// Calls one op of the device. `ENODEV` once the device is gone.
    pub(super) fn ask<R>(&self, f: impl FnOnce(&Device) -> R) -> Result<R> {
        let mut locked = self.state.lock();
        let (_state, dev) = locked.try_access()?;
        Ok(f(&dev))
    }

    /// Returns whether userspace acked that maps survive a reset.
    fn persistent(&self) -> bool {
        self.backend_features.load(Relaxed) & backend_features::IOTLB_PERSIST != 0
    }

    /// Prepares a device for the file being opened.
    pub(super) fn start(&self, mapping: Arc<DoorbellMaps>) -> Result {
        let mut locked = self.state.lock();
        let (state, dev) = locked.try_access()?;
        // No acks yet, hence no cleaning of maps either.
        self.reset_device(&dev, false)?;
        state.active = true;
        let prepared = self.prepare_device(state, &dev);
        if prepared.is_err() {
            self.stop(state, &dev);
        } else {
            state.mapping = Some(mapping);
        }
        prepared
    }

    /// Makes a device that was reset one that reaches nothing, whoever had it before.
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
        // With every group in space 0 the device reaches no other, so those are emptied when they
        // are used first. A parent that has a default map may have it anywhere, and has few spaces.
        let default_map = dev.has_reset_map() || dev.has_compat_reset();
        let count = if default_map || !self.moves_groups(dev) {
            self.nas
        } else {
            1
        };
        for asid in 0..count {
            // Removal waits for one op, not for all of them.
            if !self.state.is_accessible() {
                return Err(ENODEV);
            }
            state.empty_space(dev, asid)?;
        }
        Ok(())
    }

    /// Returns whether groups can be in different address spaces.
    fn moves_groups(&self, dev: &Device) -> bool {
        self.nas > 1 && dev.has_set_group_asid()
    }

    /// Brings back to address space 0 the groups that may be elsewhere: a parent may leave them
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

    /// Resets the device and counts it.
    fn reset_device(&self, dev: &Device, clean_map: bool) -> Result {
        let done = dev.reset(clean_map);
        self.stats.resets.add(1, Relaxed);
        trace::reset(self.minor, clean_map, &done);
        done
    }

    /// Takes away the default map that a reset brought back. Until that succeeded the device is
    /// not started and nothing is mapped: it could reach all of memory.
    pub(super) fn clear_identity_map(&self, state: &mut State, dev: &Device) -> Result {
        if state.identity_mapped {
            for asid in 0..self.nas {
                state.empty_space(dev, asid)?;
                // Now, and not when all are empty: the next one may fail.
                if let Some(space) = state.spaces.get_mut(&asid) {
                    space.mark_unmapped();
                }
            }
            state.identity_mapped = false;
        }
        Ok(())
    }

    /// Resets the device for `SET_STATUS(0)`. A device that refuses is as it was before.
    ///
    /// Maps survive if userspace acked `IOTLB_PERSIST`, or if the parent is none that cleans them;
    /// ranges and pins of ours survive in any case.
    pub(super) fn reset(&self, state: &mut State, dev: &Device) -> Result {
        let clean = !self.persistent();
        self.reset_device(dev, clean)?;
        state.suspended = false;
        state.batch = None;
        self.calls.unregister_unset(dev);
        state.vq_num_max = dev.get_vq_num_max();
        // With an IOMMU of the platform, the map is in our domain, and no parent cleans that.
        if clean && dev.has_compat_reset() && dev.map_style() != MapStyle::Platform {
            // The parent is back at its 1:1 map, which is not for userspace.
            state.identity_mapped = true;
            state.foreign.fill(true);
        }
        // A reset before this one may have left it so. No table is pushed as long: a space that is
        // already empty would be filled behind the back of what empties the others.
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

    /// Ends what the open file set up: for release and removal, and for an open that failed.
    ///
    /// The device is reset first and its maps go before the pins; errors cannot stop this. Does
    /// nothing where there is nothing to end.
    ///
    /// Removal waits for this: a reset, one op for each callback, and one for each address space
    /// that the device may reach something through.
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
        // A device that would not be reset may still be at its queues, whose addresses userspace
        // chose: the next open finds it without maps, but not with the 1:1 map.
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

    /// Takes the device away from whoever has it open.
    ///
    /// Access was revoked, so no call of the file reaches the device any more; what the file set up
    /// is ended here, unless it was closed before. Runs under vdpa core's lock and waits for nothing
    /// but the parent.
    pub(crate) fn revoke(&self, dev: &Device) {
        let mut state = self.state.lock();
        trace::remove(self.minor, state.mapping.is_some());
        if let Some(mapping) = &state.mapping {
            // It is the file's to drop, so that no inode ends here.
            mapping.zap();
        }
        // One last signal, so that whoever polls looks and finds the device gone.
        for error in state.errors.iter().flatten() {
            error.signal();
        }
        if let Some(config) = self.calls.get(Source::Config) {
            config.signal();
        }
        // Access was revoked and no guard is left, so the device is ours alone. What there is to end
        // leaves the lock: callers get `ENODEV`, and must not wait for the parent.
        match State::new(0, 0, 0) {
            Ok(rest) => {
                let mut ended = core::mem::replace(&mut *state, rest);
                state.mapping = ended.mapping.take();
                state.counts = core::mem::take(&mut ended.counts);
                drop(state);
                self.stop(&mut ended, dev);
            }
            Err(_) => self.stop(&mut state, dev),
        }
    }

    /// Ends what the file set up when it is closed; beside a removal, leaves it to that.
    pub(super) fn close(&self) {
        let mut locked = self.state.lock();
        let mapping = locked.mapping.take();
        if let Ok((state, dev)) = locked.try_access() {
            self.stop(state, &dev);
        }
        drop(locked);
        drop(mapping);
    }
}
