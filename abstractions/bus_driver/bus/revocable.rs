// SPDX-License-Identifier: GPL-2.0

//! Revocable access to a vDPA device: callers reach it until removal revokes access.
//!
//! C has no such object, so the `remove` of its vhost-vdpa waits for the last close.
//!
//! Parents need not serialise their ops: some have one register that selects the queue for all of
//! them. So only the holder of a [`DeviceMutex`] lock reaches the device, one caller at a time.
//! Kicks and doorbells need no lock ([`UnserializedOps`]): parents must accept them at any time.

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

/// A vDPA device, access to which can be revoked.
///
/// [`Self::try_access`] may be called in any context but NMI, and its guard may be held while
/// sleeping (SRCU). [`Self::revoke`] waits until all guards are dropped. If no holder of a guard
/// waits for userspace, that takes no longer than the parent's own ops.
///
/// # Invariants
///
/// `srcu` is initialised. `dev` satisfies the invariants of [`vdpa::Device`] while `accessible` is
/// true, and as long as a guard exists that was made while it was true.
#[pin_data(PinnedDrop)]
pub struct RevocableDevice {
    #[pin]
    srcu: Opaque<bindings::srcu_struct>,
    dev: NonNull<bindings::vdpa_device>,
    accessible: Atomic<bool>,
}

// SAFETY: Neither a `vdpa_device` nor an `srcu_struct` is tied to a thread.
unsafe impl Send for RevocableDevice {}
// SAFETY: Shared references use `srcu` through SRCU functions and `accessible` through atomic
// operations only, and `dev` is never changed.
unsafe impl Sync for RevocableDevice {}

impl RevocableDevice {
    /// Returns an initialiser of the object for `dev`. Access is not granted yet.
    ///
    /// # Safety
    ///
    /// `dev` must satisfy the invariants of [`vdpa::Device`] until [`Self::revoke`] has returned.
    pub(super) unsafe fn new(dev: &vdpa::Device) -> impl PinInit<Self, Error> {
        let dev = dev.as_raw();
        try_pin_init!(Self {
            srcu <- Opaque::try_ffi_init(|slot| {
                // SAFETY: The function initialises `slot`, which is valid for writes and pinned.
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
    /// [`Self::revoke`] must not have been called, and nobody may hold a [`vdpa::Device`] of this
    /// device: callers that get access assume that nobody else has the device.
    pub(super) unsafe fn grant(&self) {
        // INVARIANT: The caller of `new` guarantees a valid device until access is revoked.
        self.accessible.store(true, Release);
    }

    /// Returns a guard that keeps the device, or `ENODEV` unless access is granted.
    #[inline]
    fn try_access(&self) -> Result<AccessGuard<'_>> {
        let (srcu, accessible, mut counter) = (self.srcu.get(), self.accessible.as_ptr(), 0);
        // SAFETY: `srcu` is initialised by the invariant; both other pointers are valid for the
        // call.
        if !unsafe { bindings::vhost_vdpa_try_access(srcu, accessible, &mut counter) } {
            return Err(ENODEV);
        }
        // INVARIANT: Access was granted, and `counter` is the one that belongs to it.
        Ok(AccessGuard {
            revocable: self,
            counter,
            _not_send: NotThreadSafe,
        })
    }

    /// Returns true while access is granted. It may be revoked before the caller acts on that.
    fn is_accessible(&self) -> bool {
        self.accessible.load(Acquire)
    }

    /// Revokes access, and waits until all guards are dropped.
    ///
    /// Sleeps. A holder of a guard must not call it, because it would wait for itself.
    pub(super) fn revoke(&self) {
        self.accessible.store(false, Release);
        // SAFETY: `srcu` is initialised by the invariant. Callers may sleep and hold no guard.
        unsafe { bindings::synchronize_srcu(self.srcu.get()) }
    }
}

#[pinned_drop]
impl PinnedDrop for RevocableDevice {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `srcu` is initialised by the invariant. It has no readers: guards borrow `self`.
        unsafe { bindings::vhost_vdpa_srcu_cleanup(self.srcu.get()) }
    }
}

// `vhost_vdpa_try_access()` reads the atomic as a C `bool`.
const _: () = assert!(size_of::<Atomic<bool>>() == size_of::<bool>());

/// Guard of one access to the device.
///
/// # Invariants
///
/// `vhost_vdpa_try_access` granted access to `revocable` and returned `counter`. Only `drop` ends
/// the access.
struct AccessGuard<'a> {
    revocable: &'a RevocableDevice,
    counter: c_ulong,
    _not_send: NotThreadSafe,
}

impl AccessGuard<'_> {
    #[inline]
    fn device(&self) -> &vdpa::Device {
        // SAFETY: The device is valid while `self` exists (invariant of `RevocableDevice`).
        unsafe { vdpa::Device::from_raw(self.revocable.dev.as_ptr()) }
    }
}

impl Drop for AccessGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant `counter` came from this SRCU, and the access ends only here.
        unsafe { bindings::vhost_vdpa_end_access(self.revocable.srcu.get(), self.counter) }
    }
}

/// Token that allows creating the [`DeviceMutex`] of a device. There is one per device.
pub struct AccessToken(Arc<RevocableDevice>);

impl AccessToken {
    /// Creates the token for `revocable`.
    ///
    /// # Safety
    ///
    /// Must be called once per device: the holder of a [`DeviceMutex`] lock assumes that nobody
    /// else uses the device.
    pub(super) unsafe fn new(revocable: Arc<RevocableDevice>) -> Self {
        Self(revocable)
    }
}

/// Mutex around a value that also serialises the ops of a device.
#[pin_data]
pub struct DeviceMutex<T> {
    revocable: Arc<RevocableDevice>,
    #[pin]
    value: Mutex<T>,
}

impl<T> DeviceMutex<T> {
    /// Returns an initialiser of the mutex for the token's device.
    pub fn new(AccessToken(revocable): AccessToken, value: T) -> impl PinInit<Self> {
        pin_init!(Self {
            revocable,
            value <- new_mutex!(value, "DeviceMutex::value"),
        })
    }

    /// Locks the value. Sleeps.
    pub fn lock(&self) -> Locked<'_, T> {
        Locked {
            value: self.value.lock(),
            revocable: &self.revocable,
        }
    }

    /// Returns the ops that need no lock (kicks and doorbells), or `ENODEV` unless access is
    /// granted.
    #[inline]
    pub fn unserialized(&self) -> Result<UnserializedOps<'_>> {
        Ok(UnserializedOps(self.revocable.try_access()?))
    }

    /// Returns true while access is granted. It may be revoked before the caller acts on that.
    pub fn is_accessible(&self) -> bool {
        self.revocable.is_accessible()
    }
}

/// Guard of the locked value. Derefs to the value.
pub struct Locked<'a, T> {
    value: Guard<'a, T, MutexBackend>,
    revocable: &'a RevocableDevice,
}

impl<T: Unpin> Locked<'_, T> {
    /// Returns the value and the device, which nobody else uses meanwhile, or `ENODEV` unless
    /// access is granted.
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

/// Exclusive access to the device. Derefs to the device.
///
/// # Invariants
///
/// The lock of the device's only [`DeviceMutex`] is held as long as this exists.
pub struct Exclusive<'a>(AccessGuard<'a>);

impl core::ops::Deref for Exclusive<'_> {
    type Target = vdpa::Device;

    fn deref(&self) -> &vdpa::Device {
        self.0.device()
    }
}

/// Ops of the device that may run at the same time as any other op.
pub struct UnserializedOps<'a>(AccessGuard<'a>);

impl UnserializedOps<'_> {
    /// Tells the device that a queue has work. May be called in any context but NMI.
    #[inline]
    pub fn kick_vq(&self, idx: u16) {
        self.0.device().kick_vq(idx);
    }

    /// Returns true if the parent has the op `get_vq_notification`.
    pub fn has_get_vq_notification(&self) -> bool {
        self.0.device().has_get_vq_notification()
    }

    /// Returns the doorbell of a queue, if the parent has the op. May be called from a page fault.
    pub fn get_vq_notification(&self, idx: u16) -> Option<vdpa::Notification> {
        self.0.device().get_vq_notification(idx)
    }
}
