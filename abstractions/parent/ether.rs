// SPDX-License-Identifier: GPL-2.0

//! Ethernet addresses.
//!
//! C: `include/linux/etherdevice.h`.

use crate::random::fill_random;

/// A MAC address.
pub type Mac = [u8; 6];

/// Returns a random unicast address that is locally administered.
pub fn random_mac() -> Mac {
    let mut mac = [0u8; 6];
    fill_random(&mut mac);
    mac[0] = (mac[0] & !1) | 2;
    mac
}
