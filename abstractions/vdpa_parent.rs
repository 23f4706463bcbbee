// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions for parents of the vDPA bus.
//!
//! A parent implements [`parent_ops::VdpaConfigOps`] and [`mgmtdev::Management`] in a crate that
//! forbids `unsafe`. A file that wraps a C facility names it.

/// The prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_parent\0";

pub mod blk_params;
pub mod ether;
pub mod guest_mem;
#[cfg(kunit_suites)]
mod guest_mem_tests;
pub mod mgmtdev;
pub mod mm;
mod op_tables;
pub mod parent_config;
pub mod parent_device;
#[path = "../parent_ops.rs"]
pub mod parent_ops;
pub mod parent_ops_raw;
pub mod parent_types;
pub mod random;
pub mod root_device;
pub mod sim_params;
pub mod virtio_ids;
pub mod worker;

use vdpa_common::{bindings, compat};
pub use vdpa_common::{compat::barrier, iotlb};
