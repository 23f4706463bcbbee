// SPDX-License-Identifier: GPL-2.0

//! Descriptors, and chains of descriptors.

use super::{Memory, RingFeatures, RingResult, Segment, Token, Violation};

/// Descriptor flag: the chain continues.
pub(super) const DESC_F_NEXT: u16 = 1;
/// Descriptor flag: the device writes to the buffer.
pub(super) const DESC_F_WRITE: u16 = 2;
/// Descriptor flag: the buffer is a table of descriptors.
const DESC_F_INDIRECT: u16 = 4;

/// Size of a descriptor in bytes.
pub(super) const DESC_SIZE: usize = 16;
/// Largest indirect table that is accepted. Drivers use as many entries as the device has segments.
const MAX_INDIRECT: u32 = 1024;

/// Decoded descriptor.
#[derive(Clone, Copy)]
pub(super) struct Desc {
    /// The address of the buffer.
    pub(super) addr: u64,
    /// The length of the buffer in bytes.
    pub(super) len: u32,
    /// `DESC_F_*` flags, and two more in a packed ring.
    pub(super) flags: u16,
    /// The next descriptor in a split queue, or the ID in a packed ring.
    pub(super) link: u16,
}

impl Desc {
    /// Decodes a descriptor.
    pub(super) fn new(raw: [u8; DESC_SIZE], features: RingFeatures) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, x0, x1, y0, y1] = raw;
        let x = features.u16(u16::from_ne_bytes([x0, x1]));
        let y = features.u16(u16::from_ne_bytes([y0, y1]));
        let (flags, link) = if features.packed { (y, x) } else { (x, y) };
        Self {
            addr: features.u64(u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7])),
            len: features.u32(u32::from_ne_bytes([l0, l1, l2, l3])),
            flags,
            link,
        }
    }
}

/// Up to `N` descriptors of one table, which were read in one access.
#[derive(Clone)]
pub(super) struct Block<const N: usize> {
    first: u16,
    count: u16,
    raw: [[u8; DESC_SIZE]; N],
}

/// Block that one access to a ring reads. Its size is a power of two.
pub(super) type RingBlock = Block<8>;
/// Block that one access to a chain reads. Chains are moved, so it is small.
type ChainBlock = Block<4>;

impl<const N: usize> Block<N> {
    /// The largest number of descriptors.
    pub(super) const MAX: u16 = N as u16;

    /// Creates an empty block.
    pub(super) const fn new() -> Self {
        Self {
            first: 0,
            count: 0,
            raw: [[0; DESC_SIZE]; N],
        }
    }

    /// Empties the block.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Reads up to `count` descriptors from `first` on, but none behind the end of the table.
    ///
    /// Errors: `Link` if `first` is not in the table, `Address` if the table wraps around.
    pub(super) fn read<M: Memory>(
        &mut self,
        mem: &M,
        table: u64,
        entries: u32,
        first: u16,
        count: u16,
    ) -> RingResult {
        let rest = entries
            .checked_sub(first.into())
            .filter(|rest| *rest > 0)
            .ok_or(Violation::Link)?;
        let rest = u16::try_from(rest).unwrap_or(u16::MAX);
        let count = count.min(rest).min(Self::MAX);
        let offset = u64::from(first) * DESC_SIZE as u64;
        let addr = table.checked_add(offset).ok_or(Violation::Address)?;
        // The block is empty if the access fails.
        self.clear();
        let into = self.raw.get_mut(..usize::from(count));
        let into = into.ok_or(Violation::Link)?.as_flattened_mut();
        mem.read(addr, into)?;
        self.first = first;
        self.count = count;
        Ok(())
    }

    /// Returns the descriptors from `first` on, as many as fit into the smaller block.
    #[inline]
    fn part<const M: usize>(&self, first: u16) -> Block<M> {
        let mut part = Block::new();
        let Some(from) = first.checked_sub(self.first).filter(|at| *at < self.count) else {
            return part;
        };
        part.first = first;
        part.count = (self.count - from).min(Block::<M>::MAX);
        for (to, raw) in part.raw.iter_mut().zip(self.raw.iter().skip(from.into())) {
            *to = *raw;
        }
        part
    }

    /// Returns the number of descriptors.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Returns descriptor `index` of the table, if it was read.
    pub(super) fn get(&self, index: u16, features: RingFeatures) -> Option<Desc> {
        let at = index.checked_sub(self.first)?;
        if at >= self.count {
            return None;
        }
        let raw = self.raw.get(usize::from(at))?;
        Some(Desc::new(*raw, features))
    }
}

/// Chain of descriptors that the driver made available. It is walked once.
#[derive(Clone)]
pub struct Chain {
    token: Token,
    features: RingFeatures,
    /// The table that is being walked.
    table: u64,
    /// The number of descriptors in the table.
    entries: u32,
    /// The next descriptor, or `None` at the end of the chain.
    next: Option<u16>,
    /// The number of further descriptors: in a packed ring and its tables exactly, in a split queue
    /// at most. More mean a loop.
    left: u32,
    /// True if the table is an indirect one.
    indirect: bool,
    /// True if a writable segment was found: no readable one may follow.
    writable: bool,
    /// Descriptors of the table that were read ahead.
    block: ChainBlock,
}

impl Chain {
    /// Creates a chain that begins at `head` of a table with `entries` descriptors. It has at most
    /// `left` of them, or in a packed ring exactly `left`. Those in `block` were read already.
    #[inline(always)]
    pub(super) fn new(
        token: Token,
        features: RingFeatures,
        (table, entries): (u64, u32),
        head: u16,
        left: u32,
        block: &RingBlock,
    ) -> Self {
        Self {
            token,
            features,
            table,
            entries,
            next: Some(head),
            left,
            indirect: false,
            writable: false,
            block: block.part(head),
        }
    }

    /// Returns the token with which the chain is pushed.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Returns a descriptor of the current table, and reads it if needed.
    fn desc<M: Memory>(&mut self, mem: &M, index: u16) -> RingResult<Desc> {
        if let Some(desc) = self.block.get(index, self.features) {
            return Ok(desc);
        }
        let count = if self.indirect || self.features.packed {
            // The descriptors that are left follow this one, or some are at the start of the ring.
            u16::try_from(self.left.saturating_add(1)).unwrap_or(u16::MAX)
        } else {
            u16::MAX
        };
        self.block
            .read(mem, self.table, self.entries, index, count)?;
        let desc = self.block.get(index, self.features);
        Ok(desc.ok_or(Violation::Link)?)
    }

    /// Continues in an indirect table. Errors: `Table`, `Address`.
    fn enter(&mut self, desc: Desc) -> RingResult {
        let size = DESC_SIZE as u32;
        let entries = desc.len / size;
        if !self.features.indirect
            || self.indirect
            || desc.flags & DESC_F_NEXT != 0
            || (self.features.packed && self.token.count != 1)
            || desc.len % size != 0
            || entries == 0
            || entries > MAX_INDIRECT
        {
            return Err(Violation::Table.into());
        }
        // The last byte must have an address.
        if desc.addr.checked_add(u64::from(desc.len) - 1).is_none() {
            return Err(Violation::Address.into());
        }
        self.indirect = true;
        self.table = desc.addr;
        self.entries = entries;
        self.left = entries;
        self.next = Some(0);
        self.block.clear();
        Ok(())
    }

    /// Returns the descriptor that follows the one at `index`, if there is one.
    fn after(&self, index: u16, desc: &Desc) -> Option<u16> {
        if self.features.packed {
            // Descriptors follow each other, in a ring and in a table.
            let next = index.wrapping_add(1);
            let next = if u32::from(next) < self.entries {
                next
            } else {
                0
            };
            (self.left > 0).then_some(next)
        } else {
            (desc.flags & DESC_F_NEXT != 0).then_some(desc.link)
        }
    }

    /// Returns the next segment, or `None` at the end. After an error the chain must be put back.
    pub fn next<M: Memory>(&mut self, mem: &M) -> RingResult<Option<Segment>> {
        loop {
            let Some(index) = self.next else {
                return Ok(None);
            };
            self.left = self.left.checked_sub(1).ok_or(Violation::Length)?;
            let desc = self.desc(mem, index)?;

            // In a table of a packed queue only the direction flag is valid.
            let leaf = self.features.packed && self.indirect;
            if desc.flags & DESC_F_INDIRECT != 0 && !leaf {
                self.enter(desc)?;
                continue;
            }

            self.next = self.after(index, &desc);
            let writable = desc.flags & DESC_F_WRITE != 0;
            if self.writable && !writable {
                return Err(Violation::Direction.into());
            }
            self.writable = writable;
            if desc.len == 0 {
                continue;
            }
            // The last byte must have an address.
            if desc.addr.checked_add(u64::from(desc.len) - 1).is_none() {
                return Err(Violation::Address.into());
            }
            return Ok(Some(Segment {
                addr: desc.addr,
                len: desc.len,
                writable,
            }));
        }
    }
}
