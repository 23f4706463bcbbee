// SPDX-License-Identifier: GPL-2.0

//! What an operator can see: `/sys/kernel/debug/rust_vhost_vdpa/vhost-vdpa-N/state`.
//!
//! One `key value` pair a line. Counters start with the device; peaks are of the last or current
//! open of the file, the sums of what each address space had at most.

use crate::{
    abstractions::{params, vdpa::Device},
    iotlb::Mapped,
    Node,
};
use kernel::{
    debugfs, fmt,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// Counters of a device.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) opens: Counter,
    pub(crate) resets: Counter,
    pub(crate) kicks: Counter,
    pub(crate) failed_messages: Counter,
    entries_peak: Counter,
    pinned_peak: Counter,
}

/// What messages did, counted where the state is locked anyway.
#[derive(Default)]
pub(crate) struct Counts {
    /// Ranges that were mapped.
    pub(crate) maps: u64,
    /// Ranges that were unmapped.
    pub(crate) unmaps: u64,
    /// Bytes of `UPDATE` messages that a parent with virtual addresses cannot reach.
    pub(crate) unshared_bytes: u64,
}

/// A number that only grows, or a gauge; read without a lock.
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
    /// Notes the most that was mapped. Called when a file is closed or could not be opened.
    pub(crate) fn closed(&self, peak: Mapped) {
        self.entries_peak
            .set(self.entries_peak.get().max(peak.ranges));
        self.pinned_peak
            .set(self.pinned_peak.get().max(peak.pinned));
    }

    /// Starts new peaks. Called when a file is opened.
    pub(crate) fn opened(&self) {
        self.opens.add(1, Relaxed);
        self.entries_peak.set(0);
        self.pinned_peak.set(0);
    }
}

/// The debugfs files of a device; gone when dropped.
pub(crate) struct Files {
    _state: Pin<KBox<debugfs::File<Arc<Node>>>>,
    _dir: debugfs::Dir,
}

impl Files {
    /// Creates `vhost-vdpa-N/` in `dir`.
    pub(crate) fn new(dir: &debugfs::Dir, minor: i32, node: &Arc<Node>) -> Result<Self> {
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

/// Writes what the device itself tells.
fn show_device(dev: &Device, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "present 1")?;
    writeln!(f, "device_id {}", dev.get_device_id())?;
    writeln!(f, "status {:#x}", dev.get_status())?;
    writeln!(f, "map_style {:?}", dev.map_style())?;
    writeln!(f, "device_features {:#x}", dev.get_device_features())?;
    writeln!(f, "driver_features {:#x}", dev.get_driver_features())
}

/// Writes the `state` file.
fn show(node: &Arc<Node>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let stats = &node.stats;
    let mut state = node.state.lock();
    match state.enter() {
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
    let calls: u64 = node.calls.iter().map(|call| call.signalled()).sum();
    let bypass = state.producers.iter().flatten().count();
    let (mapped, peak) = state.mapped();
    // Of the file that is open, or of the last one.
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
    writeln!(f, "kicks {}", stats.kicks.get())?;
    writeln!(f, "queue_calls {calls}")?;
    writeln!(f, "config_calls {}", node.config_call.signalled())?;
    writeln!(f, "irq_bypass_producers {bypass}")
}
