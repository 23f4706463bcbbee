// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions for parents of the vDPA bus.
//!
//! A parent implements [`parent_ops::VdpaConfigOps`] and [`mgmtdev::Management`] in a crate that
//! forbids `unsafe`. Each file here names the C facility that it wraps.

/// Prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_parent\0";

#[path = "../../parent_ops.rs"]
pub mod parent_ops;

/// C's op table, made from the trait of the ops, and the types of the ops' arguments.
mod ops {
    pub mod op_table;
    mod op_table_checks;
    pub mod parent_types;
}

/// Devices on the bus, and the management devices that create them.
mod device {
    pub mod mgmtdev;
    pub mod parent_config;
    pub mod parent_device;
    pub mod root_device;
}

/// Memory of drivers, which devices read and write.
mod memory {
    pub mod guest_mem;
    #[cfg(kunit_suites)]
    mod guest_mem_tests;
    pub mod mm;
}

/// Module parameters.
mod params {
    pub mod blk_params;
    pub mod sim_params;
}

pub mod ether;
pub mod random;
pub mod virtio_ids;
pub mod worker;

// Users of the library name the modules without their folders.
pub use device::{mgmtdev, parent_config, parent_device, root_device};
pub use memory::{guest_mem, mm};
pub use ops::{op_table, parent_types};
pub use params::{blk_params, sim_params};

use vdpa_common::{bindings, compat};
pub use vdpa_common::{compat::barrier, iotlb};
