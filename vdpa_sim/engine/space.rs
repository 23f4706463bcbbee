// SPDX-License-Identifier: GPL-2.0

//! Address spaces of a device. All of its units share them; each has a lock that is held for one
//! lookup or one change.

use crate::ring::{Memory, RingError, RingResult};
use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex}, //
};
use vdpa_parent::{
    barrier,
    guest_mem::{GuestMemory, Range, To, Translate, Translation},
    mm::UserAccess,
};

/// Translation of an address space.
pub trait Table: Send + Unpin + 'static {
    /// Returns the contiguous range around an IOVA, or `None` if nothing is mapped there.
    fn find(&self, iova: u64) -> Option<Range>;

    /// Does the same as [`Self::find`] for software that looks up addresses itself. The result
    /// differs only if hardware reaches something where nothing is mapped.
    fn find_in_software(&self, iova: u64) -> Option<Range> {
        self.find(iova)
    }

    /// Calls `f` for every range, for debugfs.
    fn show(&self, f: &mut dyn FnMut(Range));

    /// Returns true if queues in this address space can run. Others rest, and continue later.
    fn is_usable(&self) -> bool {
        true
    }
}

/// One address space.
///
/// A range that was looked up may be used only under the lock of the unit for which it was looked
/// up: [`crate::engine::Engine::change_maps`] takes that lock after each change.
#[pin_data]
pub struct AddressSpace<T> {
    #[pin]
    table: Mutex<T>,
}

impl<T: Table> AddressSpace<T> {
    /// Calls `f` to change the table, under the lock.
    pub fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.table.lock())
    }
}

impl<T: Table> Translate for AddressSpace<T> {
    fn find(&self, iova: u64) -> Option<Range> {
        self.table.lock().find(iova)
    }
}

/// Address space for software that looks up addresses itself.
struct InSoftware<T>(Arc<AddressSpace<T>>);

impl<T: Table> Translate for InSoftware<T> {
    fn find(&self, iova: u64) -> Option<Range> {
        self.0.table.lock().find_in_software(iova)
    }
}

/// Address spaces of a device.
pub struct AddressSpaces<T> {
    all: KVec<Arc<AddressSpace<T>>>,
    /// The same address spaces, for software.
    in_software: KVec<InSoftware<T>>,
}

impl<T: Table> AddressSpaces<T> {
    /// Creates `count` address spaces, with tables from `table`. Errors: `ENOMEM`.
    pub(super) fn new(count: u32, mut table: impl FnMut() -> T) -> Result<Self> {
        let mut all = KVec::with_capacity(count as usize, GFP_KERNEL)?;
        let mut in_software = KVec::with_capacity(count as usize, GFP_KERNEL)?;
        for _ in 0..count {
            let table = table();
            let space = Arc::pin_init(
                pin_init!(AddressSpace { table <- new_mutex!(table) }),
                GFP_KERNEL,
            )?;
            in_software.push(InSoftware(space.clone()), GFP_KERNEL)?;
            all.push(space, GFP_KERNEL)?;
        }
        Ok(Self { all, in_software })
    }

    /// Returns address space `asid`, or `EINVAL` if it does not exist.
    pub(super) fn get(&self, asid: u32) -> Result<&AddressSpace<T>> {
        Ok(self.all.get(asid as usize).ok_or(EINVAL)?)
    }

    /// Returns all address spaces.
    pub(super) fn iter(&self) -> impl Iterator<Item = &AddressSpace<T>> {
        self.all.iter().map(|space| &**space)
    }
}

impl<T: Table> fmt::Debug for AddressSpaces<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        for (asid, space) in self.all.iter().enumerate() {
            space.table.lock().show(&mut |range| {
                let Range {
                    start,
                    last,
                    to,
                    perm,
                } = range;
                result = result.and_then(|()| match to {
                    To::Address(addr) => {
                        writeln!(f, "{asid} {start:#x} {last:#x} {addr:#x} {perm}")
                    }
                    To::Null => writeln!(f, "{asid} {start:#x} {last:#x} - {perm}"),
                });
            });
        }
        result
    }
}

/// Address spaces, without the type of their tables.
pub(super) trait Spaces {
    /// Returns the translation of an address space: to addresses of `user` if there is one, else to
    /// physical ones. Returns `None` if the address space does not exist or cannot be used now.
    fn translation<'a>(
        &'a self,
        asid: u32,
        user: Option<&'a UserAccess<'a>>,
    ) -> Option<Translation<'a>>;

    /// Does the same as [`Self::translation`] for software that looks up addresses itself.
    fn software<'a>(
        &'a self,
        asid: u32,
        user: Option<&'a UserAccess<'a>>,
    ) -> Option<Translation<'a>>;
}

impl<T: Table> Spaces for AddressSpaces<T> {
    fn translation<'a>(
        &'a self,
        asid: u32,
        user: Option<&'a UserAccess<'a>>,
    ) -> Option<Translation<'a>> {
        let space = self.get(asid).ok()?;
        if !space.change(|table| table.is_usable()) {
            return None;
        }
        Some(match user {
            None => Translation::By(space),
            Some(user) => Translation::User(space, user),
        })
    }

    fn software<'a>(
        &'a self,
        asid: u32,
        user: Option<&'a UserAccess<'a>>,
    ) -> Option<Translation<'a>> {
        let space = self.in_software.get(asid as usize)?;
        if !space.0.change(|table| table.is_usable()) {
            return None;
        }
        Some(match user {
            None => Translation::By(space),
            Some(user) => Translation::User(space, user),
        })
    }
}

impl Memory for GuestMemory<'_> {
    fn read(&self, addr: u64, into: &mut [u8]) -> RingResult {
        GuestMemory::read(self, addr, into).map_err(|_| RingError::Unmapped)
    }

    fn write(&self, addr: u64, from: &[u8]) -> RingResult {
        GuestMemory::write(self, addr, from).map_err(|_| RingError::Unmapped)
    }

    fn load_u16(&self, addr: u64) -> RingResult<u16> {
        GuestMemory::load_u16(self, addr).map_err(|_| RingError::Unmapped)
    }

    fn store_u16(&self, addr: u64, value: u16) -> RingResult {
        GuestMemory::store_u16(self, addr, value).map_err(|_| RingError::Unmapped)
    }

    fn read_barrier(&self) {
        barrier::smp_rmb();
    }

    fn write_barrier(&self) {
        barrier::smp_wmb();
    }

    fn full_barrier(&self) {
        barrier::smp_full_mb();
    }
}
