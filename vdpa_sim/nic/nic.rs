// SPDX-License-Identifier: GPL-2.0

//! A NIC. Frames that it sends arrive at the other end of its link, or at the NIC itself without a
//! link.

use crate::{
    cvq::{execute, Change, Filter, COMMAND_MAX},
    peer::{Links, NicFiles, PeerFile, Port, RxQueue},
};
use core::ops::Deref;
use kernel::{
    new_mutex,
    prelude::*,
    str::CStr,
    sync::{Arc, Mutex}, //
};
use vdpa_parent::{
    ether::Mac,
    parent_config::ConfigBytes,
    parent_ops::Stats,
    virtio_ids as ids,
    worker::{Again, Waker},
};
use vdpa_sim::{
    engine::{little_endian, Class, Io, QueueMemory, Setup, UnitSetup},
    queue::Queue,
    ring::{Chain, Memory, RingResult, Segment},
};

/// Features of a NIC with one queue pair by default.
pub const FEATURES: u64 = ids::F_ANY_LAYOUT
    | ids::F_VERSION_1
    | ids::F_ACCESS_PLATFORM
    | ids::F_RING_INDIRECT_DESC
    | ids::F_RING_EVENT_IDX
    | ids::F_NET_MAC
    | ids::F_NET_MTU
    | ids::F_NET_STATUS
    | ids::F_NET_CTRL_VQ
    | CTRL_FEATURES;
/// Features of a NIC with several queue pairs by default.
pub const FEATURES_MQ: u64 = FEATURES | ids::F_NET_MQ;
/// Features that can be requested.
pub const ALL_FEATURES: u64 = FEATURES_MQ | ids::F_RING_PACKED;
/// Features that need the control queue.
const CTRL_FEATURES: u64 =
    ids::F_NET_CTRL_RX | ids::F_NET_CTRL_RX_EXTRA | ids::F_NET_CTRL_VLAN | ids::F_NET_CTRL_MAC_ADDR;

/// Largest number of queue pairs.
pub const MAX_PAIRS: u16 = 16;
/// Number of groups of queues: data, control.
pub const GROUPS: u32 = 2;
/// Number of address spaces.
pub const ADDRESS_SPACES: u32 = 2;

/// Returns the number of queues of a NIC with `pairs` pairs.
pub const fn queues(pairs: u16) -> u32 {
    2 * pairs as u32 + 1
}

/// Number of frames, or commands, that one run handles.
const BUDGET: u32 = 64;
/// Size of an Ethernet header in bytes.
const ETH_HEADER: usize = 14;
/// Largest frame in bytes: the largest possible MTU, with an Ethernet header and a VLAN tag.
const MAX_FRAME: usize = 65535 + ETH_HEADER + 4;
/// Default MTU in bytes.
pub const DEFAULT_MTU: u16 = 1500;

/// Statistics of a receive queue.
#[derive(Default)]
struct RxStats {
    packets: u64,
    bytes: u64,
    errors: u64,
    overruns: u64,
    drops: u64,
}

/// Statistics of a transmit queue.
#[derive(Default)]
struct TxStats {
    packets: u64,
    bytes: u64,
    errors: u64,
    drops: u64,
}

/// Statistics of the control queue.
#[derive(Default)]
struct ControlStats {
    requests: u64,
    successes: u64,
    errors: u64,
}

/// State that the units share.
struct Shared {
    mac: Mac,
    /// The filter. It is replaced and never changed, because each run uses the one that it found.
    filter: Arc<Filter>,
}

/// Properties that a NIC is created with.
pub struct Wanted {
    /// The features on offer.
    pub features: u64,
    /// The MAC address.
    pub mac: Mac,
    /// The MTU in bytes.
    pub mtu: u16,
    /// The number of queue pairs.
    pub pairs: u16,
    /// The largest size of a queue.
    pub queue_max: u16,
    /// Check that may refuse commands of the control queue which the NIC would execute.
    pub check: fn(&Filter, &[u8]) -> Result,
    /// Features whose commands work even if the driver did not accept the features.
    pub implied: u64,
    /// True if software serves the control queue and hardware the others.
    pub software_control: bool,
}

/// Port of a NIC. Dropping it removes the port from its links.
struct Linked {
    links: Arc<Links>,
    port: Arc<Port>,
}

impl Deref for Linked {
    type Target = Port;

    fn deref(&self) -> &Port {
        &self.port
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.links.remove(&self.port);
    }
}

/// The NIC.
#[pin_data]
pub struct Nic {
    #[pin]
    shared: Mutex<Shared>,
    mtu: u16,
    /// The number of queue pairs.
    pairs: u16,
    /// True if several pairs are on offer.
    mq: bool,
    /// See [`Wanted::check`].
    check: fn(&Filter, &[u8]) -> Result,
    /// See [`Wanted::implied`].
    implied: u64,
    /// See [`Wanted::software_control`].
    software_control: bool,
    /// The filter after a reset.
    initial: Arc<Filter>,
    port: Linked,
}

/// Unit of a pair of queues, or of the control queue.
pub struct NicUnit {
    /// The number of the pair; for the control queue, the number of pairs.
    number: usize,
    rx: RxStats,
    tx: TxStats,
    control: ControlStats,
    /// The current frame or command, with its header.
    buffer: KVVec<u8>,
    /// True if frames of a peer are accepted.
    open: bool,
}

impl NicUnit {
    /// Creates a unit with a buffer of `size` bytes. Errors: `ENOMEM`.
    fn new(number: usize, size: usize) -> Result<Self> {
        Ok(Self {
            number,
            rx: RxStats::default(),
            tx: TxStats::default(),
            control: ControlStats::default(),
            buffer: KVVec::from_elem(0, size, GFP_KERNEL)?,
            open: false,
        })
    }
}

/// State that a run uses for every frame.
struct Now {
    features: u64,
    /// The size of the header before each frame, in bytes.
    header: usize,
    mac: Mac,
    filter: Arc<Filter>,
}

/// Readable part of a chain, copied into a buffer.
enum Gathered {
    /// It has this many bytes.
    Whole(usize),
    /// It is too long, or not mapped.
    Bad,
}

/// Copies the readable part of a chain. Errors: those of the ring.
fn gather<M: Memory>(
    ring: &M,
    mem: &M,
    chain: &mut Chain,
    buffer: &mut [u8],
) -> RingResult<Gathered> {
    let mut filled = 0usize;
    while let Some(segment) = chain.next(ring)? {
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
    Ok(Gathered::Whole(filled))
}

/// Returns the first writable segment of a chain, which is for the answer.
fn first_writable<M: Memory>(ring: &M, chain: &mut Chain) -> RingResult<Option<Segment>> {
    while let Some(segment) = chain.next(ring)? {
        if segment.writable {
            return Ok(Some(segment));
        }
    }
    Ok(None)
}

/// Copies bytes to the writable part of a chain. Returns false if it is too small or not mapped.
fn scatter<M: Memory>(ring: &M, mem: &M, chain: &mut Chain, mut bytes: &[u8]) -> RingResult<bool> {
    while !bytes.is_empty() {
        let Some(segment) = chain.next(ring)? else {
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

/// Result for a frame that was to be received.
#[derive(PartialEq, Eq)]
enum Received {
    /// It was delivered to the guest, or lost and counted.
    Done,
    /// There was no buffer for it, or the queue rests or broke. Nothing was counted.
    NoBuffer,
}

impl NicUnit {
    /// Delivers the frame in the buffer, `len` bytes with its header, to the guest.
    fn receive(
        &mut self,
        queue: &mut Queue,
        mem: &QueueMemory<'_, '_>,
        now: &Now,
        len: usize,
    ) -> Received {
        let Some((header, frame)) = self
            .buffer
            .get_mut(..len)
            .and_then(|bytes| bytes.split_at_mut_checked(now.header))
        else {
            return Received::Done;
        };
        if !now.filter.accepts(&now.mac, now.features, frame) {
            self.rx.drops += 1;
            return Received::Done;
        }
        // Nothing was offloaded; without mergeable buffers a frame is in exactly one.
        for (at, byte) in header.iter_mut().enumerate() {
            *byte = u8::from(at == ids::NET_HDR_NUM_BUFFERS);
        }

        let Some(mut chain) = queue.pop(mem.ring) else {
            return Received::NoBuffer;
        };
        let token = chain.token();
        let bytes = self.buffer.get(..len).unwrap_or(&[]);
        match queue.walk(token, || scatter(mem.ring, mem.buffers, &mut chain, bytes)) {
            Some(true) => {
                queue.push(mem.ring, token, len as u32);
                self.rx.packets += 1;
                self.rx.bytes += len as u64;
            }
            Some(false) => {
                // The buffer is too small or not mapped: the frame is lost, the buffer is returned
                // unused.
                queue.push(mem.ring, token, 0);
                self.rx.errors += 1;
            }
            None => return Received::NoBuffer,
        }
        Received::Done
    }

    /// Delivers the frames in the receive queue to the guest. Returns true if there may be more.
    fn receive_all(
        &mut self,
        queue: &mut Queue,
        mem: &QueueMemory<'_, '_>,
        now: &Now,
        rx_queue: &RxQueue,
    ) -> bool {
        // Kicks for new buffers are needed only while a frame waits for one.
        queue.ring(|ring| ring.disable_notify(mem.ring));
        for _ in 0..BUDGET {
            let into = self.buffer.get_mut(now.header..).unwrap_or(&mut []);
            let Some(len) = rx_queue.peek(into) else {
                return false;
            };
            while self.receive(queue, mem, now, now.header + len) == Received::NoBuffer {
                // The frame waits until the driver kicks for new buffers.
                if !queue.asks_for_kicks(mem.ring) {
                    return false;
                }
            }
            rx_queue.forget(len);
        }
        true
    }

    /// Sends the frames in the transmit queue to the peer, or without a peer to the receive queue
    /// of the pair. Returns true if there are more.
    fn transmit_all(
        &mut self,
        tx: (&mut Queue, &QueueMemory<'_, '_>),
        rx: (&mut Queue, &QueueMemory<'_, '_>),
        now: &Now,
        peer: Option<&Port>,
    ) -> bool {
        let (tx, mem) = tx;
        let (rx, rx_mem) = rx;
        let to = peer.map(|peer| (peer, peer.pair_for(self.number)));
        let mut sent = false;
        tx.ring(|ring| ring.disable_notify(mem.ring));
        for _ in 0..BUDGET {
            let Some(mut chain) = tx.pop(mem.ring) else {
                break;
            };
            let token = chain.token();
            let buffer = &mut self.buffer;
            let read = || gather(mem.ring, mem.buffers, &mut chain, buffer);
            let Some(gathered) = tx.walk(token, read) else {
                self.tx.errors += u64::from(tx.is_broken());
                break;
            };
            let frame = now.header + ETH_HEADER..=now.header + MAX_FRAME;
            match gathered {
                Gathered::Whole(len) if frame.contains(&len) => {
                    self.tx.packets += 1;
                    self.tx.bytes += len as u64;
                    match (to, self.buffer.get(now.header..len)) {
                        (Some((peer, pair)), Some(frame)) => {
                            peer.send(pair, frame);
                            sent = true;
                        }
                        _ => {
                            if self.receive(rx, rx_mem, now, len) == Received::NoBuffer {
                                self.rx.overruns += 1;
                            }
                        }
                    }
                }
                _ => self.tx.errors += 1,
            }
            tx.push(mem.ring, token, 0);
        }
        if let Some((peer, pair)) = to.filter(|_| sent) {
            peer.wake(pair);
        }
        tx.asks_for_kicks(mem.ring)
    }
}

impl Nic {
    /// Returns the setup of a NIC. With `linkable` it includes the file that connects the NIC.
    pub fn setup(
        name: &CStr,
        links: &Arc<Links>,
        linkable: bool,
        wanted: Wanted,
    ) -> Result<Setup<Self>> {
        let Wanted {
            features,
            mac,
            mtu,
            pairs,
            queue_max,
            check,
            implied,
            software_control,
        } = wanted;
        let needs_control = CTRL_FEATURES | ids::F_NET_MQ;
        if pairs == 0
            || pairs > MAX_PAIRS
            || (features & needs_control != 0 && features & ids::F_NET_CTRL_VQ == 0)
        {
            return Err(EINVAL);
        }
        let mut units = KVec::new();
        for number in 0..usize::from(pairs) {
            let setup = UnitSetup {
                queues: 2,
                unit: NicUnit::new(number, ids::NET_HDR_SIZE + MAX_FRAME)?,
            };
            units.push(setup, GFP_KERNEL)?;
        }
        let control = UnitSetup {
            queues: 1,
            unit: NicUnit::new(pairs.into(), COMMAND_MAX)?,
        };
        units.push(control, GFP_KERNEL)?;

        let initial = Arc::new(Filter::new(), GFP_KERNEL)?;
        let filter = initial.clone();
        let port = links.add(name, pairs)?;
        let linked = Linked {
            links: links.clone(),
            port: port.clone(),
        };
        let class = Arc::pin_init(
            pin_init!(Self {
                shared <- new_mutex!(Shared { mac, filter }),
                mtu,
                pairs,
                mq: features & ids::F_NET_MQ != 0,
                check,
                implied,
                software_control,
                initial,
                port: linked,
            }),
            GFP_KERNEL,
        )?;
        let file = linkable.then(|| PeerFile {
            links: links.clone(),
            port,
        });
        Ok(Setup {
            class,
            units,
            offered: features,
            groups: GROUPS,
            address_spaces: ADDRESS_SPACES,
            queue_max,
            files: NicFiles(file),
        })
    }

    /// Returns true if the driver uses a queue pair.
    pub fn is_active(&self, pair: u16) -> bool {
        pair < self.shared.lock().filter.pairs
    }

    /// Changes the MAC address.
    pub fn set_mac(&self, mac: Mac) {
        self.shared.lock().mac = mac;
    }

    /// Returns the number of the control queue. It is behind the pairs that the driver can use: all
    /// pairs if it accepted several, or has not negotiated yet.
    fn control_queue(&self, features: u64) -> u16 {
        if self.mq && (features == 0 || features & ids::F_NET_MQ != 0) {
            2 * self.pairs
        } else {
            2
        }
    }

    /// Executes the commands in the control queue.
    fn control(&self, unit: &mut NicUnit, queue: &mut Queue, io: &Io<'_>) -> Again {
        let view = if self.software_control {
            io.software_view(queue)
        } else {
            io.view(queue)
        };
        let Some(view) = view.filter(|_| queue.is_active()) else {
            return Again::No;
        };
        if io.features & ids::F_NET_CTRL_VQ == 0 {
            return Again::No;
        }
        view.with(|mem| self.commands(unit, queue, mem, io))
    }

    /// Executes the commands in the control queue, with the memory of that queue.
    fn commands(
        &self,
        unit: &mut NicUnit,
        queue: &mut Queue,
        mem: &QueueMemory<'_, '_>,
        io: &Io<'_>,
    ) -> Again {
        for _ in 0..BUDGET {
            let Some(mut chain) = queue.pop(mem.ring) else {
                break;
            };
            let mut answers = chain.clone();
            let (token, buffer) = (chain.token(), &mut unit.buffer);
            let buffer = buffer.get_mut(..COMMAND_MAX).unwrap_or(&mut []);
            // The whole chain is walked before the command is executed, which must happen only
            // once.
            let walked = queue.walk(token, || {
                let gathered = gather(mem.ring, mem.buffers, &mut chain, buffer)?;
                Ok((gathered, first_writable(mem.ring, &mut answers)?))
            });
            let Some((gathered, answer)) = walked else {
                unit.control.errors += u64::from(queue.is_broken());
                break;
            };
            unit.control.requests += 1;
            let done = match gathered {
                Gathered::Whole(len) => self.command(buffer.get(..len).unwrap_or(&[]), io),
                Gathered::Bad => Err(EINVAL),
            };
            let ack = match done {
                Ok(()) => ids::NET_OK,
                Err(_) => ids::NET_ERR,
            };
            match done {
                Ok(()) => unit.control.successes += 1,
                Err(_) => unit.control.errors += 1,
            }
            let told = answer.is_some_and(|at| mem.buffers.write(at.addr, &[ack]).is_ok());
            queue.push(mem.ring, token, told.into());
        }
        queue.end_run(mem.ring)
    }

    /// Executes a command.
    fn command(&self, command: &[u8], io: &Io<'_>) -> Result {
        let mut shared = self.shared.lock();
        (self.check)(&shared.filter, command)?;
        let little_endian = little_endian(io.features);
        let change = execute(
            &shared.filter,
            io.features | self.implied,
            little_endian,
            self.pairs,
            command,
        )?;
        match change {
            Change::Mac(mac) => {
                shared.mac = mac;
                io.config_changed();
            }
            Change::Filter(filter) => {
                let pairs = filter.pairs;
                let old = core::mem::replace(&mut shared.filter, filter);
                if old.pairs != pairs {
                    self.port.set_pairs(pairs);
                    // Pairs that are in use from now on may have frames to send.
                    self.port.wake_all();
                }
            }
        }
        Ok(())
    }
}

impl Class for Nic {
    const DEVICE_ID: u32 = ids::ID_NET;
    type Config = [u8; ids::NET_CONFIG_SIZE];
    type Unit = NicUnit;
    type Files = NicFiles;

    fn group(&self, idx: u16, features: u64) -> u32 {
        u32::from(idx == self.control_queue(features))
    }

    fn config(&self, features: u64) -> Self::Config {
        // struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu.
        ConfigBytes::<{ ids::NET_CONFIG_SIZE }>::new(little_endian(features))
            .put::<0, 6>(self.shared.lock().mac)
            .put_u16::<6>(ids::NET_S_LINK_UP)
            .put_u16::<8>(self.pairs)
            .put_u16::<10>(self.mtu)
            .into_bytes()
    }

    fn write_config(&self, features: u64, offset: usize, buf: &[u8]) {
        // Only legacy drivers set the address like this; no other field is writable.
        if features & ids::F_VERSION_1 != 0 {
            return;
        }
        let mut shared = self.shared.lock();
        for (byte, value) in shared.mac.iter_mut().skip(offset).zip(buf) {
            *byte = *value;
        }
    }

    fn started(&self, wakers: KVec<Waker>) {
        self.port.set_wakers(wakers);
    }

    fn run(&self, unit: &mut NicUnit, queues: &mut [Queue], io: &Io<'_>) -> Again {
        let control = usize::from(self.control_queue(io.features) / 2);
        if unit.number == control {
            let Some(queue) = queues.first_mut() else {
                return Again::No;
            };
            return self.control(unit, queue, io);
        }
        let now = {
            let shared = self.shared.lock();
            Now {
                features: io.features,
                header: if io.features & ids::F_VERSION_1 != 0 {
                    ids::NET_HDR_SIZE
                } else {
                    ids::NET_HDR_SIZE_LEGACY
                },
                mac: shared.mac,
                filter: shared.filter.clone(),
            }
        };
        if unit.number >= now.filter.pairs.into() {
            return Again::No;
        }
        let Some(rx_queue) = self.port.rx_queue(unit.number) else {
            return Again::No;
        };
        if !unit.open {
            unit.open = true;
            rx_queue.set_open(true);
        }
        let [rx, tx, ..] = queues else {
            return Again::No;
        };
        let (Some(rx_view), Some(tx_view)) = (io.view(rx), io.view(tx)) else {
            return Again::No;
        };
        if !rx.is_active() || !tx.is_active() {
            return Again::No;
        }
        let peer = self.port.peer();
        rx_view.with(|rx_mem| {
            tx_view.with(|tx_mem| {
                let more_received = unit.receive_all(rx, rx_mem, &now, rx_queue);
                let more_to_send =
                    unit.transmit_all((tx, tx_mem), (rx, rx_mem), &now, peer.as_deref());
                rx.signal(rx_mem.ring);
                tx.signal(tx_mem.ring);
                if more_received || more_to_send {
                    Again::Yes
                } else {
                    Again::No
                }
            })
        })
    }

    fn reset_unit(&self, unit: &mut NicUnit) {
        unit.open = false;
        if let Some(rx_queue) = self.port.rx_queue(unit.number) {
            rx_queue.set_open(false);
        }
    }

    fn reset(&self) {
        self.shared.lock().filter = self.initial.clone();
        self.port.set_pairs(1);
    }

    fn stats(
        &self,
        unit: &NicUnit,
        _queue: &Queue,
        idx: u16,
        features: u64,
        stats: &mut Stats<'_>,
    ) -> Result {
        if idx == self.control_queue(features) {
            stats.put(c"cvq requests", unit.control.requests)?;
            stats.put(c"cvq successes", unit.control.successes)?;
            stats.put(c"cvq errors", unit.control.errors)
        } else if idx % 2 == 0 {
            let rx_queue = self.port.rx_queue(unit.number);
            let (missed, oversized) = rx_queue.map_or((0, 0), |rx_queue| {
                (rx_queue.overruns(), rx_queue.oversized())
            });
            stats.put(c"rx packets", unit.rx.packets)?;
            stats.put(c"rx bytes", unit.rx.bytes)?;
            stats.put(c"rx errors", unit.rx.errors + oversized)?;
            stats.put(c"rx overruns", unit.rx.overruns + missed)?;
            stats.put(c"rx drops", unit.rx.drops)
        } else {
            stats.put(c"tx packets", unit.tx.packets)?;
            stats.put(c"tx bytes", unit.tx.bytes)?;
            stats.put(c"tx errors", unit.tx.errors)?;
            stats.put(c"tx drops", unit.tx.drops)
        }
    }
}
