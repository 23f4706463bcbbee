// SPDX-License-Identifier: GPL-2.0

//! The address spaces of a device: shared by all that runs on it, each with a lock that is held
//! for one lookup or one change.

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

/// What an address space translates with.
pub trait Table: Send + Unpin + 'static {
    /// The contiguous range around an IOVA; `None` when nothing is mapped there.
    fn find(&self, iova: u64) -> Option<Range>;

    /// As `find`, for software that looks up addresses by itself: the same, unless hardware finds
    /// something where nothing is mapped.
    fn find_in_software(&self, iova: u64) -> Option<Range> {
        self.find(iova)
    }

    /// Shows every range, for the administrator.
    fn show(&self, f: &mut dyn FnMut(Range));

    /// Whether the queues in it can run at all. One that cannot rests, and goes on later.
    fn is_usable(&self) -> bool {
        true
    }
}

/// One address space.
///
/// Who looks up a range keeps it no longer than the lock of the unit that it works for;
/// [`crate::engine::Engine::change_maps`] takes that lock after each change.
#[pin_data]
pub struct AddressSpace<T> {
    #[pin]
    table: Mutex<T>,
}

impl<T: Table> AddressSpace<T> {
    /// Changes the table.
    pub fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.table.lock())
    }
}

impl<T: Table> Translate for AddressSpace<T> {
    fn find(&self, iova: u64) -> Option<Range> {
        self.table.lock().find(iova)
    }
}

/// An address space as software sees it that looks up addresses by itself.
struct InSoftware<T>(Arc<AddressSpace<T>>);

impl<T: Table> Translate for InSoftware<T> {
    fn find(&self, iova: u64) -> Option<Range> {
        self.0.table.lock().find_in_software(iova)
    }
}

/// All address spaces of a device.
pub struct AddressSpaces<T> {
    all: KVec<Arc<AddressSpace<T>>>,
    /// The same ones.
    in_software: KVec<InSoftware<T>>,
}

impl<T: Table> AddressSpaces<T> {
    /// Address spaces with these tables.
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

    /// Those with a number below that of the address spaces.
    pub(super) fn get(&self, asid: u32) -> Result<&AddressSpace<T>> {
        Ok(self.all.get(asid as usize).ok_or(EINVAL)?)
    }

    /// All of them.
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

/// Address spaces, whatever they translate with.
pub(super) trait Spaces {
    /// What one of them translates with, for a process if there is one; `None` when it cannot be
    /// used now.
    fn translation<'a>(
        &'a self,
        asid: u32,
        user: Option<&'a UserAccess<'a>>,
    ) -> Option<Translation<'a>>;

    /// As `translation`, for software that looks up addresses by itself.
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
