// SPDX-License-Identifier: GPL-2.0

//! The device's side of a virtqueue, split or packed.
//!
//! This code does not depend on the kernel: memory is a trait, so that the same code runs under
//! KUnit and under a fuzzer in userspace. Everything that is read from memory is untrusted.
//! Whatever it contains, no function here panics, loops without a bound, or accesses memory except
//! through the trait.
//!
//! Each access to memory costs a translation. So adjacent fields are read and written in blocks,
//! and used entries are collected until [`VirtQueue::flush`].
//!
//! virtio 1.3, sections 2.7 and 2.8.

mod chain;
mod packed;
mod split;

pub use chain::Chain;

/// Number of used entries that are collected before they are written.
const BATCH: usize = 16;

/// Rule of virtio that the driver violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The size is not valid for such a queue.
    Size,
    /// An area is misaligned or wraps around.
    Area,
    /// The saved state is not a position in such a ring.
    Position,
    /// More is available than the ring has descriptors.
    Available,
    /// A chain begins outside of the descriptor table.
    Head,
    /// A descriptor lies outside of its table.
    Link,
    /// A chain has more descriptors than its table, or forms a loop.
    Length,
    /// An indirect table is not negotiated, nested, empty, too large or not the last.
    Table,
    /// A readable buffer follows a writable one.
    Direction,
    /// A buffer or a table wraps around.
    Address,
    /// A request has more segments than the device takes.
    Segments,
    /// The device returned a chain that it did not have.
    Device,
}

impl Violation {
    /// All violations, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Size,
        Self::Area,
        Self::Position,
        Self::Available,
        Self::Head,
        Self::Link,
        Self::Length,
        Self::Table,
        Self::Direction,
        Self::Address,
        Self::Segments,
        Self::Device,
    ];

    /// Returns the reason as text, for debugfs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Size => "its size is not possible",
            Self::Area => "an area is misaligned or wraps around",
            Self::Position => "it begins outside of the ring",
            Self::Available => "more is available than the ring has descriptors",
            Self::Head => "a chain begins outside of the descriptor table",
            Self::Link => "a descriptor lies outside of its table",
            Self::Length => "a chain is longer than its table",
            Self::Table => "an indirect table is not allowed",
            Self::Direction => "a readable buffer follows a writable one",
            Self::Address => "a buffer or a table wraps around",
            Self::Segments => "a request has too many segments",
            Self::Device => "the device gave back what it did not have",
        }
    }
}

/// Reason why a queue cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// A ring or a table is not mapped, or lacks a permission. The queue has not changed: the same
    /// call may succeed once it is mapped.
    Unmapped,
    /// An index, a length or a chain is impossible.
    Invalid(Violation),
}

impl From<Violation> for RingError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(violation)
    }
}

/// Result of an operation that can break a queue.
pub type RingResult<T = ()> = core::result::Result<T, RingError>;

/// Memory that the driver shares, addressed by IOVA.
pub trait Memory {
    /// Copies bytes from memory: all of them, or fails.
    fn read(&self, addr: u64, into: &mut [u8]) -> RingResult;
    /// Copies bytes to memory: all of them, or fails.
    fn write(&self, addr: u64, from: &[u8]) -> RingResult;
    /// Loads two aligned bytes in one access, in the byte order of the memory.
    fn load_u16(&self, addr: u64) -> RingResult<u16>;
    /// Stores two aligned bytes in one access, in the byte order of the memory.
    fn store_u16(&self, addr: u64, value: u16) -> RingResult;
    /// Orders earlier loads before later loads.
    fn read_barrier(&self);
    /// Orders earlier stores before later stores.
    fn write_barrier(&self);
    /// Orders all earlier accesses before all later ones.
    fn full_barrier(&self);
}

/// Addresses and size of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// The descriptor table, or the descriptor ring of a packed queue.
    pub desc: u64,
    /// The available ring, or the driver's event structure.
    pub driver: u64,
    /// The used ring, or the device's event structure.
    pub device: u64,
    /// The number of descriptors.
    pub num: u32,
}

/// Negotiated features of rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingFeatures {
    /// True if fields are little-endian, false if they are native.
    pub little_endian: bool,
    /// True if descriptors may be indirect.
    pub indirect: bool,
    /// True if notifications are suppressed by index.
    pub event_idx: bool,
    /// True if rings are packed, false if they are split.
    pub packed: bool,
}

impl RingFeatures {
    /// Converts a field from or to the byte order of the memory.
    fn u16(&self, value: u16) -> u16 {
        if self.little_endian {
            u16::from_le(value)
        } else {
            value
        }
    }

    /// Converts a field like [`Self::u16`].
    fn u32(&self, value: u32) -> u32 {
        if self.little_endian {
            u32::from_le(value)
        } else {
            value
        }
    }

    /// Converts a field like [`Self::u16`].
    fn u64(&self, value: u64) -> u64 {
        if self.little_endian {
            u64::from_le(value)
        } else {
            value
        }
    }
}

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The IOVA.
    pub addr: u64,
    /// The length in bytes.
    pub len: u32,
    /// True if the device may write to it, false if the device may read it.
    pub writable: bool,
}

/// Token by which a chain is returned. Each is pushed once, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The ID by which the driver knows the chain.
    id: u16,
    /// The number of the ring's descriptors in the chain; 1 in a split queue.
    count: u16,
}

/// Position of a packed queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedPosition {
    /// The next descriptor to read.
    pub avail_idx: u16,
    /// The driver's wrap counter there.
    pub avail_wrap: bool,
    /// The next descriptor to write as used.
    pub used_idx: u16,
    /// The device's wrap counter there.
    pub used_wrap: bool,
}

/// Position of a queue, which is saved on one device and restored on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The next available index to read.
    Split(u16),
    /// The positions of a packed queue.
    Packed(PackedPosition),
}

impl Position {
    /// Returns the position of a queue after a reset.
    pub fn initial(packed: bool) -> Self {
        if packed {
            Self::Packed(PackedPosition {
                avail_idx: 0,
                avail_wrap: true,
                used_idx: 0,
                used_wrap: true,
            })
        } else {
            Self::Split(0)
        }
    }
}

/// Returns true if an area of `size` bytes is aligned and its end is below 2^64.
fn fits(addr: u64, align: u64, size: u32) -> bool {
    addr % align == 0 && addr.checked_add(u64::from(size)).is_some()
}

/// The two kinds of queues.
enum Kind {
    Split(split::SplitQueue),
    Packed(packed::PackedQueue),
}

/// Evaluates the same expression for either kind of queue.
macro_rules! either {
    ($queue:expr, $ring:ident => $what:expr) => {
        match $queue {
            Kind::Split($ring) => $what,
            Kind::Packed($ring) => $what,
        }
    };
}

/// Virtqueue, split or packed as negotiated. After [`RingError::Invalid`] it is broken and must be
/// dropped; after [`RingError::Unmapped`] it can be used again.
pub struct VirtQueue(Kind);

impl VirtQueue {
    /// Creates a queue at position `start`, with nothing in flight.
    ///
    /// Errors: `Invalid` if the size is not valid for such a queue, an area is misaligned or wraps
    /// around, or `start` is not a position in it.
    pub fn new(layout: Layout, features: RingFeatures, start: Position) -> RingResult<Self> {
        Ok(Self(match (features.packed, start) {
            (false, Position::Split(start)) => {
                Kind::Split(split::SplitQueue::new(layout, features, start)?)
            }
            (true, Position::Packed(start)) => {
                Kind::Packed(packed::PackedQueue::new(layout, features, start)?)
            }
            _ => return Err(Violation::Position.into()),
        }))
    }

    /// Returns the position at which another device would continue. It does not include chains in
    /// flight.
    pub fn position(&self) -> Position {
        match &self.0 {
            Kind::Split(ring) => Position::Split(ring.position()),
            Kind::Packed(ring) => Position::Packed(ring.position()),
        }
    }

    /// Returns the position for a queue that takes over now: chains that were pushed and that the
    /// driver cannot see yet are processed again.
    pub fn restart(&self) -> Position {
        match &self.0 {
            Kind::Split(ring) => Position::Split(ring.restart()),
            Kind::Packed(ring) => Position::Packed(ring.restart()),
        }
    }

    /// Returns the number of chains that were popped and not pushed.
    pub fn in_flight(&self) -> u32 {
        either!(&self.0, ring => ring.in_flight())
    }

    /// Takes the next chain, or returns `None` if there is none.
    ///
    /// Errors: `Invalid` also if more chains are in flight than the queue has descriptors.
    pub fn pop<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Chain>> {
        either!(&mut self.0, ring => ring.pop(mem))
    }

    /// Undoes the last `pop`, which must have returned a chain with this token. The next `pop`
    /// reads that chain again.
    pub fn put_back(&mut self, token: Token) {
        either!(&mut self.0, ring => ring.put_back(token));
    }

    /// Returns a chain to the driver, with `len` bytes written to it. The driver sees it after
    /// `flush`, `needs_signal` or `enable_notify` at the latest.
    ///
    /// Errors: `Unmapped` only with more than 16 chains in flight; the chain is then still in
    /// flight. `Invalid` for a chain that is not in flight.
    pub fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) -> RingResult {
        either!(&mut self.0, ring => ring.push(mem, token, len))
    }

    /// Makes all pushed chains visible to the driver.
    pub fn flush<M: Memory>(&mut self, mem: &M) -> RingResult {
        either!(&mut self.0, ring => ring.flush(mem))
    }

    /// Makes all pushed chains visible to the driver. Returns true if the driver wants to be
    /// signalled for those since the last call.
    pub fn needs_signal<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        either!(&mut self.0, ring => ring.needs_signal(mem))
    }

    /// Asks the driver not to kick. This is a hint.
    pub fn disable_notify<M: Memory>(&mut self, mem: &M) -> RingResult {
        either!(&mut self.0, ring => ring.disable_notify(mem))
    }

    /// Makes all pushed chains visible to the driver, and asks it to kick. Returns true if it made
    /// chains available meanwhile.
    pub fn enable_notify<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        either!(&mut self.0, ring => ring.enable_notify(mem))
    }
}
