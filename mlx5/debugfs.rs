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

/// What a key is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// There is none.
    None,
    /// Addresses are physical ones.
    Physical,
    /// Direct keys below an indirect one.
    Indirect(KeySize),
}

/// The keys of a device.
struct State {
    /// One for each address space.
    kinds: KVec<Kind>,
    /// How often a key was exchanged.
    exchanges: u64,
}

/// The file `keys` of a device: a line for each address space, and the number of exchanges.
#[pin_data]
pub(crate) struct KeyFile {
    #[pin]
    state: Mutex<State>,
    /// For setting queues up again with another key.
    pub(crate) set_up: Knob,
}

impl KeyFile {
    /// Creates the file's content, before a key was exchanged.
    pub(crate) fn new(kinds: KVec<Kind>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State { kinds, exchanges: 0 }),
                set_up: Knob::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Records that an address space has another key.
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

/// The files of a device.
pub(crate) struct KeyFiles(pub(crate) Arc<KeyFile>);

impl Files for KeyFiles {
    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        dir.read_only_file(c"keys", &*self.0);
        self.0.set_up.file(dir, c"fail_set_up");
    }
}
