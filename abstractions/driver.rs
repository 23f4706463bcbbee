// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel facilities that the driver needs and the kernel crate lacks.
//!
//! This folder is the only place that says `unsafe` or `bindings`; everything outside it is safe
//! Rust. Each file names the C facility it wraps.

pub(crate) mod bindings;
pub(crate) mod chardev;
#[allow(dead_code)] // Shared with the parents; nobody uses all of it.
mod compat;
pub(crate) mod doorbell;
pub(crate) mod eventfd;
pub(crate) mod few;
pub(crate) mod gate;
pub(crate) mod gup;
pub(crate) mod iommu;
#[allow(dead_code)] // Shared with the parents; nobody uses all of it.
pub(crate) mod iotlb;
pub(crate) mod irqbypass;
#[allow(dead_code)] // Shared with the parents; nobody uses all of it.
pub(crate) mod irqlock;
pub(crate) mod mapping;
pub(crate) mod params;
mod result;
pub(crate) mod trace;
pub(crate) mod usermap;
pub(crate) mod vdpa;
pub(crate) mod vdpa_driver;
pub(crate) mod vhost;
