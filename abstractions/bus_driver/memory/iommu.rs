// SPDX-License-Identifier: GPL-2.0

//! Domains of the platform's IOMMU, attached to a device.
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

/// Paging domain to which the DMA device of a parent is attached. Dropping it detaches the device
/// and frees the domain.
///
/// # Invariants
///
/// `domain` is valid and `dev`, to which we own a reference, is attached to it.
pub struct Domain {
    domain: NonNull<bindings::iommu_domain>,
    dev: kernel::sync::aref::ARef<kernel::device::Device>,
}

// SAFETY: A domain is not tied to a thread. It is not `Sync`: `iommu_map()` and `iommu_unmap()`
// need exclusive use of their range, which they have as long as one thread at a time uses the
// domain.
unsafe impl Send for Domain {}

impl Domain {
    /// Allocates a domain and attaches the device that does the parent's DMA.
    ///
    /// Errors: `ENODEV` without a DMA device, `ENOTSUPP` (524, as in C) if the IOMMU does not keep
    /// caches coherent, those of the IOMMU driver.
    pub fn attach(parent: &vdpa::Device) -> Result<Self> {
        // SAFETY: By the invariant of `vdpa::Device` the device is valid.
        let dma_dev = unsafe { bindings::vhost_vdpa_dma_dev(parent.as_raw()) };
        if dma_dev.is_null() {
            return Err(ENODEV);
        }
        // SAFETY: The DMA device lives as long as the vDPA device; `dev` is a reference of our own.
        let dev = unsafe { kernel::device::Device::get_device(dma_dev) };
        // SAFETY: `dev` is a reference to the device.
        if !unsafe { bindings::vhost_vdpa_iommu_cache_coherent(dma_dev) } {
            return Err(ENOTSUPP);
        }
        // SAFETY: `dev` is a reference to the device.
        let domain = from_err_ptr(unsafe { bindings::vhost_vdpa_iommu_domain_alloc(dma_dev) })?;
        let domain = NonNull::new(domain).ok_or(ENOMEM)?;
        // SAFETY: The domain was just allocated, and `dev` is a reference to the device.
        let attached = unsafe { bindings::iommu_attach_device(domain.as_ptr(), dma_dev) };
        if let Err(e) = to_result(attached) {
            // SAFETY: The domain was allocated above, and nothing is attached to it.
            unsafe { bindings::iommu_domain_free(domain.as_ptr()) };
            return Err(e);
        }
        // INVARIANT: The device was just attached.
        Ok(Self { domain, dev })
    }

    /// Returns the IOVAs that the domain can map, or `None` if it has no bounds.
    pub fn aperture(&self) -> Option<IovaRange> {
        let mut range = IovaRange::ALL;
        // SAFETY: By the invariant the domain is valid; both other pointers are valid for writes.
        unsafe {
            bindings::vhost_vdpa_iommu_aperture(
                self.domain.as_ptr(),
                &mut range.first,
                &mut range.last,
            )
        }
        .then_some(range)
    }

    /// Maps `size` bytes of physical memory at `iova`. `perm` is `VHOST_ACCESS_*`.
    pub fn map(&self, iova: u64, pa: u64, size: u64, perm: u32) -> Result {
        // SAFETY: By the invariant the domain is valid. Nobody else uses the range, because a
        // domain is not `Sync`. The caller must map only memory that the device may reach.
        to_result(unsafe {
            bindings::vhost_vdpa_iommu_map(self.domain.as_ptr(), iova, pa, size, perm)
        })
    }

    /// Unmaps all of what one [`Self::map`] mapped. `EIO` if part of it stays mapped.
    pub fn unmap(&self, iova: u64, size: u64) -> Result {
        let size = usize::try_from(size)?;
        // SAFETY: By the invariant the domain is valid. Nobody else uses the range, because a
        // domain is not `Sync`.
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
        // SAFETY: By the invariant the device is attached; the kernel crate's `Device` is a
        // transparent wrapper.
        unsafe { bindings::iommu_detach_device(self.domain.as_ptr(), dev) };
        // SAFETY: By the invariant the domain is valid, and nothing is attached to it any more.
        unsafe { bindings::iommu_domain_free(self.domain.as_ptr()) };
    }
}
