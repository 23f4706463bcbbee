// SPDX-License-Identifier: GPL-2.0

//! Memory keys: how a device with its own translation reaches the memory of its driver.
//!
//! A key of an address space is indirect: a list (KLM) of pieces, each of which is covered by a
//! direct key, or by the null key where nothing is mapped. A direct key has a table (MTT) of
//! pages, all of one size. There is also the physical key, which translates nothing.
//!
//! Nothing here knows the kernel: the same code runs under KUnit and in userspace. Whatever the
//! ranges say, no function here panics, or allocates more than its limits allow.
//!
//! C: `drivers/vdpa/mlx5/core/mr.c`.

use super::table::Table;

/// The most that one entry of a KLM list can cover, as a power of two in bytes.
const LOG_MAX_PIECE: u32 = 30;
/// The most that one entry of a KLM list can cover, in bytes.
pub(crate) const MAX_PIECE: u64 = 1 << LOG_MAX_PIECE;
/// The number of entries that a KLM list can have.
pub(crate) const MAX_PIECES: usize = 1 << 16;
/// The smallest page of a direct key, as a power of two in bytes.
pub(crate) const LOG_MIN_PAGE: u32 = 12;

/// Permission to read, as `VHOST_MAP_RO`.
pub(crate) const READ: u32 = 1;
/// Permission to write, as `VHOST_MAP_WO`.
pub(crate) const WRITE: u32 = 2;

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// Out of memory.
    NoMemory,
    /// More ranges than the address space may have.
    TooManyRanges,
    /// The list would have more entries than [`MAX_PIECES`].
    TooManyPieces,
    /// There is no range, or ranges overlap, are not in order, wrap around, or do not begin and
    /// end at pages.
    Invalid,
}

/// What an address leads to, and what lies around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first address that leads to the same.
    pub(crate) start: u64,
    /// The last one.
    pub(crate) last: u64,
    /// Where `start` leads.
    pub(crate) target: Target,
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To memory.
    Memory {
        /// The physical address.
        pa: u64,
        /// What may be done with it: [`READ`], [`WRITE`], or both.
        perm: u32,
    },
    /// Through the null key: it reads as zeroes and forgets what is written.
    Null,
}

/// A range of an IOTLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// Its first address.
    pub(crate) start: u64,
    /// Its last address.
    pub(crate) last: u64,
    /// The physical address of the first one.
    pub(crate) pa: u64,
    /// [`READ`], [`WRITE`], or both.
    pub(crate) perm: u32,
}

impl Range {
    /// Whether it is made of whole pages of the smallest size, and neither side wraps around.
    fn is_sound(&self) -> bool {
        let mask = (1 << LOG_MIN_PAGE) - 1;
        let Some(rest) = self.last.checked_sub(self.start) else {
            return false;
        };
        self.start & mask == 0
            && self.pa & mask == 0
            && rest & mask == mask
            && self.pa.checked_add(rest).is_some()
    }
}

/// The ranges of an IOTLB, by ascending address.
pub(crate) struct Ranges {
    all: Table<Range>,
    /// How many there can be.
    limit: usize,
}

impl Ranges {
    /// No ranges, and room for `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            all: Table::new(),
            limit,
        }
    }

    /// Adds a range behind the others.
    ///
    /// Errors: `NoMemory`, `TooManyRanges`, and `Invalid` when it does not lie behind the others,
    /// wraps around or is not made of pages.
    pub(crate) fn push(&mut self, range: Range) -> Result<(), KeyError> {
        let behind = self.all.last().is_none_or(|prev| prev.last < range.start);
        if !behind || !range.is_sound() {
            return Err(KeyError::Invalid);
        }
        if self.all.len() >= self.limit {
            return Err(KeyError::TooManyRanges);
        }
        self.all.push(range).map_err(|_| KeyError::NoMemory)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// A direct key: pages of one size.
#[derive(PartialEq, Eq)]
struct Direct {
    /// The address of its first byte.
    start: u64,
    /// What may be done with it.
    perm: u32,
    /// The size of its pages, as a power of two in bytes.
    log_page: u32,
    /// Where its part of the MTT begins.
    first: usize,
}

/// What covers a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// The direct key of that number.
    Direct(usize),
    /// The null key.
    Null,
}

/// An entry of a KLM list: as many bytes of another key.
#[derive(PartialEq, Eq)]
struct Piece {
    /// Its first address.
    start: u64,
    /// Its last address; no more than [`MAX_PIECE`] bytes.
    last: u64,
    cover: Cover,
}

/// An indirect key, with the direct keys that it refers to.
///
/// # Invariants
///
/// The pieces lie behind each other without holes. Every part of the MTT is as long as the piece
/// of its direct key needs.
#[derive(PartialEq, Eq)]
pub(crate) struct IndirectKey {
    pieces: Table<Piece>,
    directs: Table<Direct>,
    /// The page tables of all direct keys: the physical address of each page.
    mtt: Table<u64>,
}

/// The key of an address space.
#[derive(PartialEq, Eq)]
pub(crate) enum Key {
    /// Addresses are physical ones, all of them.
    Physical,
    /// Addresses are what the ranges of an IOTLB say.
    Indirect(IndirectKey),
}

/// Consecutive ranges that lie behind each other and have the same permission.
struct Run<'a> {
    ranges: &'a [Range],
    start: u64,
    last: u64,
    perm: u32,
}

/// Splits the first run off.
fn first_run(ranges: &[Range]) -> Option<(Run<'_>, &[Range])> {
    let first = ranges.first()?;
    let mut last = first.last;
    let mut count = 1;
    for range in ranges.iter().skip(1) {
        if last.checked_add(1) != Some(range.start) || range.perm != first.perm {
            break;
        }
        last = range.last;
        count += 1;
    }
    let (ranges, rest) = ranges.split_at_checked(count)?;
    let run = Run {
        ranges,
        start: first.start,
        last,
        perm: first.perm,
    };
    Some((run, rest))
}

/// The parts of ranges that lie in `[start, last]`, by ascending address: how many bytes from the
/// beginning of the range on, where they are, and how many they are, minus one.
fn parts(ranges: &[Range], start: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    ranges
        .iter()
        .filter(move |range| range.start <= last && start <= range.last)
        .map(move |range| {
            let from = range.start.max(start);
            let to = range.last.min(last);
            // Sound ranges do not wrap around.
            (range.pa + (from - range.start), to - from)
        })
}

/// The largest page that physical addresses and lengths of all parts are multiples of.
fn log_page(ranges: &[Range], start: u64, last: u64) -> u32 {
    let bits = parts(ranges, start, last)
        // Lengths are given minus one. A piece is far too short for this to wrap around.
        .fold(MAX_PIECE, |bits, (pa, rest)| bits | pa | (rest + 1));
    bits.trailing_zeros()
}

impl IndirectKey {
    /// Adds a piece, unless the list is full.
    fn push(&mut self, start: u64, last: u64, cover: Cover) -> Result<(), KeyError> {
        if self.pieces.len() >= MAX_PIECES {
            return Err(KeyError::TooManyPieces);
        }
        let piece = Piece { start, last, cover };
        self.pieces.push(piece).map_err(|_| KeyError::NoMemory)
    }

    /// Covers `[start, last]` with pieces that are as large as they can be.
    fn cover(
        &mut self,
        mut start: u64,
        last: u64,
        mut cover: impl FnMut(&mut Self, u64, u64) -> Result<Cover, KeyError>,
    ) -> Result<(), KeyError> {
        // Long holes are refused before anything is allocated for them.
        let pieces = (last - start) / MAX_PIECE + 1;
        if pieces > (MAX_PIECES - self.pieces.len()) as u64 {
            return Err(KeyError::TooManyPieces);
        }
        loop {
            let end = start.saturating_add(MAX_PIECE - 1).min(last);
            let by = cover(self, start, end)?;
            self.push(start, end, by)?;
            if end == last {
                return Ok(());
            }
            start = end + 1;
        }
    }

    /// Makes the direct key for `[start, last]`, a piece of a run.
    fn direct(&mut self, run: &Run<'_>, start: u64, last: u64) -> Result<Cover, KeyError> {
        let log_page = log_page(run.ranges, start, last);
        let direct = Direct {
            start,
            perm: run.perm,
            log_page,
            first: self.mtt.len(),
        };
        let pages = ((last - start) >> log_page) as usize + 1;
        self.mtt.reserve(pages).map_err(|_| KeyError::NoMemory)?;
        for (pa, rest) in parts(run.ranges, start, last) {
            for page in 0..=rest >> log_page {
                let entry = pa + (page << log_page);
                self.mtt.push(entry).map_err(|_| KeyError::NoMemory)?;
            }
        }
        let number = self.directs.len();
        self.directs.push(direct).map_err(|_| KeyError::NoMemory)?;
        Ok(Cover::Direct(number))
    }

    /// The key for ranges. Runs are joined, cut into pieces, and holes between them filled.
    ///
    /// Errors: `Invalid` when there are none, `NoMemory`, `TooManyPieces`.
    pub(crate) fn new(ranges: &Ranges) -> Result<Self, KeyError> {
        let mut key = Self {
            pieces: Table::new(),
            directs: Table::new(),
            mtt: Table::new(),
        };
        let mut rest: &[Range] = &ranges.all;
        let mut end = None;
        while let Some((run, behind)) = first_run(rest) {
            if let Some(hole) = end.filter(|hole| *hole < run.start) {
                key.cover(hole, run.start - 1, |_, _, _| Ok(Cover::Null))?;
            }
            key.cover(run.start, run.last, |key, start, last| {
                key.direct(&run, start, last)
            })?;
            // After the last address there is neither a hole nor a run.
            end = run.last.checked_add(1);
            rest = behind;
        }
        match key.pieces.is_empty() {
            true => Err(KeyError::Invalid),
            false => Ok(key),
        }
    }

    /// Walks the keys to what `addr` leads to. Nothing lies outside the list.
    fn walk(&self, addr: u64) -> Option<Extent> {
        // The number of pieces that begin at or below the address; the last of them has it.
        let behind = self.pieces.partition_point(|piece| piece.start <= addr);
        let piece = behind
            .checked_sub(1)
            .and_then(|number| self.pieces.get(number))
            .filter(|piece| addr <= piece.last)?;
        let Cover::Direct(number) = piece.cover else {
            return Some(Extent {
                start: piece.start,
                last: piece.last,
                target: Target::Null,
            });
        };
        let direct = self.directs.get(number)?;
        let page = (addr - direct.start) >> direct.log_page;
        let pa = *self.mtt.get(direct.first + page as usize)?;
        // The piece is made of whole pages, so nothing of this wraps around.
        let start = direct.start + (page << direct.log_page);
        Some(Extent {
            start,
            last: start + ((1 << direct.log_page) - 1),
            target: Target::Memory {
                pa,
                perm: direct.perm,
            },
        })
    }

    /// How large the key is.
    pub(crate) fn size(&self) -> KeySize {
        KeySize {
            pieces: self.pieces.len(),
            directs: self.directs.len(),
            pages: self.mtt.len(),
        }
    }
}

/// How large an indirect key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySize {
    /// The entries of its KLM list.
    pub(crate) pieces: usize,
    /// Its direct keys.
    pub(crate) directs: usize,
    /// The entries of their MTTs together.
    pub(crate) pages: usize,
}

impl Extent {
    /// Joins what lies behind it and leads on, if it does.
    fn join(&mut self, next: Extent) -> bool {
        let leads_on = match (self.target, next.target) {
            (Target::Null, Target::Null) => true,
            (Target::Memory { pa, perm }, Target::Memory { pa: at, perm: with }) => {
                at.wrapping_sub(pa) == next.start.wrapping_sub(self.start) && perm == with
            }
            _ => false,
        };
        if leads_on {
            self.last = next.last;
        }
        leads_on
    }
}

impl Key {
    /// What an address leads to. Nothing does where an access is an error.
    pub(crate) fn find(&self, addr: u64) -> Option<Extent> {
        match self {
            Key::Physical => Some(Extent {
                start: 0,
                last: u64::MAX,
                target: Target::Memory {
                    pa: 0,
                    perm: READ | WRITE,
                },
            }),
            Key::Indirect(key) => key.walk(addr),
        }
    }

    /// Goes through all that the key leads to, by ascending address, in extents that are as large
    /// as they can be.
    pub(crate) fn for_each(&self, mut f: impl FnMut(Extent)) {
        let first = match self {
            Key::Physical => Some(0),
            Key::Indirect(key) => key.pieces.first().map(|piece| piece.start),
        };
        let mut next = first.and_then(|first| self.find(first));
        while let Some(mut extent) = next {
            loop {
                let behind = extent.last.checked_add(1);
                next = behind.and_then(|addr| self.find(addr));
                match next {
                    Some(more) if extent.join(more) => {}
                    _ => break,
                }
            }
            f(extent);
        }
    }
}
