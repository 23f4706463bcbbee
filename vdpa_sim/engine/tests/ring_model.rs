// SPDX-License-Identifier: GPL-2.0

//! Correct driver for the cases of `ring_cases.rs`: it offers buffers in every form, and expects
//! each back exactly once, with the length that the device wrote.

use super::ring_memory::{
    ensure, layout, FakeMemory, Outcome, DESC, DEVICE, DRIVER, INDIRECT, NEXT, TABLE, WRITE,
};
use crate::random::Random;
use crate::ring::{PackedPosition, Position, RingError, RingFeatures, Segment, Token, VirtQueue};

/// Largest size of a queue.
const NUM_MAX: u16 = 16;
/// Largest number of segments of a buffer.
const SEGMENTS: u16 = 6;
/// Largest number of segments of a buffer in a table.
const TABLE_SEGMENTS: u16 = 11;
/// Number of buffers that can be offered at a time.
const SLOTS: usize = NUM_MAX as usize;
/// Room for a table, in bytes.
const TABLE_SIZE: u64 = 16 * TABLE_SEGMENTS as u64;

/// Flags of descriptors in a packed ring.
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Buffer that was offered.
#[derive(Clone, Copy, Default)]
struct Buffer {
    /// The number of the buffer, which its addresses contain.
    serial: u32,
    /// The number of segments.
    segments: u16,
    /// The descriptors of the ring that it uses, one bit each.
    descs: u32,
    /// True while the buffer is offered.
    offered: bool,
}

/// Returns segment `at` of the buffer `serial`, which has `of` segments.
fn segment(serial: u32, at: u16, of: u16) -> Segment {
    let mix = (u64::from(serial) << 8 | u64::from(at)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let readable = serial as u16 % (of + 1);
    Segment {
        addr: 0x10_0000 + (u64::from(serial) << 8) + u64::from(at),
        // Some are empty, which the device skips.
        len: if at > 0 && mix % 7 == 0 {
            0
        } else {
            1 + mix as u32 % 5000
        },
        writable: at >= readable,
    }
}

/// Returns the number of the buffer that an address belongs to.
fn serial_of(addr: u64) -> u32 {
    ((addr - 0x10_0000) >> 8) as u32
}

/// Returns the length that the device reports for a buffer.
fn written(serial: u32) -> u32 {
    serial.wrapping_mul(0x85eb_ca6b)
}

/// Signals that the driver wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Unknown.
    Unknown,
    /// No signals.
    Nothing,
    /// A signal for every used buffer.
    All,
    /// A signal when this many more entries, or descriptors of a packed ring, were used.
    After(u32),
}

/// The driver.
struct Driver {
    num: u16,
    features: RingFeatures,
    /// The next entry, or descriptor, to make available; with the wrap counter in a packed ring.
    avail: (u16, bool),
    /// The next entry, or descriptor, that the device uses; with the wrap counter in a packed ring.
    used: (u16, bool),
    /// The part of `avail` that the device can see.
    published: (u16, bool),
    /// The flags of a packed chain that are held back, and their address.
    held: Option<(u64, u16)>,
    /// Descriptors that belong to no buffer, one bit each; in a packed ring only their number
    /// counts.
    free: u32,
    slots: [Buffer; SLOTS],
    /// The number of the next buffer.
    serial: u32,
    /// The number of buffers that are offered.
    offered: u32,
    /// The number of buffers that came back.
    returned: u64,
    wish: Wish,
}

impl Driver {
    /// Creates a driver that begins at `start`.
    fn new(mem: &FakeMemory, num: u16, features: RingFeatures, start: Position) -> Self {
        mem.clear(num, features.packed);
        let at = match start {
            Position::Split(index) => {
                mem.put_u16(DRIVER + 2, index);
                mem.put_u16(DEVICE + 2, index);
                (index, false)
            }
            Position::Packed(at) => {
                // The ring looks as if everything before this position was used.
                for index in 0..num {
                    let wrap = at.used_wrap == (index < at.used_idx);
                    let flags = if wrap { AVAIL | USED } else { 0 };
                    mem.desc(DESC, index, (0, 0), 0, flags);
                }
                (at.used_idx, at.used_wrap)
            }
        };
        Self {
            num,
            features,
            avail: at,
            used: at,
            published: at,
            held: None,
            free: (1 << num) - 1,
            slots: [Buffer::default(); SLOTS],
            serial: 0,
            offered: 0,
            returned: 0,
            wish: if features.event_idx {
                Wish::Unknown
            } else {
                Wish::All
            },
        }
    }

    /// Returns the place in a packed ring that is `count` descriptors further on.
    fn plus(&self, (index, wrap): (u16, bool), count: u16) -> (u16, bool) {
        let next = index + count;
        if next >= self.num {
            (next - self.num, !wrap)
        } else {
            (next, wrap)
        }
    }

    /// Returns the number of segments of a buffer that is offered.
    fn segments(&self, serial: u32) -> Option<u16> {
        let known = |slot: &&Buffer| slot.offered && slot.serial == serial;
        self.slots.iter().find(known).map(|slot| slot.segments)
    }

    /// Allocates a free descriptor.
    fn take(&mut self, random: &mut Random) -> u16 {
        let mut index = random.below(self.num.into()) as u16;
        while self.free & 1 << index == 0 {
            index = (index + 1) % self.num;
        }
        self.free &= !(1 << index);
        index
    }

    /// Offers a buffer, if there is room. The device sees it after `publish`.
    fn offer(&mut self, mem: &FakeMemory, random: &mut Random) {
        let room = self.free.count_ones() as u16;
        let Some(slot) = self.slots.iter().position(|slot| !slot.offered) else {
            return;
        };
        if room == 0 {
            return;
        }
        let serial = self.serial;
        self.serial += 1;
        let in_table = self.features.indirect && !random.once_in(3);
        let most = if in_table {
            TABLE_SEGMENTS
        } else {
            SEGMENTS.min(room)
        };
        let segments = 1 + random.below(most.into()) as u16;
        // A split chain may end in a table.
        let direct = match (in_table, self.features.packed) {
            (false, _) => segments,
            (true, true) => 0,
            (true, false) => random.below(segments.min(room).into()) as u16,
        };
        let table = TABLE + slot as u64 * TABLE_SIZE;
        for at in direct..segments {
            let Segment {
                addr,
                len,
                writable,
            } = segment(serial, at, segments);
            let write = if writable { WRITE } else { 0 };
            let (index, next) = (at - direct, at - direct + 1);
            if self.features.packed {
                // Only the direction flag counts.
                let noise = random.next() as u16 & !WRITE;
                mem.desc(table, index, (addr, len), noise, write | noise);
            } else {
                let more = if at + 1 < segments { NEXT } else { 0 };
                mem.desc(table, index, (addr, len), write | more, next);
            }
        }
        let table = in_table.then_some((table, 16 * u32::from(segments - direct)));
        let ring = direct + u16::from(in_table);
        let buffer = Buffer {
            serial,
            segments,
            descs: 0,
            offered: true,
        };
        let descs = if self.features.packed {
            self.offer_packed(mem, slot, buffer, ring, table)
        } else {
            self.offer_split(mem, random, buffer, ring, table)
        };
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Buffer { descs, ..buffer };
        }
        self.offered += 1;
    }

    /// Returns address, length and flags of descriptor `at` of the `ring` ones in the ring.
    fn part(buffer: Buffer, at: u16, ring: u16, table: Option<(u64, u32)>) -> ((u64, u32), u16) {
        let more = if at + 1 < ring { NEXT } else { 0 };
        match table {
            Some(table) if at + 1 == ring => (table, INDIRECT),
            _ => {
                let part = segment(buffer.serial, at, buffer.segments);
                let write = if part.writable { WRITE } else { 0 };
                ((part.addr, part.len), write | more)
            }
        }
    }

    /// Writes a chain of `ring` descriptors to a split queue. Returns these, one bit each.
    fn offer_split(
        &mut self,
        mem: &FakeMemory,
        random: &mut Random,
        buffer: Buffer,
        ring: u16,
        table: Option<(u64, u32)>,
    ) -> u32 {
        let head = self.take(random);
        let mut descs = 1 << head;
        let mut index = head;
        for at in 0..ring {
            let (what, flags) = Self::part(buffer, at, ring, table);
            let next = if at + 1 < ring {
                self.take(random)
            } else {
                random.next() as u16
            };
            mem.desc(DESC, index, what, flags, next);
            if at + 1 < ring {
                descs |= 1 << next;
                index = next;
            }
        }
        let entry = u64::from(self.avail.0 % self.num);
        mem.put_u16(DRIVER + 4 + 2 * entry, head);
        self.avail.0 = self.avail.0.wrapping_add(1);
        descs
    }

    /// Writes a chain of `ring` descriptors to a packed queue. Returns that many bits of `free`.
    fn offer_packed(
        &mut self,
        mem: &FakeMemory,
        slot: usize,
        buffer: Buffer,
        ring: u16,
        table: Option<(u64, u32)>,
    ) -> u32 {
        let head = self.avail;
        let mut head_flags = 0;
        for at in 0..ring {
            let (index, wrap) = self.avail;
            let (what, flags) = Self::part(buffer, at, ring, table);
            let flags = flags | if wrap { AVAIL } else { USED };
            // The ID of the last descriptor counts, and may be any number.
            let id = if at + 1 == ring {
                Self::id(slot)
            } else {
                0xdead
            };
            if at == 0 {
                head_flags = flags;
                let flags = mem.get_u16(DESC + 16 * u64::from(index) + 14);
                mem.desc(DESC, index, what, id, flags);
            } else {
                mem.desc(DESC, index, what, id, flags);
            }
            self.avail = self.plus(self.avail, 1);
        }
        let addr = DESC + 16 * u64::from(head.0) + 14;
        if self.held.is_none() {
            self.held = Some((addr, head_flags));
        } else {
            // The chain is behind one that the device cannot see yet.
            mem.put_u16(addr, head_flags);
        }
        let mut descs = 0;
        for _ in 0..ring {
            let lowest = self.free & self.free.wrapping_neg();
            self.free &= !lowest;
            descs |= lowest;
        }
        descs
    }

    /// Returns the ID of a buffer in a packed queue.
    fn id(slot: usize) -> u16 {
        slot as u16 * 4099 + 17
    }

    /// Makes the offered buffers visible to the device. Returns whether there were any, and whether
    /// the device wants a kick for them.
    fn publish(&mut self, mem: &FakeMemory) -> (bool, bool) {
        let (old, new) = (self.published, self.avail);
        self.published = new;
        if !self.features.packed {
            mem.put_u16(DRIVER + 2, new.0);
            let kick = if self.features.event_idx {
                let event = mem.get_u16(DEVICE + 4 + 8 * u64::from(self.num));
                new.0.wrapping_sub(event).wrapping_sub(1) < new.0.wrapping_sub(old.0)
            } else {
                mem.get_u16(DEVICE) & 1 == 0
            };
            return (new != old, kick);
        }
        let Some((addr, flags)) = self.held.take() else {
            return (false, false);
        };
        mem.put_u16(addr, flags);
        let kick = match mem.get_u16(DEVICE + 2) {
            0 => true,
            2 => {
                let event = mem.get_u16(DEVICE);
                let event = (event & 0x7fff, event >> 15 != 0);
                // Walk over the published descriptors.
                let mut at = old;
                let mut met = false;
                loop {
                    met |= at == event;
                    at = self.plus(at, 1);
                    if at == new {
                        break met;
                    }
                }
            }
            _ => false,
        };
        (true, kick)
    }

    /// Takes back one buffer. Returns false if there was none.
    fn collect(&mut self, mem: &FakeMemory) -> Outcome<bool> {
        let (found, len) = if self.features.packed {
            let at = DESC + 16 * u64::from(self.used.0);
            let flags = mem.get_u16(at + 14);
            let used = if self.used.1 { AVAIL | USED } else { 0 };
            if flags & (AVAIL | USED) != used {
                return Ok(false);
            }
            let (len, id) = (mem.get(at + 8, 4) as u32, mem.get_u16(at + 12));
            ensure!((flags & WRITE != 0) == (len != 0));
            let slot = (0..SLOTS).find(|slot| Self::id(*slot) == id);
            (slot, len)
        } else {
            if mem.get_u16(DEVICE + 2) == self.used.0 {
                return Ok(false);
            }
            let at = DEVICE + 4 + 8 * u64::from(self.used.0 % self.num);
            let (id, len) = (mem.get(at, 4), mem.get(at + 4, 4) as u32);
            let head = |slot: &Buffer| {
                let serial = slot.serial;
                let first = segment(serial, 0, slot.segments);
                let entry = DESC + 16 * id;
                let table = mem.get_u16(entry + 12) & INDIRECT != 0;
                let addr = mem.get(if table { mem.get(entry, 8) } else { entry }, 8);
                slot.offered && addr == first.addr
            };
            ensure!(id < self.num.into());
            (self.slots.iter().position(head), len)
        };
        let Some(buffer) = found.and_then(|slot| self.slots.get_mut(slot)) else {
            return Err("a buffer came back that was not offered");
        };
        ensure!(buffer.offered);
        ensure!(len == written(buffer.serial));
        buffer.offered = false;
        let descs = core::mem::take(&mut buffer.descs);
        ensure!(self.free & descs == 0);
        self.free |= descs;
        if self.features.packed {
            self.used = self.plus(self.used, descs.count_ones() as u16);
        } else {
            self.used.0 = self.used.0.wrapping_add(1);
        }
        self.offered -= 1;
        self.returned += 1;
        Ok(true)
    }

    /// Sets the signals that the driver wants from now on. All used buffers must be collected.
    fn arm(&mut self, mem: &FakeMemory, random: &mut Random) {
        let num = u64::from(self.num);
        let flags = if self.features.packed {
            DRIVER + 2
        } else {
            DRIVER
        };
        self.wish = if self.features.event_idx && !(self.features.packed && random.once_in(4)) {
            let ahead = random.below(num.min(4)) as u16;
            if self.features.packed {
                let (index, wrap) = self.plus(self.used, ahead);
                mem.put_u16(DRIVER, index | u16::from(wrap) << 15);
                mem.put_u16(flags, 2);
            } else {
                mem.put_u16(DRIVER + 4 + 2 * num, self.used.0.wrapping_add(ahead));
            }
            Wish::After(u32::from(ahead) + 1)
        } else if random.once_in(2) {
            mem.put_u16(flags, 1);
            Wish::Nothing
        } else {
            mem.put_u16(flags, 0);
            Wish::All
        };
    }

    /// Returns true if the device must signal when `count` more were used, false if it must not,
    /// and `None` if either is allowed.
    fn hears(&mut self, count: u32) -> Option<bool> {
        match self.wish {
            Wish::Unknown => None,
            Wish::Nothing => Some(false),
            Wish::All => Some(true),
            Wish::After(more) if more <= count => {
                // The driver has not set what it wants next.
                self.wish = Wish::Unknown;
                Some(true)
            }
            Wish::After(more) => {
                self.wish = Wish::After(more - count);
                Some(false)
            }
        }
    }

    /// Returns the place up to which used buffers are visible to the driver, as a number.
    fn visible(&self, mem: &FakeMemory, queue: &VirtQueue) -> u32 {
        match queue.position() {
            Position::Split(_) => mem.get_u16(DEVICE + 2).into(),
            Position::Packed(at) => {
                u32::from(at.used_idx) + if at.used_wrap { 0 } else { u32::from(self.num) }
            }
        }
    }

    /// Returns the number of entries, or descriptors, that were used since the place `mark`, and
    /// moves `mark`.
    fn since(&self, mem: &FakeMemory, queue: &VirtQueue, mark: &mut u32) -> u32 {
        let round = if self.features.packed {
            2 * u32::from(self.num)
        } else {
            1 << 16
        };
        let new = self.visible(mem, queue);
        let old = core::mem::replace(mark, new);
        (new + round - old) % round
    }
}

/// Chains that the device holds.
#[derive(Default)]
struct Held {
    chains: [(Token, u32); SLOTS],
    len: usize,
}

impl Held {
    /// Takes a chain from the queue, compares it with the offered buffer, and keeps it. Returns
    /// false if there was none, and `None` if it could not be read and nothing changed.
    fn pop(
        &mut self,
        mem: &FakeMemory,
        queue: &mut VirtQueue,
        driver: &Driver,
    ) -> Outcome<Option<bool>> {
        let popped = match queue.pop(mem) {
            Ok(popped) => popped,
            Err(RingError::Unmapped) => return Ok(None),
            Err(_) => return Err("pop"),
        };
        let Some(mut chain) = popped else {
            return Ok(Some(false));
        };
        let mut serial = None;
        let mut at = 0;
        loop {
            let found = match chain.next(mem) {
                Ok(found) => found,
                Err(RingError::Unmapped) => {
                    queue.put_back(chain.token());
                    ensure!(queue.in_flight() == self.len as u32);
                    return Ok(None);
                }
                Err(_) => return Err("a chain that the driver made is none"),
            };
            let number = *serial.get_or_insert(found.map_or(0, |found| serial_of(found.addr)));
            let Some(of) = driver.segments(number) else {
                return Err("a chain that the driver did not offer");
            };
            let mut wanted = None;
            while at < of && wanted.is_none() {
                let part = segment(number, at, of);
                wanted = (part.len > 0).then_some((part.addr, part.len, part.writable));
                at += 1;
            }
            ensure!(found.map(|found| (found.addr, found.len, found.writable)) == wanted);
            if found.is_none() {
                break;
            }
        }
        let Some(slot) = self.chains.get_mut(self.len) else {
            return Err("more chains than descriptors");
        };
        *slot = (chain.token(), serial.unwrap_or(0));
        self.len += 1;
        ensure!(queue.in_flight() == self.len as u32);
        Ok(Some(true))
    }

    /// Returns a random chain to the driver.
    fn push(&mut self, mem: &FakeMemory, queue: &mut VirtQueue, random: &mut Random) -> Outcome {
        let Some(last) = self.len.checked_sub(1) else {
            return Ok(());
        };
        self.chains
            .swap(random.below(self.len as u64) as usize, last);
        self.len = last;
        let (token, serial) = self.chains[last];
        ensure!(queue.push(mem, token, written(serial)).is_ok());
        Ok(())
    }
}

/// Runs one queue of any kind, from any position, for `steps` steps of driver and device in any
/// order. At times the device is replaced by another one that continues at its position. With
/// `flaky`, the memory is not mapped at times, and the device tries again later. Returns the number
/// of buffers that came back.
fn one_queue(mem: &FakeMemory, random: &mut Random, steps: u32, flaky: bool) -> Outcome<u64> {
    let packed = random.once_in(2);
    let features = RingFeatures {
        little_endian: true,
        indirect: random.once_in(2),
        event_idx: random.once_in(2),
        packed,
    };
    let (num, start) = if packed {
        let num = 1 + random.below(NUM_MAX.into()) as u16;
        let (idx, wrap) = (random.below(num.into()) as u16, random.once_in(2));
        let start = PackedPosition {
            avail_idx: idx,
            avail_wrap: wrap,
            used_idx: idx,
            used_wrap: wrap,
        };
        (num, Position::Packed(start))
    } else {
        // Near the wrap-around of the index.
        let start = 0u16.wrapping_sub(random.below(64) as u16);
        (1 << random.below(5), Position::Split(start))
    };
    let mut driver = Driver::new(mem, num, features, start);
    let Ok(mut queue) = VirtQueue::new(layout(num), features, start) else {
        return Err("a queue that there can be");
    };
    let mut held = Held::default();
    // Numbers of buffers that are offered and not visible, and visible and not popped.
    let (mut pending, mut visible) = (0, 0);
    // The kick that the driver must make or not make for its next buffer, if that is certain.
    let mut kick = None;
    // A device that has not read the driver's event structure yet rather signals too often.
    let mut fresh = true;
    let mut mark = driver.visible(mem, &queue);
    // Number of entries used since the driver set what it wants, and since the device last read
    // that.
    let (mut heard, mut asked) = (0, 0);
    if flaky {
        mem.flickers(random.next() | 1);
    }

    for step in 0..=steps {
        let end = step == steps;
        match random.below(13) {
            0..=3 if !end => {
                let before = driver.offered;
                driver.offer(mem, random);
                pending += driver.offered - before;
            }
            4 | 5 => {
                let (some, wanted) = driver.publish(mem);
                ensure!(some == (pending > 0));
                if some {
                    ensure!(kick.is_none_or(|kick| kick == wanted));
                    if kick == Some(true) {
                        kick = None;
                    }
                }
                visible += core::mem::take(&mut pending);
            }
            6 | 7 => {
                let some = held.pop(mem, &mut queue, &driver)?;
                ensure!(some.map_or(flaky, |some| some == (visible > 0)));
                visible -= u32::from(some == Some(true));
            }
            8 => held.push(mem, &mut queue, random)?,
            9 => {
                let signal = queue.needs_signal(mem);
                let count = driver.since(mem, &queue, &mut mark);
                (heard, asked) = (heard + count, asked + count);
                ensure!(signal.is_ok() || (flaky && signal == Err(RingError::Unmapped)));
                if let Ok(signal) = signal {
                    let wanted = driver.hears(heard);
                    // After a whole round without reading it, places of two rounds cannot be told
                    // apart.
                    let round = packed && asked >= num.into();
                    let vague = features.event_idx && (fresh || round);
                    ensure!(wanted.is_none_or(|wanted| wanted == signal || (vague && signal)));
                    fresh = false;
                    (heard, asked) = (0, 0);
                }
            }
            10 => {
                driver.collect(mem)?;
            }
            11 => {
                while driver.collect(mem)? {}
                driver.arm(mem, random);
                heard = 0;
            }
            _ if random.once_in(2) => {
                let done = queue.disable_notify(mem);
                ensure!(done.is_ok() || (flaky && done == Err(RingError::Unmapped)));
                // With event indices, the last event index decides.
                kick = (!features.event_idx && done.is_ok()).then_some(false);
            }
            _ => {
                let more = queue.enable_notify(mem);
                ensure!(more == Ok(visible > 0) || (flaky && more == Err(RingError::Unmapped)));
                let certain = more.is_ok() && (!features.event_idx || visible == 0);
                kick = certain.then_some(true);
            }
        }
        if end {
            mem.flickers(0);
        }
        if end || random.once_in(64) {
            // Save the position and restore it on another device.
            while held.len > 0 {
                held.push(mem, &mut queue, random)?;
            }
            while flaky && queue.flush(mem).is_err() {}
            ensure!(queue.flush(mem).is_ok() && queue.in_flight() == 0);
            ensure!(queue.restart() == queue.position());
            let Ok(other) = VirtQueue::new(layout(num), features, queue.position()) else {
                return Err("a position where no queue can be");
            };
            queue = other;
            (kick, fresh) = (None, true);
        }
        let count = driver.since(mem, &queue, &mut mark);
        (heard, asked) = (heard + count, asked + count);
    }
    // All offered buffers come back.
    driver.publish(mem);
    while driver.offered > 0 {
        let before = driver.offered;
        while held.pop(mem, &mut queue, &driver)? == Some(true) {}
        while held.len > 0 {
            held.push(mem, &mut queue, random)?;
        }
        ensure!(queue.flush(mem).is_ok());
        while driver.collect(mem)? {}
        ensure!(driver.offered < before);
    }
    ensure!(!driver.collect(mem)?);
    ensure!(!mem.strayed.get());
    Ok(driver.returned)
}

/// Runs `rounds` queues with correct drivers. Returns the number of buffers that came back.
pub(crate) fn honest(mem: &FakeMemory, seed: u64, rounds: u32) -> Outcome<u64> {
    let mut random = Random::new(seed);
    let mut returned = 0;
    for _ in 0..rounds {
        returned += one_queue(mem, &mut random, 400, false)?;
    }
    Ok(returned)
}

/// Runs `rounds` queues like [`honest`], with memory that is not mapped at times: no buffer is lost
/// or comes back twice, and the driver is signalled for each.
pub(crate) fn flaky(mem: &FakeMemory, seed: u64, rounds: u32) -> Outcome<u64> {
    let mut random = Random::new(seed);
    let mut returned = 0;
    for _ in 0..rounds {
        returned += one_queue(mem, &mut random, 400, true)?;
    }
    Ok(returned)
}
