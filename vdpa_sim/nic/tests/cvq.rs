// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of [`crate::cvq`].

use crate::cvq::{execute, Change, Filter};
use kernel::{prelude::*, sync::Arc};
use vdpa_parent::{ether::Mac, virtio_ids as ids};

#[kunit_tests(rust_vdpa_sim_cvq)]
mod tests {
    use super::*;

    const ALL: u64 = ids::F_NET_CTRL_RX
        | ids::F_NET_CTRL_RX_EXTRA
        | ids::F_NET_CTRL_VLAN
        | ids::F_NET_CTRL_MAC_ADDR
        | ids::F_NET_MQ;
    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const GROUP: Mac = [1, 0, 0x5e, 0, 0, 1];
    const EVERYBODY: Mac = [0xff; 6];

    fn filter(now: &Filter, command: &[u8]) -> Option<Arc<Filter>> {
        match execute(now, ALL, true, 4, command) {
            Ok(Change::Filter(filter)) => Some(filter),
            _ => None,
        }
    }

    fn accepts(filter: &Filter, dest: Mac, tag: Option<u16>) -> bool {
        let mut frame = [0u8; 18];
        frame[..6].copy_from_slice(&dest);
        if let Some(tag) = tag {
            frame[12..14].copy_from_slice(&[0x81, 0]);
            frame[14..16].copy_from_slice(&tag.to_be_bytes());
        }
        filter.accepts(&OWN, ALL, &frame)
    }

    #[test]
    fn modes() {
        let none = Filter::new();
        assert!(accepts(&none, OWN, None) && accepts(&none, EVERYBODY, None));
        assert!(!accepts(&none, OTHER, None) && !accepts(&none, GROUP, None));
        let promisc = filter(&none, &[0, 0, 1]).unwrap();
        assert!(accepts(&promisc, OTHER, Some(7)) && accepts(&promisc, GROUP, None));
        let multi = filter(&none, &[0, 1, 1]).unwrap();
        assert!(accepts(&multi, GROUP, None) && !accepts(&multi, OTHER, None));
        assert!(!accepts(&filter(&multi, &[0, 3, 1]).unwrap(), GROUP, None));
        assert!(accepts(&filter(&none, &[0, 2, 1]).unwrap(), OTHER, None));
        assert!(!accepts(&filter(&none, &[0, 4, 1]).unwrap(), OWN, None));
        assert!(!accepts(
            &filter(&none, &[0, 5, 1]).unwrap(),
            EVERYBODY,
            None
        ));
    }

    #[test]
    fn tables() {
        let mut command = [0u8; 2 + 4 + 6 + 4 + 6];
        command[0] = 1;
        command[2] = 1;
        command[6..12].copy_from_slice(&OTHER);
        command[12] = 1;
        command[16..22].copy_from_slice(&GROUP);
        let with = filter(&Filter::new(), &command).unwrap();
        assert!(accepts(&with, OTHER, None) && accepts(&with, GROUP, None));
        assert!(!accepts(&with, [2, 0, 0, 0, 0, 3], None));
        // Too short, too long, and with a wrong length.
        assert!(filter(&with, &command[..21]).is_none());
        command[12] = 0;
        assert!(filter(&with, &command).is_none());
        command[2..6].copy_from_slice(&[0xff; 4]);
        assert!(filter(&with, &command).is_none());
    }

    #[test]
    fn vlans() {
        let none = Filter::new();
        assert!(!accepts(&none, OWN, Some(5)) && accepts(&none, OWN, Some(0xe000)));
        let five = filter(&none, &[2, 0, 5, 0]).unwrap();
        assert!(accepts(&five, OWN, Some(0xe005)) && !accepts(&five, OWN, Some(6)));
        assert!(!accepts(
            &filter(&five, &[2, 1, 5, 0]).unwrap(),
            OWN,
            Some(5)
        ));
        assert!(filter(&none, &[2, 0, 0, 0x10]).is_none());
    }

    #[test]
    fn pairs() {
        let none = Filter::new();
        assert_eq!(filter(&none, &[4, 0, 4, 0]).map(|new| new.pairs), Some(4));
        assert!(filter(&none, &[4, 0, 5, 0]).is_none());
        assert!(filter(&none, &[4, 0, 0, 0]).is_none());
        assert!(filter(&none, &[4, 0, 1]).is_none());
    }

    #[test]
    fn addresses() {
        let none = Filter::new();
        let set = [1, 1, 2, 0, 0, 0, 0, 9];
        assert!(matches!(
            execute(&none, ALL, true, 1, &set),
            Ok(Change::Mac([2, 0, 0, 0, 0, 9]))
        ));
        assert!(execute(&none, ALL, true, 1, &set[..7]).is_err());
        assert!(execute(&none, 0, true, 1, &set).is_err());
        assert!(execute(&none, ALL, true, 1, &[9, 0, 0]).is_err());
        assert!(execute(&none, ALL, true, 1, &[1]).is_err());
    }
}
