// SPDX-License-Identifier: GPL-2.0

//! Receive filter of a NIC, and the commands of the control queue that change it.
//!
//! virtio 1.3, section 5.1.6.5.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vdpa_parent::{ether::Mac, virtio_ids as ids};

/// Largest number of addresses in a table. With more, every address of that kind is accepted.
const TABLE_MAX: usize = 64;
/// Number of VLANs.
const VLANS: usize = 4096;
/// Largest size of a command in bytes; longer ones fail. Two full tables fit.
pub const COMMAND_MAX: usize = 8192;
/// Offset of the type in a frame.
const ETH_TYPE: usize = 12;

/// Receive filter, and the number of queue pairs.
pub struct Filter {
    /// The number of queue pairs in use.
    pub pairs: u16,
    promisc: bool,
    allmulti: bool,
    alluni: bool,
    nomulti: bool,
    nouni: bool,
    nobcast: bool,
    /// Unicast addresses that are accepted in addition to the NIC's; `None` for all.
    unicast: Option<KVec<Mac>>,
    /// Multicast addresses that are accepted; `None` for all.
    multicast: Option<KVec<Mac>>,
    /// The VLANs that are accepted, one bit each.
    vlans: [u64; VLANS / 64],
}

/// Returns true if an address is a multicast address.
fn is_group(address: &[u8]) -> bool {
    address.first().is_some_and(|first| first & 1 != 0)
}

/// Returns true if a table contains an address.
fn has(table: &Option<KVec<Mac>>, address: &[u8]) -> bool {
    match table {
        None => true,
        Some(table) => table.iter().any(|entry| entry == address),
    }
}

/// Copies a table. Errors: `ENOMEM`.
fn copy(table: &Option<KVec<Mac>>) -> Result<Option<KVec<Mac>>> {
    let Some(table) = table else {
        return Ok(None);
    };
    let mut all = KVec::new();
    all.extend_from_slice(table, GFP_KERNEL)?;
    Ok(Some(all))
}

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter {
    /// Creates the filter after a reset: it accepts broadcasts and frames to the NIC's address.
    pub fn new() -> Self {
        Self {
            pairs: 1,
            promisc: false,
            allmulti: false,
            alluni: false,
            nomulti: false,
            nouni: false,
            nobcast: false,
            unicast: Some(KVec::new()),
            multicast: Some(KVec::new()),
            vlans: [0; VLANS / 64],
        }
    }

    /// Copies the filter, so that the copy can be changed. Errors: `ENOMEM`.
    fn copy(&self) -> Result<Self> {
        Ok(Self {
            unicast: copy(&self.unicast)?,
            multicast: copy(&self.multicast)?,
            ..*self
        })
    }

    /// Returns true if frames of a VLAN are accepted.
    pub fn has_vlan(&self, vlan: u16) -> bool {
        let vlan = usize::from(vlan);
        let bits = self.vlans.get(vlan / 64).copied().unwrap_or(0);
        bits & (1 << (vlan % 64)) != 0
    }

    /// Returns true if a NIC with this address accepts a frame, which is without its virtio header.
    ///
    /// Without `F_NET_CTRL_VLAN` every VLAN is accepted; without `F_NET_CTRL_RX` all multicast
    /// frames are, and unicast frames to `mac`.
    pub fn accepts(&self, mac: &Mac, features: u64, frame: &[u8]) -> bool {
        let Some(dest) = frame.get(..6) else {
            return false;
        };
        if self.promisc {
            return true;
        }
        if features & ids::F_NET_CTRL_VLAN != 0 {
            if let Some([0x81, 0x00, high, low]) = frame.get(ETH_TYPE..ETH_TYPE + 4) {
                let vlan = u16::from_be_bytes([*high, *low]) & 0xfff;
                // VLAN 0 means that the frame has a priority, but no VLAN.
                if vlan != 0 && !self.has_vlan(vlan) {
                    return false;
                }
            }
        }
        if features & ids::F_NET_CTRL_RX == 0 {
            return is_group(dest) || dest == mac;
        }
        if dest == [0xff; 6] {
            !self.nobcast
        } else if is_group(dest) {
            !self.nomulti && (self.allmulti || has(&self.multicast, dest))
        } else {
            !self.nouni && (self.alluni || dest == mac || has(&self.unicast, dest))
        }
    }
}

/// Change that a command makes.
pub enum Change {
    /// The MAC address of the NIC.
    Mac(Mac),
    /// The receive filter and the number of queue pairs.
    Filter(Arc<Filter>),
}

/// Splits off the table at the beginning of the parameters. Returns `None` if it is incomplete.
fn table<'a>(data: &mut &'a [u8], little_endian: bool) -> Option<&'a [u8]> {
    let (count, rest) = data.split_first_chunk::<4>()?;
    let count = if little_endian {
        u32::from_le_bytes(*count)
    } else {
        u32::from_ne_bytes(*count)
    };
    let size = usize::try_from(count).ok()?.checked_mul(size_of::<Mac>())?;
    let (entries, rest) = rest.split_at_checked(size)?;
    *data = rest;
    Some(entries)
}

/// Returns the addresses of a table, or `None` if it has more than [`TABLE_MAX`]. Errors: `ENOMEM`.
fn entries(raw: &[u8]) -> Result<Option<KVec<Mac>>> {
    let mut all = KVec::new();
    for entry in raw.chunks_exact(size_of::<Mac>()) {
        if all.len() == TABLE_MAX {
            return Ok(None);
        }
        let mut mac = Mac::default();
        mac.copy_from_slice(entry);
        all.push(mac, GFP_KERNEL)?;
    }
    Ok(Some(all))
}

/// Executes a command: returns the change that it makes. `command` is its class, its number, and
/// its parameters.
///
/// Errors: `EINVAL` for a command that was not negotiated, is unknown or malformed; `ENOMEM`.
pub fn execute(
    now: &Filter,
    features: u64,
    little_endian: bool,
    max_pairs: u16,
    command: &[u8],
) -> Result<Change> {
    let [class, number, data @ ..] = command else {
        return Err(EINVAL);
    };
    let number_of = |bytes: &[u8]| match bytes {
        [a, b] if little_endian => Ok(u16::from_le_bytes([*a, *b])),
        [a, b] => Ok(u16::from_ne_bytes([*a, *b])),
        _ => Err(EINVAL),
    };
    let needs = |feature: u64| {
        if features & feature != 0 {
            Ok(())
        } else {
            Err(EINVAL)
        }
    };
    let mut filter = now.copy()?;
    match (*class, *number) {
        (ids::NET_CTRL_RX, number) => {
            let on = match data {
                [on] => *on != 0,
                _ => return Err(EINVAL),
            };
            needs(match number {
                ids::NET_CTRL_RX_PROMISC | ids::NET_CTRL_RX_ALLMULTI => ids::F_NET_CTRL_RX,
                _ => ids::F_NET_CTRL_RX_EXTRA,
            })?;
            *match number {
                ids::NET_CTRL_RX_PROMISC => &mut filter.promisc,
                ids::NET_CTRL_RX_ALLMULTI => &mut filter.allmulti,
                ids::NET_CTRL_RX_ALLUNI => &mut filter.alluni,
                ids::NET_CTRL_RX_NOMULTI => &mut filter.nomulti,
                ids::NET_CTRL_RX_NOUNI => &mut filter.nouni,
                ids::NET_CTRL_RX_NOBCAST => &mut filter.nobcast,
                _ => return Err(EINVAL),
            } = on;
        }
        (ids::NET_CTRL_MAC, ids::NET_CTRL_MAC_ADDR_SET) => {
            needs(ids::F_NET_CTRL_MAC_ADDR)?;
            return Ok(Change::Mac(data.try_into().map_err(|_| EINVAL)?));
        }
        (ids::NET_CTRL_MAC, ids::NET_CTRL_MAC_TABLE_SET) => {
            needs(ids::F_NET_CTRL_RX)?;
            let mut data = data;
            let unicast = table(&mut data, little_endian).ok_or(EINVAL)?;
            let multicast = table(&mut data, little_endian).ok_or(EINVAL)?;
            if !data.is_empty() {
                return Err(EINVAL);
            }
            filter.unicast = entries(unicast)?;
            filter.multicast = entries(multicast)?;
        }
        (ids::NET_CTRL_VLAN, number) => {
            needs(ids::F_NET_CTRL_VLAN)?;
            let vlan = usize::from(number_of(data)?);
            let bits = filter.vlans.get_mut(vlan / 64).ok_or(EINVAL)?;
            match number {
                ids::NET_CTRL_VLAN_ADD => *bits |= 1 << (vlan % 64),
                ids::NET_CTRL_VLAN_DEL => *bits &= !(1 << (vlan % 64)),
                _ => return Err(EINVAL),
            }
        }
        (ids::NET_CTRL_MQ, ids::NET_CTRL_MQ_VQ_PAIRS_SET) => {
            needs(ids::F_NET_MQ)?;
            let pairs = number_of(data)?;
            if pairs == 0 || pairs > max_pairs {
                return Err(EINVAL);
            }
            filter.pairs = pairs;
        }
        _ => return Err(EINVAL),
    }
    Ok(Change::Filter(Arc::new(filter, GFP_KERNEL)?))
}
