// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel facilities that the driver needs and the kernel crate lacks.
//!
//! The driver is a crate of its own that forbids `unsafe`. A file that wraps a C facility names it.

/// The prefix of log lines: the name of the only module that this crate is part of.
const __LOG_PREFIX: &[u8] = b"rust_vhost_vdpa\0";

pub mod chardev;
pub mod doorbell;
pub mod eventfd;
pub mod few;
mod file_pages;
pub mod gate;
pub mod gup;
pub mod iommu;
pub mod irqbypass;
pub mod mapping;
pub mod params;
pub mod trace;
pub mod usermap;
pub mod vdpa;
pub mod vdpa_driver;
pub mod vhost;

use vdpa_common::{bindings, irqlock, result};
pub use vdpa_common::{iotlb, this_module};
