// SPDX-License-Identifier: GPL-2.0

//! Ops of the device: those of the engine, with the rules of `mlx5_vdpa` added.
//!
//! C: `drivers/vdpa/mlx5/net/mlx5_vnet.c`.

use super::{
    debugfs::KeyFile,
    index::{consistent, Queues},
    maps::Maps as Table,
    port::{Port, ADDRESS_SPACES, CVQ_GROUP, DATA_GROUP, DESC_GROUP, GROUPS, QUEUE_MAX},
};
use kernel::{
    debugfs::Dir,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};
use vdpa_nic::nic::Nic;
use vdpa_parent::{
    ether::Mac,
    iotlb::Iotlb,
    parent_ops::{not_supported, Maps, Stats, VdpaConfigOps, VqState},
    sim_params::mlx5_max_iotlb_entries as max_iotlb_entries,
    virtio_ids as ids,
};
use vdpa_sim::{
    engine::{Engine, Paused, Setup},
    engine_ops,
    space::Table as _,
};

/// A device.
pub(crate) struct Device {
    engine: Engine<Port, Table>,
    key_file: Arc<KeyFile>,
    queues: Queues,
    /// The negotiated features, also for kicks, which take no lock.
    features: Atomic<u64>,
    /// True between `suspend` and `resume` or a reset.
    suspended: Atomic<bool>,
    /// The address spaces of the groups, as the driver set them.
    asids: [Atomic<u32>; GROUPS as usize],
}

impl Device {
    /// Creates a device after a reset, with a directory below `dir`.
    pub(crate) fn new(name: &CStr, dir: &Dir, nic: Setup<Nic>, queues: Queues) -> Result<Self> {
        let mut kinds = KVec::new();
        for asid in 0..ADDRESS_SPACES {
            kinds.push(Table::at_rest(asid).kind(), GFP_KERNEL)?;
        }
        let key_file = KeyFile::new(kinds)?;
        let setup = Port::setup(nic, key_file.clone())?;
        let mut asid = 0..;
        let table = || asid.next().map_or(Table::NONE, Table::at_rest);
        Ok(Self {
            engine: Engine::new(name, dir, setup, table)?,
            key_file,
            queues,
            features: Atomic::new(0),
            suspended: Atomic::new(false),
            asids: [const { Atomic::new(0) }; GROUPS as usize],
        })
    }

    /// Changes the MAC address.
    ///
    /// Errors: `EBUSY` while a driver runs the device, `EINVAL` for an address of zeroes.
    pub(crate) fn set_mac(&self, mac: Mac) -> Result {
        if self.is_running() {
            return Err(EBUSY);
        }
        if mac == [0; 6] {
            return Err(EINVAL);
        }
        self.engine.class().nic().set_mac(mac);
        Ok(())
    }

    /// Returns true if DRIVER_OK is set.
    fn is_running(&self) -> bool {
        self.engine.get_status() & ids::STATUS_DRIVER_OK != 0
    }

    /// Returns true if queue `idx` exists with the negotiated features.
    fn exists(&self, idx: u16) -> bool {
        self.queues.exists(idx, self.features.load(Relaxed))
    }

    /// Returns `EINVAL` unless queue `idx` exists.
    fn check(&self, idx: u16) -> Result {
        self.exists(idx).then_some(()).ok_or(EINVAL)
    }

    /// Returns true if `idx` is the control queue with the negotiated features.
    fn is_control(&self, idx: u16) -> bool {
        self.queues.is_control(idx, self.features.load(Relaxed))
    }

    /// Returns the address space of a group.
    fn asid(&self, group: u32) -> u32 {
        let asid = self.asids.get(group as usize);
        asid.map_or(0, |asid| asid.load(Relaxed))
    }

    /// Selects the key for rings before queues run: that of their own group if its address space
    /// has one, else that of the buffers.
    fn choose_desc_key(&self) -> Result {
        let own = self.asid(DESC_GROUP);
        let asid = match self.engine.space(own)?.change(|maps| maps.is_usable()) {
            true => own,
            false => self.asid(DATA_GROUP),
        };
        self.engine.set_group_asid(DESC_GROUP, asid)
    }

    /// Moves rings from the key of the buffers to that of their own group, if that has one by now.
    /// Hardware gets all keys whenever one is replaced.
    fn follow_desc_key(&self, paused: &mut Paused<'_, Port, Table>) -> Result {
        let own = self.asid(DESC_GROUP);
        if self.engine.space(own)?.change(|maps| maps.is_usable()) {
            paused.set_group_asid(DESC_GROUP, own)?;
        }
        Ok(())
    }

    /// Sets up the queues with new keys, as for firmware that cannot change the key of a queue.
    fn set_up_again(&self, paused: &Paused<'_, Port, Table>) -> Result {
        if paused.is_to_run() {
            self.key_file.set_up.hit()?;
        }
        Ok(())
    }

    /// Returns true if hardware serves data queue `idx` at present.
    fn is_served(&self, idx: u16) -> bool {
        self.is_running()
            && !self.suspended.load(Relaxed)
            && self.engine.get_vq_ready(idx)
            && self.engine.class().nic().is_active(idx / 2)
    }

    /// Tells the driver about its link, from the first queue's thread.
    fn tell_link(&self) {
        self.engine.class().link_changed();
        self.engine.kick_vq(0);
    }

    /// Replaces the key of an address space. Running queues are stopped, and then continue with the
    /// new key.
    ///
    /// Errors: `EINVAL` if the address space does not exist, `EIO` if the queues cannot be set up
    /// again. The old key is then in use again.
    fn replace_mkey(&self, asid: u32, new: Table) -> Result {
        let kind = new.kind();
        let old = self.engine.with_vqs_suspended(|paused| {
            let replace = |new| {
                self.engine
                    .change_maps(asid, |maps| core::mem::replace(maps, new))
            };
            let old = replace(new)?;
            // The hardware is not told of a key where there was none before.
            if old.is_usable() && paused.is_started() {
                if let Err(error) = self.set_up_again(paused) {
                    drop(replace(old)?);
                    return Err(error);
                }
                self.follow_desc_key(paused)?;
            }
            Ok(old)
        });
        // Freed without a lock held.
        drop(old?);
        self.key_file.exchanged(asid, kind);
        Ok(())
    }
}

#[vtable]
impl VdpaConfigOps for Device {
    const MAPS: Maps = Maps::Legacy;

    // Callbacks of queues that do not exist, too: one that was set has to be replaced.
    engine_ops!(engine: set_vq_cb, get_vq_align, get_device_features, get_backend_features,
        get_driver_features, set_config_cb, get_device_id, get_vendor_id, get_status, get_config_size,
        get_config, get_generation);

    fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result {
        self.check(idx)?;
        self.engine.set_vq_address(idx, desc, driver, device)
    }

    fn set_vq_num(&self, idx: u16, num: u32) {
        if self.exists(idx) {
            self.engine.set_vq_num(idx, num);
        }
    }

    fn kick_vq(&self, idx: u16) {
        if self.exists(idx) {
            self.engine.kick_vq(idx);
        }
    }

    fn set_vq_ready(&self, idx: u16, ready: bool) {
        if self.features.load(Relaxed) != 0 && self.exists(idx) {
            self.engine.set_vq_ready(idx, ready);
        }
    }

    fn get_vq_ready(&self, idx: u16) -> bool {
        self.exists(idx) && self.engine.get_vq_ready(idx)
    }

    fn set_vq_state(&self, idx: u16, state: &VqState) -> Result {
        self.check(idx)?;
        let runs = self.is_running() && !self.suspended.load(Relaxed);
        if runs && !self.is_control(idx) && self.engine.get_vq_ready(idx) {
            return Err(EINVAL);
        }
        self.engine.set_vq_state(idx, state)
    }

    fn get_vq_state(&self, idx: u16) -> Result<VqState> {
        self.check(idx)?;
        self.engine.get_vq_state(idx)
    }

    fn get_vendor_vq_stats(&self, idx: u16, stats: &mut Stats<'_>) -> Result {
        self.check(idx)?;
        if !self.is_control(idx) && !self.is_served(idx) {
            return Err(EAGAIN);
        }
        self.engine.get_vendor_vq_stats(idx, stats)
    }

    fn get_vq_group(&self, idx: u16) -> u32 {
        match self.is_control(idx) {
            true => CVQ_GROUP,
            false => DATA_GROUP,
        }
    }

    fn get_vq_desc_group(&self, idx: u16) -> u32 {
        match self.is_control(idx) {
            true => CVQ_GROUP,
            false => DESC_GROUP,
        }
    }

    fn set_driver_features(&self, features: u64) -> Result {
        if features & ids::F_ACCESS_PLATFORM == 0 {
            return Err(not_supported());
        }
        if !consistent(features) {
            return Err(EINVAL);
        }
        self.engine.set_driver_features(features)?;
        let now = self.engine.get_driver_features();
        self.features.store(now, Relaxed);
        Ok(())
    }

    fn get_vq_num_max(&self) -> u16 {
        QUEUE_MAX
    }

    fn set_status(&self, status: u8) {
        let begins = status & ids::STATUS_DRIVER_OK != 0;
        match (self.is_running(), begins) {
            // Only a reset clears DRIVER_OK.
            (true, false) => {}
            (false, true) => {
                // This cannot fail: group and address space were checked.
                let _ = self.choose_desc_key();
                self.engine.set_status(status);
                if self.features.load(Relaxed) & ids::F_NET_STATUS != 0 {
                    self.tell_link();
                }
            }
            _ => self.engine.set_status(status),
        }
    }

    fn reset(&self) -> Result {
        self.compat_reset(0)
    }

    fn compat_reset(&self, flags: u32) -> Result {
        self.engine.faults().reset.hit()?;
        self.engine.reset();
        self.suspended.store(false, Relaxed);
        self.features.store(0, Relaxed);
        for asid in self.asids.iter() {
            asid.store(0, Relaxed);
        }
        if flags & ids::RESET_F_CLEAN_MAP != 0 {
            for asid in 0..ADDRESS_SPACES {
                self.replace_mkey(asid, Table::at_rest(asid))?;
            }
        }
        Ok(())
    }

    fn suspend(&self) -> Result {
        self.engine.faults().suspend.hit()?;
        self.engine.suspend();
        self.suspended.store(true, Relaxed);
        Ok(())
    }

    fn resume(&self) -> Result {
        self.engine.faults().resume.hit()?;
        self.suspended.store(false, Relaxed);
        self.engine.resume();
        self.tell_link();
        Ok(())
    }

    fn set_config(&self, _offset: usize, _buf: &[u8]) {
        // No field is writable.
    }

    fn set_map(&self, asid: c_uint, iotlb: &Iotlb) -> Result {
        self.engine.faults().set_map.hit()?;
        self.engine.space(asid)?;
        self.replace_mkey(asid, Table::new(iotlb, max_iotlb_entries())?)
    }

    fn reset_map(&self, asid: c_uint) -> Result {
        self.engine.faults().reset_map.hit()?;
        self.replace_mkey(asid, Table::at_rest(asid))
    }

    fn set_group_asid(&self, group: c_uint, asid: c_uint) -> Result {
        self.engine.set_group_asid(group, asid)?;
        if let Some(now) = self.asids.get(group as usize) {
            now.store(asid, Relaxed);
        }
        Ok(())
    }
}
