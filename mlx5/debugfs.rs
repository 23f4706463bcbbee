// SPDX-License-Identifier: GPL-2.0

//! The file `keys` in debugfs.

use super::keys::KeySize;
use kernel::{
    debugfs::ScopedDir,
    fmt,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex}, //
};
use vdpa_sim::faults::{Files, Knob};

/// Kind of an address space's key.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// There is no key.
    None,
    /// IOVAs are physical addresses.
    Physical,
    /// Direct keys below an indirect one.
    Indirect(KeySize),
}

/// The keys of a device.
struct State {
    /// The kind of each address space's key.
    kinds: KVec<Kind>,
    /// The number of exchanges of keys.
    exchanges: u64,
}

/// File `keys` of a device: a line for each address space, and the number of exchanges.
#[pin_data]
pub(crate) struct KeyFile {
    #[pin]
    state: Mutex<State>,
    /// Fault for setting up queues with another key.
    pub(crate) set_up: Knob,
}

impl KeyFile {
    /// Creates the content of the file, before any exchange.
    pub(crate) fn new(kinds: KVec<Kind>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State { kinds, exchanges: 0 }),
                set_up: Knob::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Records that the key of an address space was replaced.
    pub(crate) fn exchanged(&self, asid: u32, kind: Kind) {
        let mut state = self.state.lock();
        state.exchanges += 1;
        if let Some(current) = state.kinds.get_mut(asid as usize) {
            *current = kind;
        }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        for (asid, kind) in state.kinds.iter().enumerate() {
            match kind {
                Kind::None => writeln!(f, "{asid} none")?,
                Kind::Physical => writeln!(f, "{asid} physical")?,
                Kind::Indirect(KeySize {
                    pieces,
                    directs,
                    pages,
                }) => writeln!(f, "{asid} pieces {pieces} direct {directs} pages {pages}")?,
            }
        }
        writeln!(f, "exchanges {}", state.exchanges)
    }
}

/// Files of a device in debugfs.
pub(crate) struct KeyFiles(pub(crate) Arc<KeyFile>);

impl Files for KeyFiles {
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        dir.read_only_file(c"keys", &*self.0);
        self.0.set_up.file(dir, c"fail_set_up");
    }
}
