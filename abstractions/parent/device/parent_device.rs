// SPDX-License-Identifier: GPL-2.0

//! vDPA devices for parents: allocation, private data, registration.
//!
//! C: `__vdpa_alloc_device()`, `_vdpa_register_device()`, `drivers/vdpa/vdpa.c`.

use crate::{
    bindings,
    compat,
    op_table::OpTable, //
    parent_ops::{Maps, VdpaConfigOps},
};
use core::{marker::PhantomData, mem::MaybeUninit};
use kernel::{
    device::Device,
    error::{from_err_ptr, to_result},
    prelude::*,
    str::CStr, //
};

/// A `struct vdpa_device` with the parent's private data behind it.
///
/// # Invariants
///
/// `ready` is true exactly while `data` is initialised. `data` does not move.
#[repr(C)]
struct Container<T> {
    vdev: MaybeUninit<bindings::vdpa_device>,
    ready: bool,
    data: MaybeUninit<T>,
}

/// Alignment of every allocation of `kzalloc()`.
const ALLOC_ALIGN: usize = align_of::<u64>();

/// Returns the private data of a device.
///
/// # Safety
///
/// `vdev` must be a device that [`NewDevice::register`] made for a `T`, with its private data
/// initialised, and valid for `'a`.
pub(crate) unsafe fn private<'a, T>(vdev: *mut bindings::vdpa_device) -> &'a T {
    let this = vdev.cast::<Container<T>>();
    // SAFETY: The caller guarantees that this is a valid container.
    let data = unsafe { &raw const (*this).data };
    // SAFETY: The caller guarantees that the data is initialised; only shared references to it
    // exist.
    unsafe { &*data.cast::<T>() }
}

/// Drops the private data of a device, if it has any.
///
/// # Safety
///
/// `vdev` must be a device that [`NewDevice::register`] allocated for a `T`, and nobody may use its
/// private data any more.
pub(crate) unsafe fn drop_data<T>(vdev: *mut bindings::vdpa_device) {
    let this = vdev.cast::<Container<T>>();
    // SAFETY: The caller guarantees that this is a container; it was zeroed when allocated.
    if unsafe { !(*this).ready } {
        return;
    }
    // SAFETY: The caller guarantees that this is a container which nobody else uses.
    unsafe { (*this).ready = false };
    // SAFETY: The caller guarantees that this is a container, so the field is inside of the
    // allocation.
    let data = unsafe { &raw mut (*this).data };
    // SAFETY: By the invariant the data is initialised; the caller guarantees that nobody uses it.
    unsafe { core::ptr::drop_in_place(data.cast::<T>()) };
}

/// Numbers of queues, groups and address spaces of a device.
#[derive(Clone, Copy)]
pub struct Shape {
    /// The number of queues.
    pub vqs: u32,
    /// The number of groups of queues.
    pub groups: c_uint,
    /// The number of address spaces.
    pub address_spaces: c_uint,
}

/// Proof that a device was registered; see [`NewDevice::register`].
pub struct Registered(());

/// Reference to an allocated device. Dropping it puts the reference.
struct Allocated(*mut bindings::vdpa_device);

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: `Allocated` owns this reference; a `vdpa_device` begins with its `device`.
        unsafe { bindings::put_device(self.0.cast()) }
    }
}

/// Device that `vdpa dev add` asks for.
///
/// # Invariants
///
/// `mdev` is the registered management device, and its `dev_add` op is running.
pub struct NewDevice<'a, T> {
    mdev: *mut bindings::vdpa_mgmt_dev,
    name: &'a CStr,
    hardware: Option<&'a Device>,
    _data: PhantomData<fn() -> T>,
}

impl<'a, T: VdpaConfigOps> NewDevice<'a, T> {
    /// The op table. It is static because it must live as long as the module.
    const OPS: &'static bindings::vdpa_config_ops = &OpTable::<T>::VTABLE;

    /// Starts the creation of a device.
    ///
    /// # Safety
    ///
    /// `mdev` must be a registered management device whose `dev_add` op is running.
    pub(super) unsafe fn new(mdev: *mut bindings::vdpa_mgmt_dev, name: &'a CStr) -> Self {
        // INVARIANT: The caller guarantees it.
        Self {
            mdev,
            name,
            hardware: None,
            _data: PhantomData,
        }
    }

    /// Makes the device a child of the device that does its DMA. Without this call the vDPA device
    /// itself is its DMA device.
    pub fn on(self, hardware: &'a Device) -> Self {
        Self {
            hardware: Some(hardware),
            ..self
        }
    }

    /// Returns the name that the device will have.
    pub fn name(&self) -> &CStr {
        self.name
    }

    /// Allocates the device, initialises its private data with the result of `make`, and registers
    /// it on the vDPA bus. A driver may bind it before this returns. `make` gets the name, which no
    /// other device has.
    ///
    /// Errors: `ENOMEM`, `EEXIST` if a device has the name, `ENODEV` if the platform's IOMMU
    /// translates and [`Self::on`] named no device, those of `make` and of the initialiser.
    pub fn register<I, E>(
        self,
        shape: Shape,
        make: impl FnOnce(&CStr) -> Result<I>,
    ) -> Result<Registered>
    where
        I: PinInit<T, E>,
        Error: From<E>,
    {
        const { assert!(align_of::<T>() <= ALLOC_ALIGN) };
        const { assert!(core::mem::offset_of!(bindings::vdpa_device, dev) == 0) };

        if matches!(T::MAPS, Maps::Platform) && self.hardware.is_none() {
            return Err(ENODEV);
        }
        let hardware = self.hardware.map_or(core::ptr::null_mut(), |dev| {
            core::ptr::from_ref(dev)
                .cast::<bindings::device>()
                .cast_mut()
        });

        // SAFETY: The op table is static, the name is copied, and the size is that of a struct
        // which begins with a `vdpa_device`. The device above, if any, outlives this call; as the
        // parent it is referenced from registration on.
        let vdev = from_err_ptr(unsafe {
            bindings::__vdpa_alloc_device(
                hardware,
                Self::OPS,
                core::ptr::null(),
                shape.groups,
                shape.address_spaces,
                size_of::<Container<T>>(),
                self.name.as_char_ptr(),
                T::USE_VA,
            )
        })?;
        let allocated = Allocated(vdev);
        let this = vdev.cast::<Container<T>>();

        // The bus refuses such a name too, but only after everything that is named after it was
        // created.
        // SAFETY: The device is allocated, and by the invariant the bus holds its lock.
        if unsafe { bindings::vdpa_parent_name_taken(vdev, self.name.as_char_ptr()) } {
            return Err(EEXIST);
        }
        let init = make(self.name)?;

        // SAFETY: `this` was allocated with the size of a container, so the field is inside of it.
        let data = unsafe { &raw mut (*this).data };
        // SAFETY: The memory is valid for writes, holds no value and does not move until it is
        // freed. If this fails, `ready` stays false and nothing is dropped.
        unsafe { compat::raw_try_init(data.cast::<T>(), init) }?;
        // INVARIANT: The data was just initialised.
        // SAFETY: `this` has the size of a container, and nobody else has it before it is
        // registered.
        unsafe { (*this).ready = true };

        // SAFETY: Nobody else has the device before it is registered.
        unsafe { (*vdev).mdev = self.mdev };
        let dma_dev = if hardware.is_null() {
            // Software does the DMA: the vDPA device itself, which has no IOMMU.
            vdev.cast()
        } else {
            hardware
        };
        // SAFETY: Nobody else has the device before it is registered.
        unsafe { (*vdev).vmap.dma_dev = dma_dev };

        // SAFETY: The device is complete, and by the invariant the bus holds its lock.
        to_result(unsafe { bindings::_vdpa_register_device(vdev, shape.vqs) })?;
        // The bus owns the reference from here on, until `_vdpa_unregister_device()`.
        core::mem::forget(allocated);
        Ok(Registered(()))
    }
}
