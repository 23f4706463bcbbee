// SPDX-License-Identifier: GPL-2.0

//! Cases for [`crate::ring`], without a kernel: KUnit runs them in the module, and the fuzzer in
//! userspace (`ring_fuzz.rs`) with as many seeds as there is time for.

use crate::ring::{Layout, Memory, RingError, RingFeatures, RingResult, Segment, SplitQueue};
use core::cell::Cell;

/// The size of the memory in bytes.
const SIZE: usize = 2048;
/// Its first address.
const BASE: u64 = 0x4000_0000;
/// Where the areas of the queue are.
const DESC: u64 = BASE;
const DRIVER: u64 = BASE + 0x200;
const DEVICE: u64 = BASE + 0x300;
/// Where there is room for indirect tables.
const TABLE: u64 = BASE + 0x400;
/// The size of the queue.
const NUM: u16 = 8;

/// Flags of descriptors.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// The outcome of a case: what went wrong.
pub(crate) type Outcome = core::result::Result<(), &'static str>;

/// Fails a case unless something is so.
macro_rules! expect {
    ($what:expr) => {
        if !$what {
            return Err(stringify!($what));
        }
    };
}

/// Memory that counts and watches what is done to it.
pub(crate) struct FakeMemory {
    bytes: [Cell<u8>; SIZE],
    accesses: Cell<u32>,
    /// Something but the used ring was written.
    strayed: Cell<bool>,
}

impl FakeMemory {
    /// Zeroes.
    pub(crate) fn new() -> Self {
        Self {
            bytes: [const { Cell::new(0) }; SIZE],
            accesses: Cell::new(0),
            strayed: Cell::new(false),
        }
    }

    /// The bytes at an address, if they are all there.
    fn at(&self, addr: u64, len: usize) -> RingResult<&[Cell<u8>]> {
        self.accesses.set(self.accesses.get().saturating_add(1));
        let start = addr.checked_sub(BASE).ok_or(RingError::Unmapped)? as usize;
        let end = start.checked_add(len).ok_or(RingError::Unmapped)?;
        self.bytes.get(start..end).ok_or(RingError::Unmapped)
    }

    /// Writes as the driver does.
    fn put(&self, addr: u64, bytes: &[u8]) {
        if let Ok(cells) = self.at(addr, bytes.len()) {
            for (cell, byte) in cells.iter().zip(bytes) {
                cell.set(*byte);
            }
        }
    }

    /// Writes a descriptor of the table at `table`.
    fn desc(&self, table: u64, index: u16, segment: (u64, u32), flags: u16, next: u16) {
        let at = table + 16 * u64::from(index);
        self.put(at, &segment.0.to_le_bytes());
        self.put(at + 8, &segment.1.to_le_bytes());
        self.put(at + 12, &flags.to_le_bytes());
        self.put(at + 14, &next.to_le_bytes());
    }

    /// Makes `head` available as entry `index`, and moves the index behind it.
    fn avail(&self, index: u16, head: u16) {
        self.put(DRIVER + 4 + 2 * u64::from(index % NUM), &head.to_le_bytes());
        self.put(DRIVER + 2, &index.wrapping_add(1).to_le_bytes());
    }

    /// Reads a number as the driver does.
    fn get(&self, addr: u64, len: usize) -> u64 {
        let mut value = 0;
        if let Ok(cells) = self.at(addr, len) {
            for cell in cells.iter().rev() {
                value = value << 8 | u64::from(cell.get());
            }
        }
        value
    }

    /// The used index.
    fn used(&self) -> u64 {
        self.get(DEVICE + 2, 2)
    }
}

impl Memory for FakeMemory {
    fn read(&self, addr: u64, into: &mut [u8]) -> RingResult {
        let cells = self.at(addr, into.len())?;
        for (byte, cell) in into.iter_mut().zip(cells) {
            *byte = cell.get();
        }
        Ok(())
    }

    fn write(&self, addr: u64, from: &[u8]) -> RingResult {
        let used = 6 + 8 * u64::from(NUM);
        if addr < DEVICE || addr.saturating_add(from.len() as u64) > DEVICE + used {
            self.strayed.set(true);
        }
        for (byte, cell) in from.iter().zip(self.at(addr, from.len())?) {
            cell.set(*byte);
        }
        Ok(())
    }

    fn load_u16(&self, addr: u64) -> RingResult<u16> {
        if addr % 2 != 0 {
            return Err(RingError::Unmapped);
        }
        let mut raw = [0; 2];
        self.read(addr, &mut raw)?;
        Ok(u16::from_ne_bytes(raw))
    }

    fn store_u16(&self, addr: u64, value: u16) -> RingResult {
        if addr % 2 != 0 {
            return Err(RingError::Unmapped);
        }
        self.write(addr, &value.to_ne_bytes())
    }

    fn read_barrier(&self) {}
    fn write_barrier(&self) {}
    fn full_barrier(&self) {}
}

/// Where the queue of all cases is.
fn layout() -> Layout {
    Layout {
        desc: DESC,
        driver: DRIVER,
        device: DEVICE,
        num: NUM.into(),
    }
}

/// Everything but event indices.
const FEATURES: RingFeatures = RingFeatures {
    little_endian: true,
    indirect: true,
    event_idx: false,
};

/// A queue that begins at `start`, with the driver's index there too.
fn queue(mem: &FakeMemory, features: RingFeatures, start: u16) -> SplitQueue {
    mem.put(DRIVER + 2, &start.to_le_bytes());
    match SplitQueue::new(layout(), features, start) {
        Ok(queue) => queue,
        // The layout is a good one.
        Err(_) => unreachable!(),
    }
}

/// The segments of the next chain, the first four of them, and their number.
fn walk(
    queue: &mut SplitQueue,
    mem: &FakeMemory,
) -> RingResult<Option<(u16, [Segment; 4], usize)>> {
    let Some(mut chain) = queue.pop(mem)? else {
        return Ok(None);
    };
    let none = Segment {
        addr: 0,
        len: 0,
        writable: false,
    };
    let (mut found, mut count) = ([none; 4], 0);
    while let Some(segment) = chain.next(mem)? {
        if let Some(slot) = found.get_mut(count) {
            *slot = segment;
        }
        count += 1;
    }
    Ok(Some((chain.head(), found, count)))
}

/// Expects that the next chain breaks the queue.
fn broken(mem: &FakeMemory, why: RingError) -> Outcome {
    let mut queue = queue(mem, FEATURES, 0);
    mem.avail(0, 0);
    expect!(walk(&mut queue, mem).err() == Some(why));
    Ok(())
}

/// A request and its answer, three times around the ring and over the end of the indices.
fn goes_round() -> Outcome {
    let mem = FakeMemory::new();
    let start = u16::MAX - NUM;
    let mut queue = queue(&mem, FEATURES, start);
    for step in 0..3 * NUM {
        let index = start.wrapping_add(step);
        let head = step * 3 % NUM;
        let next = (head + 1) % NUM;
        mem.desc(DESC, head, (0x1000, 12), NEXT, next);
        mem.desc(DESC, next, (0x2000, 99), WRITE, 0);
        expect!(matches!(walk(&mut queue, &mem), Ok(None)));
        mem.avail(index, head);
        let Ok(Some((found, [first, second, ..], count))) = walk(&mut queue, &mem) else {
            return Err("there should be a chain");
        };
        expect!(found == head && count == 2);
        expect!(first.addr == 0x1000 && first.len == 12 && !first.writable);
        expect!(second.addr == 0x2000 && second.len == 99 && second.writable);
        expect!(queue.push(&mem, head, 7 + u32::from(step)).is_ok());
        let slot = DEVICE + 4 + 8 * u64::from(index % NUM);
        expect!(mem.get(slot, 4) == u64::from(head));
        expect!(mem.get(slot + 4, 4) == 7 + u64::from(step));
        expect!(mem.used() == u64::from(index.wrapping_add(1)));
        expect!(queue.next_avail() == index.wrapping_add(1));
    }
    expect!(!mem.strayed.get());
    Ok(())
}

/// An indirect table, alone and behind nothing.
fn indirect() -> Outcome {
    let mem = FakeMemory::new();
    mem.desc(TABLE, 0, (0x1000, 1), NEXT, 2);
    mem.desc(TABLE, 2, (0x2000, 0), NEXT, 1);
    mem.desc(TABLE, 1, (0x3000, 3), WRITE, 7);
    mem.desc(DESC, 0, (TABLE, 48), INDIRECT, 0);
    let mut queue = queue(&mem, FEATURES, 0);
    mem.avail(0, 0);
    let Ok(Some((0, [first, second, ..], 2))) = walk(&mut queue, &mem) else {
        return Err("the empty segment should be left out");
    };
    expect!(first.len == 1 && second.len == 3 && second.writable);

    // A table in a table, one in the middle of a chain, sizes that are none, and no feature.
    mem.desc(TABLE, 0, (TABLE, 16), INDIRECT, 0);
    broken(&mem, RingError::Invalid)?;
    mem.desc(TABLE, 0, (0x1000, 1), 0, 0);
    for (len, flags) in [
        (48, INDIRECT | NEXT),
        (0, INDIRECT),
        (47, INDIRECT),
        (1 << 20, INDIRECT),
    ] {
        mem.desc(DESC, 0, (TABLE, len), flags, 1);
        broken(&mem, RingError::Invalid)?;
    }
    mem.desc(DESC, 0, (0x10, 48), INDIRECT, 0);
    broken(&mem, RingError::Unmapped)?;
    mem.desc(DESC, 0, (u64::MAX - 7, 48), INDIRECT, 0);
    broken(&mem, RingError::Unmapped)?;
    mem.desc(TABLE, 0, (0x1000, 1), NEXT, 3);
    mem.desc(DESC, 0, (TABLE, 48), INDIRECT, 0);
    broken(&mem, RingError::Invalid)?;
    Ok(())
}

/// Chains that no driver makes.
fn bad_chains() -> Outcome {
    let mem = FakeMemory::new();
    // To itself, in a circle, out of the table.
    mem.desc(DESC, 0, (0x1000, 1), NEXT, 0);
    broken(&mem, RingError::Invalid)?;
    mem.desc(DESC, 0, (0x1000, 0), NEXT, 1);
    mem.desc(DESC, 1, (0x1000, 0), NEXT, 0);
    broken(&mem, RingError::Invalid)?;
    mem.desc(DESC, 0, (0x1000, 1), NEXT, NUM);
    broken(&mem, RingError::Invalid)?;
    // Readable behind writable; the end of the address space.
    mem.desc(DESC, 0, (0x1000, 1), WRITE | NEXT, 1);
    mem.desc(DESC, 1, (0x1000, 1), 0, 0);
    broken(&mem, RingError::Invalid)?;
    mem.desc(DESC, 0, (u64::MAX, 2), 0, 0);
    broken(&mem, RingError::Invalid)?;
    Ok(())
}

/// Indices that no driver writes, and layouts that none sets.
fn bad_rings() -> Outcome {
    let mem = FakeMemory::new();
    let mut q = queue(&mem, FEATURES, 0);
    mem.avail(0, NUM);
    expect!(q.pop(&mem).err() == Some(RingError::Invalid));
    mem.put(DRIVER + 2, &(NUM + 1).to_le_bytes());
    expect!(queue_at(&mem, 0).pop(&mem).err() == Some(RingError::Invalid));
    mem.put(DRIVER + 2, &u16::MAX.to_le_bytes());
    expect!(queue_at(&mem, 0).pop(&mem).err() == Some(RingError::Invalid));

    let good = layout();
    let bad = [
        Layout { num: 0, ..good },
        Layout { num: 7, ..good },
        Layout {
            num: 1 << 16,
            ..good
        },
        Layout {
            num: u32::MAX,
            ..good
        },
        Layout {
            desc: DESC + 8,
            ..good
        },
        Layout {
            driver: DRIVER + 1,
            ..good
        },
        Layout {
            device: DEVICE + 2,
            ..good
        },
        Layout {
            desc: u64::MAX & !15,
            ..good
        },
        Layout {
            driver: u64::MAX & !1,
            ..good
        },
        Layout {
            device: u64::MAX & !3,
            ..good
        },
    ];
    for layout in bad {
        expect!(SplitQueue::new(layout, FEATURES, 0).is_err());
    }
    let nowhere = Layout {
        driver: 0x10,
        ..good
    };
    let Ok(mut q) = SplitQueue::new(nowhere, FEATURES, 0) else {
        return Err("an address like any other");
    };
    expect!(q.pop(&mem).err() == Some(RingError::Unmapped));
    expect!(q.needs_signal(&mem).is_err());
    Ok(())
}

/// A queue that leaves the driver's index as it is.
fn queue_at(_mem: &FakeMemory, start: u16) -> SplitQueue {
    match SplitQueue::new(layout(), FEATURES, start) {
        Ok(queue) => queue,
        Err(_) => unreachable!(),
    }
}

/// Who wants to hear of what, by flags and by index.
fn notifications() -> Outcome {
    let mem = FakeMemory::new();
    let mut q = queue(&mem, FEATURES, 0);
    expect!(q.needs_signal(&mem) == Ok(true));
    mem.put(DRIVER, &1u16.to_le_bytes());
    expect!(q.needs_signal(&mem) == Ok(false));
    expect!(q.suppress_kicks(&mem).is_ok() && mem.get(DEVICE, 2) == 1);
    expect!(q.ask_for_kicks(&mem) == Ok(false) && mem.get(DEVICE, 2) == 0);
    mem.avail(0, 0);
    expect!(q.ask_for_kicks(&mem) == Ok(true));

    let features = RingFeatures {
        event_idx: true,
        ..FEATURES
    };
    let mem = FakeMemory::new();
    let start = u16::MAX - 1;
    let mut q = queue(&mem, features, start);
    let event = DRIVER + 4 + 2 * u64::from(NUM);
    let avail_event = DEVICE + 4 + 8 * u64::from(NUM);
    expect!(q.suppress_kicks(&mem).is_ok() && mem.get(DEVICE, 2) == 0);
    expect!(q.ask_for_kicks(&mem) == Ok(false));
    expect!(mem.get(avail_event, 2) == u64::from(start));
    // The driver waits for the third one, over the end of the indices.
    mem.put(event, &start.wrapping_add(2).to_le_bytes());
    expect!(q.needs_signal(&mem) == Ok(true));
    for (step, wanted) in [(0u16, false), (1, false), (2, true), (3, false)] {
        let index = start.wrapping_add(step);
        mem.avail(index, 0);
        mem.desc(DESC, 0, (0x1000, 1), 0, 0);
        expect!(matches!(walk(&mut q, &mem), Ok(Some(_))));
        expect!(q.push(&mem, 0, 0).is_ok());
        expect!(q.needs_signal(&mem) == Ok(wanted));
    }
    Ok(())
}

/// All cases that do not depend on luck.
pub(crate) fn all() -> Outcome {
    goes_round()?;
    indirect()?;
    bad_chains()?;
    bad_rings()?;
    notifications()
}

/// Pseudo-random numbers; the same for the same seed.
struct Random(u64);

impl Random {
    /// The next one, below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit.max(1)
    }

    /// An address: usually one that is there.
    fn addr(&mut self) -> u64 {
        match self.below(8) {
            0 => self.0,
            1 => u64::MAX - self.below(64),
            2 => BASE + SIZE as u64 - self.below(64),
            _ => BASE + (self.below(SIZE as u64) & !15),
        }
    }

    /// A descriptor: one that makes sense, or is `crazy`.
    fn desc(&mut self, mem: &FakeMemory, table: u64, entries: u64, crazy: bool) {
        let index = self.below(entries) as u16;
        if crazy {
            let segment = (self.addr(), self.0 as u32);
            let next = self.below(entries + 1) as u16;
            mem.desc(table, index, segment, (self.0 >> 32) as u16, next);
            return;
        }
        // Always forward and into the same table, so that there is an end.
        let next = index.saturating_add(1 + self.below(3) as u16);
        let last = u64::from(next) >= entries;
        let end = WRITE * self.below(2) as u16;
        let mut flags = if last { end } else { NEXT };
        let len = match self.below(4) {
            0 if table == DESC => {
                flags = INDIRECT;
                16 * (1 + self.below(64) as u32)
            }
            1 => 0,
            _ => self.below(1 << 16) as u32,
        };
        let addr = if flags == INDIRECT {
            TABLE
        } else {
            self.addr() >> 1
        };
        mem.desc(table, index, (addr, len), flags, next);
    }
}

/// A driver that writes whatever it likes whenever it likes: the device's side must stay within
/// its bounds. `rounds` queues live through 200 steps each, unless they break. Returns how many
/// chains got through.
pub(crate) fn hostile(seed: u64, rounds: u32) -> core::result::Result<u64, &'static str> {
    // Neighbouring seeds shall have nothing in common, and zero is no state.
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut passed = 0;
    for _ in 0..rounds {
        let mem = FakeMemory::new();
        // How often the driver does what is surely wrong.
        let wild = 1 + random.below(400);
        let features = RingFeatures {
            little_endian: random.below(2) == 0,
            indirect: random.below(4) != 0,
            event_idx: random.below(2) == 0,
        };
        let start = random.0 as u16;
        let mut queue = queue(&mem, features, start);
        for _ in 0..200 {
            let crazy = random.below(wild) == 0;
            match random.below(8) {
                0 if crazy => mem.put(random.addr(), &random.0.to_le_bytes()),
                0..=2 => random.desc(&mem, DESC, NUM.into(), crazy),
                3 => random.desc(&mem, TABLE, 32, crazy),
                _ if crazy => mem.avail(random.0 as u16, (random.0 >> 16) as u16),
                _ => {
                    let head = random.below(NUM.into()) as u16;
                    mem.avail(queue.next_avail(), head);
                }
            }
            mem.accesses.set(0);
            let before = queue.next_avail();
            let mut segments = 0;
            match queue.pop(&mem) {
                Err(_) => break,
                Ok(None) => expect!(queue.next_avail() == before),
                Ok(Some(mut chain)) => {
                    expect!(chain.head() < NUM);
                    expect!(queue.next_avail() == before.wrapping_add(1));
                    let mut writable = false;
                    let end = loop {
                        match chain.next(&mem) {
                            Err(error) => break Err(error),
                            Ok(None) => break Ok(()),
                            Ok(Some(segment)) => {
                                segments += 1;
                                expect!(segment.len != 0);
                                expect!(segment.addr.checked_add(segment.len as u64 - 1).is_some());
                                expect!(segment.writable || !writable);
                                writable = segment.writable;
                            }
                        }
                    };
                    if end.is_err() {
                        break;
                    }
                    passed += 1;
                    expect!(matches!(chain.next(&mem), Ok(None)));
                    expect!(queue.push(&mem, chain.head(), 0).is_ok());
                    expect!(queue.needs_signal(&mem).is_ok());
                }
            }
            // The queue itself is mapped; only the table may be elsewhere.
            expect!(segments <= 1024 + u32::from(NUM));
            expect!(mem.accesses.get() <= 1024 + u32::from(NUM) + 8);
            if queue.suppress_kicks(&mem).is_err() || queue.ask_for_kicks(&mem).is_err() {
                break;
            }
        }
        expect!(!mem.strayed.get());
    }
    Ok(passed)
}
