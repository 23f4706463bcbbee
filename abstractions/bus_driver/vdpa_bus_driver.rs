// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel facilities that the driver needs and the kernel crate lacks.
//!
//! The driver is a crate of its own that forbids `unsafe`. Each file here names the C facility that
//! it wraps.

/// Prefix of log lines: the name of the only module that this crate is part of.
const __LOG_PREFIX: &[u8] = b"rust_vhost_vdpa\0";

/// The bus: its devices, its driver, and revocable access to a device.
mod bus {
    pub mod revocable;
    pub mod vdpa;
    pub mod vdpa_driver;
}

/// The open file: character device, vhost core's part, mapped doorbells.
mod file {
    pub mod chardev;
    pub mod doorbell;
    pub mod vhost;
}

/// Eventfds, and interrupts that bypass them.
mod events {
    pub mod eventfd;
    pub mod irqbypass;
}

/// Userspace memory: pinning it, looking it up, and mapping it for the device.
mod memory {
    mod file_pages;
    pub mod gup;
    pub mod iommu;
    pub mod mapping;
    pub mod usermap;
}

pub mod inline_vec;
pub mod params;
pub mod trace;

// Users of the library name the modules without their folders.
pub use bus::{revocable, vdpa, vdpa_driver};
pub use events::{eventfd, irqbypass};
pub use file::{chardev, doorbell, vhost};
pub use memory::{gup, iommu, mapping, usermap};

use vdpa_common::{bindings, irqlock, result};
pub use vdpa_common::{iotlb, this_module};
