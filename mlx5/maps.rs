// SPDX-License-Identifier: GPL-2.0

//! What the address spaces of the device translate with: a memory key each, or none.

use super::{
    debugfs::Kind,
    keys::{Extent, IndirectKey, Key, KeyError, Range, Ranges, Target},
};
use kernel::prelude::*;
use vdpa_parent::{guest_mem, iotlb::Iotlb};
use vdpa_sim::space::Table;

/// The key of an address space. Without one, the queues in it rest.
pub(crate) struct Maps(Option<Key>);

impl Maps {
    /// No key.
    pub(crate) const NONE: Self = Self(None);
    /// The key of a device at rest: addresses are physical ones.
    pub(crate) const PHYSICAL: Self = Self(Some(Key::Physical));

    /// The maps that the address space has at rest.
    pub(crate) const fn at_rest(asid: u32) -> Self {
        match asid {
            0 => Self::PHYSICAL,
            _ => Self::NONE,
        }
    }

    /// Makes the key for an IOTLB of at most `limit` ranges; for an empty one there is none.
    ///
    /// Errors: `ENOSPC` when it has too many ranges; `EINVAL` when one is not made of pages;
    /// `ENOMEM`, also when the key would be larger than the hardware's.
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

    /// What the key is, for the administrator.
    pub(crate) fn kind(&self) -> Kind {
        match &self.0 {
            None => Kind::None,
            Some(Key::Physical) => Kind::Physical,
            Some(Key::Indirect(key)) => Kind::Indirect(key.size()),
        }
    }
}

/// The error number of what firmware, or the memory of the host, refuses.
fn errno(error: KeyError) -> Error {
    match error {
        KeyError::NoMemory | KeyError::TooManyPieces => ENOMEM,
        KeyError::TooManyRanges => ENOSPC,
        KeyError::Invalid => EINVAL,
    }
}

/// What lies around an address, as the device's memory wants to know it.
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
        // The null key is the hardware's.
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
