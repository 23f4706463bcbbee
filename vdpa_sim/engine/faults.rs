// SPDX-License-Identifier: GPL-2.0

//! Injected faults, and the directory in debugfs in which they are set.

use crate::{
    queue::QueueStates,
    space::{AddressSpaces, Table}, //
};
use kernel::{
    debugfs::{Dir, Scope, ScopedDir},
    prelude::*,
    str::CStr,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// Longest delay, in microseconds.
const DELAY_MAX: u32 = 10_000_000;

/// Fault of one op.
pub struct Knob(Atomic<u32>);

impl Default for Knob {
    fn default() -> Self {
        Self::new()
    }
}

impl Knob {
    /// Creates a knob without a fault.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Creates the file of the knob.
    pub fn file<'data>(&'data self, dir: &ScopedDir<'data, '_>, name: &CStr) {
        dir.read_write_file(name, &self.0);
    }

    /// Counts a call. The call for which the counter was set fails with `EIO`, once.
    pub fn hit(&self) -> Result {
        let mut left = self.0.load(Relaxed);
        while let Some(next) = left.checked_sub(1) {
            match self.0.cmpxchg(left, next, Full) {
                Ok(_) if next == 0 => return Err(EIO),
                Ok(_) => break,
                Err(now) => left = now,
            }
        }
        Ok(())
    }
}

/// Faults of a device. Each file has a decimal number: N makes the Nth call from now fail, 0 makes
/// none fail. Reading it returns the number of calls that are left.
pub struct Faults {
    /// The fault of the op `set_map`.
    pub set_map: Knob,
    /// The fault of the op `dma_map`.
    pub dma_map: Knob,
    /// The fault of the op `dma_unmap`.
    pub dma_unmap: Knob,
    /// The fault of the op `reset_map`.
    pub reset_map: Knob,
    /// The fault of the ops `reset` and `compat_reset`.
    pub reset: Knob,
    /// The fault of the op `suspend`.
    pub suspend: Knob,
    /// The fault of the op `resume`.
    pub resume: Knob,
    /// The delay before each run of a unit, in microseconds.
    delay: Atomic<u32>,
}

impl Faults {
    /// Returns no faults.
    const fn new() -> Self {
        Self {
            set_map: Knob::new(),
            dma_map: Knob::new(),
            dma_unmap: Knob::new(),
            reset_map: Knob::new(),
            reset: Knob::new(),
            suspend: Knob::new(),
            resume: Knob::new(),
            delay: Atomic::new(0),
        }
    }

    /// Sleeps as long as completions are to be delayed. To be called without locks.
    pub fn delay(&self) {
        let micros = self.delay.load(Relaxed).min(DELAY_MAX);
        if micros != 0 {
            fsleep(Delta::from_micros(micros.into()));
        }
    }

    /// Creates the files.
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        self.set_map.file(dir, c"fail_set_map");
        self.dma_map.file(dir, c"fail_dma_map");
        self.dma_unmap.file(dir, c"fail_dma_unmap");
        self.reset_map.file(dir, c"fail_reset_map");
        self.reset.file(dir, c"fail_reset");
        self.suspend.file(dir, c"fail_suspend");
        self.resume.file(dir, c"fail_resume");
        dir.read_write_file(c"delay_completions_us", &self.delay);
    }
}

/// Files that a class adds to the directory of a device.
pub trait Files: Send + Sync + 'static {
    /// Creates the files.
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>);
}

impl Files for () {
    fn files<'data>(&'data self, _dir: &ScopedDir<'data, '_>) {}
}

/// Directory of a device.
pub struct Directory<F, T> {
    faults: Faults,
    spaces: Arc<AddressSpaces<T>>,
    queues: Arc<QueueStates>,
    class: F,
}

impl<F: Files, T: Table> Directory<F, T> {
    /// Returns an initialiser for the directory `name` below `dir`, which shows these address
    /// spaces and queues. Dropping it removes the directory. Without debugfs there are no faults.
    pub fn new<'a>(
        dir: &'a Dir,
        name: &'a CStr,
        spaces: Arc<AddressSpaces<T>>,
        queues: Arc<QueueStates>,
        class: F,
    ) -> impl PinInit<Scope<Self>, Error> + 'a {
        let this = try_init!(Self {
            faults: Faults::new(),
            spaces,
            queues,
            class,
        }? Error);
        dir.scope(this, name, |this, dir| {
            dir.read_only_file(c"maps", &*this.spaces);
            dir.read_only_file(c"queues", &*this.queues);
            this.faults.files(dir);
            this.class.files(dir);
        })
    }

    /// Returns the faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}
