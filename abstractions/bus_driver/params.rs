// SPDX-License-Identifier: GPL-2.0

//! Module parameters, defined in C under the names that users of C's modules know.

use crate::bindings;

/// Returns `max_iotlb_entries`, the largest number of ranges in an address space; 0 if negative.
pub fn max_iotlb_entries() -> u32 {
    // SAFETY: The function has no preconditions; the variable is constant once the module is
    // loaded.
    u32::try_from(unsafe { bindings::vhost_vdpa_max_iotlb_entries() }).unwrap_or(0)
}
