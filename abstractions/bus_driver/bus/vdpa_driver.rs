// SPDX-License-Identifier: GPL-2.0

//! Drivers on the vdpa bus.
//!
//! C: `struct vdpa_driver`, `include/linux/vdpa.h`.

use crate::{
    bindings,
    revocable::{AccessToken, RevocableDevice},
    vdpa, //
};
use core::{
    marker::PhantomData,
    mem::offset_of, //
};
use kernel::{
    device,
    error::{from_result, to_result},
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A driver for devices on the vdpa bus.
pub trait Driver: Sized + Send + Sync + 'static {
    /// Data that all devices of the driver share.
    type Shared: Send + Sync;

    /// The driver's name on the bus.
    const NAME: &'static CStr;

    /// Prepares the driver for a device, without publishing it. The result is dropped after
    /// `remove`.
    ///
    /// `token` gives access to the device once `probe` has returned, and not before.
    fn probe(
        shared: &Self::Shared,
        dev: &vdpa::Device,
        token: AccessToken,
    ) -> Result<Pin<KBox<Self>>>;

    /// Publishes the device. `dev` is its `struct device`.
    ///
    /// Nothing can fail after this. If this call fails, `remove` follows, because others may have
    /// seen the device already.
    fn publish(self: Pin<&Self>, shared: &Self::Shared, dev: &device::Device) -> Result;

    /// Ends the driver's use of a device. Access was revoked and no guard is left, so nobody else
    /// has the device. Runs under the device's `device_lock`.
    fn remove(self: Pin<&Self>, dev: &vdpa::Device);
}

/// Driver data of a bound device.
struct Bound<T> {
    revocable: Arc<RevocableDevice>,
    driver: Pin<KBox<T>>,
}

impl<T: Driver> Bound<T> {
    /// Revokes access to the device, and then calls the driver's `remove`.
    fn remove(&self, dev: &vdpa::Device) {
        self.revocable.revoke();
        self.driver.as_ref().remove(dev);
    }
}

/// Registered driver of the vdpa bus. Dropping it removes all its devices and unregisters it.
///
/// # Invariants
///
/// `raw` is registered.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Driver> {
    #[pin]
    raw: Opaque<bindings::vdpa_driver>,
    shared: T::Shared,
    _driver: PhantomData<T>,
}

// SAFETY: A driver may be unregistered on any thread, and `T::Shared` is `Send`.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: No method takes a shared registration. The bus reaches only `shared`, which is `Sync`.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Returns an initialiser that registers the driver. `EBUSY` if another driver has the name.
    pub fn new(shared: T::Shared, module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared,
            _driver: PhantomData,
            // Last, because `probe` runs at once for devices that are on the bus already.
            raw <- Opaque::try_ffi_init(|slot: *mut bindings::vdpa_driver| {
                // SAFETY: The slot is valid for writes, and zero is a valid driver.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: Nobody else uses the slot before it is registered; the name is static.
                unsafe { (*slot).driver.name = T::NAME.as_char_ptr() };
                // SAFETY: Nobody else uses the slot before it is registered.
                unsafe { (*slot).probe = Some(Self::probe) };
                // SAFETY: Nobody else uses the slot before it is registered.
                unsafe { (*slot).remove = Some(Self::remove) };
                // SAFETY: The slot is complete and pinned, and `drop` unregisters it before it is
                // freed.
                to_result(unsafe { bindings::__vdpa_register_driver(slot, module.as_ptr()) })
                    .inspect_err(|e| {
                        if *e == EBUSY {
                            pr_err!(
                                "another driver named {name} is loaded: rmmod {name} first\n",
                                name = T::NAME
                            );
                        }
                    })
            }),
        })
    }

    /// `vdpa_driver::probe`.
    ///
    /// # Safety
    ///
    /// `raw` must be a registered device that the bus binds to this driver.
    unsafe extern "C" fn probe(raw: *mut bindings::vdpa_device) -> c_int {
        from_result(|| {
            // SAFETY: The bus passes a registered device, which stays bound until `remove` returns.
            let dev = unsafe { vdpa::Device::from_raw(raw) };
            if !dev.has_mandatory_ops() {
                return Err(EINVAL);
            }
            // SAFETY: The bus sets the driver of a device before it calls `probe`.
            let drv = unsafe { (*raw).dev.driver };
            let offset = offset_of!(Self, raw) + offset_of!(bindings::vdpa_driver, driver);
            // SAFETY: The bus binds the device to the driver inside a pinned and registered `Self`.
            let this = unsafe { &*drv.byte_sub(offset).cast::<Self>() };
            // SAFETY: `dev` is valid until `revoke` returns, which is called below on failure, and
            // otherwise in `remove`.
            let revocable = Arc::pin_init(unsafe { RevocableDevice::new(dev) }, GFP_KERNEL)?;
            // SAFETY: `revocable` was just created, and this is its only token.
            let token = unsafe { AccessToken::new(revocable.clone()) };
            let bound = T::probe(&this.shared, dev, token).and_then(|driver| {
                Ok(KBox::new(
                    Bound {
                        revocable: revocable.clone(),
                        driver,
                    },
                    GFP_KERNEL,
                )?)
            });
            let bound = bound.inspect_err(|_| revocable.revoke())?;
            // SAFETY: Nobody revoked access. `probe` has returned, and `dev` is used again only
            // after access was revoked.
            unsafe { revocable.grant() };
            // SAFETY: The embedded device lives as long as the vdpa device, which the bus is
            // binding.
            let parent = unsafe { device::Device::from_raw(&raw mut (*raw).dev) };
            if let Err(e) = bound.driver.as_ref().publish(&this.shared, parent) {
                bound.remove(dev);
                return Err(e);
            }
            // SAFETY: The driver data belongs to the bound driver, which is this one.
            unsafe { bindings::vhost_vdpa_set_drvdata(raw, KBox::into_raw(bound).cast()) };
            Ok(0)
        })
    }

    /// `vdpa_driver::remove`.
    ///
    /// # Safety
    ///
    /// `raw` must be a device that `probe` has bound.
    unsafe extern "C" fn remove(raw: *mut bindings::vdpa_device) {
        // SAFETY: The driver data belongs to the bound driver; `probe` set it.
        let bound = unsafe { bindings::vhost_vdpa_get_drvdata(raw) };
        // SAFETY: `probe` made the pointer from a box. The bus calls `remove` once for each bound
        // device, and only `remove` takes the box back.
        let bound: KBox<Bound<T>> = unsafe { KBox::from_raw(bound.cast()) };
        // SAFETY: The bus passes the device that this driver was bound to.
        bound.remove(unsafe { vdpa::Device::from_raw(raw) });
        // SAFETY: The driver data belongs to this driver until the bus has unbound it, after this
        // call.
        unsafe { bindings::vhost_vdpa_set_drvdata(raw, core::ptr::null_mut()) };
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant the driver is registered, and only `drop` unregisters it.
        unsafe { bindings::vdpa_unregister_driver(self.raw.get()) }
    }
}
