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

#[kunit_tests(rust_mlx5_command)]
mod tests {
    use super::*;
    use vdpa_nic::cvq::{execute, Change};

    const ADD: [u8; 4] = [ids::NET_CTRL_VLAN, ids::NET_CTRL_VLAN_ADD, 7, 1];

    #[test]
    fn zero_mac() {
        let mut set = [
            ids::NET_CTRL_MAC,
            ids::NET_CTRL_MAC_ADDR_SET,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        assert_eq!(check(&Filter::new(), &set), Err(EINVAL));
        set[7] = 1;
        assert_eq!(check(&Filter::new(), &set), Ok(()));
    }

    #[test]
    fn vlan_twice() {
        assert_eq!(check(&Filter::new(), &ADD), Ok(()));
        let features = ids::F_NET_CTRL_VLAN;
        let Ok(Change::Filter(with)) = execute(&Filter::new(), features, true, 1, &ADD) else {
            panic!("not added");
        };
        assert_eq!(check(&with, &ADD), Err(EEXIST));
        assert_eq!(check(&with, &[ADD[0], ADD[1], 8, 1]), Ok(()));
        assert_eq!(
            check(&with, &[ADD[0], ids::NET_CTRL_VLAN_DEL, 7, 1]),
            Ok(())
        );
    }

    #[test]
    fn what_is_too_short_is_not_for_it() {
        assert_eq!(check(&Filter::new(), &[]), Ok(()));
        assert_eq!(check(&Filter::new(), &ADD[..3]), Ok(()));
    }
}
