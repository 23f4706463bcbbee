// SPDX-License-Identifier: GPL-2.0

//! Memory and random numbers for the cases of `ring_cases.rs`.

use crate::random::Random;
use crate::ring::{Layout, Memory, RingError, RingResult};
use core::cell::Cell;

/// Size of the memory in bytes.
pub(crate) const SIZE: usize = 4096;
/// First address of the memory.
pub(crate) const BASE: u64 = 0x4000_0000;
/// Addresses of the queue's areas.
pub(crate) const DESC: u64 = BASE;
pub(crate) const DRIVER: u64 = BASE + 0x200;
pub(crate) const DEVICE: u64 = BASE + 0x300;
/// Address of the room for indirect tables.
pub(crate) const TABLE: u64 = BASE + 0x400;

/// Flags of descriptors.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Outcome of a case. The error says what failed.
pub(crate) type Outcome<T = ()> = core::result::Result<T, &'static str>;

/// Fails the case unless the expression is true.
macro_rules! ensure {
    ($what:expr) => {
        if !$what {
            return Err(concat!(stringify!($what), " at line ", line!()));
        }
    };
}
pub(crate) use ensure;

/// Returns the layout of a queue with `num` descriptors.
pub(crate) fn layout(num: u16) -> Layout {
    Layout {
        desc: DESC,
        driver: DRIVER,
        device: DEVICE,
        num: num.into(),
    }
}

/// Memory that counts and checks the device's accesses.
pub(crate) struct FakeMemory {
    bytes: [Cell<u8>; SIZE],
    /// The number of the device's accesses.
    pub(crate) accesses: Cell<u32>,
    /// True if the device wrote outside of its own areas.
    pub(crate) strayed: Cell<bool>,
    /// The numbers of the device's barriers for loads, for stores, and for both.
    pub(crate) barriers: [Cell<u32>; 3],
    /// The address of a field that makes things visible to the driver, and its old value.
    watched: Cell<(u64, u16)>,
    /// The number of the access that changed this field; 0 if no barrier for stores was right
    /// before it.
    pub(crate) changed: Cell<Option<u32>>,
    /// True if the last operation was a barrier for stores.
    fenced: Cell<bool>,
    /// The seed of the changes that the memory makes by itself; 0 for none.
    turmoil: Cell<u64>,
    /// The seed that selects the accesses that find nothing mapped; 0 for none.
    flicker: Cell<u64>,
    /// True if nothing is mapped.
    absent: Cell<bool>,
    /// The end of the descriptors that the device may write.
    ring_end: Cell<u64>,
    /// The end of the device's area.
    device_end: Cell<u64>,
}

impl FakeMemory {
    /// Creates memory of zeroes.
    pub(crate) fn new() -> Self {
        Self {
            bytes: [const { Cell::new(0) }; SIZE],
            accesses: Cell::new(0),
            strayed: Cell::new(false),
            barriers: [const { Cell::new(0) }; 3],
            watched: Cell::new((0, 0)),
            changed: Cell::new(None),
            fenced: Cell::new(false),
            turmoil: Cell::new(0),
            flicker: Cell::new(0),
            absent: Cell::new(false),
            ring_end: Cell::new(0),
            device_end: Cell::new(0),
        }
    }

    /// Clears the memory, for a queue of `num` descriptors.
    pub(crate) fn clear(&self, num: u16, packed: bool) {
        for byte in &self.bytes {
            byte.set(0);
        }
        let num = u64::from(num);
        let (ring, device) = if packed {
            (16 * num, 4)
        } else {
            (0, 6 + 8 * num)
        };
        self.ring_end.set(DESC + ring);
        self.device_end.set(DEVICE + device);
        self.watch(BASE);
        self.strayed.set(false);
        self.turmoil.set(0);
        self.flicker.set(0);
        self.absent.set(false);
    }

    /// Makes the memory change while the device reads it, depending on `seed`.
    pub(crate) fn in_turmoil(&self, seed: u64) {
        self.turmoil.set(seed);
    }

    /// Makes some accesses find nothing mapped, depending on `seed`; none with 0.
    pub(crate) fn flickers(&self, seed: u64) {
        self.flicker.set(seed);
    }

    /// Unmaps everything, or maps it again.
    pub(crate) fn absent(&self, absent: bool) {
        self.absent.set(absent);
    }

    /// Counts an access, and fails it if it must find nothing mapped.
    fn access(&self) -> RingResult {
        self.accesses.set(self.accesses.get().saturating_add(1));
        if self.absent.get() {
            return Err(RingError::Unmapped);
        }
        if self.flicker.get() == 0 {
            return Ok(());
        }
        let mut random = Random(self.flicker.get());
        let absent = random.once_in(6);
        self.flicker.set(random.0);
        if absent {
            return Err(RingError::Unmapped);
        }
        Ok(())
    }

    /// Resets the counters, and watches the field at `addr`.
    pub(crate) fn watch(&self, addr: u64) {
        self.watched.set((addr, self.get_u16(addr)));
        self.changed.set(None);
        self.accesses.set(0);
        for barrier in &self.barriers {
            barrier.set(0);
        }
    }

    /// Counts a barrier of the device.
    fn barrier(&self, kind: usize) {
        if let Some(barrier) = self.barriers.get(kind) {
            barrier.set(barrier.get().saturating_add(1));
        }
    }

    /// Returns the bytes at an address, if all of them exist.
    fn at(&self, addr: u64, len: usize) -> RingResult<&[Cell<u8>]> {
        let start = addr.checked_sub(BASE).ok_or(RingError::Unmapped)?;
        let start = usize::try_from(start).map_err(|_| RingError::Unmapped)?;
        let end = start.checked_add(len).ok_or(RingError::Unmapped)?;
        self.bytes.get(start..end).ok_or(RingError::Unmapped)
    }

    /// Writes bytes for the driver.
    pub(crate) fn put(&self, addr: u64, bytes: &[u8]) {
        if let Ok(cells) = self.at(addr, bytes.len()) {
            for (cell, byte) in cells.iter().zip(bytes) {
                cell.set(*byte);
            }
        }
    }

    /// Writes a field for the driver.
    pub(crate) fn put_u16(&self, addr: u64, value: u16) {
        self.put(addr, &value.to_le_bytes());
    }

    /// Writes a descriptor to the table at `table`. `x` and `y` are its last two fields.
    pub(crate) fn desc(&self, table: u64, index: u16, segment: (u64, u32), x: u16, y: u16) {
        let at = table + 16 * u64::from(index);
        self.put(at, &segment.0.to_le_bytes());
        self.put(at + 8, &segment.1.to_le_bytes());
        self.put_u16(at + 12, x);
        self.put_u16(at + 14, y);
    }

    /// Reads a number for the driver.
    pub(crate) fn get(&self, addr: u64, len: usize) -> u64 {
        let mut value = 0;
        if let Ok(cells) = self.at(addr, len) {
            for cell in cells.iter().rev() {
                value = value << 8 | u64::from(cell.get());
            }
        }
        value
    }

    /// Reads a field for the driver.
    pub(crate) fn get_u16(&self, addr: u64) -> u16 {
        self.get(addr, 2) as u16
    }
}

impl Memory for FakeMemory {
    fn read(&self, addr: u64, into: &mut [u8]) -> RingResult {
        if self.turmoil.get() != 0 {
            let mut random = Random(self.turmoil.get());
            if random.once_in(8) {
                // Mostly in the area of the rings.
                let end = 1 + random.below(SIZE as u64 / 2);
                self.put_u16(BASE + 2 * random.below(end), random.next() as u16);
            }
            self.turmoil.set(random.0);
        }
        self.access()?;
        let cells = self.at(addr, into.len())?;
        for (byte, cell) in into.iter_mut().zip(cells) {
            *byte = cell.get();
        }
        Ok(())
    }

    fn write(&self, addr: u64, from: &[u8]) -> RingResult {
        self.access()?;
        let end = addr.saturating_add(from.len() as u64);
        let in_ring = addr >= DESC && end <= self.ring_end.get();
        if !in_ring && (addr < DEVICE || end > self.device_end.get()) {
            self.strayed.set(true);
        }
        for (byte, cell) in from.iter().zip(self.at(addr, from.len())?) {
            cell.set(*byte);
        }
        let (watched, was) = self.watched.get();
        if self.changed.get().is_none() && self.get_u16(watched) != was {
            // Without a barrier, any change is too early.
            let when = if self.fenced.get() {
                self.accesses.get()
            } else {
                0
            };
            self.changed.set(Some(when));
        }
        self.fenced.set(false);
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

    fn read_barrier(&self) {
        self.barrier(0);
    }

    fn write_barrier(&self) {
        self.barrier(1);
        self.fenced.set(true);
    }

    fn full_barrier(&self) {
        self.barrier(2);
    }
}

/// Returns an address, usually one that is there.
pub(crate) fn addr(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.next(),
        1 => u64::MAX - random.below(64),
        2 => BASE + SIZE as u64 - random.below(64),
        _ => BASE + (random.below(SIZE as u64) & !15),
    }
}
