// SPDX-License-Identifier: GPL-2.0

//! Links between NICs. A frame that is sent to one end arrives in a bounded receive queue at the
//! other end.
//!
//! Lock order: [`Links::ports`], then [`Port::peer`] of one port, then [`RxQueue::frames`]. The
//! threads that send and receive hold the lock of their own unit outside of these, and never one of
//! the peer's.

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

/// Size of a receive queue in bytes. Each frame takes four bytes more than its length.
pub(crate) const RX_QUEUE_SIZE: usize = 256 * 1024;

/// Frames in a receive queue: a ring of bytes, in which each frame follows its length.
struct Frames {
    /// True if the device accepts frames: it runs, or is suspended.
    open: bool,
    /// The ring, which is empty until there is a link.
    ring: KVVec<u8>,
    /// The offset of the oldest frame.
    start: usize,
    /// The number of bytes in the ring that are in use.
    used: usize,
}

impl Frames {
    /// Returns where `len` bytes at `offset` behind the start begin in the ring, and how many of
    /// them are before its end. The rest is at its beginning.
    fn split(&self, offset: usize, len: usize) -> Option<(usize, usize)> {
        let size = self.ring.len();
        let at = self.start.checked_add(offset)?.checked_rem(size)?;
        Some((at, len.min(size - at)))
    }

    /// Appends bytes.
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

    /// Removes the oldest frame, whose length must be `len`.
    fn remove(&mut self, len: usize) {
        match self.split(4 + len, 0) {
            Some((start, _)) => {
                self.start = start;
                self.used = self.used.saturating_sub(4 + len);
            }
            // Without a ring there are no frames.
            None => self.used = 0,
        }
    }

    /// Copies the bytes at `offset` behind the start.
    fn get(&self, offset: usize, into: &mut [u8]) -> Option<()> {
        let (at, first) = self.split(offset, into.len())?;
        let (first, second) = into.split_at_mut_checked(first)?;
        first.copy_from_slice(self.ring.get(at..at + first.len())?);
        second.copy_from_slice(self.ring.get(..second.len())?);
        Some(())
    }
}

/// Receive queue of one queue pair: frames that wait for the guest's buffers.
#[pin_data]
pub struct RxQueue {
    #[pin]
    frames: Mutex<Frames>,
    /// The number of frames that were lost because the queue was full.
    overruns: Atomic<u64>,
    /// The number of frames that were lost because they were too long for the receiver.
    oversized: Atomic<u64>,
}

impl RxQueue {
    /// Creates a closed queue without memory for frames.
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

    /// Allocates memory for frames. Errors: `ENOMEM`.
    pub(crate) fn prepare(&self) -> Result {
        let ring = KVVec::from_elem(0u8, RX_QUEUE_SIZE, GFP_KERNEL)?;
        let mut frames = self.frames.lock();
        if frames.ring.is_empty() {
            frames.ring = ring;
        }
        Ok(())
    }

    /// Opens or closes the queue. Closing it drops the frames in it.
    pub fn set_open(&self, open: bool) {
        let mut frames = self.frames.lock();
        frames.open = open;
        if !open {
            frames.used = 0;
        }
    }

    /// Appends a frame. Drops it if the queue is closed, and counts it as an overrun if the queue
    /// is full.
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

    /// Copies the oldest frame and returns its length, or `None` if there is no frame.
    ///
    /// Frames that are longer than `into` are dropped and counted.
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

    /// Removes the oldest frame, whose length must be `len`.
    pub fn forget(&self, len: usize) {
        self.frames.lock().remove(len);
    }

    /// Returns the number of frames that were too long for the receiver.
    pub fn oversized(&self) -> u64 {
        self.oversized.load(Relaxed)
    }

    /// Returns the number of frames that found the queue full.
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Relaxed)
    }
}

/// One end of a link: a NIC, as other NICs see it.
#[pin_data]
pub struct Port {
    /// The name of the NIC.
    name: CString,
    /// The receive queues, one for each queue pair.
    rx_queues: KVec<Arc<RxQueue>>,
    /// The number of queue pairs in use.
    pairs: Atomic<u32>,
    /// The wakers of the units, once these can be woken.
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

    /// Sets the number of queue pairs in use.
    pub fn set_pairs(&self, pairs: u16) {
        self.pairs.store(pairs.into(), Relaxed);
    }

    /// Sets the wakers of the units. Called once.
    pub fn set_wakers(&self, wakers: KVec<Waker>) {
        self.wakers.populate(wakers);
    }

    /// Wakes a unit.
    pub fn wake(&self, unit: usize) {
        if let Some(waker) = self.wakers.as_ref().and_then(|wakers| wakers.get(unit)) {
            waker.wake();
        }
    }

    /// Wakes every unit.
    pub fn wake_all(&self) {
        for waker in self.wakers.as_ref().into_iter().flat_map(|all| all.iter()) {
            waker.wake();
        }
    }

    /// Returns the other end of the link.
    pub fn peer(&self) -> Option<Arc<Self>> {
        self.peer.lock().clone()
    }

    /// Returns the queue pair that receives what pair `pair` of the peer sends.
    pub fn pair_for(&self, pair: usize) -> usize {
        pair % (self.pairs.load(Relaxed).max(1) as usize)
    }

    /// Sends a frame to a queue pair of this port.
    pub fn send(&self, pair: usize, frame: &[u8]) {
        if let Some(rx_queue) = self.rx_queue(pair) {
            rx_queue.send(frame);
        }
    }

    /// Removes the link, at both ends.
    fn unplug(&self) {
        let peer = self.peer.lock().take();
        if let Some(peer) = peer {
            let this = peer.peer.lock().take();
            drop(this);
        }
    }
}

/// All ports that can be linked.
#[pin_data]
pub struct Links {
    #[pin]
    ports: Mutex<KVec<Arc<Port>>>,
}

impl Links {
    /// Creates a list without ports.
    pub fn new() -> Result<Arc<Self>> {
        let this = pin_init!(Self { ports <- new_mutex!(KVec::new()) });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// Creates a port for a NIC with `pairs` queue pairs. Errors: `ENOMEM`.
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

    /// Removes a port and its link.
    pub fn remove(&self, port: &Arc<Port>) {
        let mut ports = self.ports.lock();
        port.unplug();
        ports.retain(|other| !Arc::ptr_eq(other, port));
    }

    /// Connects a port to the port with this name, or to none if the name is empty.
    ///
    /// Errors: `ENODEV` if there is no such port, `EINVAL` if it is the same port, `EBUSY` if it
    /// has a link to a third one, `ENOMEM`. The links then stay as they are.
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

/// File `peer` of a NIC: the name of the NIC at the other end of its link. Writing a name connects
/// the NIC; an empty line removes the link.
pub struct PeerFile {
    /// The list of ports in which the name is looked up.
    pub links: Arc<Links>,
    /// The port of the NIC.
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

/// Files of a NIC: that of its link, if it can have one.
pub struct NicFiles(pub Option<PeerFile>);

impl Files for NicFiles {
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        if let Some(file) = &self.0 {
            dir.read_write_file(c"peer", file);
        }
    }
}
