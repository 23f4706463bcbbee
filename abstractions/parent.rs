// SPDX-License-Identifier: GPL-2.0

//! The abstractions that a parent's crate is made of.
//!
//! Every parent module loads this list. `unsafe` and `bindings::` are said here and nowhere else
//! in it.
#![allow(
    dead_code,
    unused_imports,
    reason = "shared by several modules, none of which uses all of it"
)]

pub(crate) mod bindings;
pub(crate) mod blk_params;
pub(crate) mod compat;
pub(crate) mod ether;
pub(crate) mod guest_mem;
#[cfg(CONFIG_KUNIT = "y")]
mod guest_mem_tests;
pub(crate) mod iotlb;
pub(crate) mod mgmtdev;
pub(crate) mod mm;
mod op_tables;
pub(crate) mod params;
pub(crate) mod parent_config;
pub(crate) mod parent_device;
pub(crate) mod parent_ops_raw;
pub(crate) mod parent_types;
pub(crate) mod random;
mod result;
pub(crate) mod root_device;
pub(crate) mod sim_params;
pub(crate) mod virtio_ids;
pub(crate) mod worker;
