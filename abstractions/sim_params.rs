// SPDX-License-Identifier: GPL-2.0

//! Module parameters of the simulators, defined in C.

use super::bindings;
pub(crate) use super::params::max_iotlb_entries;

/// `use_va`: whether drivers map user virtual addresses; else physical ones.
pub(crate) fn use_va() -> bool {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_use_va() }
}

/// `batch_mapping`: whether the maps of an address space are set all at once.
pub(crate) fn batch_mapping() -> bool {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_batch_mapping() }
}

/// `queue_size`: the largest size of a queue.
pub(crate) fn queue_size() -> u16 {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_queue_size() }
}
