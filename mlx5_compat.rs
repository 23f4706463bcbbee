// SPDX-License-Identifier: GPL-2.0

//! `rust_mlx5_compat.ko`: a NIC in software whose maps are memory keys, like those that `mlx5_vdpa`
//! has in hardware.
//!
//! `vdpa dev add name NAME mgmtdev rust_mlx5_compat` creates one. Any driver of the bus can bind
//! it.
//!
//! C: `drivers/vdpa/mlx5/`.

#![forbid(unsafe_code)]

mod mlx5;

use kernel::{
    debugfs::Dir,
    prelude::*,
    sync::Arc, //
};
use mlx5::{
    command,
    device::Device,
    index::Queues,
    port::{self, Port}, //
};
use vdpa_nic::{
    nic::{self, Nic, Wanted},
    peer::Links,
};
use vdpa_parent::{
    ether::random_mac,
    mgmtdev::{Management, ManagementDevice},
    parent_device::{NewDevice, Registered, Shape},
    parent_ops::{not_supported, Provision},
    sim_params::mlx5_max_iotlb_entries as max_iotlb_entries,
    virtio_ids as ids,
};
use vdpa_sim::engine::Class;
#[cfg(CONFIG_KUNIT = "y")]
use vdpa_sim::random;

module! {
    type: Mlx5Compat,
    name: "rust_mlx5_compat",
    authors: ["The rust-vhost-vdpa authors"],
    description: "vDPA network device with memory keys, in software, in Rust",
    license: "GPL v2",
}

/// Features that a device must offer.
const NEEDED: u64 = ids::F_VERSION_1 | ids::F_ACCESS_PLATFORM;

/// Management device: creates and changes devices.
struct Compat {
    /// The directory of the devices in debugfs.
    dir: Dir,
    /// The links on which the devices' NICs are registered.
    links: Arc<Links>,
}

/// Returns the features that a device is to offer. Errors: `EINVAL` for unknown features,
/// `EOPNOTSUPP` without the mandatory ones.
fn features(provision: &Provision) -> Result<u64> {
    let features = provision.features().unwrap_or(port::FEATURES);
    if features & !port::FEATURES != 0 {
        return Err(EINVAL);
    }
    if features & NEEDED != NEEDED {
        return Err(not_supported());
    }
    Ok(features)
}

/// Returns the MAC address that a device is to have: zeroes, if none is given and the feature is
/// not offered. Errors: `EINVAL` for zeroes with the feature.
fn mac(provision: &Provision, features: u64) -> Result<[u8; 6]> {
    let mac = match provision.mac() {
        None if features & ids::F_NET_MAC == 0 => return Ok([0; 6]),
        None => random_mac(),
        Some(mac) => mac,
    };
    if mac == [0; 6] && features & ids::F_NET_MAC != 0 {
        return Err(EINVAL);
    }
    Ok(mac)
}

#[vtable]
impl Management for Compat {
    type Device = Device;

    const NAME: &'static CStr = c"rust_mlx5_compat";
    const DEVICE_ID: u32 = Port::DEVICE_ID;
    const ATTRIBUTES: u64 =
        Provision::MAC | Provision::MTU | Provision::MAX_VQP | Provision::FEATURES;
    const FEATURES: u64 = port::FEATURES;
    const MAX_VQS: u32 = nic::queues(nic::MAX_PAIRS);

    fn dev_add(&self, new: NewDevice<'_, Device>, provision: &Provision) -> Result<Registered> {
        let offered = features(provision)?;
        let pairs = provision.max_vq_pairs().unwrap_or(1);
        let wanted = Wanted {
            features: offered,
            mac: mac(provision, offered)?,
            mtu: provision.mtu().unwrap_or(nic::DEFAULT_MTU),
            pairs,
            queue_max: port::QUEUE_MAX,
            check: command::check,
            // `mlx5_vdpa` does not check any feature before it changes the address.
            implied: ids::F_NET_CTRL_MAC_ADDR,
            software_control: true,
        };
        // Devices of this module are not connected to each other.
        let nic = Nic::setup(new.name(), &self.links, false, wanted)?;
        let shape = Shape {
            vqs: nic::queues(pairs),
            groups: port::GROUPS,
            address_spaces: port::ADDRESS_SPACES,
        };
        new.register(shape, |name| {
            Device::new(name, &self.dir, nic, Queues::new(pairs))
        })
    }

    fn dev_set_attr(&self, dev: &Device, provision: &Provision) -> Result {
        dev.set_mac(provision.mac().ok_or_else(not_supported)?)
    }
}

/// The module. Unloading it unregisters its management device.
struct Mlx5Compat {
    _management: Pin<KBox<ManagementDevice<Compat>>>,
}

impl kernel::Module for Mlx5Compat {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // A range over the whole 64-bit space becomes two entries.
        if max_iotlb_entries() < 2 {
            return Err(EINVAL);
        }
        let compat = Compat {
            dir: Dir::new(c"rust_mlx5_compat"),
            links: Links::new()?,
        };
        let management = KBox::try_pin_init(ManagementDevice::new(compat, module), GFP_KERNEL)?;
        pr_info!("management device rust_mlx5_compat\n");
        Ok(Self {
            _management: management,
        })
    }
}
