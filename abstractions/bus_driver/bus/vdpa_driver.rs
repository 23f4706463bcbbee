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
    /// What all devices of the driver share.
    type Shared: Send + Sync;

    /// The driver's name on the bus.
    const NAME: &'static CStr;

    /// Prepares the driver for a device, without showing the device to others. What is returned is
    /// dropped after `remove`.
    ///
    /// `token` gives access to the device once `probe` has returned, and not before.
    fn probe(
        shared: &Self::Shared,
        dev: &vdpa::Device,
        token: AccessToken,
    ) -> Result<Pin<KBox<Self>>>;

    /// Shows the device to others. `dev` is the device as the driver core knows it.
    ///
    /// Nothing can fail after this; if this does, `remove` follows, because somebody may have seen the
    /// device all the same.
    fn publish(self: Pin<&Self>, shared: &Self::Shared, dev: &device::Device) -> Result;

    /// Ends what the driver did with a device. Access was revoked and no guard is left: `dev` is the
    /// last reference to the device. Runs under the core's device lock.
    fn remove(self: Pin<&Self>, dev: &vdpa::Device);
}

/// What a bound device carries as its driver data.
struct Bound<T> {
    revocable: Arc<RevocableDevice>,
    driver: Pin<KBox<T>>,
}

impl<T: Driver> Bound<T> {
    /// Revokes access to the device, and then lets the driver end what it did with it.
    fn remove(&self, dev: &vdpa::Device) {
        self.revocable.revoke();
        self.driver.as_ref().remove(dev);
    }
}

/// A registered driver; unregistered, with all its devices removed, when dropped.
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

// SAFETY: A registration may be dropped on any thread.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: There is nothing to call on a shared registration.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver. `EBUSY` while another driver of the same name is there.
    pub fn new(shared: T::Shared, module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared,
            _driver: PhantomData,
            // Last, because `probe` runs at once for devices that are there.
            raw <- Opaque::try_ffi_init(|slot: *mut bindings::vdpa_driver| {
                // SAFETY: The slot is ours to write, and zero is a valid driver.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: The slot is ours until it is registered; the name is static.
                unsafe { (*slot).driver.name = T::NAME.as_char_ptr() };
                // SAFETY: The slot is ours until it is registered.
                unsafe { (*slot).probe = Some(Self::probe) };
                // SAFETY: The slot is ours until it is registered.
                unsafe { (*slot).remove = Some(Self::remove) };
                // SAFETY: The driver is pinned, and unregistered before it is freed.
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
            // SAFETY: The bus calls this with a registered device that we may now use.
            let dev = unsafe { vdpa::Device::from_raw(raw) };
            if !dev.has_mandatory_ops() {
                return Err(EINVAL);
            }
            // SAFETY: The device is bound to a driver while it is probed.
            let drv = unsafe { (*raw).dev.driver };
            let offset = offset_of!(Self, raw) + offset_of!(bindings::vdpa_driver, driver);
            // SAFETY: The driver that the device is bound to is the one inside a `Self`.
            let this = unsafe { &*drv.byte_sub(offset).cast::<Self>() };
            // SAFETY: `revoke` is called below on failure, and in `remove` before the device goes.
            let revocable = Arc::pin_init(unsafe { RevocableDevice::new(dev) }, GFP_KERNEL)?;
            // SAFETY: `revocable` was made above, and this is its only token.
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
            // SAFETY: Nobody revoked access, and `probe` has returned: `dev` is used again only after
            // access was revoked.
            unsafe { revocable.grant() };
            // SAFETY: The embedded device lives as long as the vdpa device, which the bus has bound.
            let parent = unsafe { device::Device::from_raw(&raw mut (*raw).dev) };
            if let Err(e) = bound.driver.as_ref().publish(&this.shared, parent) {
                bound.remove(dev);
                return Err(e);
            }
            // SAFETY: The driver data of a device that we are bound to is ours.
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
        // SAFETY: The driver data of a device that we are bound to is what `probe` set.
        let bound = unsafe { bindings::vhost_vdpa_get_drvdata(raw) };
        // SAFETY: `probe` made the pointer of a box. The bus calls `remove` once for each device that was
        // bound, and this is the only place that takes it back.
        let bound: KBox<Bound<T>> = unsafe { KBox::from_raw(bound.cast()) };
        // SAFETY: The bus calls this with the device that we were bound to.
        bound.remove(unsafe { vdpa::Device::from_raw(raw) });
        // SAFETY: The driver data of a device is ours until the bus has unbound it, after this call.
        unsafe { bindings::vhost_vdpa_set_drvdata(raw, core::ptr::null_mut()) };
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the invariant.
        unsafe { bindings::vdpa_unregister_driver(self.raw.get()) }
    }
}
