// SPDX-License-Identifier: GPL-2.0

//! Bindings and the IOTLB, which the libraries `vdpa_bus_driver` and `vdpa_parent` share.
//!
//! Only these two use this crate. They re-export what the driver and parents may use.

/// Prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_common\0";

pub mod bindings;
pub mod compat;
pub mod iotlb;
pub mod irqlock;
pub mod result;
