// SPDX-License-Identifier: GPL-2.0

//! Disk whose sectors are in memory. Each request queue is a unit of its own.

use super::{
    backend::Backend,
    request::{self, Abilities, Done, Kind, Status, Store, Table, SECTOR},
};
use kernel::{
    debugfs::{ScopedDir, Writer},
    fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};
use vdpa_parent::{parent_config::ConfigBytes, virtio_ids as ids, worker::Again};
use vdpa_sim::{
    engine::{little_endian, Class, Io, QueueMemory, Setup, UnitSetup},
    faults::Files,
    queue::Queue,
    ring::Segment,
};

/// Features of a disk by default.
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
/// Features that can be requested. Requests have few segments, so indirect descriptors and packed
/// rings cost drivers more than they gain.
pub(crate) const ALL_FEATURES: u64 =
    FEATURES | ids::F_RING_INDIRECT_DESC | ids::F_RING_PACKED | ids::F_BLK_RO;

/// Number of groups of queues.
pub(crate) const GROUPS: u32 = 1;
/// Number of address spaces.
pub(crate) const ADDRESS_SPACES: u32 = 1;
/// Largest number of queues.
pub(crate) const MAX_QUEUES: u16 = 64;

/// Number of requests that one run serves.
const BUDGET: u32 = 32;
/// Number of bytes of sectors after which a run ends.
const BUDGET_BYTES: u64 = 1 << 20;
/// Number of requests after which the driver is signalled.
const SIGNAL_AFTER: u32 = 8;
/// Largest size of a segment that the driver is asked to use.
const SIZE_MAX: u32 = 1 << 16;
/// Largest number of data segments that the driver is asked to use: with header and status, a queue
/// of 256 entries holds two such requests.
const SEG_MAX: u32 = 126;

/// Returns the largest number of data segments in a request that fits into a queue with its header
/// and status.
fn seg_max(queue_max: u16) -> u32 {
    u32::from(queue_max).saturating_sub(2).min(SEG_MAX)
}

/// Size of the buffer of a disk that needs one, in bytes.
const BUFFER: usize = 1 << 16;

/// Counter that only the thread of a queue changes, and that others may read at any time.
struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds to the counter. To be called by one thread only, so it need not be atomic.
    fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters of a queue since the disk was created. A request is counted before the driver is
/// signalled.
struct Counters {
    reads: Counter,
    read_bytes: Counter,
    writes: Counter,
    written_bytes: Counter,
    flushes: Counter,
    discards: Counter,
    zeroings: Counter,
    others: Counter,
    failed: Counter,
    unsupported: Counter,
    /// The number of chains that are not requests, or have no place for a status.
    bad: Counter,
}

impl Counters {
    const fn new() -> Self {
        Self {
            reads: Counter::new(),
            read_bytes: Counter::new(),
            writes: Counter::new(),
            written_bytes: Counter::new(),
            flushes: Counter::new(),
            discards: Counter::new(),
            zeroings: Counter::new(),
            others: Counter::new(),
            failed: Counter::new(),
            unsupported: Counter::new(),
            bad: Counter::new(),
        }
    }

    /// Counts a request.
    fn count(&self, done: &Done) {
        match done.kind {
            Kind::Read => self.reads.add(1),
            Kind::Write => self.writes.add(1),
            Kind::Flush => self.flushes.add(1),
            Kind::Discard => self.discards.add(1),
            Kind::WriteZeroes => self.zeroings.add(1),
            Kind::GetId | Kind::Other => self.others.add(1),
        }
        match done.kind {
            Kind::Read => self.read_bytes.add(done.bytes),
            Kind::Write => self.written_bytes.add(done.bytes),
            _ => (),
        }
        match done.status {
            Some(Status::Ok) => (),
            Some(Status::IoError) => self.failed.add(1),
            Some(Status::Unsupported) => self.unsupported.add(1),
            None => self.bad.add(1),
        }
    }

    /// Writes the counters as lines, for queue `idx`.
    fn show(&self, f: &mut fmt::Formatter<'_>, idx: usize) -> fmt::Result {
        let all = [
            ("reads", &self.reads),
            ("read_bytes", &self.read_bytes),
            ("writes", &self.writes),
            ("written_bytes", &self.written_bytes),
            ("flushes", &self.flushes),
            ("discards", &self.discards),
            ("write_zeroes", &self.zeroings),
            ("others", &self.others),
            ("failed", &self.failed),
            ("unsupported", &self.unsupported),
            ("bad", &self.bad),
        ];
        all.iter()
            .try_for_each(|(name, counter)| writeln!(f, "q{idx}_{name} {}", counter.get()))
    }
}

/// File with the counters of all queues.
struct CountersFile(KVec<Arc<Counters>>);

impl Writer for CountersFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0.iter().enumerate()).try_for_each(|(idx, counters)| counters.show(f, idx))
    }
}

/// Files of a disk in debugfs. The bus asks only NICs for the statistics of their queues.
pub(crate) struct DiskFiles(CountersFile);

impl Files for DiskFiles {
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        dir.read_only_file(c"counters", &self.0);
    }
}

/// Data of a request queue.
pub(crate) struct Lane {
    /// The segments of the current request.
    slots: KVVec<Segment>,
    /// The buffer for data, on a disk that needs one.
    buffer: Option<KVVec<u8>>,
    counters: Arc<Counters>,
}

/// The disk.
pub(crate) struct Disk {
    backend: Arc<Backend>,
    /// True if no request may change a sector.
    read_only: bool,
    queues: u16,
    /// The largest size of a queue.
    queue_max: u16,
    /// True if data is copied through a buffer; see [`request::Disk`].
    buffered: bool,
}

impl Disk {
    /// Creates a disk with these features and queues of at most `queue_max` entries, which keeps
    /// its sectors in `backend`. Without `F_BLK_MQ` it has one queue.
    pub(crate) fn new(
        backend: Arc<Backend>,
        offered: u64,
        queues: u16,
        queue_max: u16,
        buffered: bool,
    ) -> Self {
        Self {
            backend,
            read_only: offered & ids::F_BLK_RO != 0,
            queues: if offered & ids::F_BLK_MQ != 0 {
                queues
            } else {
                1
            },
            queue_max,
            buffered,
        }
    }

    /// Returns the number of queues.
    pub(crate) fn queues(&self) -> u16 {
        self.queues
    }

    /// Creates the data of one queue.
    fn lane(&self) -> Result<Lane> {
        let buffer = if self.buffered {
            Some(KVVec::from_elem(0, BUFFER, GFP_KERNEL)?)
        } else {
            None
        };
        Ok(Lane {
            slots: KVVec::from_elem(Table::EMPTY, request::MAX_SEGMENTS, GFP_KERNEL)?,
            buffer,
            counters: Arc::new(Counters::new(), GFP_KERNEL)?,
        })
    }

    /// Returns the setup of the disk.
    pub(crate) fn setup(self, offered: u64) -> Result<Setup<Self>> {
        let queue_max = self.queue_max;
        let mut units = KVec::with_capacity(self.queues.into(), GFP_KERNEL)?;
        let mut counters = KVec::with_capacity(self.queues.into(), GFP_KERNEL)?;
        for _ in 0..self.queues {
            let unit = self.lane()?;
            counters.push(unit.counters.clone(), GFP_KERNEL)?;
            units.push(UnitSetup { queues: 1, unit }, GFP_KERNEL)?;
        }
        Ok(Setup {
            class: Arc::new(self, GFP_KERNEL)?,
            units,
            offered,
            groups: GROUPS,
            address_spaces: ADDRESS_SPACES,
            queue_max,
            files: DiskFiles(CountersFile(counters)),
        })
    }
}

impl Class for Disk {
    const DEVICE_ID: u32 = ids::ID_BLOCK;
    type Config = [u8; ids::BLK_CONFIG_SIZE];
    type Unit = Lane;
    type Files = DiskFiles;

    fn config(&self, features: u64) -> Self::Config {
        // Sizes are in sectors, unless they are in bytes; a block is a sector.
        ConfigBytes::new(little_endian(features))
            .put_u64::<{ ids::BLK_CFG_CAPACITY }>(self.backend.size() / SECTOR)
            .put_u32::<{ ids::BLK_CFG_SIZE_MAX }>(SIZE_MAX)
            .put_u32::<{ ids::BLK_CFG_SEG_MAX }>(seg_max(self.queue_max))
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
        let Some(view) = io.view(queue) else {
            return Again::No;
        };
        view.with(|mem| self.serve(lane, queue, mem, io.features))
    }
}

impl Disk {
    /// Serves requests of a queue, as many as one run may. Returns whether there are more.
    fn serve(
        &self,
        lane: &mut Lane,
        queue: &mut Queue,
        mem: &QueueMemory<'_, '_>,
        features: u64,
    ) -> Again {
        let (mem, ring_mem) = (mem.buffers, mem.ring);
        let abilities = Abilities {
            little_endian: little_endian(features),
            read_only: self.read_only,
            discard: features & ids::F_BLK_DISCARD != 0,
            write_zeroes: features & ids::F_BLK_WRITE_ZEROES != 0,
        };
        let buffer = lane.buffer.as_deref_mut();
        let mut disk = request::Disk::new(&*self.backend, abilities, buffer);
        let mut table = Table::new(&mut lane.slots);

        queue.ring(|ring| ring.disable_notify(ring_mem));
        let mut bytes = 0u64;
        for number in 1..=BUDGET {
            let Some(chain) = queue.pop(ring_mem) else {
                break;
            };
            let token = chain.token();
            if queue.walk(token, || table.fill(ring_mem, chain)).is_none() {
                lane.counters.bad.add(u64::from(queue.is_broken()));
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
        queue.end_run(ring_mem)
    }
}
