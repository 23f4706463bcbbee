// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions for parents of the vDPA bus.
//!
//! A parent implements [`parent_ops::VdpaConfigOps`] and [`mgmtdev::Management`] in a crate that
//! forbids `unsafe`. A file that wraps a C facility names it.

/// The prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_parent\0";

#[path = "../../parent_ops.rs"]
pub mod parent_ops;

/// From the trait of the ops to C's op table, and the types that ops have.
mod ops {
    mod op_tables;
    pub mod parent_ops_raw;
    pub mod parent_types;
}

/// Devices on the bus, and the management devices that make them.
mod device {
    pub mod mgmtdev;
    pub mod parent_config;
    pub mod parent_device;
    pub mod root_device;
}

/// Memory of drivers: what a device reads and writes.
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

// The folders are for whoever reads the library, and not in the names that its users say.
pub use device::{mgmtdev, parent_config, parent_device, root_device};
pub use memory::{guest_mem, mm};
pub use ops::{parent_ops_raw, parent_types};
pub use params::{blk_params, sim_params};

use vdpa_common::{bindings, compat};
pub use vdpa_common::{compat::barrier, iotlb};
