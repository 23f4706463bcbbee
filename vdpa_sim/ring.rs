// SPDX-License-Identifier: GPL-2.0

//! The device's side of a split virtqueue.
//!
//! Nothing here knows the kernel: memory is a trait, so that the same code runs under KUnit and
//! under a fuzzer in userspace. Everything that is read from memory is hostile. Whatever it says,
//! no function here panics, loops without a bound, or touches memory but through the trait.
//!
//! virtio 1.3, section 2.7.

/// Descriptor: goes on in `next`.
const DESC_F_NEXT: u16 = 1;
/// Descriptor: the device writes to the buffer.
const DESC_F_WRITE: u16 = 2;
/// Descriptor: the buffer is a table of descriptors.
const DESC_F_INDIRECT: u16 = 4;
/// Available ring: the driver wants no interrupts.
const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// Used ring: the device wants no kicks.
const USED_F_NO_NOTIFY: u16 = 1;

/// The size of a descriptor in bytes.
const DESC_SIZE: u32 = 16;
/// The largest indirect table we walk. Drivers use as many entries as the device has segments.
const MAX_INDIRECT: u32 = 1024;

/// Why a queue cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingError {
    /// A ring or a table is not mapped, or not with the permission it needs.
    Unmapped,
    /// An index, a length or a chain is impossible.
    Invalid,
}

/// The result of what can break a queue.
pub(crate) type RingResult<T = ()> = core::result::Result<T, RingError>;

/// Memory that the driver shares, addressed by IOVA.
pub(crate) trait Memory {
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
pub(crate) struct Layout {
    /// The descriptor table.
    pub(crate) desc: u64,
    /// The available ring.
    pub(crate) driver: u64,
    /// The used ring.
    pub(crate) device: u64,
    /// The number of descriptors.
    pub(crate) num: u32,
}

/// What was negotiated about rings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RingFeatures {
    /// Fields are little-endian, else native.
    pub(crate) little_endian: bool,
    /// Descriptors may be indirect.
    pub(crate) indirect: bool,
    /// Notifications are suppressed by index.
    pub(crate) event_idx: bool,
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
pub(crate) struct Segment {
    /// Its IOVA.
    pub(crate) addr: u64,
    /// Its length in bytes.
    pub(crate) len: u32,
    /// Whether it is for the device to write; else it is for the device to read.
    pub(crate) writable: bool,
}

/// A descriptor, decoded.
struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A chain of descriptors that the driver made available; walked once, as it is.
#[derive(Clone)]
pub(crate) struct Chain {
    head: u16,
    features: RingFeatures,
    /// The table that is being walked.
    table: u64,
    /// The number of descriptors in it.
    entries: u32,
    /// The next one, unless the chain has ended.
    next: Option<u16>,
    /// How many more descriptors there can be, or there is a loop.
    left: u32,
    /// Whether the table is an indirect one.
    indirect: bool,
    /// Whether a writable segment was seen: no readable one may follow.
    writable: bool,
}

impl Chain {
    /// What to push when it is done.
    pub(crate) fn head(&self) -> u16 {
        self.head
    }

    /// Reads a descriptor of the current table.
    fn desc<M: Memory>(&self, mem: &M, index: u16) -> RingResult<Desc> {
        if u32::from(index) >= self.entries {
            return Err(RingError::Invalid);
        }
        let offset = u64::from(index) * u64::from(DESC_SIZE);
        let addr = self.table.checked_add(offset).ok_or(RingError::Invalid)?;
        let mut raw = [0u8; DESC_SIZE as usize];
        mem.read(addr, &mut raw)?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = raw;
        Ok(Desc {
            addr: self
                .features
                .u64(u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7])),
            len: self.features.u32(u32::from_ne_bytes([l0, l1, l2, l3])),
            flags: self.features.u16(u16::from_ne_bytes([f0, f1])),
            next: self.features.u16(u16::from_ne_bytes([n0, n1])),
        })
    }

    /// The next segment, or `None` at the end. After an error the queue is broken.
    pub(crate) fn next<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Segment>> {
        loop {
            let Some(index) = self.next else {
                return Ok(None);
            };
            self.left = self.left.checked_sub(1).ok_or(RingError::Invalid)?;
            let desc = self.desc(mem, index)?;

            if desc.flags & DESC_F_INDIRECT != 0 {
                let entries = desc.len / DESC_SIZE;
                if !self.features.indirect
                    || self.indirect
                    || desc.flags & DESC_F_NEXT != 0
                    || desc.len % DESC_SIZE != 0
                    || entries == 0
                    || entries > MAX_INDIRECT
                {
                    return Err(RingError::Invalid);
                }
                self.indirect = true;
                self.table = desc.addr;
                self.entries = entries;
                self.left = entries;
                self.next = Some(0);
                continue;
            }

            self.next = (desc.flags & DESC_F_NEXT != 0).then_some(desc.next);
            let writable = desc.flags & DESC_F_WRITE != 0;
            if self.writable && !writable {
                return Err(RingError::Invalid);
            }
            self.writable = writable;
            if desc.len == 0 {
                continue;
            }
            // The last byte must have an address.
            if desc.addr.checked_add(u64::from(desc.len) - 1).is_none() {
                return Err(RingError::Invalid);
            }
            return Ok(Some(Segment {
                addr: desc.addr,
                len: desc.len,
                writable,
            }));
        }
    }
}

/// A split virtqueue.
pub(crate) struct SplitQueue {
    layout: Layout,
    /// `layout.num`, which is a power of two, minus one.
    mask: u16,
    features: RingFeatures,
    /// The next entry of the available ring to look at.
    next_avail: u16,
    /// The driver's index as last seen.
    seen_avail: u16,
    /// The next entry of the used ring to write.
    next_used: u16,
    /// The used index at the last interrupt, and whether there was one.
    signalled: Option<u16>,
}

impl SplitQueue {
    /// A queue that begins at available index `start`, with nothing in flight.
    ///
    /// Errors: `Invalid` when the size is no power of two up to 32768, or an area is misaligned
    /// or wraps around.
    pub(crate) fn new(layout: Layout, features: RingFeatures, start: u16) -> RingResult<Self> {
        let num = layout.num;
        if !num.is_power_of_two() || num > 1 << 15 {
            return Err(RingError::Invalid);
        }
        let fits = |addr: u64, align: u64, size: u32| {
            addr % align == 0 && addr.checked_add(u64::from(size)).is_some()
        };
        // `num` is small, so none of the sizes overflows.
        if !fits(layout.desc, 16, num * DESC_SIZE)
            || !fits(layout.driver, 2, 6 + 2 * num)
            || !fits(layout.device, 4, 6 + 8 * num)
        {
            return Err(RingError::Invalid);
        }
        Ok(Self {
            layout,
            mask: (num - 1) as u16,
            features,
            next_avail: start,
            seen_avail: start,
            next_used: start,
            signalled: None,
        })
    }

    /// Where it is: what another device begins with.
    pub(crate) fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// The slot of an index, in bytes from the start of a ring of `size` byte entries.
    fn slot(&self, index: u16, size: u64) -> u64 {
        // A ring's first entry is behind two 16-bit fields.
        4 + u64::from(index & self.mask) * size
    }

    /// The address of a field of the available ring. `new` made sure that it does not wrap.
    fn driver(&self, offset: u64) -> u64 {
        self.layout.driver.wrapping_add(offset)
    }

    /// The address of a field of the used ring. `new` made sure that it does not wrap.
    fn device(&self, offset: u64) -> u64 {
        self.layout.device.wrapping_add(offset)
    }

    /// Looks for what the driver made available, and returns whether there is something.
    fn refresh<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        let seen = self.features.u16(mem.load_u16(self.driver(2))?);
        if u32::from(seen.wrapping_sub(self.next_avail)) > self.layout.num {
            return Err(RingError::Invalid);
        }
        self.seen_avail = seen;
        Ok(seen != self.next_avail)
    }

    /// Takes the next chain.
    pub(crate) fn pop<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Chain>> {
        if self.seen_avail == self.next_avail && !self.refresh(mem)? {
            return Ok(None);
        }
        // The entry and its descriptors are read after the index that covers them.
        mem.read_barrier();
        let entry = self.driver(self.slot(self.next_avail, 2));
        let head = self.features.u16(mem.load_u16(entry)?);
        if u32::from(head) >= self.layout.num {
            return Err(RingError::Invalid);
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(Chain {
            head,
            features: self.features,
            table: self.layout.desc,
            entries: self.layout.num,
            next: Some(head),
            left: self.layout.num,
            indirect: false,
            writable: false,
        }))
    }

    /// Gives a chain back, with `len` bytes written to it.
    pub(crate) fn push<M: Memory>(&mut self, mem: &M, head: u16, len: u32) -> RingResult {
        let mut raw = [0u8; 8];
        let (id, rest) = raw.split_at_mut(4);
        id.copy_from_slice(&self.features.u32(u32::from(head)).to_ne_bytes());
        rest.copy_from_slice(&self.features.u32(len).to_ne_bytes());
        mem.write(self.device(self.slot(self.next_used, 8)), &raw)?;
        // Data and entry are written before the index that covers them.
        mem.write_barrier();
        let next = self.next_used.wrapping_add(1);
        mem.store_u16(self.device(2), self.features.u16(next))?;
        self.next_used = next;
        Ok(())
    }

    /// Whether the driver wants to hear of what was pushed since the last time.
    pub(crate) fn needs_signal<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        // The used index is visible before the driver's wish is read.
        mem.full_barrier();
        if !self.features.event_idx {
            let flags = self.features.u16(mem.load_u16(self.driver(0))?);
            return Ok(flags & AVAIL_F_NO_INTERRUPT == 0);
        }
        let offset = 4 + 2 * u64::from(self.layout.num);
        let event = self.features.u16(mem.load_u16(self.driver(offset))?);
        let new = self.next_used;
        let Some(old) = self.signalled.replace(new) else {
            return Ok(true);
        };
        // Is `event` among the indices from `old` up to `new`?
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }

    /// Asks the driver not to kick. It is a hint.
    pub(crate) fn suppress_kicks<M: Memory>(&mut self, mem: &M) -> RingResult {
        if self.features.event_idx {
            // An index that was passed says the same.
            return Ok(());
        }
        mem.store_u16(self.device(0), self.features.u16(USED_F_NO_NOTIFY))
    }

    /// Asks the driver to kick, and returns whether it made something available meanwhile.
    pub(crate) fn ask_for_kicks<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        if self.features.event_idx {
            let offset = 4 + 8 * u64::from(self.layout.num);
            mem.store_u16(self.device(offset), self.features.u16(self.next_avail))?;
        } else {
            mem.store_u16(self.device(0), 0)?;
        }
        // The wish is visible before the index is read once more.
        mem.full_barrier();
        self.refresh(mem)
    }
}
