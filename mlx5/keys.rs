// SPDX-License-Identifier: GPL-2.0

//! Memory keys, by which a device with its own translation reaches the memory of its driver.
//!
//! The key of an address space is indirect: a list (KLM) of pieces, each of which is covered by a
//! direct key, or by the null key if nothing is mapped. A direct key has a table (MTT) of pages,
//! all of one size. The physical key translates nothing.
//!
//! This code does not depend on the kernel: it runs under KUnit and in userspace. Whatever the
//! ranges are, no function here panics, or allocates more than its limits allow.
//!
//! C: `drivers/vdpa/mlx5/core/mr.c`.

use super::table::Table;

/// Most that one entry of a KLM list can cover, as a power of two in bytes.
const LOG_MAX_PIECE: u32 = 30;
/// Most that one entry of a KLM list can cover, in bytes.
pub(crate) const MAX_PIECE: u64 = 1 << LOG_MAX_PIECE;
/// Largest number of entries in a KLM list.
pub(crate) const MAX_PIECES: usize = 1 << 16;
/// Smallest page of a direct key, as a power of two in bytes.
pub(crate) const LOG_MIN_PAGE: u32 = 12;

/// Permission to read; equal to `VHOST_MAP_RO`.
pub(crate) const READ: u32 = 1;
/// Permission to write; equal to `VHOST_MAP_WO`.
pub(crate) const WRITE: u32 = 2;

/// Reason why a key cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// Out of memory.
    NoMemory,
    /// More ranges than the address space may have.
    TooManyRanges,
    /// The list would have more entries than [`MAX_PIECES`].
    TooManyPieces,
    /// There is no range, or a range overlaps or precedes the one before it, wraps around, or does
    /// not begin and end at a page boundary.
    Invalid,
}

/// Target of an address, and the extent of addresses with the same target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first address of the extent.
    pub(crate) start: u64,
    /// The last address, inclusive.
    pub(crate) last: u64,
    /// The target of `start`.
    pub(crate) target: Target,
}

/// Target of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Memory.
    Memory {
        /// The physical address.
        pa: u64,
        /// The permissions: [`READ`], [`WRITE`], or both.
        perm: u32,
    },
    /// The null key: reads return zeroes, writes are ignored.
    Null,
}

/// Range of an IOTLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The first address.
    pub(crate) start: u64,
    /// The last address, inclusive.
    pub(crate) last: u64,
    /// The physical address of `start`.
    pub(crate) pa: u64,
    /// [`READ`], [`WRITE`], or both.
    pub(crate) perm: u32,
}

impl Range {
    /// Returns true if the range consists of whole pages of the smallest size, and neither its
    /// addresses nor its physical addresses wrap around.
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

/// Ranges of an IOTLB, by ascending address.
pub(crate) struct Ranges {
    all: Table<Range>,
    /// The largest number of ranges.
    limit: usize,
}

impl Ranges {
    /// Creates an empty list for at most `limit` ranges.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            all: Table::new(),
            limit,
        }
    }

    /// Appends a range.
    ///
    /// Errors: `NoMemory`, `TooManyRanges`, and `Invalid` if it is not behind the others, wraps
    /// around or does not consist of whole pages.
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

    /// Returns true if there are no ranges.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Direct key, with pages of one size.
#[derive(PartialEq, Eq)]
struct Direct {
    /// The address of the first byte.
    start: u64,
    /// The permissions: [`READ`], [`WRITE`], or both.
    perm: u32,
    /// The size of the pages, as a power of two in bytes.
    log_page: u32,
    /// The index in the MTT of the first page.
    first: usize,
}

/// Key that covers a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// The direct key with this index.
    Direct(usize),
    /// The null key.
    Null,
}

/// Entry of a KLM list: a piece that another key covers.
#[derive(PartialEq, Eq)]
struct Piece {
    /// The first address.
    start: u64,
    /// The last address, inclusive; at most [`MAX_PIECE`] bytes from the first.
    last: u64,
    cover: Cover,
}

/// Indirect key, with the direct keys that it refers to.
///
/// # Invariants
///
/// The pieces follow each other without holes. The part of the MTT that belongs to a direct key has
/// all pages of its piece.
#[derive(PartialEq, Eq)]
pub(crate) struct IndirectKey {
    pieces: Table<Piece>,
    directs: Table<Direct>,
    /// The page tables of all direct keys: the physical address of each page.
    mtt: Table<u64>,
}

/// Key of an address space.
#[derive(PartialEq, Eq)]
pub(crate) enum Key {
    /// IOVAs are physical addresses, without a limit.
    Physical,
    /// The ranges of an IOTLB translate.
    Indirect(IndirectKey),
}

/// Consecutive ranges without holes between them and with the same permission.
struct Run<'a> {
    ranges: &'a [Range],
    start: u64,
    last: u64,
    perm: u32,
}

/// Splits off the first run. Returns it and the other ranges.
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

/// Returns the parts of ranges that are in `[start, last]`, by ascending address: for each its
/// physical address, and its length minus one.
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

/// Returns the largest page, as a power of two, of which the physical addresses and lengths of all
/// parts are multiples.
fn log_page(ranges: &[Range], start: u64, last: u64) -> u32 {
    let bits = parts(ranges, start, last)
        // Lengths are minus one. A piece is far too short for this to wrap around.
        .fold(MAX_PIECE, |bits, (pa, rest)| bits | pa | (rest + 1));
    bits.trailing_zeros()
}

impl IndirectKey {
    /// Appends a piece. Errors: `TooManyPieces` if the list is full, `NoMemory`.
    fn push(&mut self, start: u64, last: u64, cover: Cover) -> Result<(), KeyError> {
        if self.pieces.len() >= MAX_PIECES {
            return Err(KeyError::TooManyPieces);
        }
        let piece = Piece { start, last, cover };
        self.pieces.push(piece).map_err(|_| KeyError::NoMemory)
    }

    /// Covers `[start, last]` with pieces that are as large as possible.
    fn cover(
        &mut self,
        mut start: u64,
        last: u64,
        mut cover: impl FnMut(&mut Self, u64, u64) -> Result<Cover, KeyError>,
    ) -> Result<(), KeyError> {
        // Refuse long holes before anything is allocated for them.
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

    /// Creates the direct key for `[start, last]`, a piece of a run.
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

    /// Creates the key for ranges: joins them to runs, cuts these into pieces, and fills the holes.
    ///
    /// Errors: `Invalid` if there are no ranges, `NoMemory`, `TooManyPieces`.
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
            // Behind the last address there is neither a hole nor a run.
            end = run.last.checked_add(1);
            rest = behind;
        }
        match key.pieces.is_empty() {
            true => Err(KeyError::Invalid),
            false => Ok(key),
        }
    }

    /// Walks the keys to the target of `addr`. Returns `None` outside of the list.
    fn walk(&self, addr: u64) -> Option<Extent> {
        // The number of pieces that begin at or below the address; the last of them contains it.
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
        // The piece consists of whole pages, so this cannot wrap around.
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

    /// Returns the size of the key.
    pub(crate) fn size(&self) -> KeySize {
        KeySize {
            pieces: self.pieces.len(),
            directs: self.directs.len(),
            pages: self.mtt.len(),
        }
    }
}

/// Size of an indirect key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySize {
    /// The number of entries in the KLM list.
    pub(crate) pieces: usize,
    /// The number of direct keys.
    pub(crate) directs: usize,
    /// The number of pages in all MTTs.
    pub(crate) pages: usize,
}

impl Extent {
    /// Joins the next extent if it continues this one. Returns true if it did.
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
    /// Returns the target of an address, or `None` if an access to it is an error.
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

    /// Calls `f` for everything that the key translates, by ascending address, in extents that are
    /// as large as possible.
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
