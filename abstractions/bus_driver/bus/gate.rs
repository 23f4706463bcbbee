// SPDX-License-Identifier: GPL-2.0

//! A gate in front of a vDPA device: callers pass while it is there, and removal shuts it.
//!
//! C has no such thing, and its `remove` therefore waits for the last close.
//!
//! Parents need not serialise their ops: some have one register that selects a queue. So the device
//! itself is found only under the lock of a [`Gated`], one caller at a time. Kicks and doorbells,
//! which parents must be able to serve at any time, pass without it ([`Bells`]).

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

/// Whether and how a device can be reached.
///
/// Passing is allowed in any context but NMI, sleeping between [`Gate::enter`] and the drop of
/// what it returned is too (SRCU). [`Gate::shut`] waits for those inside, which is bounded by the parent's own
/// ops as long as nobody inside waits for userspace.
///
/// # Invariants
///
/// `srcu` is initialised. While `open` is true, or someone who entered while it was has not left,
/// `dev` is a device as [`vdpa::Device`] demands.
#[pin_data(PinnedDrop)]
pub struct Gate {
    #[pin]
    srcu: Opaque<bindings::srcu_struct>,
    dev: NonNull<bindings::vdpa_device>,
    open: Atomic<bool>,
}

// SAFETY: Devices and SRCU are not tied to threads.
unsafe impl Send for Gate {}
// SAFETY: All state is behind SRCU or atomic.
unsafe impl Sync for Gate {}

impl Gate {
    /// A gate in front of `dev`, not yet open.
    ///
    /// # Safety
    ///
    /// `dev` must stay as [`vdpa::Device`] demands until [`Gate::shut`] has returned.
    pub(super) unsafe fn new(dev: &vdpa::Device) -> impl PinInit<Self, Error> {
        let dev = dev.as_raw();
        try_pin_init!(Self {
            srcu <- Opaque::try_ffi_init(|slot| {
                // SAFETY: The slot is ours to initialise, and pinned.
                to_result(unsafe { bindings::vhost_vdpa_srcu_init(slot) })
            }),
            dev: NonNull::new(dev).ok_or(EINVAL)?,
            open: Atomic::new(false),
        })
    }

    /// Lets callers pass from now on.
    ///
    /// # Safety
    ///
    /// [`Gate::shut`] must not have been called, and nobody may have a [`vdpa::Device`] of this
    /// device: whoever passes takes it for theirs.
    pub(super) unsafe fn open(&self) {
        // INVARIANT: The caller of `new` vouches for the device, until the gate is shut.
        self.open.store(true, Release);
    }

    /// Passes the gate. `ENODEV` once the device is gone.
    #[inline]
    fn enter(&self) -> Result<Inside<'_>> {
        let (srcu, open, mut counter) = (self.srcu.get(), self.open.as_ptr(), 0);
        // SAFETY: `srcu` is initialised by the invariant, `open` ours, and `counter` a local.
        if !unsafe { bindings::vhost_vdpa_gate_enter(srcu, open, &mut counter) } {
            return Err(ENODEV);
        }
        // INVARIANT: We entered.
        Ok(Inside {
            gate: self,
            counter,
            _not_send: NotThreadSafe,
        })
    }

    /// Whether the device is still there; it may be gone by the time the caller looks.
    fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// Lets nobody pass any more, and waits until all who did have left.
    ///
    /// Sleeps. Must not be called by one who is inside.
    pub fn shut(&self) {
        self.open.store(false, Release);
        // SAFETY: Initialised by the invariant.
        unsafe { bindings::synchronize_srcu(self.srcu.get()) }
    }
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised by the invariant, and nobody can be inside: guards borrow the gate.
        unsafe { bindings::vhost_vdpa_srcu_cleanup(self.srcu.get()) }
    }
}

// What C reads when someone enters.
const _: () = assert!(size_of::<Atomic<bool>>() == size_of::<bool>());

/// Proof that the device is there.
///
/// # Invariants
///
/// Whoever made this entered `gate`, and was given `counter`, with which it is left once.
struct Inside<'a> {
    gate: &'a Gate,
    counter: c_ulong,
    _not_send: NotThreadSafe,
}

impl Inside<'_> {
    #[inline]
    fn device(&self) -> &vdpa::Device {
        // SAFETY: We entered while the gate was open and have not left (invariant of `Gate`).
        unsafe { vdpa::Device::from_raw(self.gate.dev.as_ptr()) }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::vhost_vdpa_gate_leave(self.gate.srcu.get(), self.counter) }
    }
}

/// The right to make the [`Gated`] of a gate. There is one.
pub struct Passage(Arc<Gate>);

impl Passage {
    /// The one for `gate`.
    ///
    /// # Safety
    ///
    /// Must be called once for each gate: whoever holds the lock of a [`Gated`] takes the device for
    /// theirs alone.
    pub(super) unsafe fn new(gate: Arc<Gate>) -> Self {
        Self(gate)
    }
}

/// A value under a mutex, which is also the way to the device.
#[pin_data]
pub struct Gated<T> {
    gate: Arc<Gate>,
    #[pin]
    value: Mutex<T>,
}

impl<T> Gated<T> {
    /// Puts a value in front of the device behind a gate.
    pub fn new(Passage(gate): Passage, value: T) -> impl PinInit<Self> {
        pin_init!(Self {
            gate,
            value <- new_mutex!(value, "Gated::value"),
        })
    }

    /// Locks the value.
    pub fn lock(&self) -> Locked<'_, T> {
        Locked {
            value: self.value.lock(),
            gate: &self.gate,
        }
    }

    /// Passes the gate without the lock, for kicks and doorbells. `ENODEV` once the device is gone.
    #[inline]
    pub fn bells(&self) -> Result<Bells<'_>> {
        Ok(Bells(self.gate.enter()?))
    }

    /// Returns whether the device is still there; it may be gone by the time the caller looks.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }
}

/// A locked value. Derefs to it.
pub struct Locked<'a, T> {
    value: Guard<'a, T, MutexBackend>,
    gate: &'a Gate,
}

impl<T: Unpin> Locked<'_, T> {
    /// Passes the gate: the value, and the device, which nobody else has as long. `ENODEV` once the
    /// device is gone.
    #[inline]
    pub fn enter(&mut self) -> Result<(&mut T, Exclusive<'_>)> {
        let inside = self.gate.enter()?;
        Ok((&mut self.value, Exclusive(inside)))
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
/// The lock of the gate's [`Gated`], which is the only one, is held as long as this is there.
pub struct Exclusive<'a>(Inside<'a>);

impl core::ops::Deref for Exclusive<'_> {
    type Target = vdpa::Device;

    fn deref(&self) -> &vdpa::Device {
        self.0.device()
    }
}

/// The ops of the device that may run beside any other.
pub struct Bells<'a>(Inside<'a>);

impl Bells<'_> {
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

/// Clamps an index that was checked against `len`, so that speculation cannot leave the array.
pub fn clamp_index(idx: u32, len: u32) -> u32 {
    // SAFETY: The function computes with its arguments and reads nothing else.
    unsafe { bindings::vhost_vdpa_array_index_nospec(idx, len) }
}
