// SPDX-License-Identifier: GPL-2.0

//! `rust_vdpa_sim_net.ko`: a NIC in software on the vDPA bus, for tests and demonstrations.
//!
//! `vdpa dev add name NAME mgmtdev rust_vdpasim_net` creates one. Any driver of the bus can bind
//! it.
//!
//! C: `drivers/vdpa/vdpa_sim/`.

#![forbid(unsafe_code)]

mod sim;

use core::marker::PhantomData;
use kernel::{
    debugfs::Dir,
    prelude::*,
    sync::Arc, //
};
use sim::Sim;
use vdpa_nic::{
    nic::{self, Nic, Wanted},
    peer::Links,
};
use vdpa_parent::{
    ether::random_mac,
    mgmtdev::{Management, ManagementDevice},
    parent_device::{NewDevice, Registered, Shape},
    parent_ops::{not_supported, Provision},
    sim_params as params,
};
use vdpa_sim::{
    engine::Class,
    flavour::{Chosen, Flavour, Simulator},
};

module! {
    type: SimNet,
    name: "rust_vdpa_sim_net",
    authors: ["The rust-vhost-vdpa authors"],
    description: "vDPA device simulator for networking, in Rust",
    license: "GPL v2",
}

/// Management device for NICs of one flavour.
struct NetManagement<F> {
    /// The directory of the NICs in debugfs.
    dir: Dir,
    /// The links between the NICs.
    links: Arc<Links>,
    _flavour: PhantomData<F>,
}

#[vtable]
impl<F: Flavour> Management for NetManagement<F> {
    type Device = Sim<Nic, F>;

    const NAME: &'static CStr = c"rust_vdpasim_net";
    const DEVICE_ID: u32 = Nic::DEVICE_ID;
    const ATTRIBUTES: u64 =
        Provision::MAC | Provision::MTU | Provision::MAX_VQP | Provision::FEATURES;
    const FEATURES: u64 = nic::ALL_FEATURES;
    const MAX_VQS: u32 = nic::queues(nic::MAX_PAIRS);

    fn dev_add(
        &self,
        new: NewDevice<'_, Self::Device>,
        provision: &Provision,
    ) -> Result<Registered> {
        let pairs = provision.max_vq_pairs().unwrap_or(1);
        let default = if pairs > 1 {
            nic::FEATURES_MQ
        } else {
            nic::FEATURES
        };
        let wanted = Wanted {
            features: provision.features_of(nic::ALL_FEATURES, default)?,
            mac: provision.mac().unwrap_or_else(random_mac),
            mtu: provision.mtu().unwrap_or(nic::DEFAULT_MTU),
            pairs,
            queue_max: params::net().queue_size,
            check: |_, _| Ok(()),
            implied: 0,
            software_control: false,
        };
        let setup = Nic::setup(new.name(), &self.links, true, wanted)?;
        let shape = Shape {
            vqs: nic::queues(pairs),
            groups: nic::GROUPS,
            address_spaces: nic::ADDRESS_SPACES,
        };
        new.register(shape, |name| {
            Sim::new(name, &self.dir, setup, params::net().max_iotlb_entries)
        })
    }

    fn dev_set_attr(&self, dev: &Self::Device, provision: &Provision) -> Result {
        let mac = provision.mac().ok_or_else(not_supported)?;
        dev.engine.change_config(|nic| nic.set_mac(mac));
        Ok(())
    }
}

/// Registers the module's management device.
struct Nics;

impl Simulator for Nics {
    type Registered<F: Flavour> = Pin<KBox<ManagementDevice<NetManagement<F>>>>;

    fn register<F: Flavour>(module: &'static ThisModule) -> Result<Self::Registered<F>> {
        let management = NetManagement {
            dir: Dir::new(c"rust_vdpa_sim_net"),
            links: Links::new()?,
            _flavour: PhantomData,
        };
        KBox::try_pin_init(ManagementDevice::new(management, module), GFP_KERNEL)
    }
}

/// The module. Unloading it unregisters its management device, whose flavour depends on the
/// parameters.
struct SimNet {
    _registered: Chosen<Nics>,
}

impl kernel::Module for SimNet {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let registered = Chosen::new(params::net(), module)?;
        pr_info!("management device rust_vdpasim_net\n");
        Ok(Self {
            _registered: registered,
        })
    }
}
