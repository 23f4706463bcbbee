// SPDX-License-Identifier: GPL-2.0

//! Management devices: what `vdpa dev add` and `vdpa dev del` talk to.
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

/// What a management device does. The bus calls one method at a time, in process context.
#[vtable]
pub trait Management: Send + Sync + Sized + 'static {
    /// The devices it makes.
    type Device: VdpaConfigOps;

    /// Its name, as `vdpa mgmtdev show` prints it.
    const NAME: &'static CStr;
    /// The virtio device id of its devices.
    const DEVICE_ID: u32;
    /// The attributes that `vdpa dev add` may set: bits of [`Provision`].
    const ATTRIBUTES: u64;
    /// The features that its devices can offer.
    const FEATURES: u64;
    /// The largest number of queues of a device.
    const MAX_VQS: u32;

    /// Makes a device, with [`NewDevice::register`].
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

/// A registered management device. Dropping it deletes the devices that it made.
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

// SAFETY: The bus has its own lock, and what is ours is `Send`.
unsafe impl<T: Management> Send for ManagementDevice<T> {}
// SAFETY: There is nothing to do with a shared reference outside this file.
unsafe impl<T: Management> Sync for ManagementDevice<T> {}

impl<T: Management> ManagementDevice<T> {
    /// The op table, which must live as long as the module.
    const OPS: &'static bindings::vdpa_mgmtdev_ops = &bindings::vdpa_mgmtdev_ops {
        dev_add: Some(Self::dev_add),
        dev_del: Some(Self::dev_del),
        dev_set_attr: if T::HAS_DEV_SET_ATTR {
            Some(Self::dev_set_attr)
        } else {
            None
        },
    };

    /// Registers a management device on a root device of the same name.
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
                // SAFETY: `device` is above `raw`, and fields are initialised in order.
                let device = unsafe { &(*this.as_ptr()).device }.as_raw();
                // SAFETY: `ids` is above `raw`, and fields are initialised in order.
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
                // SAFETY: The slot is ours to write.
                unsafe { slot.write(raw) };
                // INVARIANT: From here on it is registered.
                // SAFETY: It is complete, pinned, and unregistered before it goes away.
                to_result(unsafe { bindings::vdpa_mgmtdev_register(slot) })
            }),
        }? Error)
    }

    /// Our side of a management device.
    ///
    /// # Safety
    ///
    /// `mdev` must be the `raw` of a `Self` that lives for `'a`.
    unsafe fn from_raw<'a>(mdev: *mut bindings::vdpa_mgmt_dev) -> &'a Self {
        const { assert!(core::mem::offset_of!(Self, raw) == 0) };
        // SAFETY: The caller vouches for it.
        unsafe { &*mdev.cast::<Self>() }
    }

    /// Calls [`Management::dev_add`].
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it.
    unsafe extern "C" fn dev_add(
        mdev: *mut bindings::vdpa_mgmt_dev,
        name: *const c_char,
        config: *const bindings::vdpa_dev_set_config,
    ) -> c_int {
        // SAFETY: The bus gives back what was registered.
        let this = unsafe { Self::from_raw(mdev) };
        // SAFETY: The bus gives a string that lives during the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        // SAFETY: The bus gives a struct that lives during the call.
        let provision = unsafe { Provision::from_raw(config) };
        // SAFETY: This is its `dev_add` op.
        let new = unsafe { NewDevice::new(mdev, name) };
        from_result(|| this.data.dev_add(new, provision).map(|_registered| 0))
    }

    /// Takes a device off the bus.
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, for a device of this management device.
    unsafe extern "C" fn dev_del(
        _mdev: *mut bindings::vdpa_mgmt_dev,
        vdev: *mut bindings::vdpa_device,
    ) {
        // SAFETY: The bus holds its lock and calls this once for each device.
        unsafe { bindings::_vdpa_unregister_device(vdev) }
    }

    /// Calls [`Management::dev_set_attr`].
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, for a device of this management device.
    unsafe extern "C" fn dev_set_attr(
        mdev: *mut bindings::vdpa_mgmt_dev,
        vdev: *mut bindings::vdpa_device,
        config: *const bindings::vdpa_dev_set_config,
    ) -> c_int {
        // SAFETY: The bus gives back what was registered.
        let this = unsafe { Self::from_raw(mdev) };
        // SAFETY: A registered device of ours, which the bus holds during the call.
        let dev = unsafe { private::<T::Device>(vdev) };
        // SAFETY: The bus gives a struct that lives during the call.
        let provision = unsafe { Provision::from_raw(config) };
        from_result(|| this.data.dev_set_attr(dev, provision).map(|()| 0))
    }
}

#[pinned_drop]
impl<T: Management> PinnedDrop for ManagementDevice<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the invariant; this happens once.
        unsafe { bindings::vdpa_mgmtdev_unregister(self.raw.get()) }
    }
}
