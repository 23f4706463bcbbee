// SPDX-License-Identifier: GPL-2.0

//! A domain of the platform's IOMMU, attached to a device.
//!
//! C: `include/linux/iommu.h`.

use crate::{
    bindings,
    vdpa::{self, IovaRange}, //
};
use core::ptr::NonNull;
use kernel::{
    error::{from_err_ptr, to_result},
    prelude::*, //
};

/// A paging domain to which the DMA device of a parent is attached; detached and freed on drop.
///
/// # Invariants
///
/// `domain` is valid and `dev`, whose reference we hold, is attached to it.
pub struct Domain {
    domain: NonNull<bindings::iommu_domain>,
    dev: kernel::sync::aref::ARef<kernel::device::Device>,
}

// SAFETY: Domains are not tied to threads. This is not `Sync`: `iommu_map()` and `iommu_unmap()` want
// the range that they work on for themselves, which they have while one thread at a time has a domain.
unsafe impl Send for Domain {}

impl Domain {
    /// Allocates a domain and attaches the device that does the parent's DMA.
    ///
    /// Errors: `ENOTSUPP` (524, as in C) where the IOMMU does not keep caches coherent.
    pub fn attach(parent: &vdpa::Device) -> Result<Self> {
        // SAFETY: By the invariant of `vdpa::Device`.
        let dma_dev = unsafe { bindings::vhost_vdpa_dma_dev(parent.as_raw()) };
        if dma_dev.is_null() {
            return Err(ENODEV);
        }
        // SAFETY: The DMA device lives as long as the vDPA device; from here on we hold it too.
        let dev = unsafe { kernel::device::Device::get_device(dma_dev) };
        // SAFETY: `dma_dev` is valid.
        if !unsafe { bindings::vhost_vdpa_iommu_cache_coherent(dma_dev) } {
            return Err(ENOTSUPP);
        }
        // SAFETY: `dma_dev` is valid.
        let domain = from_err_ptr(unsafe { bindings::vhost_vdpa_iommu_domain_alloc(dma_dev) })?;
        let domain = NonNull::new(domain).ok_or(ENOMEM)?;
        // SAFETY: Both are valid.
        let attached = unsafe { bindings::iommu_attach_device(domain.as_ptr(), dma_dev) };
        if let Err(e) = to_result(attached) {
            // SAFETY: Allocated above, attached to nothing.
            unsafe { bindings::iommu_domain_free(domain.as_ptr()) };
            return Err(e);
        }
        // INVARIANT: Attached just now.
        Ok(Self { domain, dev })
    }

    /// The IOVAs that the domain can map, where it has bounds.
    pub fn aperture(&self) -> Option<IovaRange> {
        let mut range = IovaRange::ALL;
        // SAFETY: Valid by the invariant.
        unsafe {
            bindings::vhost_vdpa_iommu_aperture(
                self.domain.as_ptr(),
                &mut range.first,
                &mut range.last,
            )
        }
        .then_some(range)
    }

    /// Maps `size` bytes of physical memory for the device.
    pub fn map(&self, iova: u64, pa: u64, size: u64, perm: u32) -> Result {
        // SAFETY: Valid by the invariant, and nobody else has the range, because a domain is not `Sync`. The
        // caller answers for what it lets the device reach.
        to_result(unsafe {
            bindings::vhost_vdpa_iommu_map(self.domain.as_ptr(), iova, pa, size, perm)
        })
    }

    /// Unmaps all of what one `map` mapped. `EIO` if some of it is still mapped.
    pub fn unmap(&self, iova: u64, size: u64) -> Result {
        let size = usize::try_from(size)?;
        // SAFETY: Valid by the invariant, and nobody else has the range, because a domain is not `Sync`.
        let done = unsafe { bindings::iommu_unmap(self.domain.as_ptr(), iova as usize, size) };
        if done == size {
            Ok(())
        } else {
            Err(EIO)
        }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let dev = core::ptr::from_ref(&*self.dev).cast_mut().cast();
        // SAFETY: Attached by the invariant; the kernel crate's `Device` is a transparent wrapper.
        unsafe { bindings::iommu_detach_device(self.domain.as_ptr(), dev) };
        // SAFETY: Nothing is attached any more.
        unsafe { bindings::iommu_domain_free(self.domain.as_ptr()) };
    }
}
