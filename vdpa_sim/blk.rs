// SPDX-License-Identifier: GPL-2.0

//! `rust_vdpa_sim_blk.ko`: a disk in software on the vDPA bus, for tests and demonstrations.
//!
//! `vdpa dev add name NAME mgmtdev rust_vdpasim_blk` creates one. Any driver of the bus can bind
//! it.
//!
//! C: `drivers/vdpa/vdpa_sim/`.

#![forbid(unsafe_code)]

mod blk {
    pub(crate) mod backend;
    pub(crate) mod disk;
    pub(crate) mod request;
    #[cfg(CONFIG_KUNIT = "y")]
    mod tests {
        mod disk;
        mod request_cases;
    }
}
mod sim;

use blk::{
    backend::Backend,
    disk::{self, Disk}, //
};
use core::marker::PhantomData;
use kernel::{
    debugfs::Dir,
    prelude::*,
    sync::Arc, //
};
use sim::Sim;
use vdpa_parent::{
    blk_params,
    mgmtdev::{Management, ManagementDevice},
    parent_device::{NewDevice, Registered, Shape},
    parent_ops::Provision,
    sim_params as params,
};
#[cfg(CONFIG_KUNIT = "y")]
use vdpa_sim::random;
use vdpa_sim::{
    engine::Class,
    flavour::{Chosen, Flavour, Simulator},
    ring,
};

module! {
    type: SimBlk,
    name: "rust_vdpa_sim_blk",
    authors: ["The rust-vhost-vdpa authors"],
    description: "vDPA device simulator for block devices, in Rust",
    license: "GPL v2",
}

/// Management device for disks of one flavour.
struct BlkManagement<F> {
    /// The directory of the disks in debugfs.
    dir: Dir,
    /// The number of queues of a disk.
    queues: u16,
    /// The memory that all disks share for their sectors, unless each has its own.
    shared: Option<Arc<Backend>>,
    _flavour: PhantomData<F>,
}

#[vtable]
impl<F: Flavour> Management for BlkManagement<F> {
    type Device = Sim<Disk, F>;

    const NAME: &'static CStr = c"rust_vdpasim_blk";
    const DEVICE_ID: u32 = Disk::DEVICE_ID;
    const ATTRIBUTES: u64 = Provision::FEATURES;
    const FEATURES: u64 = disk::ALL_FEATURES;
    const MAX_VQS: u32 = disk::MAX_QUEUES as u32;

    fn dev_add(
        &self,
        new: NewDevice<'_, Self::Device>,
        provision: &Provision,
    ) -> Result<Registered> {
        let offered = provision.features_of(disk::ALL_FEATURES, disk::FEATURES)?;
        let backend = match &self.shared {
            Some(shared) => shared.clone(),
            None => Arc::new(Backend::new(blk_params::capacity())?, GFP_KERNEL)?,
        };
        let disk = Disk::new(
            backend,
            offered,
            self.queues,
            params::blk().queue_size,
            // Access to the memory of a process can block for long, and would block the other
            // disks, too.
            F::USE_VA && self.shared.is_some(),
        );
        let shape = Shape {
            vqs: disk.queues().into(),
            groups: disk::GROUPS,
            address_spaces: disk::ADDRESS_SPACES,
        };
        let setup = disk.setup(offered)?;
        new.register(shape, |name| {
            Sim::new(name, &self.dir, setup, params::blk().max_iotlb_entries)
        })
    }
}

/// Registers the module's management device.
struct Disks;

impl Simulator for Disks {
    type Registered<F: Flavour> = Pin<KBox<ManagementDevice<BlkManagement<F>>>>;

    fn register<F: Flavour>(module: &'static ThisModule) -> Result<Self::Registered<F>> {
        let shared = if blk_params::shared_backend() {
            Some(Arc::new(Backend::new(blk_params::capacity())?, GFP_KERNEL)?)
        } else {
            None
        };
        let management = BlkManagement {
            dir: Dir::new(c"rust_vdpa_sim_blk"),
            queues: blk_params::num_queues(),
            shared,
            _flavour: PhantomData,
        };
        KBox::try_pin_init(ManagementDevice::new(management, module), GFP_KERNEL)
    }
}

/// The module. Unloading it unregisters its management device, whose flavour depends on the
/// parameters.
struct SimBlk {
    _registered: Chosen<Disks>,
}

impl kernel::Module for SimBlk {
    fn init(module: &'static ThisModule) -> Result<Self> {
        if !(1..=disk::MAX_QUEUES).contains(&blk_params::num_queues())
            || blk_params::capacity() == 0
        {
            return Err(EINVAL);
        }
        let registered = Chosen::new(params::blk(), module)?;
        pr_info!("management device rust_vdpasim_blk\n");
        Ok(Self {
            _registered: registered,
        })
    }
}
