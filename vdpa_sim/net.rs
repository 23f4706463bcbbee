// SPDX-License-Identifier: GPL-2.0

//! `rust_vdpa_sim_net.ko`: a NIC in software on the vDPA bus, for tests and demonstrations.
//!
//! `vdpa dev add name NAME mgmtdev rust_vdpasim_net` makes one. Any driver of the bus can take it.
//!
//! C: `drivers/vdpa/vdpa_sim/`.

#[path = "../abstractions/parent.rs"]
mod abstractions;
mod maps;
mod nic;
#[allow(
    dead_code,
    reason = "shared by all parents, each of which uses its part"
)]
#[path = "../parent_ops.rs"]
mod parent_ops;
mod ring;
#[cfg(CONFIG_KUNIT = "y")]
mod ring_cases;
mod sim;

use abstractions::{
    ether::random_mac,
    mgmtdev::{Management, ManagementDevice},
    parent_device::{NewDevice, Registered, Shape},
};
use kernel::prelude::*;
use nic::Nic;
use parent_ops::{not_supported, Provision};
use sim::{Class, Sim};

module! {
    type: SimNet,
    name: "rust_vdpa_sim_net",
    authors: ["The rust-vhost-vdpa authors"],
    description: "vDPA device simulator for networking, in Rust",
    license: "GPL v2",
}

/// What makes and changes NICs.
struct NetManagement;

#[vtable]
impl Management for NetManagement {
    type Device = Sim<Nic>;

    const NAME: &'static CStr = c"rust_vdpasim_net";
    const DEVICE_ID: u32 = Nic::DEVICE_ID;
    const ATTRIBUTES: u64 = Provision::MAC | Provision::MTU | Provision::FEATURES;
    const FEATURES: u64 = nic::FEATURES;
    const MAX_VQS: u32 = Nic::QUEUES as u32;

    fn dev_add(&self, new: NewDevice<'_, Sim<Nic>>, provision: &Provision) -> Result<Registered> {
        let offered = provision.features().unwrap_or(nic::FEATURES);
        if offered & !nic::FEATURES != 0 {
            return Err(EINVAL);
        }
        let nic = Nic::new(
            provision.mac().unwrap_or_else(random_mac),
            provision.mtu().unwrap_or(nic::DEFAULT_MTU),
        )?;
        let sim = Sim::new(new.name(), offered, nic)?;
        let shape = Shape {
            vqs: Nic::QUEUES.into(),
            groups: Nic::GROUPS,
            address_spaces: Nic::ADDRESS_SPACES,
        };
        new.register(shape, sim)
    }

    fn dev_set_attr(&self, dev: &Sim<Nic>, provision: &Provision) -> Result {
        let mac = provision.mac().ok_or_else(not_supported)?;
        dev.change_config(|nic| nic.set_mac(mac));
        Ok(())
    }
}

/// The module: it is there as long as its management device is.
struct SimNet {
    _management: Pin<KBox<ManagementDevice<NetManagement>>>,
}

impl kernel::Module for SimNet {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let management =
            KBox::try_pin_init(ManagementDevice::new(NetManagement, module), GFP_KERNEL)?;
        pr_info!("management device rust_vdpasim_net\n");
        Ok(Self {
            _management: management,
        })
    }
}

#[kunit_tests(rust_vdpa_sim_ring)]
mod tests {
    use super::ring_cases;

    #[test]
    fn cases() {
        assert_eq!(ring_cases::all(), Ok(()));
    }

    #[test]
    fn hostile_drivers() {
        for seed in 1..20 {
            assert!(ring_cases::hostile(seed, 20).is_ok());
        }
    }
}
