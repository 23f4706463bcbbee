// SPDX-License-Identifier: GPL-2.0

//! Module parameters of the simulators. Each is defined in C and has the name that it has in C's
//! simulators.
//!
//! Each module has its own parameters. These functions are inline, so that a module refers only to
//! its own.

use crate::bindings;

/// The parameters that all simulators have.
#[derive(Clone, Copy)]
pub struct SimParams {
    /// `use_va`: true if drivers map user virtual addresses.
    pub use_va: bool,
    /// `batch_mapping`: true if drivers pass the whole table of an address space (`set_map`).
    pub batch_mapping: bool,
    /// `max_iotlb_entries`: the largest number of ranges in an address space; 0 if negative.
    pub max_iotlb_entries: u32,
    /// `queue_size`: the largest size of a queue.
    pub queue_size: u16,
}

impl SimParams {
    #[inline]
    fn from_raw(raw: bindings::vdpa_sim_params) -> Self {
        Self {
            use_va: raw.use_va,
            batch_mapping: raw.batch_mapping,
            max_iotlb_entries: u32::try_from(raw.max_iotlb_entries).unwrap_or(0),
            queue_size: raw.queue_size,
        }
    }
}

/// Returns the parameters of `rust_vdpa_sim_net`.
#[inline]
pub fn net() -> SimParams {
    // SAFETY: The function has no preconditions; the variables are constant once the module is
    // loaded.
    SimParams::from_raw(unsafe { bindings::vdpa_sim_net_params() })
}

/// Returns the parameters of `rust_vdpa_sim_blk` that all simulators have.
#[inline]
pub fn blk() -> SimParams {
    // SAFETY: The function has no preconditions; the variables are constant once the module is
    // loaded.
    SimParams::from_raw(unsafe { bindings::vdpa_sim_blk_params() })
}

/// Returns `max_iotlb_entries` of `rust_mlx5_compat`; 0 if negative.
#[inline]
pub fn mlx5_max_iotlb_entries() -> u32 {
    // SAFETY: The function has no preconditions; the variable is constant once the module is
    // loaded.
    u32::try_from(unsafe { bindings::mlx5_compat_max_iotlb_entries() }).unwrap_or(0)
}
