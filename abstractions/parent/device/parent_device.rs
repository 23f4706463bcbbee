// SPDX-License-Identifier: GPL-2.0

//! A vDPA device as its parent sees it: allocated, given its private data, registered.
//!
//! C: `__vdpa_alloc_device()`, `_vdpa_register_device()`, `drivers/vdpa/vdpa.c`.

use crate::{
    bindings,
    compat,
    parent_ops::{Maps, VdpaConfigOps},
    parent_ops_raw::OpTable, //
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
/// `ready` is set exactly while `data` is initialised. `data` does not move.
#[repr(C)]
struct Container<T> {
    vdev: MaybeUninit<bindings::vdpa_device>,
    ready: bool,
    data: MaybeUninit<T>,
}

/// What `kzalloc()` aligns every size to.
const ALLOC_ALIGN: usize = align_of::<u64>();

/// The private data of a device.
///
/// # Safety
///
/// `vdev` must be a device that [`NewDevice::register`] made for a `T`, with its private data
/// initialised, and alive for `'a`.
pub(crate) unsafe fn private<'a, T>(vdev: *mut bindings::vdpa_device) -> &'a T {
    let this = vdev.cast::<Container<T>>();
    // SAFETY: The caller vouches that this is a container, and alive.
    let data = unsafe { &raw const (*this).data };
    // SAFETY: Initialised, as the caller vouches, and only shared references exist.
    unsafe { &*data.cast::<T>() }
}

/// Drops the private data of a device, if it has any.
///
/// # Safety
///
/// `vdev` must be a device that [`NewDevice::register`] allocated for a `T`, and nobody may use
/// its private data any more.
pub(crate) unsafe fn drop_data<T>(vdev: *mut bindings::vdpa_device) {
    let this = vdev.cast::<Container<T>>();
    // SAFETY: The caller vouches that this is a container; it was zeroed when allocated.
    if unsafe { !(*this).ready } {
        return;
    }
    // SAFETY: The caller vouches that this is a container which nobody else uses.
    unsafe { (*this).ready = false };
    // SAFETY: The caller vouches that this is a container: the field is inside of the allocation.
    let data = unsafe { &raw mut (*this).data };
    // SAFETY: By the invariant it is initialised, and by the caller's word not in use.
    unsafe { core::ptr::drop_in_place(data.cast::<T>()) };
}

/// How many of everything a device has.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Queues.
    pub vqs: u32,
    /// Groups of queues.
    pub groups: c_uint,
    /// Address spaces.
    pub address_spaces: c_uint,
}

/// Proof that a device was registered; see [`NewDevice::register`].
pub struct Registered(());

/// A reference to an allocated device, put when dropped.
struct Allocated(*mut bindings::vdpa_device);

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: The reference is ours; a `vdpa_device` begins with its `device`.
        unsafe { bindings::put_device(self.0.cast()) }
    }
}

/// A device that `vdpa dev add` wants to exist.
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
    /// The op table, which must live as long as the module.
    const OPS: &'static bindings::vdpa_config_ops = &OpTable::<T>::VTABLE;

    /// Begins to make a device.
    ///
    /// # Safety
    ///
    /// `mdev` must be a registered management device whose `dev_add` op is running.
    pub(super) unsafe fn new(mdev: *mut bindings::vdpa_mgmt_dev, name: &'a CStr) -> Self {
        // INVARIANT: The caller vouches for it.
        Self {
            mdev,
            name,
            hardware: None,
            _data: PhantomData,
        }
    }

    /// Makes it a child of the device that does its DMA. Without one, the vDPA device is said to
    /// do it itself.
    pub fn on(self, hardware: &'a Device) -> Self {
        Self {
            hardware: Some(hardware),
            ..self
        }
    }

    /// The name that the device will have.
    pub fn name(&self) -> &CStr {
        self.name
    }

    /// Allocates the device, initialises its private data with what `make` returns, and puts it on
    /// the vDPA bus, where a driver may take it before this returns. `make` is given the name, which
    /// no other device has.
    ///
    /// Errors: `ENOMEM`, `EEXIST` when a device has that name, `ENODEV` when the platform's IOMMU
    /// is to translate and no device was named with [`Self::on`], those of `make` and of the
    /// initialiser.
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
        // which begins with a `vdpa_device`. The device above, if any, is referenced by its child
        // from registration on.
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

        // The bus refuses such a name too, but only when everything that goes by it is made.
        // SAFETY: The device is allocated, and by the invariant the lock of the bus is held.
        if unsafe { bindings::vdpa_parent_name_taken(vdev, self.name.as_char_ptr()) } {
            return Err(EEXIST);
        }
        let init = make(self.name)?;

        // SAFETY: `this` is as large as a container.
        let data = unsafe { &raw mut (*this).data };
        // SAFETY: The memory is ours and does not move until it is freed; if this fails, `ready`
        // stays unset and nothing is dropped.
        unsafe { compat::raw_try_init(data.cast::<T>(), init) }?;
        // INVARIANT: It was just initialised.
        // SAFETY: `this` is as large as a container, and ours alone until it is registered.
        unsafe { (*this).ready = true };

        // SAFETY: The device is ours alone until it is registered.
        unsafe { (*vdev).mdev = self.mdev };
        let dma_dev = if hardware.is_null() {
            // Software does it: a device of its own, with no IOMMU.
            vdev.cast()
        } else {
            hardware
        };
        // SAFETY: The device is ours alone until it is registered.
        unsafe { (*vdev).vmap.dma_dev = dma_dev };

        // SAFETY: The device is complete, and by the invariant the lock of the bus is held.
        to_result(unsafe { bindings::_vdpa_register_device(vdev, shape.vqs) })?;
        // The reference is now the bus's, until `_vdpa_unregister_device()`.
        core::mem::forget(allocated);
        Ok(Registered(()))
    }
}
