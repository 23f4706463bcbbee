// SPDX-License-Identifier: GPL-2.0

//! A disk whose sectors are memory. Each request queue is a unit of its own.

use crate::{
    abstractions::{
        parent_config::ConfigBytes,
        virtio_ids as ids,
        worker::Again, //
    },
    backend::Backend,
    engine::{little_endian, Class, Io, Setup, UnitSetup},
    parent_ops::Stats,
    queue::Queue,
    request::{self, Abilities, Done, Kind, Status, Store, Table, SECTOR},
    ring::Segment,
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The features of a disk that is not asked for others.
pub(crate) const FEATURES: u64 = ids::F_ANY_LAYOUT
    | ids::F_VERSION_1
    | ids::F_ACCESS_PLATFORM
    | ids::F_RING_EVENT_IDX
    | ids::F_BLK_SIZE_MAX
    | ids::F_BLK_SEG_MAX
    | ids::F_BLK_BLK_SIZE
    | ids::F_BLK_FLUSH
    | ids::F_BLK_TOPOLOGY
    | ids::F_BLK_MQ
    | ids::F_BLK_DISCARD
    | ids::F_BLK_WRITE_ZEROES;
/// The features that it can be asked for. Requests have few segments, so what indirect descriptors
/// and packed rings cost drivers is more than they gain by them.
pub(crate) const ALL_FEATURES: u64 =
    FEATURES | ids::F_RING_INDIRECT_DESC | ids::F_RING_PACKED | ids::F_BLK_RO;

/// The number of groups of queues.
pub(crate) const GROUPS: u32 = 1;
/// The number of address spaces.
pub(crate) const ADDRESS_SPACES: u32 = 1;
/// The largest number of queues.
pub(crate) const MAX_QUEUES: u16 = 64;

/// The number of requests that one run serves.
const BUDGET: u32 = 32;
/// After how many bytes of sectors a run ends.
const BUDGET_BYTES: u64 = 1 << 20;
/// After how many requests the driver is told about them.
const SIGNAL_AFTER: u32 = 8;
/// How large a segment the driver is asked to keep to.
const SIZE_MAX: u32 = 1 << 16;
/// How many segments of data it is asked to keep to: with header and status, a queue holds two
/// such requests.
const SEG_MAX: u32 = 126;
/// The size of the buffer of a disk that needs one.
const BUFFER: usize = 1 << 16;

/// What happened on a queue.
#[derive(Default)]
struct Counters {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    flushes: u64,
    discards: u64,
    zeroings: u64,
    others: u64,
    failed: u64,
    unsupported: u64,
    /// Chains that are no requests, or have no place for a status.
    bad: u64,
}

impl Counters {
    /// Counts a request.
    fn count(&mut self, done: &Done) {
        match done.kind {
            Kind::Read => self.reads += 1,
            Kind::Write => self.writes += 1,
            Kind::Flush => self.flushes += 1,
            Kind::Discard => self.discards += 1,
            Kind::WriteZeroes => self.zeroings += 1,
            Kind::GetId | Kind::Other => self.others += 1,
        }
        match done.kind {
            Kind::Read => self.read_bytes += done.bytes,
            Kind::Write => self.written_bytes += done.bytes,
            _ => (),
        }
        match done.status {
            Some(Status::Ok) => (),
            Some(Status::IoError) => self.failed += 1,
            Some(Status::Unsupported) => self.unsupported += 1,
            None => self.bad += 1,
        }
    }
}

/// What serves a queue.
pub(crate) struct Lane {
    /// Where the segments of a request are collected.
    slots: KVVec<Segment>,
    /// Where its data waits, on a disk that needs that.
    buffer: Option<KVVec<u8>>,
    counters: Counters,
}

/// The disk.
pub(crate) struct Disk {
    backend: Arc<Backend>,
    /// No request may change a sector.
    read_only: bool,
    queues: u16,
    /// Whether data takes the way over a buffer; see [`request::Disk`].
    buffered: bool,
}

impl Disk {
    /// A disk with these features, which keeps its sectors in `backend`.
    pub(crate) fn new(backend: Arc<Backend>, offered: u64, queues: u16, buffered: bool) -> Self {
        Self {
            backend,
            read_only: offered & ids::F_BLK_RO != 0,
            queues: if offered & ids::F_BLK_MQ != 0 {
                queues
            } else {
                1
            },
            buffered,
        }
    }

    /// The number of its queues.
    pub(crate) fn queues(&self) -> u16 {
        self.queues
    }

    /// What serves one of its queues.
    fn lane(&self) -> Result<Lane> {
        let buffer = if self.buffered {
            Some(KVVec::from_elem(0, BUFFER, GFP_KERNEL)?)
        } else {
            None
        };
        Ok(Lane {
            slots: KVVec::from_elem(Table::EMPTY, request::MAX_SEGMENTS, GFP_KERNEL)?,
            buffer,
            counters: Counters::default(),
        })
    }

    /// What it is made of, with queues of at most `queue_max` entries.
    pub(crate) fn setup(self, offered: u64, queue_max: u16) -> Result<Setup<Self>> {
        let mut units = KVec::with_capacity(self.queues.into(), GFP_KERNEL)?;
        for _ in 0..self.queues {
            let unit = self.lane()?;
            units.push(UnitSetup { queues: 1, unit }, GFP_KERNEL)?;
        }
        Ok(Setup {
            class: Arc::new(self, GFP_KERNEL)?,
            units,
            offered,
            groups: GROUPS,
            address_spaces: ADDRESS_SPACES,
            queue_max,
            files: (),
        })
    }
}

impl Class for Disk {
    const DEVICE_ID: u32 = ids::ID_BLOCK;
    type Config = [u8; ids::BLK_CONFIG_SIZE];
    type Unit = Lane;
    type Files = ();

    fn config(&self, features: u64) -> Self::Config {
        // Sizes are in sectors where nothing else is said; a block is a sector.
        ConfigBytes::new(little_endian(features))
            .put_u64::<{ ids::BLK_CFG_CAPACITY }>(self.backend.size() / SECTOR)
            .put_u32::<{ ids::BLK_CFG_SIZE_MAX }>(SIZE_MAX)
            .put_u32::<{ ids::BLK_CFG_SEG_MAX }>(SEG_MAX)
            .put_u32::<{ ids::BLK_CFG_BLK_SIZE }>(SECTOR as u32)
            .put_u16::<{ ids::BLK_CFG_MIN_IO_SIZE }>(1)
            .put_u32::<{ ids::BLK_CFG_OPT_IO_SIZE }>(1)
            .put_u16::<{ ids::BLK_CFG_NUM_QUEUES }>(self.queues)
            .put_u32::<{ ids::BLK_CFG_MAX_DISCARD_SECTORS }>(u32::MAX)
            .put_u32::<{ ids::BLK_CFG_MAX_DISCARD_SEG }>(request::MAX_RANGES)
            .put_u32::<{ ids::BLK_CFG_DISCARD_SECTOR_ALIGNMENT }>(1)
            .put_u32::<{ ids::BLK_CFG_MAX_WRITE_ZEROES_SECTORS }>(request::MAX_SECTORS)
            .put_u32::<{ ids::BLK_CFG_MAX_WRITE_ZEROES_SEG }>(request::MAX_RANGES)
            .into_bytes()
    }

    fn run(&self, lane: &mut Lane, queues: &mut [Queue], io: &Io<'_>) -> Again {
        let [queue] = queues else {
            return Again::No;
        };
        if !queue.is_active() {
            return Again::No;
        }
        let Some(memory) = io.memory(queue) else {
            return Again::No;
        };
        let (mem, ring_mem) = (memory.buffers(), memory.ring());
        let abilities = Abilities {
            little_endian: little_endian(io.features),
            read_only: self.read_only,
            discard: io.features & ids::F_BLK_DISCARD != 0,
            write_zeroes: io.features & ids::F_BLK_WRITE_ZEROES != 0,
        };
        let buffer = lane.buffer.as_deref_mut();
        let mut disk = request::Disk::new(&*self.backend, abilities, buffer);
        let mut table = Table::new(&mut lane.slots);

        queue.ring(|ring| ring.suppress_kicks(ring_mem));
        let mut bytes = 0u64;
        for number in 1..=BUDGET {
            let Some(Some(chain)) = queue.ring(|ring| ring.pop(ring_mem)) else {
                break;
            };
            let token = chain.token();
            if queue.ring(|_| table.fill(ring_mem, chain)).is_none() {
                lane.counters.bad += 1;
                break;
            }
            let done = disk.serve(mem, table.segments());
            lane.counters.count(&done);
            queue.push(ring_mem, token, done.used);
            bytes = bytes.saturating_add(done.bytes);
            if number % SIGNAL_AFTER == 0 {
                queue.signal(ring_mem);
            }
            if bytes >= BUDGET_BYTES {
                break;
            }
        }
        match queue.ring(|ring| ring.ask_for_kicks(ring_mem)) {
            Some(true) => Again::Yes,
            _ => Again::No,
        }
    }

    fn stats(&self, lane: &Lane, _idx: u16, _features: u64, stats: &mut Stats<'_>) -> Result {
        let counters = &lane.counters;
        stats.put(c"reads", counters.reads)?;
        stats.put(c"read bytes", counters.read_bytes)?;
        stats.put(c"writes", counters.writes)?;
        stats.put(c"written bytes", counters.written_bytes)?;
        stats.put(c"flushes", counters.flushes)?;
        stats.put(c"discards", counters.discards)?;
        stats.put(c"write zeroes", counters.zeroings)?;
        stats.put(c"others", counters.others)?;
        stats.put(c"failed", counters.failed)?;
        stats.put(c"unsupported", counters.unsupported)?;
        stats.put(c"bad", counters.bad)
    }
}
