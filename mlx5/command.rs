// SPDX-License-Identifier: GPL-2.0

//! The commands of the control queue that `mlx5_vdpa` refuses, and the simulators' NIC does not.
//!
//! virtio 1.3, section 5.1.6.5. C: `mlx5_cvq_kick_handler()`.

use kernel::prelude::*;
use vdpa_nic::cvq::Filter;
use vdpa_parent::virtio_ids as ids;

/// Whether a command may be executed: its class, its number, and its parameters.
///
/// Errors: `EINVAL` for a MAC address of zeroes, `EEXIST` for a VLAN that is let in already.
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
