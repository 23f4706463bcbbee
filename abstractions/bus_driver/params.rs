// SPDX-License-Identifier: GPL-2.0

//! Module parameters, defined in C under the names that users of C's modules know.

use crate::bindings;

/// `max_iotlb_entries`: how many ranges one address space may hold; 0 or less means none.
pub fn max_iotlb_entries() -> u32 {
    // SAFETY: The function reads a variable that changes only while the module is loaded.
    u32::try_from(unsafe { bindings::vhost_vdpa_max_iotlb_entries() }).unwrap_or(0)
}
