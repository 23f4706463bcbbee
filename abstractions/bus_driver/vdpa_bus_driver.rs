// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel facilities that the driver needs and the kernel crate lacks.
//!
//! The driver is a crate of its own that forbids `unsafe`. A file that wraps a C facility names it.

/// The prefix of log lines: the name of the only module that this crate is part of.
const __LOG_PREFIX: &[u8] = b"rust_vhost_vdpa\0";

/// The bus: its devices, its driver, and access to a device that removal revokes.
mod bus {
    pub mod revocable;
    pub mod vdpa;
    pub mod vdpa_driver;
}

/// The open file: the character device, vhost core's part, doorbells that are mapped.
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

/// Memory of userspace: how it is pinned, looked up, and mapped for the device.
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

// The folders are for whoever reads the library, and not in the names that its users say.
pub use bus::{revocable, vdpa, vdpa_driver};
pub use events::{eventfd, irqbypass};
pub use file::{chardev, doorbell, vhost};
pub use memory::{gup, iommu, mapping, usermap};

use vdpa_common::{bindings, irqlock, result};
pub use vdpa_common::{iotlb, this_module};
