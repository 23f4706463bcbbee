// SPDX-License-Identifier: GPL-2.0

//! Translation of the device's address spaces: each has a memory key or none.

use super::{
    debugfs::Kind,
    keys::{Extent, IndirectKey, Key, KeyError, Range, Ranges, Target},
};
use kernel::prelude::*;
use vdpa_parent::{guest_mem, iotlb::Iotlb};
use vdpa_sim::space::Table;

/// Key of an address space. Queues in an address space without a key do not run.
pub(crate) struct Maps(Option<Key>);

impl Maps {
    /// No key.
    pub(crate) const NONE: Self = Self(None);
    /// The key after a reset: IOVAs are physical addresses.
    pub(crate) const PHYSICAL: Self = Self(Some(Key::Physical));

    /// Returns the maps that address space `asid` has after a reset.
    pub(crate) const fn at_rest(asid: u32) -> Self {
        match asid {
            0 => Self::PHYSICAL,
            _ => Self::NONE,
        }
    }

    /// Creates the key for an IOTLB of at most `limit` ranges; no key for an empty one.
    ///
    /// Errors: `ENOSPC` if it has too many ranges; `EINVAL` if a range does not consist of whole
    /// pages; `ENOMEM`, also if the key would be larger than the hardware's.
    pub(crate) fn new(iotlb: &Iotlb, limit: u32) -> Result<Self> {
        let mut ranges = Ranges::new(limit as usize);
        for map in iotlb.iter(0, u64::MAX) {
            ranges
                .push(Range {
                    start: map.start,
                    last: map.last,
                    pa: map.addr,
                    perm: map.perm,
                })
                .map_err(errno)?;
        }
        if ranges.is_empty() {
            return Ok(Self::NONE);
        }
        let key = IndirectKey::new(&ranges).map_err(errno)?;
        Ok(Self(Some(Key::Indirect(key))))
    }

    /// Returns the kind of the key, for debugfs.
    pub(crate) fn kind(&self) -> Kind {
        match &self.0 {
            None => Kind::None,
            Some(Key::Physical) => Kind::Physical,
            Some(Key::Indirect(key)) => Kind::Indirect(key.size()),
        }
    }
}

/// Converts an error of the firmware, or of the host's allocator, to an errno.
fn errno(error: KeyError) -> Error {
    match error {
        KeyError::NoMemory | KeyError::TooManyPieces => ENOMEM,
        KeyError::TooManyRanges => ENOSPC,
        KeyError::Invalid => EINVAL,
    }
}

/// Converts an extent to the range that [`guest_mem`] takes.
fn range(extent: Extent) -> guest_mem::Range {
    let Extent {
        start,
        last,
        target,
    } = extent;
    let (to, perm) = match target {
        Target::Memory { pa, perm } => (guest_mem::To::Address(pa), perm),
        Target::Null => (guest_mem::To::Null, guest_mem::READ | guest_mem::WRITE),
    };
    guest_mem::Range {
        start,
        last,
        to,
        perm,
    }
}

impl Table for Maps {
    fn find(&self, iova: u64) -> Option<guest_mem::Range> {
        self.0.as_ref()?.find(iova).map(range)
    }

    fn find_in_software(&self, iova: u64) -> Option<guest_mem::Range> {
        // Only hardware has the null key.
        self.find(iova)
            .filter(|range| range.to != guest_mem::To::Null)
    }

    fn show(&self, f: &mut dyn FnMut(guest_mem::Range)) {
        if let Some(key) = &self.0 {
            key.for_each(|extent| f(range(extent)));
        }
    }

    fn is_usable(&self) -> bool {
        self.0.is_some()
    }
}
