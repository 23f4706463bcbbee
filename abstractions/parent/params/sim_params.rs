// SPDX-License-Identifier: GPL-2.0

//! The module parameters of the simulators, each defined in C under the name that users of C's
//! simulators know.
//!
//! Each module has parameters of its own. These functions are inline, so that a module refers to
//! its own ones only.

use crate::bindings;

/// The parameters that all simulators have.
#[derive(Clone, Copy)]
pub struct SimParams {
    /// `use_va`: whether drivers map user virtual addresses.
    pub use_va: bool,
    /// `batch_mapping`: whether drivers give all maps at once.
    pub batch_mapping: bool,
    /// `max_iotlb_entries`: how many ranges one address space may hold; 0 if there is no room.
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
    // SAFETY: The function reads variables that change only while the module is loaded.
    SimParams::from_raw(unsafe { bindings::vdpa_sim_net_params() })
}

/// Returns the parameters of `rust_vdpa_sim_blk` that all simulators have.
#[inline]
pub fn blk() -> SimParams {
    // SAFETY: The function reads variables that change only while the module is loaded.
    SimParams::from_raw(unsafe { bindings::vdpa_sim_blk_params() })
}

/// Returns `max_iotlb_entries` of `rust_mlx5_compat`; 0 if there is no room.
#[inline]
pub fn mlx5_max_iotlb_entries() -> u32 {
    // SAFETY: The function reads a variable that changes only while the module is loaded.
    u32::try_from(unsafe { bindings::mlx5_compat_max_iotlb_entries() }).unwrap_or(0)
}
