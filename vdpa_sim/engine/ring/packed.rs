// SPDX-License-Identifier: GPL-2.0

//! Packed virtqueue.
//!
//! virtio 1.3, section 2.8.

use super::{
    chain::{Chain, Desc, RingBlock, DESC_F_NEXT, DESC_F_WRITE, DESC_SIZE},
    fits, Layout, Memory, PackedPosition, RingFeatures, RingResult, Token, Violation, BATCH,
};

/// Descriptor flag: equals the driver's wrap counter if the driver made it available.
const DESC_F_AVAIL: u16 = 1 << 7;
/// Descriptor flag: differs from [`DESC_F_AVAIL`] if the descriptor is available; the device makes
/// both equal when it has used the descriptor.
const DESC_F_USED: u16 = 1 << 15;

/// Event flags: no notifications.
const EVENT_F_DISABLE: u16 = 1;
/// Event flags: a notification for a certain descriptor.
const EVENT_F_DESC: u16 = 2;

/// Size of an event structure in bytes.
const EVENT_SIZE: u32 = 4;
/// Offset of the flags in an event structure. The place is before them.
const EVENT_FLAGS: u64 = 2;

/// Place in the ring, with the wrap counter there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    idx: u16,
    wrap: bool,
}

impl Place {
    /// Returns the place `count` descriptors further on. `count` must not be larger than `num`.
    fn plus(self, count: u16, num: u32) -> Self {
        let next = u32::from(self.idx) + u32::from(count);
        match next.checked_sub(num) {
            None => Self {
                idx: next as u16,
                ..self
            },
            Some(idx) => Self {
                idx: idx as u16,
                wrap: !self.wrap,
            },
        }
    }

    /// Returns the place `count` descriptors before. `count` must not be larger than `num`.
    fn minus(self, count: u16, num: u32) -> Self {
        match self.idx.checked_sub(count) {
            Some(idx) => Self { idx, ..self },
            None => Self {
                idx: (u32::from(self.idx) + num - u32::from(count)) as u16,
                wrap: !self.wrap,
            },
        }
    }

    /// Returns the number of the place in two rounds.
    fn linear(self, num: u32) -> u32 {
        u32::from(self.idx) + if self.wrap { 0 } else { num }
    }

    /// Returns the place in the form of an event structure.
    fn encode(self) -> u16 {
        self.idx | u16::from(self.wrap) << 15
    }

    /// Returns the flags of a descriptor that is available here.
    fn available(self) -> u16 {
        if self.wrap {
            DESC_F_AVAIL
        } else {
            DESC_F_USED
        }
    }

    /// Returns the flags of a descriptor that is used here.
    fn used(self) -> u16 {
        if self.wrap {
            DESC_F_AVAIL | DESC_F_USED
        } else {
            0
        }
    }
}

/// Notifications that the device asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kicks {
    /// Nothing was written yet.
    Unsaid,
    Always,
    Never,
    /// A kick when the driver makes a certain descriptor available.
    Event,
}

/// Chains that were pushed and are not written yet.
struct Batch {
    entries: [(Token, u32); BATCH],
    len: usize,
}

impl Batch {
    /// Creates an empty batch.
    const fn new() -> Self {
        Self {
            entries: [(Token { id: 0, count: 0 }, 0); BATCH],
            len: 0,
        }
    }

    /// Returns true if there is no room left.
    fn is_full(&self) -> bool {
        self.len >= BATCH
    }

    /// Adds a chain. The caller ensures that there is room.
    fn put(&mut self, token: Token, len: u32) {
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = (token, len);
            self.len += 1;
        }
    }

    /// Returns the chains.
    fn entries(&self) -> &[(Token, u32)] {
        self.entries.get(..self.len).unwrap_or(&[])
    }
}

/// Packed virtqueue.
pub(super) struct PackedQueue {
    layout: Layout,
    features: RingFeatures,
    /// The next descriptor to read.
    avail: Place,
    /// The next descriptor to write as used.
    used: Place,
    /// Descriptors that were read ahead.
    block: RingBlock,
    /// The number of these, from `avail` on, that are available.
    ready: u16,
    /// Chains that were pushed and are not written yet.
    batch: Batch,
    /// The number of chains that were popped and not pushed.
    in_flight: u32,
    /// The number of descriptors of these chains.
    held: u32,
    /// The number of descriptors that were written since [`Self::needs_signal`] last read the
    /// driver's event structure.
    since: u32,
    /// False until that was read for the first time: what the driver was told before is unknown.
    asked: bool,
    kicks: Kicks,
}

impl PackedQueue {
    /// Creates a queue at position `start`, with nothing in flight.
    ///
    /// Errors: `Size` if the size is not from 1 to 32768, `Position` if `start` is not in the ring,
    /// `Area` if an area is misaligned or wraps around.
    pub(super) fn new(
        layout: Layout,
        features: RingFeatures,
        start: PackedPosition,
    ) -> RingResult<Self> {
        let num = layout.num;
        let inside = |idx: u16| u32::from(idx) < num;
        if num == 0 || num > 1 << 15 {
            return Err(Violation::Size.into());
        }
        if !inside(start.avail_idx) || !inside(start.used_idx) {
            return Err(Violation::Position.into());
        }
        // As `num` is small, none of the sizes overflows.
        if !fits(layout.desc, 16, num * DESC_SIZE as u32)
            || !fits(layout.driver, 4, EVENT_SIZE)
            || !fits(layout.device, 4, EVENT_SIZE)
        {
            return Err(Violation::Area.into());
        }
        Ok(Self {
            layout,
            features,
            avail: Place {
                idx: start.avail_idx,
                wrap: start.avail_wrap,
            },
            used: Place {
                idx: start.used_idx,
                wrap: start.used_wrap,
            },
            block: RingBlock::new(),
            ready: 0,
            batch: Batch::new(),
            in_flight: 0,
            held: 0,
            since: 0,
            asked: false,
            kicks: Kicks::Unsaid,
        })
    }

    /// Returns the position if `avail` is the next descriptor to read.
    fn position_at(&self, avail: Place) -> PackedPosition {
        PackedPosition {
            avail_idx: avail.idx,
            avail_wrap: avail.wrap,
            used_idx: self.used.idx,
            used_wrap: self.used.wrap,
        }
    }

    /// Returns the position.
    pub(super) fn position(&self) -> PackedPosition {
        self.position_at(self.avail)
    }

    /// Returns the position without the chains that were pushed and are not written.
    pub(super) fn restart(&self) -> PackedPosition {
        let entries = self.batch.entries().iter();
        let avail = entries.fold(self.avail, |place, (token, _)| {
            place.minus(token.count, self.layout.num)
        });
        self.position_at(avail)
    }

    /// Returns the number of chains that were popped and not pushed.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns the address of a descriptor. `new` checked that it does not wrap.
    fn slot(&self, idx: u16) -> u64 {
        let offset = u64::from(idx) * DESC_SIZE as u64;
        self.layout.desc.wrapping_add(offset)
    }

    /// Reads a block of the ring.
    fn read<M: Memory>(
        &self,
        mem: &M,
        block: &mut RingBlock,
        first: u16,
        count: u16,
    ) -> RingResult {
        block.read(mem, self.layout.desc, self.layout.num, first, count)
    }

    /// Looks for available descriptors. Returns true if there are any.
    fn refresh<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        if self.ready > 0 {
            return Ok(true);
        }
        let first = self.avail.idx;
        let mut block = RingBlock::new();
        self.read(mem, &mut block, first, RingBlock::MAX)?;
        // The driver changes one of the two bits, so a flag that is half written is never
        // misleading. The first descriptor of a chain gets its flags last, and all those before it
        // are complete: only descriptors without a gap before them count.
        let wanted = self.avail.available();
        let is_available = |idx: u16| {
            block
                .get(idx, self.features)
                .is_some_and(|desc| desc.flags & (DESC_F_AVAIL | DESC_F_USED) == wanted)
        };
        let ready = (first..first.saturating_add(block.count()))
            .take_while(|idx| is_available(*idx))
            .count() as u16;
        if ready == 0 {
            return Ok(false);
        }
        // Read the descriptors after the flags that cover them.
        mem.read_barrier();
        self.read(mem, &mut block, first, ready)?;
        self.block = block;
        self.ready = ready;
        Ok(true)
    }

    /// Finds the last descriptor of the chain at `avail`, which has its ID. Errors: `Available`,
    /// `Unmapped`.
    fn measure<M: Memory>(&self, mem: &M) -> RingResult<Token> {
        let num = self.layout.num;
        let mut ahead = RingBlock::new();
        let mut place = self.avail;
        let (mut ready, mut count) = (self.ready, 0u16);
        loop {
            let known: Option<Desc> = if ready > 0 {
                ready -= 1;
                self.block.get(place.idx, self.features)
            } else {
                ahead.get(place.idx, self.features)
            };
            let desc = match known {
                Some(desc) => desc,
                None => {
                    self.read(mem, &mut ahead, place.idx, RingBlock::MAX)?;
                    ahead.get(place.idx, self.features).ok_or(Violation::Link)?
                }
            };
            // A ring has at most 32768 descriptors.
            count += 1;
            if self.held + u32::from(count) > num {
                return Err(Violation::Available.into());
            }
            if desc.flags & DESC_F_NEXT == 0 {
                return Ok(Token {
                    id: desc.link,
                    count,
                });
            }
            place = place.plus(1, num);
        }
    }

    /// Takes the next chain, or returns `None` if there is none.
    pub(super) fn pop<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Chain>> {
        if self.in_flight as usize + self.batch.len >= BATCH {
            // Ensures that there is room for all chains in flight, even if the ring is unmapped by
            // then.
            self.flush(mem)?;
        }
        if !self.refresh(mem)? {
            return Ok(None);
        }
        let token = self.measure(mem)?;
        let chain = Chain::new(
            token,
            self.features,
            (self.layout.desc, self.layout.num),
            self.avail.idx,
            token.count.into(),
            &self.block,
        );
        self.ready = self.ready.saturating_sub(token.count);
        self.avail = self.avail.plus(token.count, self.layout.num);
        self.in_flight += 1;
        self.held += u32::from(token.count);
        Ok(Some(chain))
    }

    /// Undoes the last `pop`.
    pub(super) fn put_back(&mut self, token: Token) {
        self.avail = self.avail.minus(token.count, self.layout.num);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.held = self.held.saturating_sub(token.count.into());
        // The descriptors are read again.
        self.ready = 0;
    }

    /// Returns a chain to the driver, with `len` bytes written to it.
    pub(super) fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) -> RingResult {
        let held = self.held.checked_sub(token.count.into());
        let held = held.ok_or(Violation::Device)?;
        let in_flight = self.in_flight.checked_sub(1).ok_or(Violation::Device)?;
        if self.batch.is_full() {
            self.flush(mem)?;
        }
        self.batch.put(token, len);
        self.held = held;
        self.in_flight = in_flight;
        Ok(())
    }

    /// Writes the pushed chains. The driver reads the first of them before the others, so it sees
    /// nothing until the first gets its flags, which is last.
    pub(super) fn flush<M: Memory>(&mut self, mem: &M) -> RingResult {
        if self.batch.entries().is_empty() {
            return Ok(());
        }
        let first = self.used;
        let mut first_flags = 0;
        let mut place = first;
        // Adjacent descriptors that are not written yet.
        let mut raw = [[0u8; DESC_SIZE]; BATCH];
        let (mut run, mut filled) = (first.idx, 0u16);
        let write = |run: u16, filled: u16, raw: &[[u8; DESC_SIZE]]| {
            let raw = raw.get(..usize::from(filled)).unwrap_or(&[]);
            mem.write(self.slot(run), raw.as_flattened())
        };
        let mut written = 0;
        for (token, len) in self.batch.entries() {
            if run.checked_add(filled) != Some(place.idx) {
                write(run, filled, &raw)?;
                (run, filled) = (place.idx, 0);
            }
            let wrote = if *len > 0 { DESC_F_WRITE } else { 0 };
            let mut flags = place.used() | wrote;
            if written == 0 {
                first_flags = flags;
                flags = place.available();
            }
            if let Some(slot) = raw.get_mut(usize::from(filled)) {
                *slot = self.used_desc(token.id, *len, flags);
            }
            filled += 1;
            written += u32::from(token.count);
            place = place.plus(token.count, self.layout.num);
        }
        write(run, filled, &raw)?;
        // Write data and descriptors before the flags that cover them.
        mem.write_barrier();
        let flags = self.slot(first.idx).wrapping_add(14);
        mem.store_u16(flags, self.features.u16(first_flags))?;
        self.used = place;
        self.since = self.since.saturating_add(written);
        self.batch.len = 0;
        Ok(())
    }

    /// Returns true if the driver wants to be signalled for the chains that were pushed since the
    /// last call.
    pub(super) fn needs_signal<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        self.flush(mem)?;
        // Make the used descriptors visible before the driver's event structure is read.
        mem.full_barrier();
        let driver = self.layout.driver;
        let flags = mem.load_u16(driver.wrapping_add(EVENT_FLAGS))?;
        let flags = self.features.u16(flags) & 3;
        let by_place = flags == EVENT_F_DESC && self.features.event_idx;
        let event = if by_place {
            // Read the place after the flags that say that there is one.
            mem.read_barrier();
            self.features.u16(mem.load_u16(driver)?)
        } else {
            0
        };
        // Nothing can fail from here on.
        let since = core::mem::take(&mut self.since);
        let first = !core::mem::replace(&mut self.asked, true);
        if !by_place {
            return Ok(flags != EVENT_F_DISABLE);
        }
        if first {
            return Ok(true);
        }
        let num = self.layout.num;
        let event = Place {
            idx: event & !(1 << 15),
            wrap: event >> 15 != 0,
        };
        if u32::from(event.idx) >= num {
            return Ok(true);
        }
        // Check if it is one of the last `since` descriptors. There are two rounds to tell apart.
        let (new, event) = (self.used.linear(num), event.linear(num));
        let behind = match new.checked_sub(event) {
            Some(ahead) if ahead > 0 => ahead - 1,
            _ => 2 * num + new - event - 1,
        };
        Ok(behind < since)
    }

    /// Asks the driver not to kick. This is a hint.
    pub(super) fn disable_notify<M: Memory>(&mut self, mem: &M) -> RingResult {
        if self.kicks == Kicks::Event {
            // A place that was passed means the same.
            return Ok(());
        }
        self.set_kicks(mem, Kicks::Never, EVENT_F_DISABLE)
    }

    /// Writes the flags of the device's event structure, unless they have that value already.
    fn set_kicks<M: Memory>(&mut self, mem: &M, kicks: Kicks, flags: u16) -> RingResult {
        if self.kicks != kicks {
            let addr = self.layout.device.wrapping_add(EVENT_FLAGS);
            mem.store_u16(addr, self.features.u16(flags))?;
            self.kicks = kicks;
        }
        Ok(())
    }

    /// Asks the driver to kick. Returns true if it made chains available meanwhile.
    pub(super) fn enable_notify<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        self.flush(mem)?;
        if self.features.event_idx {
            let event = self.features.u16(self.avail.encode());
            mem.store_u16(self.layout.device, event)?;
            // Write the place before the flags that say that there is one.
            mem.write_barrier();
            self.set_kicks(mem, Kicks::Event, EVENT_F_DESC)?;
        } else {
            self.set_kicks(mem, Kicks::Always, 0)?;
        }
        // Make the event structure visible before the ring is read once more.
        mem.full_barrier();
        self.refresh(mem)
    }

    /// Returns a used descriptor in its form in memory. The address has no meaning there.
    fn used_desc(&self, id: u16, len: u32, flags: u16) -> [u8; DESC_SIZE] {
        let [l0, l1, l2, l3] = self.features.u32(len).to_ne_bytes();
        let [i0, i1] = self.features.u16(id).to_ne_bytes();
        let [f0, f1] = self.features.u16(flags).to_ne_bytes();
        [0, 0, 0, 0, 0, 0, 0, 0, l0, l1, l2, l3, i0, i1, f0, f1]
    }
}
