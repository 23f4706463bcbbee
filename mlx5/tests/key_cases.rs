// SPDX-License-Identifier: GPL-2.0

//! Cases for [`super::super::keys`], without a kernel: KUnit runs them in the module, and
//! `key_check.rs` in userspace, with as many seeds as time allows.

use super::super::keys::{
    Extent, IndirectKey, Key, KeyError, KeySize, Range, Ranges, Target, LOG_MIN_PAGE, MAX_PIECE,
    MAX_PIECES, READ, WRITE,
};
use crate::random::Random;

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

/// Size of the smallest page.
const PAGE: u64 = 1 << LOG_MIN_PAGE;
/// Permission to read and write.
const BOTH: u32 = READ | WRITE;

/// Default limit on the ranges of an address space.
const MAX_RANGES: usize = 2048;

/// Returns a range of `size` bytes.
fn range(start: u64, size: u64, pa: u64, perm: u32) -> Range {
    Range {
        start,
        last: start.wrapping_add(size).wrapping_sub(1),
        pa,
        perm,
    }
}

/// Returns the indirect key for ranges.
fn indirect(ranges: &[Range]) -> Result<IndirectKey, KeyError> {
    let mut all = Ranges::new(MAX_RANGES);
    for range in ranges {
        all.push(*range)?;
    }
    IndirectKey::new(&all)
}

/// Returns the key of an address space for ranges.
fn key(ranges: &[Range]) -> Result<Key, KeyError> {
    indirect(ranges).map(Key::Indirect)
}

/// Returns the size of the key for ranges: pieces, direct keys, pages.
fn size(ranges: &[Range]) -> Result<(usize, usize, usize), KeyError> {
    indirect(ranges).map(|key| {
        let KeySize {
            pieces,
            directs,
            pages,
        } = key.size();
        (pieces, directs, pages)
    })
}

/// Target of one byte.
#[derive(Debug, PartialEq, Eq)]
enum Byte {
    /// Memory, with its physical address and permission.
    Memory(u64, u32),
    /// The null key.
    Null,
    /// No target: an access is an error.
    Error,
}

/// Returns the target of `addr` in an extent.
fn byte(extent: Option<Extent>, addr: u64) -> Byte {
    let Some(extent) = extent.filter(|at| at.start <= addr && addr <= at.last) else {
        return Byte::Error;
    };
    match extent.target {
        Target::Memory { pa, perm } => Byte::Memory(pa.wrapping_add(addr - extent.start), perm),
        Target::Null => Byte::Null,
    }
}

/// Returns the target of `addr` by a key.
fn at(key: &Key, addr: u64) -> Byte {
    byte(key.find(addr), addr)
}

/// Checks that only ranges of whole pages that do not overlap make a key.
pub(crate) fn bad_ranges() -> Outcome {
    let good = range(0x10_0000, PAGE, 0, BOTH);
    expect!(Ranges::new(1).is_empty());
    expect!(key(&[]).is_err_and(|error| error == KeyError::Invalid));
    for bad in [
        range(0x1200, PAGE, 0, BOTH),
        range(0x1000, PAGE + 1, 0, BOTH),
        range(0x1000, PAGE, 0x800, BOTH),
        range(0x1000, 0, 0, BOTH),
        range(0x1000, 2 * PAGE, u64::MAX - PAGE + 1, BOTH),
    ] {
        expect!(key(&[bad]).is_err_and(|error| error == KeyError::Invalid));
    }
    for bad in [
        range(0x10_0000, PAGE, 0, BOTH),
        range(0xf_f000, 4 * PAGE, 0, BOTH),
        range(0x1000, PAGE, 0, BOTH),
    ] {
        expect!(key(&[good, bad]).is_err_and(|error| error == KeyError::Invalid));
    }
    Ok(())
}

/// Checks that adjacent ranges with the same permission share a direct key.
pub(crate) fn joined() -> Outcome {
    let pair = |perm| {
        [
            range(0x10_0000, PAGE, 0x70_0000, BOTH),
            range(0x10_1000, PAGE, 0x20_0000, perm),
        ]
    };
    expect!(size(&pair(BOTH)) == Ok((1, 1, 2)));
    expect!(size(&pair(READ)) == Ok((2, 2, 2)));
    let Ok(key) = key(&pair(BOTH)) else {
        return Err("no key");
    };
    expect!(at(&key, 0x10_0fff) == Byte::Memory(0x70_0fff, BOTH));
    expect!(at(&key, 0x10_1008) == Byte::Memory(0x20_0008, BOTH));
    expect!(key
        .find(0x10_1008)
        .is_some_and(|at| at.start == 0x10_1000 && at.last == 0x10_1fff));
    Ok(())
}

/// Checks that a direct key has the largest pages that all lengths and physical addresses allow.
pub(crate) fn pages() -> Outcome {
    let large = 2 << 20;
    expect!(size(&[range(0, large, large, BOTH)]) == Ok((1, 1, 1)));
    expect!(size(&[range(0, large, PAGE, BOTH)]) == Ok((1, 1, 512)));
    expect!(size(&[range(PAGE, large, large, BOTH)]) == Ok((1, 1, 1)));
    // Three pages are not a power of two: C uses pages of two here.
    let three = 3 * PAGE;
    let odd = [
        range(0, three, 0x10_0000, BOTH),
        range(three, three, 0x20_0000, BOTH),
    ];
    expect!(size(&odd) == Ok((1, 1, 6)));
    let Ok(key) = key(&odd) else {
        return Err("no key");
    };
    expect!(at(&key, three) == Byte::Memory(0x20_0000, BOTH));
    expect!(at(&key, three - 1) == Byte::Memory(0x10_2fff, BOTH));
    Ok(())
}

/// Checks that runs and holes are cut into pieces that an entry of the list can cover.
pub(crate) fn pieces() -> Outcome {
    let half = MAX_PIECE / 2;
    // The second range is cut in half, and the third piece has smaller pages.
    let run = [
        range(half, MAX_PIECE, MAX_PIECE, BOTH),
        range(half + MAX_PIECE, MAX_PIECE, 8 * MAX_PIECE, BOTH),
        range(half + 2 * MAX_PIECE, PAGE, 0, BOTH),
    ];
    expect!(size(&run) == Ok((3, 3, 3)));
    let Ok(key) = key(&run) else {
        return Err("no key");
    };
    expect!(at(&key, half + 7) == Byte::Memory(MAX_PIECE + 7, BOTH));
    expect!(at(&key, 2 * MAX_PIECE + half - 1) == Byte::Memory(9 * MAX_PIECE - 1, BOTH));
    expect!(at(&key, 2 * MAX_PIECE + half) == Byte::Memory(0, BOTH));
    expect!(at(&key, half - 1) == Byte::Error);
    expect!(at(&key, 2 * MAX_PIECE + half + PAGE) == Byte::Error);

    let holes = |hole: u64| {
        size(&[
            range(0, PAGE, 0, BOTH),
            range(PAGE + hole, PAGE, PAGE, BOTH),
        ])
    };
    expect!(holes(PAGE) == Ok((3, 2, 2)));
    expect!(holes(MAX_PIECE) == Ok((3, 2, 2)));
    expect!(holes(MAX_PIECE + PAGE) == Ok((4, 2, 2)));
    Ok(())
}

/// Checks that holes have the null key, that an access outside is an error, and that permissions
/// are those of the ranges.
pub(crate) fn holes() -> Outcome {
    let Ok(key) = key(&[
        range(0x10_0000, PAGE, 0x70_0000, READ),
        range(0x10_4000, PAGE, 0x20_0000, WRITE),
    ]) else {
        return Err("no key");
    };
    for (addr, expected) in [
        (0x10_0fff, Byte::Memory(0x70_0fff, READ)),
        (0x10_1000, Byte::Null),
        (0x10_3fff, Byte::Null),
        (0x10_4000, Byte::Memory(0x20_0000, WRITE)),
    ] {
        expect!(at(&key, addr) == expected);
    }
    for outside in [0, 0xf_ffff, 0x10_5000, u64::MAX] {
        expect!(at(&key, outside) == Byte::Error);
    }
    Ok(())
}

/// Builds a key of three pieces. Returns the error if that fails.
#[allow(dead_code)] // For the check in userspace, which lets its allocations fail.
pub(crate) fn three_pieces() -> Result<(), KeyError> {
    key(&[
        range(0x10_0000, PAGE, 0x70_0000, READ),
        range(0x10_4000, PAGE, 0x20_0000, WRITE),
    ])
    .map(|_| ())
}

/// Checks the limits on ranges and on a list, before anything is allocated for it.
pub(crate) fn limits() -> Outcome {
    let mut many = Ranges::new(MAX_RANGES);
    for number in 0..MAX_RANGES as u64 {
        expect!(many
            .push(range(2 * PAGE * number, PAGE, PAGE * number, BOTH))
            .is_ok());
    }
    let next = range(2 * PAGE * MAX_RANGES as u64, PAGE, 0, BOTH);
    expect!(many.push(next) == Err(KeyError::TooManyRanges));
    expect!(IndirectKey::new(&many).is_ok_and(|key| key.size().pieces == 2 * MAX_RANGES - 1));

    let far = |pieces: u64| {
        size(&[
            range(0, PAGE, 0, BOTH),
            range(PAGE + pieces * MAX_PIECE, PAGE, PAGE, BOTH),
        ])
    };
    let most = MAX_PIECES as u64 - 2;
    expect!(far(most) == Ok((MAX_PIECES, 2, 2)));
    expect!(far(most + 1) == Err(KeyError::TooManyPieces));
    // In C the size of this list overflows its type.
    expect!(far(1 << 28) == Err(KeyError::TooManyPieces));
    Ok(())
}

/// Checks that keys translate up to the last address.
pub(crate) fn the_end() -> Outcome {
    let top = u64::MAX - PAGE + 1;
    let Ok(single) = key(&[range(top, PAGE, 0x5000, BOTH)]) else {
        return Err("no key");
    };
    expect!(at(&single, u64::MAX) == Byte::Memory(0x5fff, BOTH));
    expect!(at(&single, top - 1) == Byte::Error);
    let Ok(pair) = key(&[
        range(top - 2 * PAGE, PAGE, 0x8000, BOTH),
        range(top, PAGE, top, BOTH),
    ]) else {
        return Err("no key");
    };
    expect!(at(&pair, u64::MAX) == Byte::Memory(u64::MAX, BOTH));
    expect!(at(&pair, top - 1) == Byte::Null);
    for addr in [0, 0x1234, u64::MAX] {
        expect!(at(&Key::Physical, addr) == Byte::Memory(addr, BOTH));
    }
    Ok(())
}

/// Checks that `for_each` returns the ranges, joined, and the holes between them.
pub(crate) fn listed() -> Outcome {
    let Ok(key) = key(&[
        range(0x10_0000, PAGE, 0x70_0000, BOTH),
        range(0x10_1000, PAGE, 0x70_1000, BOTH),
        range(0x10_2000, PAGE, 0x70_2000, READ),
        range(0x10_3000, PAGE, 0x90_0000, READ),
        range(0x10_4000 + 2 * MAX_PIECE, PAGE, 0x90_1000, READ),
    ]) else {
        return Err("no key");
    };
    let memory = |pa, perm| Target::Memory { pa, perm };
    let expected = [
        (0x10_0000, 2 * PAGE, memory(0x70_0000, BOTH)),
        (0x10_2000, PAGE, memory(0x70_2000, READ)),
        (0x10_3000, PAGE, memory(0x90_0000, READ)),
        (0x10_4000, 2 * MAX_PIECE, Target::Null),
        (0x10_4000 + 2 * MAX_PIECE, PAGE, memory(0x90_1000, READ)),
    ];
    let mut seen = 0;
    let mut right = true;
    key.for_each(|extent| {
        right &= expected.get(seen).is_some_and(|(start, size, target)| {
            extent.start == *start && extent.last == start + size - 1 && extent.target == *target
        });
        seen += 1;
    });
    expect!(right && seen == expected.len());
    let mut all = 0;
    Key::Physical.for_each(|extent| all += u32::from(extent.start == 0 && extent.last == u64::MAX));
    expect!(all == 1);
    Ok(())
}

/// Checks that keys of the same ranges are equal, and others are not.
pub(crate) fn equality() -> Outcome {
    let base = range(0x10_0000, 2 * PAGE, 0x70_0000, BOTH);
    let split = [
        range(0x10_0000, PAGE, 0x70_0000, BOTH),
        range(0x10_1000, PAGE, 0x70_1000, BOTH),
    ];
    let (Ok(one), Ok(two)) = (key(&[base]), key(&[base])) else {
        return Err("no key");
    };
    expect!(one == two);
    expect!(one != Key::Physical);
    for other in [
        range(0x10_0000, PAGE, 0x70_0000, BOTH),
        range(0x10_2000, 2 * PAGE, 0x70_0000, BOTH),
        range(0x10_0000, 2 * PAGE, 0x70_2000, BOTH),
        range(0x10_0000, 2 * PAGE, 0x70_0000, READ),
    ] {
        expect!(key(&[other]).is_ok_and(|other| other != one));
    }
    // The same translation through other pages is another key, like in hardware.
    expect!(key(&split).is_ok_and(|other| other != one));
    Ok(())
}

/// All cases, by name.
#[allow(dead_code)] // For the check in userspace; KUnit has a test for each.
pub(crate) const ALL: [(&str, fn() -> Outcome); 9] = [
    ("bad_ranges", bad_ranges),
    ("joined", joined),
    ("pages", pages),
    ("pieces", pieces),
    ("holes", holes),
    ("limits", limits),
    ("the_end", the_end),
    ("listed", listed),
    ("equality", equality),
];

/// Returns a number of pages, in bytes: usually few, sometimes many in a large table.
fn random_size(random: &mut Random, large: bool) -> u64 {
    let log = match random.below(16) {
        0 if large => 18 + random.below(2),
        1..=4 => 9,
        _ => random.below(4),
    };
    let pages = (1 << log) * (1 + random.below(3));
    pages * PAGE
}

/// Number of ranges of a random table.
const COUNT: usize = 24;

/// Random ranges by ascending address, from a random base on, and how many they are.
fn random_ranges(random: &mut Random, large: bool) -> ([Range; COUNT], usize) {
    let nothing = range(0, 0, 0, 0);
    let mut ranges = [nothing; COUNT];
    let count = 1 + random.below(COUNT as u64) as usize;
    let mut next = match random.below(3) {
        0 => 0,
        1 => random.below(1 << 40) * PAGE,
        // So near to the end that some tables reach it.
        _ => u64::MAX - 64 * PAGE + 1,
    };
    let mut pa = random.below(1 << 30) * PAGE;
    for made in 0..count {
        if random.below(3) == 0 {
            let Some(start) = next.checked_add(random_size(random, large)) else {
                return (ranges, made);
            };
            next = start;
        }
        if random.below(2) == 0 {
            // Large pages need physical addresses that are multiples of them.
            pa = random.below(1 << 12) << (12 + 9 * random.below(3));
        }
        let most = (u64::MAX - next) / PAGE + 1;
        let size = random_size(random, large).min(most.saturating_mul(PAGE));
        let perm = [BOTH, BOTH, BOTH, READ, WRITE][random.below(5) as usize % 5];
        if let Some(slot) = ranges.get_mut(made) {
            *slot = range(next, size, pa, perm);
        }
        pa += size;
        match next.checked_add(size) {
            Some(end) => next = end,
            None => return (ranges, made + 1),
        }
    }
    (ranges, count)
}

/// Returns the target of an address that follows from the ranges, without a key.
fn plain(ranges: &[Range], addr: u64) -> Byte {
    let inside = |range: &&Range| range.start <= addr && addr <= range.last;
    match ranges.iter().find(inside) {
        Some(range) => Byte::Memory(range.pa + (addr - range.start), range.perm),
        None => {
            let below = ranges.first().is_none_or(|first| addr < first.start);
            let above = ranges.last().is_none_or(|last| last.last < addr);
            match below || above {
                true => Byte::Error,
                false => Byte::Null,
            }
        }
    }
}

/// Compares keys of random ranges with the ranges themselves: `rounds` tables with 64 addresses
/// each. With `large`, some have ranges of gigabytes. Returns the number of addresses that led to
/// memory.
pub(crate) fn random(
    seed: u64,
    rounds: u32,
    large: bool,
) -> core::result::Result<u64, &'static str> {
    // Neighbouring seeds shall have nothing in common, and zero is no state.
    let random = &mut Random::new(seed);
    let mut reached = 0;
    for _ in 0..rounds {
        let (ranges, count) = random_ranges(random, large);
        let ranges = ranges.get(..count).unwrap_or(&[]);
        if ranges.is_empty() {
            continue;
        }
        let Ok(key) = key(ranges) else {
            return Err("no key");
        };
        for _ in 0..64 {
            let Some(near) = ranges.get(random.below(count as u64) as usize) else {
                return Err("no range");
            };
            // At an edge, anywhere in the range, or anywhere at all.
            let addr = match random.below(6) {
                0 => near.start.wrapping_sub(1),
                1 => near.last.wrapping_add(1),
                2 => near.last,
                3 => near.start,
                4 => random.0,
                _ => near.start + random.below(near.last - near.start),
            };
            let extent = key.find(addr);
            let expected = plain(ranges, addr);
            reached += u64::from(matches!(expected, Byte::Memory(..)));
            expect!(byte(extent, addr) == expected);
            // The first and last address of the extent must fit the ranges, too.
            if let Some(Extent { start, last, .. }) = extent {
                expect!(byte(extent, start) == plain(ranges, start));
                expect!(byte(extent, last) == plain(ranges, last));
            }
        }
    }
    Ok(reached)
}
