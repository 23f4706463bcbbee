// SPDX-License-Identifier: GPL-2.0

//! Management devices, which serve `vdpa dev add` and `vdpa dev del`.
//!
//! C: `vdpa_mgmtdev_register()`, `drivers/vdpa/vdpa.c`.

use crate::{
    bindings,
    parent_device::{private, NewDevice, Registered},
    parent_ops::VdpaConfigOps,
    parent_types::Provision,
    root_device::RootDevice,
};
use kernel::{
    build_error,
    error::{from_result, to_result, VTABLE_DEFAULT_ERROR},
    prelude::*,
    str::CStr,
    types::Opaque, //
};

/// Operations of a management device. The bus calls one method at a time, in process context.
#[vtable]
pub trait Management: Send + Sync + Sized + 'static {
    /// The type of the devices that it creates.
    type Device: VdpaConfigOps;

    /// The name, as `vdpa mgmtdev show` prints it.
    const NAME: &'static CStr;
    /// The virtio device id of the devices.
    const DEVICE_ID: u32;
    /// The attributes that `vdpa dev add` may set, as bits of [`Provision`].
    const ATTRIBUTES: u64;
    /// The features that the devices can offer.
    const FEATURES: u64;
    /// The largest number of queues that a device can have.
    const MAX_VQS: u32;

    /// Creates a device, with [`NewDevice::register`].
    fn dev_add(
        &self,
        new: NewDevice<'_, Self::Device>,
        provision: &Provision,
    ) -> Result<Registered>;

    /// Changes the attributes of a device.
    fn dev_set_attr(&self, _dev: &Self::Device, _provision: &Provision) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Registered management device. Dropping it deletes the devices that it created.
///
/// # Invariants
///
/// `raw` is registered, and points to `ids`, `device` and a static op table.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct ManagementDevice<T: Management> {
    #[pin]
    raw: Opaque<bindings::vdpa_mgmt_dev>,
    #[pin]
    ids: Opaque<[bindings::virtio_device_id; 2]>,
    data: T,
    device: RootDevice,
}

// SAFETY: A management device may be unregistered on any thread; the data and the root device are
// `Send`.
unsafe impl<T: Management> Send for ManagementDevice<T> {}
// SAFETY: The bus has a lock of its own and calls the methods of `T`, which is `Sync`.
unsafe impl<T: Management> Sync for ManagementDevice<T> {}

impl<T: Management> ManagementDevice<T> {
    /// The op table. It is static because it must live as long as the module.
    const OPS: &'static bindings::vdpa_mgmtdev_ops = &bindings::vdpa_mgmtdev_ops {
        dev_add: Some(Self::dev_add),
        dev_del: Some(Self::dev_del),
        dev_set_attr: if T::HAS_DEV_SET_ATTR {
            Some(Self::dev_set_attr)
        } else {
            None
        },
    };

    /// Returns an initialiser that registers a management device on a root device of the same name.
    pub fn new(data: T, module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            data,
            device: RootDevice::new(T::NAME, module)?,
            ids: Opaque::new([
                bindings::virtio_device_id {
                    device: T::DEVICE_ID,
                    vendor: bindings::VIRTIO_DEV_ANY_ID,
                },
                bindings::virtio_device_id::default(),
            ]),
            raw <- Opaque::try_ffi_init(|slot: *mut bindings::vdpa_mgmt_dev| {
                // SAFETY: `device` is initialised, because it is declared above `raw`.
                let device = unsafe { &(*this.as_ptr()).device }.as_raw();
                // SAFETY: `ids` is initialised, because it is declared above `raw`.
                let ids = unsafe { &(*this.as_ptr()).ids }.get();
                let raw = bindings::vdpa_mgmt_dev {
                    device,
                    ops: Self::OPS,
                    id_table: ids.cast(),
                    config_attr_mask: T::ATTRIBUTES,
                    list: bindings::list_head::default(),
                    supported_features: T::FEATURES,
                    max_supported_vqs: T::MAX_VQS,
                };
                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(raw) };
                // INVARIANT: If this succeeds, the device is registered.
                // SAFETY: The struct is complete and pinned, and `drop` unregisters it before it is
                // freed.
                to_result(unsafe { bindings::vdpa_mgmtdev_register(slot) })
            }),
        }? Error)
    }

    /// Returns the management device that contains `mdev`.
    ///
    /// # Safety
    ///
    /// `mdev` must be the `raw` of a `Self` that lives for `'a`.
    unsafe fn from_raw<'a>(mdev: *mut bindings::vdpa_mgmt_dev) -> &'a Self {
        const { assert!(core::mem::offset_of!(Self, raw) == 0) };
        // SAFETY: The caller guarantees that `mdev` is the first field of a valid `Self`.
        unsafe { &*mdev.cast::<Self>() }
    }

    /// Implements the op `dev_add` with [`Management::dev_add`].
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it.
    unsafe extern "C" fn dev_add(
        mdev: *mut bindings::vdpa_mgmt_dev,
        name: *const c_char,
        config: *const bindings::vdpa_dev_set_config,
    ) -> c_int {
        // SAFETY: The bus passes the `raw` of a `Self`, which stays registered during the call.
        let this = unsafe { Self::from_raw(mdev) };
        // SAFETY: The bus passes a string that is valid during the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        // SAFETY: The bus passes a struct that is valid and constant during the call.
        let provision = unsafe { Provision::from_raw(config) };
        // SAFETY: `mdev` is registered, and this is its `dev_add` op.
        let new = unsafe { NewDevice::new(mdev, name) };
        from_result(|| this.data.dev_add(new, provision).map(|_registered| 0))
    }

    /// Implements the op `dev_del`: unregisters a device from the bus.
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, for a device of this management device.
    unsafe extern "C" fn dev_del(
        _mdev: *mut bindings::vdpa_mgmt_dev,
        vdev: *mut bindings::vdpa_device,
    ) {
        // SAFETY: The bus holds its lock, and calls this once for each registered device.
        unsafe { bindings::_vdpa_unregister_device(vdev) }
    }

    /// Implements the op `dev_set_attr` with [`Management::dev_set_attr`].
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, for a device of this management device.
    unsafe extern "C" fn dev_set_attr(
        mdev: *mut bindings::vdpa_mgmt_dev,
        vdev: *mut bindings::vdpa_device,
        config: *const bindings::vdpa_dev_set_config,
    ) -> c_int {
        // SAFETY: The bus passes the `raw` of a `Self`, which stays registered during the call.
        let this = unsafe { Self::from_raw(mdev) };
        // SAFETY: The bus passes a registered device of this management device, and keeps it during
        // the call.
        let dev = unsafe { private::<T::Device>(vdev) };
        // SAFETY: The bus passes a struct that is valid and constant during the call.
        let provision = unsafe { Provision::from_raw(config) };
        from_result(|| this.data.dev_set_attr(dev, provision).map(|()| 0))
    }
}

#[pinned_drop]
impl<T: Management> PinnedDrop for ManagementDevice<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant the device is registered, and only `drop` unregisters it.
        unsafe { bindings::vdpa_mgmtdev_unregister(self.raw.get()) }
    }
}
