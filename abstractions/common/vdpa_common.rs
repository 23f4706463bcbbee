// SPDX-License-Identifier: GPL-2.0

//! The part that the libraries `vdpa_bus_driver` and `vdpa_parent` share: bindings and the IOTLB.
//!
//! Only these two name this crate. They export what the driver and parents may use.

/// The prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_common\0";

pub mod bindings;
pub mod compat;
pub mod iotlb;
pub mod irqlock;
pub mod result;
