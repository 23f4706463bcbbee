// SPDX-License-Identifier: GPL-2.0

//! A NIC whose cable leads back to it: what it sends, it receives.

use crate::{
    abstractions::{
        ether::Mac,
        virtio_ids as ids,
        worker::Again, //
    },
    maps::AddressSpaces,
    parent_ops::Stats,
    ring::{Chain, Memory, RingResult},
    sim::{Class, Queue},
};
use kernel::prelude::*;

/// The features of the NIC.
pub(crate) const FEATURES: u64 = ids::F_ANY_LAYOUT
    | ids::F_VERSION_1
    | ids::F_ACCESS_PLATFORM
    | ids::F_RING_INDIRECT_DESC
    | ids::F_RING_EVENT_IDX
    | ids::F_NET_MAC
    | ids::F_NET_MTU
    | ids::F_NET_STATUS;

/// The number of frames that one run handles.
const BUDGET: u32 = 64;
/// The size of an Ethernet header.
const ETH_HEADER: usize = 14;
/// The largest frame: what the MTU can say, with an Ethernet header and a VLAN tag.
const MAX_FRAME: usize = 65535 + ETH_HEADER + 4;
/// The MTU if nobody asked for another one.
pub(crate) const DEFAULT_MTU: u16 = 1500;

/// What happened on the receive queue.
#[derive(Default)]
struct RxStats {
    packets: u64,
    bytes: u64,
    errors: u64,
    overruns: u64,
    drops: u64,
}

/// What happened on the transmit queue.
#[derive(Default)]
struct TxStats {
    packets: u64,
    bytes: u64,
    errors: u64,
    drops: u64,
}

/// The NIC.
pub(crate) struct Nic {
    mac: Mac,
    mtu: u16,
    rx: RxStats,
    tx: TxStats,
    /// The frame in flight, with its header.
    buffer: KVVec<u8>,
}

impl Nic {
    /// A NIC that has seen no frame.
    pub(crate) fn new(mac: Mac, mtu: u16) -> Result<Self> {
        Ok(Self {
            mac,
            mtu,
            rx: RxStats::default(),
            tx: TxStats::default(),
            buffer: KVVec::from_elem(0, ids::NET_HDR_SIZE + MAX_FRAME, GFP_KERNEL)?,
        })
    }

    /// Changes the MAC address.
    pub(crate) fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
    }
}

/// The first frame of a transmit queue, gathered into a buffer.
enum Gathered {
    /// So many bytes of header and frame.
    Frame(usize),
    /// Too long, or not mapped.
    Bad,
}

/// Copies what is readable of a chain. An error is the ring's.
fn gather<M: Memory>(mem: &M, mut chain: Chain, buffer: &mut [u8]) -> RingResult<Gathered> {
    let mut filled = 0usize;
    while let Some(segment) = chain.next(mem)? {
        if segment.writable {
            break;
        }
        let end = filled.saturating_add(segment.len as usize);
        let Some(into) = buffer.get_mut(filled..end) else {
            return Ok(Gathered::Bad);
        };
        if mem.read(segment.addr, into).is_err() {
            return Ok(Gathered::Bad);
        }
        filled = end;
    }
    Ok(Gathered::Frame(filled))
}

/// Copies to what is writable of a chain, and returns whether everything found room.
fn scatter<M: Memory>(mem: &M, mut chain: Chain, mut bytes: &[u8]) -> RingResult<bool> {
    while !bytes.is_empty() {
        let Some(segment) = chain.next(mem)? else {
            return Ok(false);
        };
        if !segment.writable {
            continue;
        }
        let len = bytes.len().min(segment.len as usize);
        let Some((now, rest)) = bytes.split_at_checked(len) else {
            return Ok(false);
        };
        if mem.write(segment.addr, now).is_err() {
            return Ok(false);
        }
        bytes = rest;
    }
    Ok(true)
}

/// Whether a NIC with that address takes a frame for `dest`.
fn accepts(mac: &Mac, dest: &[u8]) -> bool {
    // The lowest bit of the first byte marks groups, of which everybody is the widest.
    dest.first().is_some_and(|first| first & 1 != 0) || dest == mac
}

impl Nic {
    /// Receives the frame in the buffer: `len` bytes with a header of `header`.
    fn receive<M: Memory>(&mut self, queue: &mut Queue, mem: &M, len: usize, header: usize) {
        let Some(bytes) = self.buffer.get_mut(..len) else {
            return;
        };
        let Some(dest) = bytes.get(header..header + 6) else {
            return;
        };
        if !accepts(&self.mac, dest) {
            self.rx.drops += 1;
            return;
        }
        // Nothing was offloaded; without mergeable buffers a frame lies in exactly one.
        for (at, byte) in bytes.iter_mut().take(header).enumerate() {
            *byte = u8::from(at == ids::NET_HDR_NUM_BUFFERS);
        }

        let Some(Some(chain)) = queue.ring(|ring| ring.pop(mem)) else {
            self.rx.overruns += 1;
            return;
        };
        let head = chain.head();
        match queue.ring(|_| scatter(mem, chain, bytes)) {
            Some(true) => {
                queue.push(mem, head, len as u32);
                self.rx.packets += 1;
                self.rx.bytes += len as u64;
            }
            Some(false) => {
                // Too small or not mapped: the frame is lost, the buffer goes back unused.
                queue.push(mem, head, 0);
                self.rx.errors += 1;
            }
            None => self.rx.errors += 1,
        }
    }
}

impl Class for Nic {
    const DEVICE_ID: u32 = ids::ID_NET;
    const QUEUES: u16 = 2;
    const GROUPS: u32 = 1;
    const ADDRESS_SPACES: u32 = 1;
    type Config = [u8; ids::NET_CONFIG_SIZE];

    fn group(_idx: u16) -> u32 {
        0
    }

    fn config(&self, little_endian: bool) -> Self::Config {
        let bytes = |value: u16| {
            if little_endian {
                value.to_le_bytes()
            } else {
                value.to_ne_bytes()
            }
        };
        let mut config = [0u8; ids::NET_CONFIG_SIZE];
        // struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu.
        config[0..6].copy_from_slice(&self.mac);
        config[6..8].copy_from_slice(&bytes(ids::NET_S_LINK_UP));
        config[8..10].copy_from_slice(&bytes(1));
        config[10..12].copy_from_slice(&bytes(self.mtu));
        config
    }

    fn write_config(&mut self, legacy: bool, offset: usize, buf: &[u8]) {
        // Only legacy drivers set the address like this; nothing else is writable.
        if !legacy {
            return;
        }
        for (byte, value) in self.mac.iter_mut().skip(offset).zip(buf) {
            *byte = *value;
        }
    }

    fn run(&mut self, queues: &mut [Queue], spaces: &AddressSpaces, features: u64) -> Again {
        let [rx, tx, ..] = queues else {
            return Again::No;
        };
        let (Some(rx_mem), Some(tx_mem)) = (spaces.memory(rx.asid()), spaces.memory(tx.asid()))
        else {
            return Again::No;
        };
        if !rx.is_active() || !tx.is_active() {
            return Again::No;
        }
        let header = if features & ids::F_VERSION_1 != 0 {
            ids::NET_HDR_SIZE
        } else {
            ids::NET_HDR_SIZE_LEGACY
        };

        tx.ring(|ring| ring.suppress_kicks(&tx_mem));
        for _ in 0..BUDGET {
            let Some(Some(chain)) = tx.ring(|ring| ring.pop(&tx_mem)) else {
                break;
            };
            let head = chain.head();
            let buffer = &mut self.buffer;
            let Some(gathered) = tx.ring(|_| gather(&tx_mem, chain, buffer)) else {
                self.tx.errors += 1;
                break;
            };
            match gathered {
                Gathered::Frame(len) if len >= header + ETH_HEADER => {
                    self.tx.packets += 1;
                    self.tx.bytes += len as u64;
                    self.receive(rx, &rx_mem, len, header);
                }
                _ => self.tx.errors += 1,
            }
            tx.push(&tx_mem, head, 0);
        }
        match tx.ring(|ring| ring.ask_for_kicks(&tx_mem)) {
            Some(true) => Again::Yes,
            _ => Again::No,
        }
    }

    fn stats(&self, idx: u16, stats: &mut Stats<'_>) -> Result {
        match idx {
            0 => {
                stats.put(c"rx packets", self.rx.packets)?;
                stats.put(c"rx bytes", self.rx.bytes)?;
                stats.put(c"rx errors", self.rx.errors)?;
                stats.put(c"rx overruns", self.rx.overruns)?;
                stats.put(c"rx drops", self.rx.drops)
            }
            1 => {
                stats.put(c"tx packets", self.tx.packets)?;
                stats.put(c"tx bytes", self.tx.bytes)?;
                stats.put(c"tx errors", self.tx.errors)?;
                stats.put(c"tx drops", self.tx.drops)
            }
            _ => Err(EINVAL),
        }
    }
}
