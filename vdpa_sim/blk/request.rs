// SPDX-License-Identifier: GPL-2.0

//! Requests of a virtio disk.
//!
//! This code does not depend on the kernel: a request is segments in a [`Memory`], and the sectors
//! are in a [`Store`], so that the same code runs under KUnit and under a fuzzer in userspace.
//! Everything that comes from the driver is untrusted. A request changes only the sectors that it
//! names, and only if all of them exist.
//!
//! virtio 1.3, section 5.2.6.

use crate::ring::{Chain, Memory, RingResult, Segment, Violation};

/// Size of a sector in bytes, whatever the block size is.
pub(crate) const SECTOR: u64 = 512;
/// Largest number of sectors that one request reads, writes or zeroes.
pub(crate) const MAX_SECTORS: u32 = 0x2_0000;
/// Largest number of ranges that one request discards or zeroes.
pub(crate) const MAX_RANGES: u32 = 1;
/// Largest number of segments of a request: a queue of 256 entries with an indirect table has no
/// more.
pub(crate) const MAX_SEGMENTS: usize = 256 + 1024;
/// Name of a disk, padded with zeroes.
pub(crate) const ID: &[u8; ID_SIZE] = b"vdpa_blk_sim\0\0\0\0\0\0\0\0";

/// Size of that name in bytes.
const ID_SIZE: usize = 20;
/// Size of a request's header in bytes.
const HEADER_SIZE: usize = 16;
/// Size of a range to discard or zero in bytes.
const RANGE_SIZE: usize = 16;

/// Request types.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

/// The only flag of a range: the sectors may be deallocated.
const RANGE_F_UNMAP: u32 = 1;

/// Status of a request, which the driver reads as a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// The request was executed.
    Ok = 0,
    /// The request failed, maybe halfway.
    IoError = 1,
    /// The disk does not have such requests. Nothing was done.
    Unsupported = 2,
}

/// Storage of the sectors. Concurrent users see each piece before or after a change, never in
/// between.
pub(crate) trait Store {
    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Calls `f` with the first piece, at least one byte, of the `len` bytes (not 0) at `offset`.
    /// Returns `None` if there are no bytes at `offset`.
    fn piece<R>(&self, offset: u64, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R>;
}

/// Negotiated abilities of a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// True if the fields of a header are little-endian, false if they are native.
    pub(crate) little_endian: bool,
    /// True if no request may change a sector.
    pub(crate) read_only: bool,
    /// True if the driver may discard sectors.
    pub(crate) discard: bool,
    /// True if the driver may zero sectors.
    pub(crate) write_zeroes: bool,
}

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Read sectors.
    Read,
    /// Write sectors.
    Write,
    /// Make written data durable.
    Flush,
    /// Get the disk's name.
    GetId,
    /// Discard sectors.
    Discard,
    /// Fill sectors with zeroes.
    WriteZeroes,
    /// Unknown type, or no readable header.
    Other,
}

/// Result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// The kind of the request.
    pub(crate) kind: Kind,
    /// The status, or `None` if there was no place for it.
    pub(crate) status: Option<Status>,
    /// The number of bytes of sectors that were read, written, discarded or zeroed.
    pub(crate) bytes: u64,
    /// The number of bytes that were written to the driver's buffers, from their beginning on.
    pub(crate) used: u32,
}

/// Segments of a request, in a table that is reused for the next one.
pub(crate) struct Table<'a> {
    slots: &'a mut [Segment],
    filled: usize,
}

impl<'a> Table<'a> {
    /// The content of a slot before it is used.
    pub(crate) const EMPTY: Segment = Segment {
        addr: 0,
        len: 0,
        writable: false,
    };

    /// Creates an empty table.
    pub(crate) fn new(slots: &'a mut [Segment]) -> Self {
        Self { slots, filled: 0 }
    }

    /// Fills the table with a chain. Errors: those of the ring.
    pub(crate) fn fill<M: Memory>(&mut self, mem: &M, mut chain: Chain) -> RingResult {
        self.filled = 0;
        while let Some(segment) = chain.next(mem)? {
            let slot = self.slots.get_mut(self.filled);
            *slot.ok_or(Violation::Segments)? = segment;
            self.filled += 1;
        }
        Ok(())
    }

    /// Returns the segments of the chain.
    pub(crate) fn segments(&self) -> &[Segment] {
        self.slots.get(..self.filled).unwrap_or(&[])
    }
}

/// Part of a request's memory, which is consumed from its beginning.
#[derive(Clone)]
struct Span<'a> {
    segments: core::slice::Iter<'a, Segment>,
    /// Address and length of the rest of the segment before those.
    rest: (u64, usize),
    /// The number of bytes that are left.
    left: u64,
}

impl<'a> Span<'a> {
    /// Creates a span of all of these segments.
    fn new(segments: &'a [Segment]) -> Self {
        Self {
            segments: segments.iter(),
            rest: (0, 0),
            // Lengths have 32 bits, and no slice is long enough to let the sum wrap.
            left: segments.iter().map(|segment| u64::from(segment.len)).sum(),
        }
    }

    /// Returns address and length of the next contiguous bytes.
    fn next(&mut self) -> Option<(u64, usize)> {
        while self.rest.1 == 0 {
            let segment = self.segments.next()?;
            self.rest = (segment.addr, segment.len as usize);
        }
        Some(self.rest)
    }

    /// Consumes `len` bytes of those that `next` returned.
    fn advance(&mut self, len: usize) {
        // The end of a segment has an address, but what is behind it need not have one.
        self.rest = (
            self.rest.0.wrapping_add(len as u64),
            self.rest.1.saturating_sub(len),
        );
        self.left = self.left.saturating_sub(len as u64);
    }

    /// Copies the next bytes from the span: all of them, or fails.
    fn pull<M: Memory>(&mut self, mem: &M, mut into: &mut [u8]) -> RingResult {
        while !into.is_empty() {
            let (addr, len) = self.next().ok_or(Violation::Segments)?;
            let len = len.min(into.len());
            let (now, rest) = into.split_at_mut_checked(len).ok_or(Violation::Segments)?;
            mem.read(addr, now)?;
            self.advance(len);
            into = rest;
        }
        Ok(())
    }

    /// Copies bytes to the span, as many as there is room for. Returns their number.
    fn push<M: Memory>(&mut self, mem: &M, mut from: &[u8]) -> RingResult<usize> {
        let mut pushed = 0;
        while let (false, Some((addr, len))) = (from.is_empty(), self.next()) {
            let len = len.min(from.len());
            let (now, rest) = from.split_at_checked(len).ok_or(Violation::Segments)?;
            mem.write(addr, now)?;
            self.advance(len);
            pushed += len;
            from = rest;
        }
        Ok(pushed)
    }
}

/// Range of sectors that a request names, in bytes. All of them exist.
#[derive(Clone, Copy)]
struct Range {
    /// The first byte.
    offset: u64,
    /// The number of bytes.
    len: u64,
}

/// A disk, for the time of a run.
pub(crate) struct Disk<'a, S> {
    store: &'a S,
    abilities: Abilities,
    /// Bounce buffer for data. It is needed if the driver's memory must not be accessed under the
    /// lock of a piece of the store, because an access to that memory can block for ever.
    buffer: Option<&'a mut [u8]>,
}

/// Progress of a request before it ended.
#[derive(Default)]
struct Progress {
    /// The number of bytes of sectors.
    bytes: u64,
    /// The number of bytes that were written to the driver, from the beginning of its buffers on.
    written: u64,
}

impl<'a, S: Store> Disk<'a, S> {
    /// Creates a disk that has its sectors in `store`.
    pub(crate) fn new(store: &'a S, abilities: Abilities, buffer: Option<&'a mut [u8]>) -> Self {
        Self {
            store,
            abilities,
            buffer,
        }
    }

    /// Converts a field of a header.
    fn u32(&self, raw: [u8; 4]) -> u32 {
        if self.abilities.little_endian {
            u32::from_le_bytes(raw)
        } else {
            u32::from_ne_bytes(raw)
        }
    }

    /// Converts a field of a header like [`Self::u32`].
    fn u64(&self, raw: [u8; 8]) -> u64 {
        if self.abilities.little_endian {
            u64::from_le_bytes(raw)
        } else {
            u64::from_ne_bytes(raw)
        }
    }

    /// Returns the bytes of these sectors. `IoError` if not all of them exist, or if there are more
    /// than `most`.
    fn range(&self, sector: u64, sectors: u64, most: u32) -> Result<Range, Status> {
        let capacity = self.store.size() / SECTOR;
        let room = capacity.saturating_sub(sector);
        if room == 0 || sectors > room || sectors > u64::from(most) {
            return Err(Status::IoError);
        }
        // Both are within the store, whose size in bytes fits.
        Ok(Range {
            offset: sector * SECTOR,
            len: sectors * SECTOR,
        })
    }

    /// Returns the bytes of the sectors for `len` bytes of data. `IoError` also if `len` is not a
    /// multiple of a sector.
    fn data_range(&self, sector: u64, len: u64) -> Result<Range, Status> {
        if len % SECTOR != 0 {
            return Err(Status::IoError);
        }
        self.range(sector, len / SECTOR, MAX_SECTORS)
    }

    /// Copies some of `len` bytes (not 0) at `offset` of the store to the driver. Returns their
    /// number.
    fn copy_in<M: Memory>(&mut self, mem: &M, offset: u64, addr: u64, len: usize) -> Option<usize> {
        let Some(buffer) = &mut self.buffer else {
            let copied = self.store.piece(offset, len, |bytes| {
                mem.write(addr, bytes).map(|()| bytes.len())
            });
            return copied?.ok();
        };
        let len = len.min(buffer.len());
        let copied = self.store.piece(offset, len, |bytes| {
            let buffer = buffer.get_mut(..bytes.len())?;
            buffer.copy_from_slice(bytes);
            Some(buffer.len())
        });
        let buffer = buffer.get(..copied??)?;
        mem.write(addr, buffer).ok()?;
        Some(buffer.len())
    }

    /// Copies some of `len` bytes (not 0) from the driver to `offset` of the store. Returns their
    /// number.
    fn copy_out<M: Memory>(
        &mut self,
        mem: &M,
        offset: u64,
        addr: u64,
        len: usize,
    ) -> Option<usize> {
        let Some(buffer) = &mut self.buffer else {
            let copied = self.store.piece(offset, len, |bytes| {
                mem.read(addr, bytes).map(|()| bytes.len())
            });
            return copied?.ok();
        };
        let len = len.min(buffer.len());
        let buffer = buffer.get_mut(..len)?;
        mem.read(addr, buffer).ok()?;
        self.store.piece(offset, len, |bytes| {
            bytes.copy_from_slice(buffer.get(..bytes.len())?);
            Some(bytes.len())
        })?
    }

    /// Executes a request, and writes the status to its last byte.
    pub(crate) fn serve<M: Memory>(&mut self, mem: &M, segments: &[Segment]) -> Done {
        let readable = segments.iter().take_while(|segment| !segment.writable);
        let (out, into) = segments
            .split_at_checked(readable.count())
            .unwrap_or((segments, &[]));
        let Some(last) = into.last() else {
            // There is no place for a status, so nothing is done either.
            return Done {
                kind: Kind::Other,
                status: None,
                bytes: 0,
                used: 0,
            };
        };
        let place = last
            .addr
            .wrapping_add(u64::from(last.len.saturating_sub(1)));
        let mut into = Span::new(into);
        into.left = into.left.saturating_sub(1);
        let room = into.left;

        let mut progress = Progress::default();
        let (kind, status) = match self.execute(mem, Span::new(out), into, &mut progress) {
            Ok(kind) => (kind, Status::Ok),
            Err(failed) => failed,
        };
        let told = mem.write(place, &[status as u8]).is_ok();
        // The last byte counts only if everything before it was written, too.
        let used = if told && progress.written == room {
            room.saturating_add(1)
        } else {
            progress.written
        };
        Done {
            kind,
            status: told.then_some(status),
            bytes: progress.bytes,
            used: u32::try_from(used).unwrap_or(u32::MAX),
        }
    }

    /// Executes a request. `into` ends before the status.
    fn execute<M: Memory>(
        &mut self,
        mem: &M,
        mut out: Span<'_>,
        into: Span<'_>,
        progress: &mut Progress,
    ) -> Result<Kind, (Kind, Status)> {
        let mut raw = [0u8; HEADER_SIZE];
        if out.pull(mem, &mut raw).is_err() {
            return Err((Kind::Other, Status::IoError));
        }
        // struct virtio_blk_outhdr: type, ioprio, sector.
        let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = raw;
        let sector = self.u64([s0, s1, s2, s3, s4, s5, s6, s7]);
        let kind = match self.u32([t0, t1, t2, t3]) {
            T_IN => Kind::Read,
            T_OUT => Kind::Write,
            T_FLUSH => Kind::Flush,
            T_GET_ID => Kind::GetId,
            T_DISCARD if self.abilities.discard => Kind::Discard,
            T_WRITE_ZEROES if self.abilities.write_zeroes => Kind::WriteZeroes,
            _ => return Err((Kind::Other, Status::Unsupported)),
        };
        let done = match kind {
            Kind::Read => self.read(mem, sector, into, progress),
            Kind::Write => self.write(mem, sector, out, progress),
            // The other requests name no sector, or carry ranges.
            _ if sector != 0 => Err(Status::IoError),
            Kind::GetId => Self::get_id(mem, into, progress),
            Kind::Discard | Kind::WriteZeroes => self.ranges(mem, kind, out, progress),
            // Written data is as durable as it will ever be.
            Kind::Flush | Kind::Other => Ok(()),
        };
        done.map(|()| kind).map_err(|status| (kind, status))
    }

    /// Reads sectors.
    fn read<M: Memory>(
        &mut self,
        mem: &M,
        sector: u64,
        mut into: Span<'_>,
        progress: &mut Progress,
    ) -> Result<(), Status> {
        let mut range = self.data_range(sector, into.left)?;
        while range.len != 0 {
            let (addr, len) = into.next().ok_or(Status::IoError)?;
            // The last segment has the status behind the data.
            let len = len.min(usize::try_from(range.len).unwrap_or(usize::MAX));
            let Some(copied @ 1..) = self.copy_in(mem, range.offset, addr, len) else {
                return Err(Status::IoError);
            };
            into.advance(copied);
            range.advance(copied);
            progress.bytes += copied as u64;
            progress.written += copied as u64;
        }
        Ok(())
    }

    /// Writes sectors.
    fn write<M: Memory>(
        &mut self,
        mem: &M,
        sector: u64,
        mut out: Span<'_>,
        progress: &mut Progress,
    ) -> Result<(), Status> {
        let mut range = self.data_range(sector, out.left)?;
        if self.abilities.read_only {
            return Err(Status::IoError);
        }
        while range.len != 0 {
            let (addr, len) = out.next().ok_or(Status::IoError)?;
            let Some(copied @ 1..) = self.copy_out(mem, range.offset, addr, len) else {
                return Err(Status::IoError);
            };
            out.advance(copied);
            range.advance(copied);
            progress.bytes += copied as u64;
        }
        Ok(())
    }

    /// Gets the disk's name, as much of it as there is room for.
    fn get_id<M: Memory>(
        mem: &M,
        mut into: Span<'_>,
        progress: &mut Progress,
    ) -> Result<(), Status> {
        let room = usize::try_from(into.left).unwrap_or(usize::MAX);
        let id = ID.get(..room).unwrap_or(ID);
        match into.push(mem, id) {
            Ok(pushed) => progress.written += pushed as u64,
            Err(_) => return Err(Status::IoError),
        }
        Ok(())
    }

    /// Discards or zeroes ranges. Does nothing unless all of them are valid.
    fn ranges<M: Memory>(
        &self,
        mem: &M,
        kind: Kind,
        mut out: Span<'_>,
        progress: &mut Progress,
    ) -> Result<(), Status> {
        // Several ranges would have to be stored until all are checked.
        const { assert!(MAX_RANGES == 1) };
        if out.left != RANGE_SIZE as u64 {
            return Err(Status::IoError);
        }
        let mut raw = [0u8; RANGE_SIZE];
        out.pull(mem, &mut raw).map_err(|_| Status::IoError)?;
        // struct virtio_blk_discard_write_zeroes: sector, num_sectors, flags; little-endian for
        // every driver.
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = raw;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);

        let (known, most) = if kind == Kind::Discard {
            (0, u32::MAX)
        } else {
            (RANGE_F_UNMAP, MAX_SECTORS)
        };
        if flags & !known != 0 {
            return Err(Status::Unsupported);
        }
        let range = self.range(sector, sectors.into(), most)?;
        if self.abilities.read_only {
            return Err(Status::IoError);
        }
        if kind == Kind::WriteZeroes {
            self.zero(range)?;
        }
        // Discarded sectors may keep their content.
        progress.bytes = range.len;
        Ok(())
    }

    /// Fills a range with zeroes.
    fn zero(&self, mut range: Range) -> Result<(), Status> {
        while range.len != 0 {
            let len = usize::try_from(range.len).unwrap_or(usize::MAX);
            let zeroed = self.store.piece(range.offset, len, |bytes| {
                bytes.fill(0);
                bytes.len()
            });
            let Some(zeroed @ 1..) = zeroed else {
                return Err(Status::IoError);
            };
            range.advance(zeroed);
        }
        Ok(())
    }
}

impl Range {
    /// Consumes the first `len` bytes.
    fn advance(&mut self, len: usize) {
        self.offset = self.offset.saturating_add(len as u64);
        self.len = self.len.saturating_sub(len as u64);
    }
}
