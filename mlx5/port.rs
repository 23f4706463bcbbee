// SPDX-License-Identifier: GPL-2.0

//! Class of the device: the simulators' NIC, with the groups, the config space and the link events
//! of `mlx5_vdpa`.

use super::debugfs::{KeyFile, KeyFiles};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};
use vdpa_nic::nic::{Nic, NicUnit};
use vdpa_parent::{
    parent_ops::Stats,
    virtio_ids as ids,
    worker::{Again, Waker},
};
use vdpa_sim::{
    engine::{Class, Io, Setup},
    queue::Queue,
};

/// Features that a device can offer.
pub(crate) const FEATURES: u64 = ids::F_VERSION_1
    | ids::F_ACCESS_PLATFORM
    | ids::F_NET_MAC
    | ids::F_NET_MTU
    | ids::F_NET_STATUS
    | ids::F_NET_CTRL_VQ
    | ids::F_NET_CTRL_MAC_ADDR
    | ids::F_NET_CTRL_VLAN
    | ids::F_NET_MQ;

/// Largest size of a queue.
pub(crate) const QUEUE_MAX: u16 = 256;

/// Group of the data queues' buffers.
pub(crate) const DATA_GROUP: u32 = 0;
/// Group of the control queue.
pub(crate) const CVQ_GROUP: u32 = 1;
/// Group of the data queues' rings.
pub(crate) const DESC_GROUP: u32 = 2;
/// Number of groups.
pub(crate) const GROUPS: u32 = 3;
/// Number of address spaces.
pub(crate) const ADDRESS_SPACES: u32 = 2;

/// The device, without its queues.
pub(crate) struct Port {
    nic: Arc<Nic>,
    offered: u64,
    /// True if the driver has to be told about the link.
    link_changed: Atomic<bool>,
}

impl Port {
    /// Returns the setup of a device, around that of its NIC.
    pub(crate) fn setup(nic: Setup<Nic>, keys: Arc<KeyFile>) -> Result<Setup<Self>> {
        let offered = nic.offered;
        let class = Arc::new(
            Self {
                nic: nic.class,
                offered,
                link_changed: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        Ok(Setup {
            class,
            units: nic.units,
            offered,
            groups: GROUPS,
            address_spaces: ADDRESS_SPACES,
            queue_max: nic.queue_max,
            files: KeyFiles(keys),
        })
    }

    /// Returns the NIC.
    pub(crate) fn nic(&self) -> &Nic {
        &self.nic
    }

    /// Makes the next thread that runs tell the driver about the link.
    pub(crate) fn link_changed(&self) {
        self.link_changed.store(true, Relaxed);
    }
}

impl Class for Port {
    const DEVICE_ID: u32 = Nic::DEVICE_ID;
    type Config = <Nic as Class>::Config;
    type Unit = NicUnit;
    type Files = KeyFiles;

    fn group(&self, idx: u16, features: u64) -> u32 {
        match self.nic.group(idx, features) {
            0 => DATA_GROUP,
            _ => CVQ_GROUP,
        }
    }

    fn desc_group(&self, idx: u16, features: u64) -> u32 {
        match self.nic.group(idx, features) {
            0 => DESC_GROUP,
            _ => CVQ_GROUP,
        }
    }

    fn config(&self, _features: u64) -> Self::Config {
        // There is no legacy interface: fields are always little-endian.
        let mut config = self.nic.config(ids::F_VERSION_1);
        // struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu.
        for (feature, field) in [
            (ids::F_NET_STATUS, 6..8),
            (ids::F_NET_MQ, 8..10),
            (ids::F_NET_MTU, 10..12),
        ] {
            if self.offered & feature == 0 {
                config.get_mut(field).unwrap_or_default().fill(0);
            }
        }
        config
    }

    fn started(&self, wakers: KVec<Waker>) {
        self.nic.started(wakers);
    }

    fn run(&self, unit: &mut NicUnit, queues: &mut [Queue], io: &Io<'_>) -> Again {
        if self.link_changed.xchg(false, Relaxed) {
            io.tell_config();
        }
        self.nic.run(unit, queues, io)
    }

    fn reset_unit(&self, unit: &mut NicUnit) {
        self.nic.reset_unit(unit);
    }

    fn reset(&self) {
        self.link_changed.store(false, Relaxed);
        self.nic.reset();
    }

    fn stats(
        &self,
        _unit: &NicUnit,
        queue: &Queue,
        _idx: u16,
        _features: u64,
        stats: &mut Stats<'_>,
    ) -> Result {
        let (received, completed) = queue.counts();
        stats.put(c"received_desc", received)?;
        stats.put(c"completed_desc", completed)
    }
}
