// SPDX-License-Identifier: GPL-2.0

//! Debugfs file for operators: `/sys/kernel/debug/rust_vhost_vdpa/vhost-vdpa-N/state`.
//!
//! It has one `key value` pair per line. Counters start when the device is probed. A peak belongs
//! to the current or last open of the file, and is the sum of the peaks of all address spaces.

use super::device::VhostVdpa;
use crate::iotlb::Mapped;
use kernel::{
    debugfs, fmt,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
    },
};
use vdpa_bus_driver::{eventfd::Source, params, vdpa::Device};

/// Counters of a device.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) opens: Counter,
    pub(crate) resets: Counter,
    pub(crate) failed_messages: Counter,
    entries_peak: Counter,
    pinned_peak: Counter,
}

/// Counters of messages, which are updated where the state is locked anyway.
#[derive(Default)]
pub(crate) struct Counts {
    /// Ranges that were mapped.
    pub(crate) maps: u64,
    /// Ranges that were unmapped.
    pub(crate) unmaps: u64,
    /// Bytes of `UPDATE` messages that are not mapped because a parent with virtual addresses
    /// cannot reach them.
    pub(crate) unshared_bytes: u64,
}

/// Number of kicks of one queue, alone in its cache line: queues are kicked on different CPUs.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Kicks(Counter);

impl Kicks {
    /// Counts one kick. May be called in any context.
    #[inline]
    pub(crate) fn count(&self) {
        self.0.add(1, Relaxed);
    }
}

/// Refusals that an operator can act on, each of which is logged once per device.
pub(crate) struct Told {
    incoherent_iommu: Atomic<bool>,
    table_full: Atomic<bool>,
    parent_full: Atomic<bool>,
    memlock: Atomic<bool>,
    features: Atomic<bool>,
}

impl Default for Told {
    fn default() -> Self {
        let never = || Atomic::new(false);
        Self {
            incoherent_iommu: never(),
            table_full: never(),
            parent_full: never(),
            memlock: never(),
            features: never(),
        }
    }
}

/// Returns true on the first call.
fn first(told: &Atomic<bool>) -> bool {
    // Most calls find the flag set, and only read it.
    !told.load(Relaxed) && !told.xchg(true, Full)
}

impl Told {
    /// Logs that `open()` failed with 524 (`ENOTSUPP`).
    pub(crate) fn incoherent_iommu(&self, minor: i32) {
        if first(&self.incoherent_iommu) {
            pr_warn!(
                "vhost-vdpa-{minor}: cannot be opened: there is no IOMMU that keeps caches coherent\n"
            );
        }
    }

    /// Logs that an `UPDATE` failed because the address space has the largest number of ranges.
    pub(crate) fn table_full(&self, minor: i32, asid: u32) {
        if first(&self.table_full) {
            let limit = params::max_iotlb_entries();
            pr_warn!(
                "vhost-vdpa-{minor}: map refused: address space {asid} is full, \
                 max_iotlb_entries={limit} bounds it\n"
            );
        }
    }

    /// Logs that an `UPDATE` failed because the parent has no room for its ranges (`ENOSPC`).
    pub(crate) fn parent_full(&self, minor: i32, asid: u32) {
        if first(&self.parent_full) {
            pr_warn!(
                "vhost-vdpa-{minor}: map refused: the parent's table of address space {asid} is full, \
                 a limit of the parent bounds it\n"
            );
        }
    }

    /// Logs that an `UPDATE` failed because of `RLIMIT_MEMLOCK`.
    pub(crate) fn memlock(&self, minor: i32, pages: u64) {
        if first(&self.memlock) {
            pr_warn!(
                "vhost-vdpa-{minor}: map refused: {pages} more pinned pages exceed RLIMIT_MEMLOCK\n"
            );
        }
    }

    /// Logs that the parent refused `VHOST_SET_FEATURES`.
    pub(crate) fn features(&self, minor: i32, features: u64, e: Error) {
        if first(&self.features) {
            pr_warn!(
                "vhost-vdpa-{minor}: the parent refused features {features:#x} ({})\n",
                e.to_errno()
            );
        }
    }
}

/// Counter or gauge that is read without a lock.
pub(crate) struct Counter(Atomic<u64>);

impl Default for Counter {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Counter {
    pub(crate) fn add(&self, n: u64, order: Relaxed) {
        self.0.add(n, order);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

impl Stats {
    /// Updates the peaks. Called when the setup of a file is undone: on close, removal or a failed
    /// open.
    pub(crate) fn closed(&self, peak: Mapped) {
        self.entries_peak
            .set(self.entries_peak.get().max(peak.ranges));
        self.pinned_peak
            .set(self.pinned_peak.get().max(peak.pinned));
    }

    /// Counts the open and starts new peaks. Called when a file is opened.
    pub(crate) fn opened(&self) {
        self.opens.add(1, Relaxed);
        self.entries_peak.set(0);
        self.pinned_peak.set(0);
    }
}

/// Debugfs files of a device. Dropping it removes them.
pub(crate) struct Files {
    _state: Pin<KBox<debugfs::File<Arc<VhostVdpa>>>>,
    _dir: debugfs::Dir,
}

impl Files {
    /// Creates `vhost-vdpa-N/` in `dir`.
    pub(crate) fn new(dir: &debugfs::Dir, minor: i32, node: &Arc<VhostVdpa>) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("vhost-vdpa-{minor}"))?;
        let dir = dir.subdir(&name);
        let state = KBox::pin_init(
            dir.read_callback_file(c"state", Ok::<_, Error>(node.clone())?, &show),
            GFP_KERNEL,
        )?;
        Ok(Self {
            _state: state,
            _dir: dir,
        })
    }
}

/// Writes the lines for which the parent is asked.
fn show_device(dev: &Device, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "present 1")?;
    writeln!(f, "device_id {}", dev.get_device_id())?;
    writeln!(f, "status {:#x}", dev.get_status())?;
    writeln!(f, "map_style {:?}", dev.map_style())?;
    writeln!(f, "device_features {:#x}", dev.get_device_features())?;
    writeln!(f, "driver_features {:#x}", dev.get_driver_features())
}

/// Writes the `state` file.
fn show(node: &Arc<VhostVdpa>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let stats = &node.stats;
    let mut state = node.state.lock();
    match state.try_access() {
        Ok((_state, dev)) => show_device(&dev, f)?,
        Err(_) => writeln!(f, "present 0")?,
    }
    writeln!(f, "queues {}", node.nvqs)?;
    writeln!(f, "groups {}", node.ngroups)?;
    writeln!(f, "address_spaces {}", node.nas)?;
    writeln!(f, "use_va {}", u8::from(node.use_va))?;
    writeln!(f, "opened {}", u8::from(node.opened.load(Relaxed)))?;
    writeln!(f, "features {:#x}", state.features)?;
    writeln!(
        f,
        "backend_features {:#x}",
        node.backend_features.load(Relaxed)
    )?;
    writeln!(f, "suspended {}", u8::from(state.suspended))?;
    writeln!(f, "iova_first {:#x}", state.range.first)?;
    writeln!(f, "iova_last {:#x}", state.range.last)?;
    writeln!(f, "iotlb_limit {}", params::max_iotlb_entries())?;
    for (asid, space) in state.spaces.iter() {
        let mapped = space.mapped();
        writeln!(f, "as{asid}_entries {}", mapped.ranges)?;
        writeln!(f, "as{asid}_pinned_pages {}", mapped.pinned)?;
        writeln!(f, "as{asid}_held {}", space.held())?;
    }
    let calls: u64 = node.calls.queues().map(|call| call.signalled()).sum();
    let bypass = state.producers.iter().flatten().count();
    let (mapped, peak) = state.mapped();
    // Peaks of the open file, or of the last one.
    let entries_peak = stats.entries_peak.get().max(peak.ranges);
    let pinned_peak = stats.pinned_peak.get().max(peak.pinned);
    writeln!(f, "iotlb_entries {}", mapped.ranges)?;
    writeln!(f, "iotlb_entries_peak {entries_peak}")?;
    writeln!(f, "pinned_pages {}", mapped.pinned)?;
    writeln!(f, "pinned_pages_peak {pinned_peak}")?;
    writeln!(f, "opens {}", stats.opens.get())?;
    writeln!(f, "resets {}", stats.resets.get())?;
    writeln!(f, "maps {}", state.counts.maps)?;
    writeln!(f, "unmaps {}", state.counts.unmaps)?;
    writeln!(f, "unshared_bytes {}", state.counts.unshared_bytes)?;
    writeln!(f, "failed_messages {}", stats.failed_messages.get())?;
    let kicks: u64 = node.kicks.iter().map(|kicks| kicks.0.get()).sum();
    writeln!(f, "kicks {kicks}")?;
    writeln!(f, "queue_calls {calls}")?;
    let config = node
        .calls
        .get(Source::Config)
        .map_or(0, |call| call.signalled());
    writeln!(f, "config_calls {config}")?;
    writeln!(f, "irq_bypass_producers {bypass}")
}
