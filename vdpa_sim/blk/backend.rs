// SPDX-License-Identifier: GPL-2.0

//! Memory for the sectors of a simulated disk.

use super::request::{Store, SECTOR};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use vdpa_parent::blk_params::memory_size;

/// Size of a part in bytes: a whole number of sectors and of pages.
const PART: usize = 1 << 16;

/// Sectors in memory, initially zeroes. They are divided into parts, each with a lock of its own:
/// requests for different parts do not wait for each other, whichever queue or disk they come from.
pub(crate) struct Backend {
    parts: KVVec<Pin<KBox<Mutex<KVVec<u8>>>>>,
    /// The size of all parts together, in bytes.
    size: u64,
}

impl Backend {
    /// Allocates memory for `sectors` sectors.
    ///
    /// Errors: `EINVAL` for 0, `ENOMEM`.
    pub(crate) fn new(sectors: u64) -> Result<Self> {
        let size = sectors.checked_mul(SECTOR).ok_or(ENOMEM)?;
        let mut left = usize::try_from(size).map_err(|_| ENOMEM)?;
        if left == 0 {
            return Err(EINVAL);
        }
        if size > memory_size() {
            return Err(ENOMEM);
        }
        let mut parts = KVVec::with_capacity(left.div_ceil(PART), GFP_KERNEL)?;
        while left != 0 {
            let len = left.min(PART);
            let bytes = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
            let part = KBox::pin_init(new_mutex!(bytes, "Backend::parts"), GFP_KERNEL)?;
            parts.push(part, GFP_KERNEL)?;
            left -= len;
        }
        Ok(Self { parts, size })
    }
}

impl Store for Backend {
    fn size(&self) -> u64 {
        self.size
    }

    fn piece<R>(&self, offset: u64, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let offset = usize::try_from(offset).ok()?;
        let mut part = self.parts.get(offset / PART)?.lock();
        let bytes = part.get_mut(offset % PART..).filter(|b| !b.is_empty())?;
        let len = len.min(bytes.len());
        bytes.get_mut(..len).map(f)
    }
}
