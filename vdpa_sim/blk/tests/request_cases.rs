// SPDX-License-Identifier: GPL-2.0

//! Cases for [`crate::blk::request`], without a kernel: KUnit runs them in the module, and the
//! fuzzer in userspace (`request_fuzz.rs`) with as many seeds as time allows.

use crate::blk::request::{
    Abilities, Disk, Done, Kind, Status, Store, Table, ID, MAX_SECTORS, MAX_SEGMENTS, SECTOR,
};
use crate::random::Random;
use crate::ring::{
    Layout, Memory, Position, RingError, RingFeatures, RingResult, Segment, Violation, VirtQueue,
};
use core::cell::{Cell, RefCell};

/// Size of the driver's memory in bytes.
const MEMORY: usize = 4096;
/// First address of that memory.
const BASE: u64 = 0x4000_0000;
/// Number of sectors.
const SECTORS: u64 = 5;
/// Size of the store in bytes.
const STORE: usize = (SECTORS * SECTOR) as usize;
/// Number of bytes that the cases need.
pub(crate) const SPACE: usize = 2 * (MEMORY + STORE);

/// Addresses of headers, statuses and data.
const HEADER: u64 = BASE;
const STATUS: u64 = BASE + 0x3f;
const DATA: u64 = BASE + 0x400;

/// Request types.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Status that no disk writes.
const UNTOLD: u8 = 0xff;

/// Outcome of a case. The error says what failed.
pub(crate) type Outcome = core::result::Result<(), &'static str>;

/// Fails the case unless the expression is true.
macro_rules! expect {
    ($what:expr) => {
        if !$what {
            return Err(stringify!($what));
        }
    };
}

/// Memory of a driver.
struct Guest<'a>(&'a [Cell<u8>]);

impl Guest<'_> {
    /// Returns the bytes at an address, if all of them exist.
    fn at(&self, addr: u64, len: usize) -> RingResult<&[Cell<u8>]> {
        let start = addr.checked_sub(BASE).ok_or(RingError::Unmapped)? as usize;
        let end = start.checked_add(len).ok_or(RingError::Unmapped)?;
        self.0.get(start..end).ok_or(RingError::Unmapped)
    }

    /// Writes bytes for the driver.
    fn put(&self, addr: u64, bytes: &[u8]) {
        for (cell, byte) in self.at(addr, bytes.len()).unwrap_or(&[]).iter().zip(bytes) {
            cell.set(*byte);
        }
    }

    /// Fills bytes for the driver.
    fn fill(&self, addr: u64, len: usize, byte: impl Fn(usize) -> u8) {
        for (index, cell) in self.at(addr, len).unwrap_or(&[]).iter().enumerate() {
            cell.set(byte(index));
        }
    }

    /// Reads a byte for the driver.
    fn get(&self, addr: u64) -> u8 {
        self.at(addr, 1).map_or(0, |cells| cells[0].get())
    }

    /// Returns true if the memory has these bytes.
    fn holds(&self, addr: u64, len: usize, byte: impl Fn(usize) -> u8) -> bool {
        self.at(addr, len).is_ok_and(|cells| {
            let mut cells = cells.iter().enumerate();
            cells.all(|(index, cell)| cell.get() == byte(index))
        })
    }

    /// Writes a header.
    fn header(&self, kind: u32, sector: u64) {
        self.put(HEADER, &kind.to_le_bytes());
        self.put(HEADER + 4, &[0xee; 4]);
        self.put(HEADER + 8, &sector.to_le_bytes());
        self.put(STATUS, &[UNTOLD]);
    }

    /// Writes a range to discard or zero.
    fn range(&self, sector: u64, sectors: u32, flags: u32) {
        self.put(DATA, &sector.to_le_bytes());
        self.put(DATA + 8, &sectors.to_le_bytes());
        self.put(DATA + 12, &flags.to_le_bytes());
    }
}

impl Memory for Guest<'_> {
    fn read(&self, addr: u64, into: &mut [u8]) -> RingResult {
        let cells = self.at(addr, into.len())?;
        for (byte, cell) in into.iter_mut().zip(cells) {
            *byte = cell.get();
        }
        Ok(())
    }

    fn write(&self, addr: u64, from: &[u8]) -> RingResult {
        for (byte, cell) in from.iter().zip(self.at(addr, from.len())?) {
            cell.set(*byte);
        }
        Ok(())
    }

    fn load_u16(&self, addr: u64) -> RingResult<u16> {
        let mut raw = [0; 2];
        self.read(addr, &mut raw)?;
        Ok(u16::from_ne_bytes(raw))
    }

    fn store_u16(&self, addr: u64, value: u16) -> RingResult {
        self.write(addr, &value.to_ne_bytes())
    }

    fn read_barrier(&self) {}
    fn write_barrier(&self) {}
    fn full_barrier(&self) {}
}

/// Sectors in one piece of memory, of which a caller sees `piece` bytes at a time.
struct Sectors<'a> {
    bytes: RefCell<&'a mut [u8]>,
    piece: usize,
    /// The size that the store claims, which may be wrong to test that a request checks its limits
    /// first.
    size: u64,
}

impl Store for Sectors<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn piece<R>(&self, offset: u64, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let mut bytes = self.bytes.try_borrow_mut().ok()?;
        let offset = usize::try_from(offset).ok()?;
        // Pieces end where the store's own parts do.
        let len = len.min(self.piece - offset % self.piece);
        bytes.get_mut(offset..offset.checked_add(len)?).map(f)
    }
}

impl Sectors<'_> {
    /// Returns true if the store has these bytes.
    fn holds(&self, byte: impl Fn(usize) -> u8) -> bool {
        let bytes = self.bytes.borrow();
        let mut bytes = bytes.iter().enumerate();
        bytes.all(|(index, found)| *found == byte(index))
    }
}

/// Memory and store of a case.
struct Bench<'a> {
    guest: Guest<'a>,
    store: Sectors<'a>,
    /// True if data is copied through a buffer.
    buffered: bool,
}

/// Returns a byte of the initial content of the store.
fn pattern(index: usize) -> u8 {
    (index * 7 + index / 256) as u8 | 1
}

/// Returns a byte of the data that the driver writes.
fn data(index: usize) -> u8 {
    (index * 3) as u8 & !1
}

impl<'a> Bench<'a> {
    /// Creates memory of zeroes, and sectors with a pattern.
    fn new(space: &'a mut [u8], piece: usize) -> Result<Self, &'static str> {
        let (memory, rest) = space.split_at_mut_checked(MEMORY).ok_or("no space")?;
        let (store, _) = rest.split_at_mut_checked(STORE).ok_or("no space")?;
        memory.fill(0);
        for (index, byte) in store.iter_mut().enumerate() {
            *byte = pattern(index);
        }
        Ok(Self {
            guest: Guest(Cell::from_mut(memory).as_slice_of_cells()),
            store: Sectors {
                bytes: RefCell::new(store),
                piece,
                size: STORE as u64,
            },
            buffered: false,
        })
    }

    /// Executes a request.
    fn serve(&self, segments: &[Segment]) -> Done {
        let mut buffer = [0; 300];
        let buffer = self.buffered.then_some(buffer.as_mut_slice());
        Disk::new(&self.store, ABLE, buffer).serve(&self.guest, segments)
    }

    /// Executes a request of a header, `len` bytes of data and a status, and checks that it ends
    /// with this status and changes no sector. The device may write to the data if `writable`.
    fn fails(
        &self,
        (kind, sector): (u32, u64),
        (len, writable): (u32, bool),
        status: Status,
    ) -> Outcome {
        self.guest.header(kind, sector);
        let segments = [
            segment(HEADER, 16, false),
            segment(DATA, len, writable),
            segment(STATUS, 1, true),
        ];
        // A chain never has empty segments.
        let [head, data, tail] = segments;
        let done = if data.len == 0 {
            self.serve(&[head, tail])
        } else {
            self.serve(&segments)
        };
        expect!(done.status == Some(status));
        expect!(self.guest.get(STATUS) == status as u8);
        expect!(done.bytes == 0);
        expect!(done.used == u32::from(!writable || len == 0));
        expect!(self.store.holds(pattern));
        Ok(())
    }
}

/// Abilities of a disk that can do everything.
const ABLE: Abilities = Abilities {
    little_endian: true,
    read_only: false,
    discard: true,
    write_zeroes: true,
};

/// Returns a segment.
fn segment(addr: u64, len: u32, writable: bool) -> Segment {
    Segment {
        addr,
        len,
        writable,
    }
}

/// Returns the result of a request that succeeded.
fn done(kind: Kind, bytes: u64, used: u32) -> Done {
    Done {
        kind,
        status: Some(Status::Ok),
        bytes,
        used,
    }
}

/// Checks that sectors are read and written, for header and data in any pieces.
fn data_moves(space: &mut [u8]) -> Outcome {
    for (piece, buffered) in [1, 100, 512, 4096]
        .into_iter()
        .flat_map(|p| [(p, true), (p, false)])
    {
        let mut bench = Bench::new(space, piece)?;
        bench.buffered = buffered;
        let (guest, store) = (&bench.guest, &bench.store);

        guest.header(IN, 1);
        let read = bench.serve(&[
            segment(HEADER, 16, false),
            segment(DATA, 1000, true),
            segment(DATA + 1000, 25, true),
        ]);
        expect!(read == done(Kind::Read, 1024, 1025));
        expect!(guest.holds(DATA, 1024, |index| pattern(index + 512)));
        expect!(guest.get(DATA + 1024) == 0);
        expect!(store.holds(pattern));

        guest.header(OUT, 3);
        guest.fill(DATA, 1024, data);
        let write = bench.serve(&[
            segment(HEADER, 3, false),
            segment(HEADER + 3, 12, false),
            segment(HEADER + 15, 1, false),
            segment(DATA, 1, false),
            segment(DATA + 1, 1023, false),
            segment(STATUS, 1, true),
        ]);
        expect!(write == done(Kind::Write, 1024, 1));
        expect!(guest.get(STATUS) == 0);
        let written = |index: usize| match index.checked_sub(3 * 512) {
            Some(index) => data(index),
            None => pattern(index),
        };
        expect!(store.holds(written));

        // Header and data in one segment, data and status too.
        guest.header(OUT, 4);
        guest.put(HEADER + 16, &[9; 512]);
        let write = bench.serve(&[segment(HEADER, 16 + 512, false), segment(DATA, 1, true)]);
        expect!(write == done(Kind::Write, 512, 1));
        expect!(store.holds(|index| if index < 4 * 512 { written(index) } else { 9 }));
        guest.header(IN, 4);
        let read = bench.serve(&[segment(HEADER, 16, false), segment(DATA, 513, true)]);
        expect!(read == done(Kind::Read, 512, 513));
        expect!(guest.holds(DATA, 513, |index| if index < 512 { 9 } else { 0 }));
    }
    Ok(())
}

/// Checks sectors that do not exist, invalid lengths, and sectors in requests that have none.
fn bad_ranges(space: &mut [u8]) -> Outcome {
    let mut bench = Bench::new(space, 512)?;
    for kind in [IN, OUT] {
        let data = |len| (len, kind == IN);
        for sector in [SECTORS, SECTORS + 1, 1 << 55, 1 << 63, u64::MAX] {
            bench.fails((kind, sector), data(512), Status::IoError)?;
            bench.fails((kind, sector), data(0), Status::IoError)?;
        }
        bench.fails((kind, SECTORS - 1), data(1024), Status::IoError)?;
        bench.fails((kind, 0), data(512 * (SECTORS as u32 + 1)), Status::IoError)?;
        bench.fails((kind, 0), data(1), Status::IoError)?;
        bench.fails((kind, 0), data(511), Status::IoError)?;
        bench.fails((kind, 0), data(513), Status::IoError)?;
        // No data can be moved at a sector that exists.
        bench.fails((kind, SECTORS - 1), data(0), Status::Ok)?;
    }
    bench.fails((FLUSH, 1), (0, false), Status::IoError)?;
    bench.fails((GET_ID, 1), (20, true), Status::IoError)?;
    bench.fails((DISCARD, 1), (16, false), Status::IoError)?;
    bench.fails((WRITE_ZEROES, 1), (16, false), Status::IoError)?;

    for kind in [DISCARD, WRITE_ZEROES] {
        for (sector, sectors) in [
            (SECTORS, 0),
            (SECTORS, 1),
            (SECTORS - 1, 2),
            (0, SECTORS as u32 + 1),
            (0, u32::MAX),
            (1, u32::MAX),
            (u64::MAX, 1),
            (u64::MAX, u32::MAX),
            (1 << 55, 1),
        ] {
            bench.guest.range(sector, sectors, 0);
            bench.fails((kind, 0), (16, false), Status::IoError)?;
        }
        bench.guest.range(0, 1, 0);
        for len in [0, 1, 15, 17, 32] {
            bench.fails((kind, 0), (len, false), Status::IoError)?;
        }
        bench.guest.range(0, 1, 2);
        bench.fails((kind, 0), (16, false), Status::Unsupported)?;
        bench.guest.range(0, 1, u32::MAX);
        bench.fails((kind, 0), (16, false), Status::Unsupported)?;
    }
    bench.guest.range(0, 1, 1);
    bench.fails((DISCARD, 0), (16, false), Status::Unsupported)?;

    // A huge disk, so that the limits of a request count.
    bench.store.size = u64::MAX;
    let most = MAX_SECTORS;
    bench.guest.range(0, most + 1, 0);
    bench.fails((WRITE_ZEROES, 0), (16, false), Status::IoError)?;
    bench.fails((IN, 0), ((most + 1) * 512, true), Status::IoError)?;
    bench.fails((OUT, 0), ((most + 1) * 512, false), Status::IoError)?;
    bench.fails((IN, u64::MAX / 512), (512, true), Status::IoError)?;
    Ok(())
}

/// Checks requests without sectors, and unknown requests.
fn others(space: &mut [u8]) -> Outcome {
    let bench = Bench::new(space, 512)?;
    let guest = &bench.guest;
    bench.fails((FLUSH, 0), (0, false), Status::Ok)?;
    for kind in [2, 3, 5, 7, 9, 10, 12, 14, 15, 26, 1 << 31, u32::MAX] {
        bench.fails((kind, 0), (0, false), Status::Unsupported)?;
        bench.fails((kind, 7), (512, false), Status::Unsupported)?;
        bench.fails((kind, 0), (512, true), Status::Unsupported)?;
    }

    for room in [1u32, 19, 20, 21, 100] {
        guest.header(GET_ID, 0);
        guest.fill(DATA, 200, |_| 0xee);
        let told = bench.serve(&[
            segment(HEADER, 16, false),
            segment(DATA, 1, true),
            segment(DATA + 1, room, true),
        ]);
        // The last byte is the status.
        let filled = room.min(20);
        let used = if room <= 20 { room + 1 } else { 20 };
        expect!(told == done(Kind::GetId, 0, used));
        let id = |index: usize| ID.get(index).copied().unwrap_or(0xee);
        expect!(guest.holds(DATA, filled as usize, id));
        expect!(guest.get(DATA + u64::from(room)) == 0);
        expect!(room <= 20 || guest.get(DATA + 20) == 0xee);
    }
    expect!(bench.store.holds(pattern));
    Ok(())
}

/// Checks that zeroes are written to the right sectors, and that discarded sectors do not change.
fn zeroes(space: &mut [u8]) -> Outcome {
    for flags in [0, 1] {
        for piece in [1, 200, 512, 1 << 20] {
            let bench = Bench::new(space, piece)?;
            let request = [
                segment(HEADER, 16, false),
                segment(DATA, 9, false),
                segment(DATA + 9, 7, false),
                segment(STATUS, 1, true),
            ];
            bench.guest.header(DISCARD, 0);
            bench.guest.range(0, SECTORS as u32, 0);
            expect!(bench.serve(&request) == done(Kind::Discard, STORE as u64, 1));
            expect!(bench.store.holds(pattern));
            bench.guest.header(WRITE_ZEROES, 0);
            bench.guest.range(1, 0, flags);
            expect!(bench.serve(&request) == done(Kind::WriteZeroes, 0, 1));
            expect!(bench.store.holds(pattern));
            bench.guest.range(1, 2, flags);
            expect!(bench.serve(&request) == done(Kind::WriteZeroes, 1024, 1));
            expect!(bench.guest.get(STATUS) == 0);
            expect!(bench.store.holds(|index| match index {
                512..1536 => 0,
                _ => pattern(index),
            }));
        }
    }
    Ok(())
}

/// Checks that requests which were not negotiated or not offered are not executed.
fn abilities(space: &mut [u8]) -> Outcome {
    let bench = Bench::new(space, 512)?;
    let guest = &bench.guest;
    let unable = Abilities {
        discard: false,
        write_zeroes: false,
        ..ABLE
    };
    let read_only = Abilities {
        read_only: true,
        ..ABLE
    };
    let request = [
        segment(HEADER, 16, false),
        segment(DATA, 16, false),
        segment(STATUS, 1, true),
    ];
    let data = [
        segment(HEADER, 16, false),
        segment(DATA, 512, false),
        segment(STATUS, 1, true),
    ];
    guest.range(0, 1, 0);
    for (kind, abilities, segments, status) in [
        (DISCARD, unable, &request, Status::Unsupported),
        (WRITE_ZEROES, unable, &request, Status::Unsupported),
        (DISCARD, read_only, &request, Status::IoError),
        (WRITE_ZEROES, read_only, &request, Status::IoError),
        (OUT, read_only, &data, Status::IoError),
    ] {
        guest.header(kind, 0);
        let done = Disk::new(&bench.store, abilities, None).serve(guest, segments);
        expect!(done.status == Some(status) && done.bytes == 0);
        expect!(guest.get(STATUS) == status as u8);
        expect!(bench.store.holds(pattern));
    }
    guest.header(IN, 0);
    let read = [segment(HEADER, 16, false), segment(DATA, 513, true)];
    let read = Disk::new(&bench.store, read_only, None).serve(guest, &read);
    expect!(read == done(Kind::Read, 512, 513));

    // A legacy driver has the endianness of its machine.
    let native = Abilities {
        little_endian: false,
        ..ABLE
    };
    guest.put(HEADER, &OUT.to_ne_bytes());
    guest.put(HEADER + 8, &2u64.to_ne_bytes());
    let write = Disk::new(&bench.store, native, None).serve(guest, &data);
    expect!(write == done(Kind::Write, 512, 1));
    expect!(!bench.store.holds(pattern));
    Ok(())
}

/// Checks requests without a header, without a place for the status, and without memory.
fn cut_short(space: &mut [u8]) -> Outcome {
    let bench = Bench::new(space, 512)?;
    let guest = &bench.guest;
    let nothing = Done {
        kind: Kind::Other,
        status: None,
        bytes: 0,
        used: 0,
    };
    guest.header(OUT, 0);
    expect!(bench.serve(&[]) == nothing);
    expect!(bench.serve(&[segment(HEADER, 16 + 512, false)]) == nothing);
    for len in [1, 8, 15] {
        guest.header(FLUSH, 0);
        let cut = bench.serve(&[segment(HEADER, len, false), segment(STATUS, 1, true)]);
        expect!(cut.status == Some(Status::IoError) && cut.used == 1);
        expect!(guest.get(STATUS) == 1);
    }
    let only = bench.serve(&[segment(STATUS - 9, 10, true)]);
    expect!(only.status == Some(Status::IoError) && only.used == 0);

    let nowhere = BASE + MEMORY as u64;
    guest.header(IN, 0);
    let cases = [
        // The header.
        [(nowhere - 8, 16, false), (DATA, 512, true)],
        // The data.
        [(HEADER, 16, false), (nowhere, 512, true)],
        [(HEADER, 16, false), (u64::MAX - 511, 512, true)],
    ];
    for case in cases {
        let [head, data] = case.map(|(addr, len, writable)| segment(addr, len, writable));
        guest.put(STATUS, &[UNTOLD]);
        let failed = bench.serve(&[head, data, segment(STATUS, 1, true)]);
        expect!(failed.status == Some(Status::IoError));
        expect!(failed.bytes == 0 && failed.used == 0);
        expect!(guest.get(STATUS) == 1);
    }
    // The second half of the data is not mapped; the first one was written.
    let failed = bench.serve(&[
        segment(HEADER, 16, false),
        segment(DATA, 512, true),
        segment(nowhere, 512, true),
        segment(STATUS, 1, true),
    ]);
    expect!(failed.status == Some(Status::IoError) && failed.bytes == 512 && failed.used == 512);
    // The status.
    let untold = bench.serve(&[segment(HEADER, 16, false), segment(nowhere, 1, true)]);
    expect!(untold.status.is_none() && untold.used == 0);
    expect!(bench.store.holds(pattern));
    Ok(())
}

/// Checks that a request is read from a ring into a table, which is then reused.
fn through_a_ring(space: &mut [u8]) -> Outcome {
    let bench = Bench::new(space, 512)?;
    let guest = &bench.guest;
    let (desc, driver, device) = (BASE + 0x800, BASE + 0x900, BASE + 0xa00);
    let layout = Layout {
        desc,
        driver,
        device,
        num: 4,
    };
    let features = RingFeatures {
        little_endian: true,
        ..RingFeatures::default()
    };
    let describe = |index: u64, addr: u64, len: u32, flags: u16, next: u16| {
        guest.put(desc + 16 * index, &addr.to_le_bytes());
        guest.put(desc + 16 * index + 8, &len.to_le_bytes());
        guest.put(desc + 16 * index + 12, &flags.to_le_bytes());
        guest.put(desc + 16 * index + 14, &next.to_le_bytes());
    };
    let Ok(mut queue) = VirtQueue::new(layout, features, Position::initial(false)) else {
        return Err("the layout is a good one");
    };
    let mut slots = [Table::EMPTY; 3];
    let mut table = Table::new(&mut slots);
    for (round, sector) in [(0u16, 0u64), (1, 3)] {
        guest.header(IN, sector);
        describe(0, HEADER, 16, 1, 2);
        describe(2, DATA, 512, 3, 1);
        describe(1, STATUS, 1, 2, 0);
        guest.put(driver + 2, &(round + 1).to_le_bytes());
        let Ok(Some(chain)) = queue.pop(guest) else {
            return Err("there should be a chain");
        };
        expect!(table.fill(guest, chain).is_ok() && table.segments().len() == 3);
        expect!(bench.serve(table.segments()) == done(Kind::Read, 512, 513));
        let first = sector as usize * 512;
        expect!(guest.holds(DATA, 512, |index| pattern(first + index)));
    }
    // One more segment than the table has.
    describe(1, STATUS, 1, 3, 3);
    describe(3, STATUS, 1, 2, 0);
    guest.put(driver + 2, &3u16.to_le_bytes());
    let Ok(Some(chain)) = queue.pop(guest) else {
        return Err("there should be a chain");
    };
    expect!(table.fill(guest, chain) == Err(RingError::Invalid(Violation::Segments)));
    Ok(())
}

/// Runs all cases that do not depend on random numbers. `space` has [`SPACE`] bytes.
pub(crate) fn all(space: &mut [u8]) -> Outcome {
    const { assert!(MAX_SEGMENTS >= 256 + 1024) };
    data_moves(space)?;
    bad_ranges(space)?;
    others(space)?;
    zeroes(space)?;
    abilities(space)?;
    cut_short(space)?;
    through_a_ring(space)
}

/// Returns a number that is often one of the interesting ones.
fn number(random: &mut Random, usual: u64) -> u64 {
    match random.below(12) {
        0 => random.0,
        1 => u64::MAX - random.below(3),
        2 => 1 << random.below(64),
        _ => random.below(usual),
    }
}

/// Returns a segment, usually one that is there.
fn random_segment(random: &mut Random, writable: bool, wild: bool) -> Segment {
    let len = match random.below(4) {
        0 => 512,
        1 => 1 + random.below(20),
        _ => 1 + random.below(700),
    };
    let mut addr = BASE + random.below(MEMORY as u64 - len);
    if wild && random.below(4) == 0 {
        // No segment of a chain goes beyond the last address.
        addr = number(random, 1 << 32).min(u64::MAX - len);
    }
    segment(addr, len as u32, writable)
}

/// Executes a request whose memory exists, byte by byte, on copies of memory and store. Returns the
/// status that a correct disk writes.
fn model(memory: &mut [u8], store: &mut [u8], segments: &[Segment], able: Abilities) -> u8 {
    let index = |addr: u64| (addr - BASE) as usize;
    let places = |writable: bool| {
        let those = segments
            .iter()
            .filter(move |segment| segment.writable == writable);
        those.flat_map(move |segment| (0..u64::from(segment.len)).map(move |k| segment.addr + k))
    };
    let Some(last) = places(true).last() else {
        return UNTOLD;
    };
    let room = places(true).count() - 1;
    let sent = places(false).count();
    let number = |memory: &[u8], first: usize, count: usize| {
        let bytes = places(false).skip(first).take(count);
        bytes
            .zip(0..)
            .map(|(addr, k)| u64::from(memory[index(addr)]) << (8 * k))
            .sum::<u64>()
    };
    let (kind, sector) = (number(memory, 0, 4), number(memory, 8, 8));
    let fits = |sector: u64, bytes: usize| {
        sector < SECTORS && bytes % 512 == 0 && bytes as u64 / 512 <= SECTORS - sector
    };
    let status = if sent < 16 {
        1
    } else if kind == 0 {
        if fits(sector, room) {
            for (addr, k) in places(true).take(room).zip(0..) {
                memory[index(addr)] = store[sector as usize * 512 + k];
            }
        }
        u8::from(!fits(sector, room))
    } else if kind == 1 {
        let good = fits(sector, sent - 16) && !able.read_only;
        if good {
            for (addr, k) in places(false).skip(16).zip(0..) {
                store[sector as usize * 512 + k] = memory[index(addr)];
            }
        }
        u8::from(!good)
    } else if kind == 4 {
        u8::from(sector != 0)
    } else if kind == 8 {
        if sector == 0 {
            for (addr, byte) in places(true).take(room).zip(ID) {
                memory[index(addr)] = *byte;
            }
        }
        u8::from(sector != 0)
    } else if kind == 11 && able.discard || kind == 13 && able.write_zeroes {
        let (first, count) = (number(memory, 16, 8), number(memory, 24, 4));
        let flags = number(memory, 28, 4);
        if sector != 0 || sent != 32 {
            1
        } else if flags > u64::from(kind == 13) {
            2
        } else if !fits(first, count as usize * 512) || able.read_only {
            1
        } else {
            if kind == 13 {
                store[first as usize * 512..][..count as usize * 512].fill(0);
            }
            0
        }
    } else {
        2
    };
    memory[index(last)] = status;
    status
}

/// Runs drivers that write anything: `rounds` requests, which must have the same effects as in the
/// model. Requests without memory must change nothing but what they may. Returns the number of
/// requests that succeeded.
pub(crate) fn hostile(
    space: &mut [u8],
    seed: u64,
    rounds: u32,
) -> core::result::Result<u64, &'static str> {
    // Neighbouring seeds shall have nothing in common, and zero is no state.
    let random = &mut Random::new(seed);
    let mut well = 0;
    for _ in 0..rounds {
        let (memory, rest) = space.split_at_mut_checked(MEMORY).ok_or("no space")?;
        let (store, rest) = rest.split_at_mut_checked(STORE).ok_or("no space")?;
        let (memory_model, rest) = rest.split_at_mut_checked(MEMORY).ok_or("no space")?;
        let (store_model, _) = rest.split_at_mut_checked(STORE).ok_or("no space")?;
        for byte in memory.iter_mut().chain(store.iter_mut()) {
            *byte = random.below(256) as u8;
        }

        let wild = random.below(4) == 0;
        let mut segments = [Table::EMPTY; 8];
        let sent = 1 + random.below(4) as usize;
        let count = (sent + 1 + random.below(4) as usize).min(8);
        for (at, slot) in segments.iter_mut().take(count).enumerate() {
            *slot = random_segment(random, at >= sent, wild);
        }
        // Usually there is a header, and a length that fits.
        let head = &mut segments[0];
        if random.below(8) != 0 {
            head.len = head.len.max(16);
            if random.below(4) != 0 {
                head.len = 16;
                head.addr = HEADER;
            }
        }
        let even = random.below(4) != 0;
        if even {
            for slot in segments.iter_mut().skip(1) {
                let len = 512 * (1 + random.below(3) as u32);
                let addr = slot.addr.min(BASE + MEMORY as u64 - u64::from(len));
                *slot = segment(if wild { slot.addr } else { addr }, len, slot.writable);
            }
            segments[count - 1].len = 1;
        }
        let kinds = [IN, IN, OUT, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES];
        let mut kind = kinds[random.below(8) as usize];
        if random.below(16) == 0 {
            kind = number(random, 40) as u32;
        }
        if matches!(kind, DISCARD | WRITE_ZEROES) && random.below(8) != 0 {
            segments[0].len = 32;
        }
        let sector = match kind {
            IN | OUT => number(random, SECTORS + 1),
            _ => u64::from(random.below(8) == 0),
        };
        let range = (number(random, SECTORS), number(random, SECTORS) as u32);
        let flags = random.below(16).checked_sub(12).unwrap_or(0) as u32;
        let cells = Cell::from_mut(memory).as_slice_of_cells();
        let guest = Guest(cells);
        let head = segments[0].addr;
        guest.put(head, &kind.to_le_bytes());
        guest.put(head.wrapping_add(8), &sector.to_le_bytes());
        guest.put(head.wrapping_add(16), &range.0.to_le_bytes());
        guest.put(head.wrapping_add(24), &range.1.to_le_bytes());
        guest.put(head.wrapping_add(28), &flags.to_le_bytes());

        for (copy, cell) in memory_model.iter_mut().zip(cells) {
            *copy = cell.get();
        }
        store_model.copy_from_slice(store);
        let abilities = Abilities {
            little_endian: true,
            read_only: random.below(8) == 0,
            discard: random.below(8) != 0,
            write_zeroes: random.below(8) != 0,
        };
        let sectors = Sectors {
            bytes: RefCell::new(store),
            piece: 1 + random.below(1500) as usize,
            size: STORE as u64,
        };
        let segments = segments.get(..count).unwrap_or(&[]);
        let mut buffer = [0; 300];
        let buffered = random.below(4) == 0;
        let buffer = buffered.then_some(buffer.as_mut_slice());
        let served = Disk::new(&sectors, abilities, buffer).serve(&guest, segments);
        let mapped = segments
            .iter()
            .all(|segment| guest.at(segment.addr, segment.len as usize).is_ok());
        let total: u64 = segments
            .iter()
            .filter(|segment| segment.writable)
            .map(|segment| u64::from(segment.len))
            .sum();
        expect!(u64::from(served.used) <= total);
        expect!(served.bytes <= STORE as u64);

        if mapped {
            let status = model(memory_model, store_model, segments, abilities);
            expect!(served.status.map(|status| status as u8) == Some(status));
            well += u64::from(status == 0);
            expect!(sectors.holds(|index| store_model[index]));
            expect!(guest.holds(BASE, MEMORY, |index| memory_model[index]));
            continue;
        }
        // Only memory that the driver lent was written, and no sector by a request of another kind.
        let lent = |addr: u64| {
            let mut those = segments.iter().filter(|segment| segment.writable);
            those.any(|segment| addr.wrapping_sub(segment.addr) < u64::from(segment.len))
        };
        expect!(guest.holds(BASE, MEMORY, |index| {
            let addr = BASE + index as u64;
            if lent(addr) {
                guest.get(addr)
            } else {
                memory_model[index]
            }
        }));
        if !matches!(served.kind, Kind::Write | Kind::WriteZeroes) {
            expect!(sectors.holds(|index| store_model[index]));
        }
    }
    Ok(well)
}
