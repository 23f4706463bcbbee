// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of [`crate::mlx5::command`].

use crate::mlx5::command::check;
use kernel::prelude::*;
use vdpa_nic::cvq::{execute, Change, Filter};
use vdpa_parent::virtio_ids as ids;

#[kunit_tests(rust_mlx5_command)]
mod tests {
    use super::*;

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
