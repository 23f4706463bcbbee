// SPDX-License-Identifier: GPL-2.0

//! Links between NICs: a frame that is sent into one arrives in a bounded receive queue at its
//! other end.
//!
//! Lock order: [`Links::ports`], then [`Port::peer`] of one port, then [`RxQueue::frames`]. The
//! threads that send and receive hold the lock of their own unit outside of these, and never one
//! of the peer's.

use kernel::{
    debugfs::{Reader, ScopedDir, Writer},
    fmt,
    new_mutex,
    prelude::*,
    str::{CStr, CString},
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        Mutex,
        SetOnce, //
    },
    uaccess::UserSliceReader, //
};
use vdpa_parent::worker::Waker;
use vdpa_sim::faults::Files;

/// The size of a receive queue in bytes, with four more for each frame.
pub(crate) const RX_QUEUE_SIZE: usize = 256 * 1024;

/// The frames in a receive queue: a ring of bytes, each frame behind its length.
struct Frames {
    /// Whether the device takes frames: it runs, or is suspended.
    open: bool,
    /// Empty until there is a link.
    ring: KVVec<u8>,
    /// Where the oldest frame begins.
    start: usize,
    /// The number of bytes that wait.
    used: usize,
}

impl Frames {
    /// Splits what comes `offset` bytes behind the start in the part up to the end of the ring,
    /// and the rest.
    fn split(&self, offset: usize, len: usize) -> Option<(usize, usize)> {
        let size = self.ring.len();
        let at = self.start.checked_add(offset)?.checked_rem(size)?;
        Some((at, len.min(size - at)))
    }

    /// Writes behind what waits.
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let (at, first) = self.split(self.used, bytes.len())?;
        let (first, second) = bytes.split_at_checked(first)?;
        self.ring
            .get_mut(at..at + first.len())?
            .copy_from_slice(first);
        self.ring.get_mut(..second.len())?.copy_from_slice(second);
        self.used += bytes.len();
        Some(())
    }

    /// Returns the length of the oldest frame.
    fn first(&self) -> Option<usize> {
        if self.used == 0 {
            return None;
        }
        let mut len = [0u8; 4];
        self.get(0, &mut len)?;
        Some(u32::from_ne_bytes(len) as usize)
    }

    /// Removes the oldest frame, whose length is `len`.
    fn remove(&mut self, len: usize) {
        match self.split(4 + len, 0) {
            Some((start, _)) => {
                self.start = start;
                self.used = self.used.saturating_sub(4 + len);
            }
            // Without a ring nothing waits.
            None => self.used = 0,
        }
    }

    /// Copies what comes `offset` bytes behind the start.
    fn get(&self, offset: usize, into: &mut [u8]) -> Option<()> {
        let (at, first) = self.split(offset, into.len())?;
        let (first, second) = into.split_at_mut_checked(first)?;
        first.copy_from_slice(self.ring.get(at..at + first.len())?);
        second.copy_from_slice(self.ring.get(..second.len())?);
        Some(())
    }
}

/// The frames that wait for one queue pair.
#[pin_data]
pub struct RxQueue {
    #[pin]
    frames: Mutex<Frames>,
    /// The number of frames that found it full.
    overruns: Atomic<u64>,
    /// The number of frames that were longer than what the receiver takes.
    oversized: Atomic<u64>,
}

impl RxQueue {
    /// One that takes nothing.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                frames <- new_mutex!(Frames {
                    open: false,
                    ring: KVVec::new(),
                    start: 0,
                    used: 0,
                }),
                overruns: Atomic::new(0),
                oversized: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes room for frames.
    pub(crate) fn prepare(&self) -> Result {
        let ring = KVVec::from_elem(0u8, RX_QUEUE_SIZE, GFP_KERNEL)?;
        let mut frames = self.frames.lock();
        if frames.ring.is_empty() {
            frames.ring = ring;
        }
        Ok(())
    }

    /// Begins or ends to take frames; those that wait are forgotten at the end.
    pub fn set_open(&self, open: bool) {
        let mut frames = self.frames.lock();
        frames.open = open;
        if !open {
            frames.used = 0;
        }
    }

    /// Puts a frame in, if there is room.
    pub(crate) fn send(&self, frame: &[u8]) {
        let mut frames = self.frames.lock();
        if !frames.open {
            return;
        }
        let room = frames.ring.len() - frames.used;
        let fits = frame.len().checked_add(4).is_some_and(|len| len <= room);
        if !fits {
            self.overruns.fetch_add(1, Relaxed);
            return;
        }
        let _ = frames.put(&(frame.len() as u32).to_ne_bytes());
        let _ = frames.put(frame);
    }

    /// Copies the oldest frame, and returns its length; `None` means that no frame waits.
    ///
    /// Drops and counts frames that are longer than `into`.
    pub fn peek(&self, into: &mut [u8]) -> Option<usize> {
        let mut frames = self.frames.lock();
        while let Some(len) = frames.first() {
            let room = into.get_mut(..len);
            if room.and_then(|room| frames.get(4, room)).is_some() {
                return Some(len);
            }
            self.oversized.fetch_add(1, Relaxed);
            frames.remove(len);
        }
        None
    }

    /// Takes the oldest frame out, whose length is `len`.
    pub fn forget(&self, len: usize) {
        self.frames.lock().remove(len);
    }

    /// The number of frames that were longer than what the receiver takes.
    pub fn oversized(&self) -> u64 {
        self.oversized.load(Relaxed)
    }

    /// The number of frames that found it full.
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Relaxed)
    }
}

/// An end of a link: a NIC as others see it.
#[pin_data]
pub struct Port {
    /// The name of the NIC.
    name: CString,
    /// One for each queue pair.
    rx_queues: KVec<Arc<RxQueue>>,
    /// The number of queue pairs in use.
    pairs: Atomic<u32>,
    /// The units, once they can be called for.
    wakers: SetOnce<KVec<Waker>>,
    /// The other end of the link.
    #[pin]
    peer: Mutex<Option<Arc<Port>>>,
}

impl Port {
    /// Returns the receive queue of a queue pair.
    pub fn rx_queue(&self, pair: usize) -> Option<&RxQueue> {
        self.rx_queues.get(pair).map(|rx_queue| &**rx_queue)
    }

    /// The number of queue pairs in use changed.
    pub fn set_pairs(&self, pairs: u16) {
        self.pairs.store(pairs.into(), Relaxed);
    }

    /// The units can be called for from now on.
    pub fn set_wakers(&self, wakers: KVec<Waker>) {
        self.wakers.populate(wakers);
    }

    /// Calls for a unit.
    pub fn wake(&self, unit: usize) {
        if let Some(waker) = self.wakers.as_ref().and_then(|wakers| wakers.get(unit)) {
            waker.wake();
        }
    }

    /// Calls for every unit.
    pub fn wake_all(&self) {
        for waker in self.wakers.as_ref().into_iter().flat_map(|all| all.iter()) {
            waker.wake();
        }
    }

    /// Returns the other end of the link.
    pub fn peer(&self) -> Option<Arc<Self>> {
        self.peer.lock().clone()
    }

    /// The queue pair that receives what the peer's pair of that number sends.
    pub fn pair_for(&self, pair: usize) -> usize {
        pair % (self.pairs.load(Relaxed).max(1) as usize)
    }

    /// Sends a frame to a queue pair of this port.
    pub fn send(&self, pair: usize, frame: &[u8]) {
        if let Some(rx_queue) = self.rx_queue(pair) {
            rx_queue.send(frame);
        }
    }

    /// Disconnects both ends.
    fn unplug(&self) {
        let peer = self.peer.lock().take();
        if let Some(peer) = peer {
            let this = peer.peer.lock().take();
            drop(this);
        }
    }
}

/// All ports there are.
#[pin_data]
pub struct Links {
    #[pin]
    ports: Mutex<KVec<Arc<Port>>>,
}

impl Links {
    /// No ports yet.
    pub fn new() -> Result<Arc<Self>> {
        let this = pin_init!(Self { ports <- new_mutex!(KVec::new()) });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// Makes a port for a NIC with so many queue pairs.
    pub fn add(&self, name: &CStr, pairs: u16) -> Result<Arc<Port>> {
        let mut rx_queues = KVec::new();
        for _ in 0..pairs {
            rx_queues.push(RxQueue::new()?, GFP_KERNEL)?;
        }
        let name = CString::try_from(name)?;
        let port = Arc::pin_init(
            pin_init!(Port {
                name,
                rx_queues,
                pairs: Atomic::new(1),
                wakers: SetOnce::new(),
                peer <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        self.ports.lock().push(port.clone(), GFP_KERNEL)?;
        Ok(port)
    }

    /// Forgets a port, whose link is removed.
    pub fn remove(&self, port: &Arc<Port>) {
        let mut ports = self.ports.lock();
        port.unplug();
        ports.retain(|other| !Arc::ptr_eq(other, port));
    }

    /// Connects a port to the one of that name; to none if the name is empty.
    ///
    /// Errors: `ENODEV` when there is no such port, `EINVAL` when it is the same one, `EBUSY` when
    /// it has a link to a third one, `ENOMEM`. Then nothing changed.
    pub(crate) fn connect(&self, port: &Arc<Port>, name: &[u8]) -> Result {
        let ports = self.ports.lock();
        if name.is_empty() {
            port.unplug();
            return Ok(());
        }
        let mut named = ports.iter().filter(|other| other.name.to_bytes() == name);
        let other = named.next_back().ok_or(ENODEV)?;
        if Arc::ptr_eq(port, other) {
            return Err(EINVAL);
        }
        match other.peer() {
            Some(third) if Arc::ptr_eq(&third, port) => return Ok(()),
            Some(_) => return Err(EBUSY),
            None => {}
        }
        for end in [port, other] {
            end.rx_queues
                .iter()
                .try_for_each(|rx_queue| rx_queue.prepare())?;
        }
        port.unplug();
        *port.peer.lock() = Some(other.clone());
        *other.peer.lock() = Some(port.clone());
        port.wake_all();
        other.wake_all();
        Ok(())
    }
}

/// The file `peer` of a NIC: the name of the NIC at the other end of its link, which is written
/// to connect it; an empty line removes the link.
pub struct PeerFile {
    /// Where the other NICs are found.
    pub links: Arc<Links>,
    /// The NIC's own end.
    pub port: Arc<Port>,
}

impl Writer for PeerFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port.peer() {
            Some(peer) => f.write_fmt(fmt!("{}\n", &*peer.name)),
            None => writeln!(f),
        }
    }
}

impl Reader for PeerFile {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let mut buf = [0u8; 128];
        let buf = buf.get_mut(..reader.len()).ok_or(EINVAL)?;
        reader.read_slice(buf)?;
        self.links.connect(&self.port, buf.trim_ascii())
    }
}

/// The link's file, where there can be one.
pub struct NicFiles(pub Option<PeerFile>);

impl Files for NicFiles {
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        if let Some(file) = &self.0 {
            dir.read_write_file(c"peer", file);
        }
    }
}
