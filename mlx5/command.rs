// SPDX-License-Identifier: GPL-2.0

//! Control queue commands that `mlx5_vdpa` refuses, while the simulators' NIC executes them.
//!
//! virtio 1.3, section 5.1.6.5. C: `mlx5_cvq_kick_handler()`.

use kernel::prelude::*;
use vdpa_nic::cvq::Filter;
use vdpa_parent::virtio_ids as ids;

/// Checks if a command may be executed. `command` is its class, its number and its parameters.
///
/// Errors: `EINVAL` for a MAC address of zeroes, `EEXIST` for a VLAN that is already in the filter.
pub(crate) fn check(now: &Filter, command: &[u8]) -> Result {
    let [class, number, data @ ..] = command else {
        return Ok(());
    };
    match (*class, *number, data) {
        (ids::NET_CTRL_MAC, ids::NET_CTRL_MAC_ADDR_SET, [0, 0, 0, 0, 0, 0]) => Err(EINVAL),
        (ids::NET_CTRL_VLAN, ids::NET_CTRL_VLAN_ADD, [low, high])
            if now.has_vlan(u16::from_le_bytes([*low, *high])) =>
        {
            Err(EEXIST)
        }
        _ => Ok(()),
    }
}
