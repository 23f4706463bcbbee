// SPDX-License-Identifier: GPL-2.0

//! Split virtqueue.
//!
//! virtio 1.3, section 2.7.

use super::{
    chain::{Chain, RingBlock, DESC_SIZE},
    fits, Layout, Memory, RingFeatures, RingResult, Token, Violation, BATCH,
};

/// Flag of the available ring: the driver wants no interrupts.
const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: the device wants no kicks.
const USED_F_NO_NOTIFY: u16 = 1;

/// Size of an entry of the available ring in bytes.
const AVAIL_SIZE: usize = 2;
/// Size of an entry of the used ring in bytes.
const USED_SIZE: usize = 8;
/// Number of entries of the available ring that are read in one access.
const HEADS: u16 = 16;

/// Split virtqueue.
pub(super) struct SplitQueue {
    layout: Layout,
    /// `layout.num`, which is a power of two, minus one.
    mask: u16,
    features: RingFeatures,
    /// The next entry of the available ring to read.
    next_avail: u16,
    /// The driver's index when it was last read.
    seen_avail: u16,
    /// Entries of the available ring that were read ahead.
    heads: [[u8; AVAIL_SIZE]; HEADS as usize],
    /// The number of entries that were read ahead, and how many of them were taken.
    heads_read: u16,
    heads_taken: u16,
    /// Descriptors that were read after these entries: those of their chains do not change any
    /// more.
    block: RingBlock,
    /// The next entry of the used ring to write.
    next_used: u16,
    /// Entries that were pushed and are not written yet, in their form in memory.
    pushed: [[u8; USED_SIZE]; BATCH],
    /// The number of these entries.
    pushed_count: usize,
    /// The number of chains that were popped and not pushed.
    in_flight: u32,
    /// The number of entries that were written since [`Self::needs_signal`] last read the driver's
    /// wish.
    since: u32,
    /// False until that was read for the first time: what the driver was told before is unknown.
    asked: bool,
    /// The value for which the flags of the used ring were last written.
    kicks: Option<bool>,
}

impl SplitQueue {
    /// Creates a queue that begins at available index `start`, with nothing in flight.
    ///
    /// Errors: `Size` if the size is not a power of two up to 32768, `Area` if an area is
    /// misaligned or wraps around.
    pub(super) fn new(layout: Layout, features: RingFeatures, start: u16) -> RingResult<Self> {
        let num = layout.num;
        if !num.is_power_of_two() || num > 1 << 15 {
            return Err(Violation::Size.into());
        }
        // `num` is small, so none of the sizes overflows.
        if !fits(layout.desc, 16, num * DESC_SIZE as u32)
            || !fits(layout.driver, 2, 6 + num * AVAIL_SIZE as u32)
            || !fits(layout.device, 4, 6 + num * USED_SIZE as u32)
        {
            return Err(Violation::Area.into());
        }
        Ok(Self {
            layout,
            mask: (num - 1) as u16,
            features,
            next_avail: start,
            seen_avail: start,
            heads: [[0; AVAIL_SIZE]; HEADS as usize],
            heads_read: 0,
            heads_taken: 0,
            block: RingBlock::new(),
            next_used: start,
            pushed: [[0; USED_SIZE]; BATCH],
            pushed_count: 0,
            in_flight: 0,
            since: 0,
            asked: false,
            kicks: None,
        })
    }

    /// Returns the next available index to read.
    pub(super) fn position(&self) -> u16 {
        self.next_avail
    }

    /// Returns the position without the chains that were pushed and are not written.
    pub(super) fn restart(&self) -> u16 {
        // At most 16.
        self.next_avail.wrapping_sub(self.pushed_count as u16)
    }

    /// Returns the number of chains that were popped and not pushed.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns the number of entries from that of `index` to the end of the ring.
    fn rest(&self, index: u16) -> u16 {
        // At most 32768.
        self.mask - (index & self.mask) + 1
    }

    /// Returns the offset in a ring of the entry of `index`, in bytes.
    fn slot(&self, index: u16, size: usize) -> u64 {
        // A ring's first entry is behind two 16-bit fields.
        4 + u64::from(index & self.mask) * size as u64
    }

    /// Returns the address of a field of the available ring. `new` checked that it does not wrap.
    fn driver(&self, offset: u64) -> u64 {
        self.layout.driver.wrapping_add(offset)
    }

    /// Returns the address of a field of the used ring. `new` checked that it does not wrap.
    fn device(&self, offset: u64) -> u64 {
        self.layout.device.wrapping_add(offset)
    }

    /// Reads the driver's index. Returns true if there are available entries. Errors: `Available`
    /// if there are more than the ring has, `Unmapped`.
    fn refresh<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        let seen = self.features.u16(mem.load_u16(self.driver(2))?);
        if u32::from(seen.wrapping_sub(self.next_avail)) > self.layout.num {
            return Err(Violation::Available.into());
        }
        self.seen_avail = seen;
        Ok(seen != self.next_avail)
    }

    /// Reads available entries ahead. Returns true if there are any.
    fn read_heads<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        if self.seen_avail == self.next_avail && !self.refresh(mem)? {
            return Ok(false);
        }
        // Read the entries and their descriptors after the index that covers them.
        mem.read_barrier();
        let count = self
            .seen_avail
            .wrapping_sub(self.next_avail)
            .min(self.rest(self.next_avail))
            .min(HEADS);
        let from = self.driver(self.slot(self.next_avail, AVAIL_SIZE));
        let into = self.heads.get_mut(..usize::from(count));
        let into = into.ok_or(Violation::Head)?.as_flattened_mut();
        mem.read(from, into)?;
        self.heads_read = count;
        self.heads_taken = 0;
        self.block.clear();
        Ok(true)
    }

    /// Takes the next chain, or returns `None` if there is none.
    pub(super) fn pop<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Chain>> {
        if self.in_flight as usize + self.pushed_count >= BATCH {
            // Ensures that there is room for all chains in flight, even if the ring is unmapped by
            // then.
            self.flush(mem)?;
        }
        if self.heads_taken >= self.heads_read && !self.read_heads(mem)? {
            return Ok(None);
        }
        let raw = self.heads.get(usize::from(self.heads_taken));
        let raw = raw.ok_or(Violation::Head)?;
        let head = self.features.u16(u16::from_ne_bytes(*raw));
        if u32::from(head) >= self.layout.num {
            return Err(Violation::Head.into());
        }
        if self.in_flight >= self.layout.num {
            return Err(Violation::Available.into());
        }
        if self.block.get(head, self.features).is_none() {
            // Heads are in any order, and often adjacent.
            let first = head & !(RingBlock::MAX - 1);
            let Layout { desc, num, .. } = self.layout;
            self.block.read(mem, desc, num, first, RingBlock::MAX)?;
        }
        self.heads_taken += 1;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.in_flight += 1;
        Ok(Some(Chain::new(
            Token { id: head, count: 1 },
            self.features,
            (self.layout.desc, self.layout.num),
            head,
            self.layout.num,
            &self.block,
        )))
    }

    /// Undoes the last `pop`.
    pub(super) fn put_back(&mut self, _token: Token) {
        self.next_avail = self.next_avail.wrapping_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        // The entries are read again.
        self.heads_read = 0;
        self.heads_taken = 0;
    }

    /// Returns a chain to the driver, with `len` bytes written to it.
    pub(super) fn push<M: Memory>(&mut self, mem: &M, token: Token, len: u32) -> RingResult {
        let in_flight = self.in_flight.checked_sub(1).ok_or(Violation::Device)?;
        if self.pushed_count >= BATCH {
            self.flush(mem)?;
        }
        let entry = self.pushed.get_mut(self.pushed_count);
        let [i0, i1, i2, i3] = self.features.u32(token.id.into()).to_ne_bytes();
        let [l0, l1, l2, l3] = self.features.u32(len).to_ne_bytes();
        *entry.ok_or(Violation::Device)? = [i0, i1, i2, i3, l0, l1, l2, l3];
        self.pushed_count += 1;
        self.in_flight = in_flight;
        Ok(())
    }

    /// Writes the pushed entries, and then the index.
    pub(super) fn flush<M: Memory>(&mut self, mem: &M) -> RingResult {
        if self.pushed_count == 0 {
            return Ok(());
        }
        let mut left = self.pushed.get(..self.pushed_count).unwrap_or(&[]);
        let mut next = self.next_used;
        while !left.is_empty() {
            // Write up to the end of the ring, then from its start.
            let now = usize::from(self.rest(next));
            let (now, later) = left.split_at_checked(now).unwrap_or((left, &[]));
            mem.write(self.device(self.slot(next, USED_SIZE)), now.as_flattened())?;
            next = next.wrapping_add(now.len() as u16);
            left = later;
        }
        // Write data and entries before the index that covers them.
        mem.write_barrier();
        mem.store_u16(self.device(2), self.features.u16(next))?;
        self.next_used = next;
        self.since = self.since.saturating_add(self.pushed_count as u32);
        self.pushed_count = 0;
        Ok(())
    }

    /// Returns true if the driver wants to be signalled for the chains that were pushed since the
    /// last call.
    pub(super) fn needs_signal<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        self.flush(mem)?;
        // Make the used index visible before the driver's wish is read.
        mem.full_barrier();
        let (flags, event) = if self.features.event_idx {
            let offset = 4 + u64::from(self.layout.num) * AVAIL_SIZE as u64;
            (0, self.features.u16(mem.load_u16(self.driver(offset))?))
        } else {
            (self.features.u16(mem.load_u16(self.driver(0))?), 0)
        };
        // Nothing can fail from here on.
        let since = core::mem::take(&mut self.since);
        let first = !core::mem::replace(&mut self.asked, true);
        if !self.features.event_idx {
            return Ok(flags & AVAIL_F_NO_INTERRUPT == 0);
        }
        if first {
            return Ok(true);
        }
        // Check if `event` is the index of one of the last `since` entries.
        let behind = self.next_used.wrapping_sub(event).wrapping_sub(1);
        Ok(u32::from(behind) < since)
    }

    /// Asks the driver not to kick. This is a hint.
    pub(super) fn disable_notify<M: Memory>(&mut self, mem: &M) -> RingResult {
        if self.features.event_idx {
            // An index that was passed means the same.
            return Ok(());
        }
        self.set_kicks(mem, false)
    }

    /// Writes the flags of the used ring, unless they have that value already.
    fn set_kicks<M: Memory>(&mut self, mem: &M, kicks: bool) -> RingResult {
        if self.kicks != Some(kicks) {
            let flags = if kicks { 0 } else { USED_F_NO_NOTIFY };
            mem.store_u16(self.device(0), self.features.u16(flags))?;
            self.kicks = Some(kicks);
        }
        Ok(())
    }

    /// Asks the driver to kick. Returns true if it made chains available meanwhile.
    pub(super) fn enable_notify<M: Memory>(&mut self, mem: &M) -> RingResult<bool> {
        self.flush(mem)?;
        if self.features.event_idx {
            let offset = 4 + u64::from(self.layout.num) * USED_SIZE as u64;
            mem.store_u16(self.device(offset), self.features.u16(self.next_avail))?;
        } else {
            self.set_kicks(mem, true)?;
        }
        // Make the wish visible before the index is read once more.
        mem.full_barrier();
        self.refresh(mem)
    }
}
