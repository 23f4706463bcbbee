// SPDX-License-Identifier: GPL-2.0

//! The address spaces of a simulated device.

use crate::abstractions::{
    guest_mem::{GuestMemory, Translation},
    iotlb::{Iotlb, OwnedIotlb},
};
use crate::ring::{Memory, RingError, RingResult};
use kernel::{
    prelude::*,
    sync::barrier, //
};

/// How many ranges an address space holds.
const MAX_IOTLB_ENTRIES: u32 = 2048;

/// One address space: the maps that a driver set, or none of its own, and then addresses are
/// physical ones. virtio_vdpa expects the latter.
pub(crate) struct AddressSpace(Option<OwnedIotlb>);

/// All address spaces of a device.
pub(crate) struct AddressSpaces(KVec<AddressSpace>);

/// A copy of what a driver gave to `set_map`.
///
/// It is made before any lock is taken: only the exchange needs one, and when the copy fails the
/// maps before it stay.
pub(crate) fn copy_of(iotlb: &Iotlb) -> Result<OwnedIotlb> {
    let mut copy = OwnedIotlb::new(MAX_IOTLB_ENTRIES)?;
    for map in iotlb.iter(0, u64::MAX) {
        copy.add(
            map.start,
            map.last,
            map.addr,
            map.perm,
            core::ptr::null_mut(),
        )?;
    }
    Ok(copy)
}

impl AddressSpaces {
    /// Address spaces without maps.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let mut all = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            all.push(AddressSpace(None), GFP_KERNEL)?;
        }
        Ok(Self(all))
    }

    /// Replaces the maps of one, and returns the old ones, to be dropped without the lock.
    ///
    /// Errors: `EINVAL` when there is no such address space.
    pub(crate) fn set(
        &mut self,
        asid: c_uint,
        maps: Option<OwnedIotlb>,
    ) -> Result<Option<OwnedIotlb>> {
        let space = self.0.get_mut(asid as usize).ok_or(EINVAL)?;
        Ok(core::mem::replace(&mut space.0, maps))
    }

    /// Takes the maps of all of them away.
    pub(crate) fn clear(&mut self) {
        for space in self.0.iter_mut() {
            space.0 = None;
        }
    }

    /// The memory that one of them makes visible. Without such a one, nothing would be.
    pub(crate) fn memory(&self, asid: usize) -> Option<GuestMemory<'_>> {
        let space = self.0.get(asid)?;
        Some(GuestMemory::new(match &space.0 {
            None => Translation::Identity,
            Some(iotlb) => Translation::Iotlb(iotlb),
        }))
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
        barrier::smp_mb();
    }
}
