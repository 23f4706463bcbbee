// SPDX-License-Identifier: GPL-2.0

//! Revocable access to a vDPA device: callers reach it until removal revokes access.
//!
//! C has no such thing, and its `remove` therefore waits for the last close.
//!
//! Parents need not serialise their ops: some have one register that selects a queue. So the device
//! itself is found only under the lock of a [`DeviceMutex`], one caller at a time. Kicks and doorbells,
//! which parents must be able to serve at any time, need no lock ([`UnserializedOps`]).

use crate::{
    bindings,
    vdpa, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        lock::{mutex::MutexBackend, Guard},
        Arc, Mutex,
    },
    types::{NotThreadSafe, Opaque}, //
};

/// A device and whether it may still be accessed.
///
/// [`Self::try_access`] may be called in any context but NMI, and its guard may be held while sleeping
/// (SRCU). [`Self::revoke`] waits until all guards are dropped, which is bounded by the parent's own
/// ops as long as no holder of a guard waits for userspace.
///
/// # Invariants
///
/// `srcu` is initialised. While `accessible` is true, or a guard that was made while it was is there,
/// `dev` is a device as [`vdpa::Device`] demands.
#[pin_data(PinnedDrop)]
pub struct RevocableDevice {
    #[pin]
    srcu: Opaque<bindings::srcu_struct>,
    dev: NonNull<bindings::vdpa_device>,
    accessible: Atomic<bool>,
}

// SAFETY: Devices and SRCU are not tied to threads.
unsafe impl Send for RevocableDevice {}
// SAFETY: All state is behind SRCU or atomic.
unsafe impl Sync for RevocableDevice {}

impl RevocableDevice {
    /// Creates the object for `dev`, not accessible yet.
    ///
    /// # Safety
    ///
    /// `dev` must stay as [`vdpa::Device`] demands until [`Self::revoke`] has returned.
    pub(super) unsafe fn new(dev: &vdpa::Device) -> impl PinInit<Self, Error> {
        let dev = dev.as_raw();
        try_pin_init!(Self {
            srcu <- Opaque::try_ffi_init(|slot| {
                // SAFETY: The slot is ours to initialise, and pinned.
                to_result(unsafe { bindings::vhost_vdpa_srcu_init(slot) })
            }),
            dev: NonNull::new(dev).ok_or(EINVAL)?,
            accessible: Atomic::new(false),
        })
    }

    /// Grants access from now on.
    ///
    /// # Safety
    ///
    /// [`Self::revoke`] must not have been called, and nobody may have a [`vdpa::Device`] of this
    /// device: whoever gets access takes it for theirs.
    pub(super) unsafe fn grant(&self) {
        // INVARIANT: The caller of `new` vouches for the device, until access is revoked.
        self.accessible.store(true, Release);
    }

    /// Returns a guard under which the device stays, or `ENODEV` unless access is granted.
    #[inline]
    fn try_access(&self) -> Result<AccessGuard<'_>> {
        let (srcu, accessible, mut counter) = (self.srcu.get(), self.accessible.as_ptr(), 0);
        // SAFETY: `srcu` is initialised by the invariant, `accessible` ours, and `counter` a local.
        if !unsafe { bindings::vhost_vdpa_try_access(srcu, accessible, &mut counter) } {
            return Err(ENODEV);
        }
        // INVARIANT: Access was granted.
        Ok(AccessGuard {
            revocable: self,
            counter,
            _not_send: NotThreadSafe,
        })
    }

    /// Returns true while access is granted. It may be revoked before the caller looks.
    fn is_accessible(&self) -> bool {
        self.accessible.load(Acquire)
    }

    /// Revokes access, and waits until all guards are dropped.
    ///
    /// Sleeps. A holder of a guard must not call it.
    pub(super) fn revoke(&self) {
        self.accessible.store(false, Release);
        // SAFETY: Initialised by the invariant.
        unsafe { bindings::synchronize_srcu(self.srcu.get()) }
    }
}

#[pinned_drop]
impl PinnedDrop for RevocableDevice {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised by the invariant, and no guard is there: guards borrow `self`.
        unsafe { bindings::vhost_vdpa_srcu_cleanup(self.srcu.get()) }
    }
}

// What C reads in `vhost_vdpa_try_access`.
const _: () = assert!(size_of::<Atomic<bool>>() == size_of::<bool>());

/// Access to the device.
///
/// # Invariants
///
/// `vhost_vdpa_try_access` granted access to `revocable` and returned `counter`, with which the
/// access is ended once.
struct AccessGuard<'a> {
    revocable: &'a RevocableDevice,
    counter: c_ulong,
    _not_send: NotThreadSafe,
}

impl AccessGuard<'_> {
    #[inline]
    fn device(&self) -> &vdpa::Device {
        // SAFETY: Access was granted and has not ended (invariant of `RevocableDevice`).
        unsafe { vdpa::Device::from_raw(self.revocable.dev.as_ptr()) }
    }
}

impl Drop for AccessGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant, `counter` is of this SRCU, and the access ends once.
        unsafe { bindings::vhost_vdpa_end_access(self.revocable.srcu.get(), self.counter) }
    }
}

/// The right to make the [`DeviceMutex`] of a device. There is one.
pub struct AccessToken(Arc<RevocableDevice>);

impl AccessToken {
    /// Creates the token for `revocable`.
    ///
    /// # Safety
    ///
    /// Must be called once for each device: whoever holds the lock of a [`DeviceMutex`] takes the
    /// device for theirs alone.
    pub(super) unsafe fn new(revocable: Arc<RevocableDevice>) -> Self {
        Self(revocable)
    }
}

/// A value under a mutex that also serialises the ops of a device.
#[pin_data]
pub struct DeviceMutex<T> {
    revocable: Arc<RevocableDevice>,
    #[pin]
    value: Mutex<T>,
}

impl<T> DeviceMutex<T> {
    /// Creates the mutex of the token's device.
    pub fn new(AccessToken(revocable): AccessToken, value: T) -> impl PinInit<Self> {
        pin_init!(Self {
            revocable,
            value <- new_mutex!(value, "DeviceMutex::value"),
        })
    }

    /// Locks the value.
    pub fn lock(&self) -> Locked<'_, T> {
        Locked {
            value: self.value.lock(),
            revocable: &self.revocable,
        }
    }

    /// Returns the ops that need no lock, kicks and doorbells, or `ENODEV` once access was revoked.
    #[inline]
    pub fn unserialized(&self) -> Result<UnserializedOps<'_>> {
        Ok(UnserializedOps(self.revocable.try_access()?))
    }

    /// Returns true while access is granted. It may be revoked before the caller looks.
    pub fn is_accessible(&self) -> bool {
        self.revocable.is_accessible()
    }
}

/// A locked value. Derefs to it.
pub struct Locked<'a, T> {
    value: Guard<'a, T, MutexBackend>,
    revocable: &'a RevocableDevice,
}

impl<T: Unpin> Locked<'_, T> {
    /// Returns the value, and the device, which nobody else has meanwhile, or `ENODEV` once access
    /// was revoked.
    #[inline]
    pub fn try_access(&mut self) -> Result<(&mut T, Exclusive<'_>)> {
        let guard = self.revocable.try_access()?;
        Ok((&mut self.value, Exclusive(guard)))
    }
}

impl<T> core::ops::Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Unpin> core::ops::DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// The device, for one caller at a time. Derefs to it.
///
/// # Invariants
///
/// The lock of the device's [`DeviceMutex`], which is the only one, is held as long as this is there.
pub struct Exclusive<'a>(AccessGuard<'a>);

impl core::ops::Deref for Exclusive<'_> {
    type Target = vdpa::Device;

    fn deref(&self) -> &vdpa::Device {
        self.0.device()
    }
}

/// The ops of the device that may run beside any other.
pub struct UnserializedOps<'a>(AccessGuard<'a>);

impl UnserializedOps<'_> {
    /// Tells the device that a queue has work. Any context but NMI.
    #[inline]
    pub fn kick_vq(&self, idx: u16) {
        self.0.device().kick_vq(idx);
    }

    /// Returns whether the parent has doorbells to map.
    pub fn has_get_vq_notification(&self) -> bool {
        self.0.device().has_get_vq_notification()
    }

    /// Returns the doorbell of a queue. May be called from a page fault.
    pub fn get_vq_notification(&self, idx: u16) -> Option<vdpa::Notification> {
        self.0.device().get_vq_notification(idx)
    }
}
