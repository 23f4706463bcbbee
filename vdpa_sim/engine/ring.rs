// SPDX-License-Identifier: GPL-2.0

//! The device's side of a virtqueue, split or packed.
//!
//! Nothing here knows the kernel: memory is a trait, so that the same code runs under KUnit and
//! under a fuzzer in userspace. Everything that is read from memory is hostile. Whatever it says,
//! no function here panics, loops without a bound, or touches memory but through the trait.
//!
//! Each access to memory costs a translation. What lies behind each other is therefore read and
//! written in blocks, and used entries are collected until [`VirtQueue::flush`].
//!
//! virtio 1.3, sections 2.7 and 2.8.

mod chain;
mod packed;
mod split;

pub use chain::Chain;

/// How many used entries are collected before they are written.
const BATCH: usize = 16;

/// A rule of virtio that the driver broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The size is none that such a queue can have.
    Size,
    /// An area is misaligned or wraps around.
    Area,
    /// The saved state is no place in such a ring.
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
    /// The device gave back a chain that it did not have.
    Device,
}

impl Violation {
    /// All of them, in the order of their numbers.
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

    /// Returns what the driver did wrong, for the administrator.
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

/// Why a queue cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// A ring or a table is not mapped, or not with the permission it needs. The queue stands
    /// where it was: the same call may succeed once it is mapped.
    Unmapped,
    /// An index, a length or a chain is impossible.
    Invalid(Violation),
}

impl From<Violation> for RingError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(violation)
    }
}

/// The result of what can break a queue.
pub type RingResult<T = ()> = core::result::Result<T, RingError>;

/// Memory that the driver shares, addressed by IOVA.
pub trait Memory {
    /// Copies from it, all or an error.
    fn read(&self, addr: u64, into: &mut [u8]) -> RingResult;
    /// Copies to it, all or an error.
    fn write(&self, addr: u64, from: &[u8]) -> RingResult;
    /// Loads two aligned bytes in one access, as they are in memory.
    fn load_u16(&self, addr: u64) -> RingResult<u16>;
    /// Stores two aligned bytes in one access, as they are.
    fn store_u16(&self, addr: u64, value: u16) -> RingResult;
    /// Orders loads before later loads.
    fn read_barrier(&self);
    /// Orders stores before later stores.
    fn write_barrier(&self);
    /// Orders everything before everything later.
    fn full_barrier(&self);
}

/// Where a queue lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// The descriptor table, or the descriptor ring of a packed queue.
    pub desc: u64,
    /// The available ring, or what the driver says about events.
    pub driver: u64,
    /// The used ring, or what the device says about events.
    pub device: u64,
    /// The number of descriptors.
    pub num: u32,
}

/// What was negotiated about rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingFeatures {
    /// Fields are little-endian, else native.
    pub little_endian: bool,
    /// Descriptors may be indirect.
    pub indirect: bool,
    /// Notifications are suppressed by index.
    pub event_idx: bool,
    /// Rings are packed, else split.
    pub packed: bool,
}

impl RingFeatures {
    /// Converts a field from or to memory.
    fn u16(&self, value: u16) -> u16 {
        if self.little_endian {
            u16::from_le(value)
        } else {
            value
        }
    }

    /// As `u16`.
    fn u32(&self, value: u32) -> u32 {
        if self.little_endian {
            u32::from_le(value)
        } else {
            value
        }
    }

    /// As `u16`.
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
    /// Its IOVA.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Whether it is for the device to write; else it is for the device to read.
    pub writable: bool,
}

/// What a chain is given back by. It is pushed once, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// How the driver knows it.
    id: u16,
    /// How many descriptors of the ring it takes; 1 in a split queue.
    count: u16,
}

/// Where a packed queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedPosition {
    /// The next descriptor to look at.
    pub avail_idx: u16,
    /// The driver's wrap counter there.
    pub avail_wrap: bool,
    /// The next descriptor to write as used.
    pub used_idx: u16,
    /// The device's wrap counter there.
    pub used_wrap: bool,
}

/// Where a queue stands: what is saved on one device and restored on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The next available index to look at.
    Split(u16),
    /// The places of a packed queue.
    Packed(PackedPosition),
}

impl Position {
    /// Where a queue begins after a reset.
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

/// Whether an area of `size` bytes is aligned and has a last byte.
fn fits(addr: u64, align: u64, size: u32) -> bool {
    addr % align == 0 && addr.checked_add(u64::from(size)).is_some()
}

/// The two kinds of queues.
enum Kind {
    Split(split::SplitQueue),
    Packed(packed::PackedQueue),
}

/// Does the same with either kind of queue.
macro_rules! either {
    ($queue:expr, $ring:ident => $what:expr) => {
        match $queue {
            Kind::Split($ring) => $what,
            Kind::Packed($ring) => $what,
        }
    };
}

/// A virtqueue, split or packed as negotiated. After [`RingError::Invalid`] it is broken and is to
/// be dropped; after [`RingError::Unmapped`] it can be used on.
pub struct VirtQueue(Kind);

impl VirtQueue {
    /// A queue that stands at `start`, with nothing in flight.
    ///
    /// Errors: `Invalid` when the size is not one of such a queue, an area is misaligned or wraps
    /// around, or `start` is not a place in it.
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

    /// Where it is: what another device begins with. Chains in flight are not part of it.
    pub fn position(&self) -> Position {
        match &self.0 {
            Kind::Split(ring) => Position::Split(ring.position()),
            Kind::Packed(ring) => Position::Packed(ring.position()),
        }
    }

    /// Returns the position for a queue that takes over now: chains that were pushed and that the
    /// driver cannot see yet are done again.
    pub fn restart(&self) -> Position {
        match &self.0 {
            Kind::Split(ring) => Position::Split(ring.restart()),
            Kind::Packed(ring) => Position::Packed(ring.restart()),
        }
    }

    /// The number of chains that were popped and not pushed.
    pub fn in_flight(&self) -> u32 {
        either!(&self.0, ring => ring.in_flight())
    }

    /// Takes the next chain.
    ///
    /// Errors: also `Invalid` when more is in flight than the queue has descriptors.
    pub fn pop<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Chain>> {
        either!(&mut self.0, ring => ring.pop(mem))
    }

    /// Undoes the last `pop`, whose chain has this token: the next `pop` reads the chain again.
    pub fn put_back(&mut self, token: Token) {
        either!(&mut self.0, ring => ring.put_back(token));
    }

    /// Gives a chain back, with `len` bytes written to it. The driver sees it at the latest after
    /// `flush`, `needs_signal` or `enable_notify`.
    ///
    /// Errors: `Unmapped` only with more than 16 chains in flight; the chain is then still in
    /// flight.
    pub fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) -> RingResult {
        either!(&mut self.0, ring => ring.push(mem, token, len))
    }

    /// Lets the driver see all that was pushed.
    pub fn flush<M: Memory>(&mut self, mem: &M) -> RingResult {
        either!(&mut self.0, ring => ring.flush(mem))
    }

    /// Lets the driver see all that was pushed, and returns whether it wants to hear of what was
    /// since the last time.
    pub fn needs_signal<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        either!(&mut self.0, ring => ring.needs_signal(mem))
    }

    /// Asks the driver not to kick. It is a hint.
    pub fn disable_notify<M: Memory>(&mut self, mem: &M) -> RingResult {
        either!(&mut self.0, ring => ring.disable_notify(mem))
    }

    /// Lets the driver see all that was pushed, asks it to kick, and returns whether it made
    /// something available meanwhile.
    pub fn enable_notify<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        either!(&mut self.0, ring => ring.enable_notify(mem))
    }
}
