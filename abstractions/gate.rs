// SPDX-License-Identifier: GPL-2.0

//! A gate in front of a vDPA device: callers pass while it is there, and removal shuts it.
//!
//! C has no such thing, and its `remove` therefore waits for the last close.

use super::{
    bindings,
    vdpa, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Release},
    types::{NotThreadSafe, Opaque}, //
};

/// Whether and how a device can be reached.
///
/// Passing is allowed in any context but NMI, sleeping between [`Gate::enter`] and the guard's
/// drop is too (SRCU). [`Gate::shut`] waits for those inside, which is bounded by the parent's own
/// ops as long as nobody inside waits for userspace.
///
/// # Invariants
///
/// `srcu` is initialised. While `open` is true, or someone who entered while it was has not left,
/// `dev` is a device as [`vdpa::Device`] demands.
#[pin_data(PinnedDrop)]
pub(crate) struct Gate {
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
    /// An open gate in front of `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must stay as [`vdpa::Device`] demands until [`Gate::shut`] has returned.
    pub(super) unsafe fn new(dev: &vdpa::Device) -> impl PinInit<Self, Error> {
        let dev = dev.as_raw();
        try_pin_init!(Self {
            srcu <- Opaque::try_ffi_init(|slot| {
                // SAFETY: The slot is ours to initialise, and pinned.
                to_result(unsafe { bindings::rvv_srcu_init(slot) })
            }),
            dev: NonNull::new(dev).ok_or(EINVAL)?,
            // INVARIANT: The caller vouches for the device.
            open: Atomic::new(true),
        })
    }

    /// Passes the gate. `ENODEV` once the device is gone.
    pub(crate) fn enter(&self) -> Result<Guard<'_>> {
        let (srcu, open, mut counter) = (self.srcu.get(), self.open.as_ptr(), 0);
        // SAFETY: `srcu` is initialised by the invariant, `open` ours, and `counter` a local.
        if !unsafe { bindings::rvv_gate_enter(srcu, open, &mut counter) } {
            return Err(ENODEV);
        }
        // INVARIANT: We entered.
        Ok(Guard {
            gate: self,
            counter,
            _not_send: NotThreadSafe,
        })
    }

    /// Whether the device is still there; it may be gone by the time the caller looks.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// Lets nobody pass any more, and waits until all who did have left.
    ///
    /// Sleeps. Must not be called by one who is inside.
    pub(crate) fn shut(&self) {
        self.open.store(false, Release);
        // SAFETY: Initialised by the invariant.
        unsafe { bindings::synchronize_srcu(self.srcu.get()) }
    }
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised by the invariant, and nobody can be inside: guards borrow the gate.
        unsafe { bindings::rvv_srcu_cleanup(self.srcu.get()) }
    }
}

// What C reads when someone enters.
const _: () = assert!(size_of::<Atomic<bool>>() == size_of::<bool>());

/// Proof that the device is there. Derefs to it.
///
/// # Invariants
///
/// Whoever made this entered `gate`, and was given `counter`, with which it is left once.
pub(crate) struct Guard<'a> {
    gate: &'a Gate,
    counter: c_ulong,
    _not_send: NotThreadSafe,
}

impl core::ops::Deref for Guard<'_> {
    type Target = vdpa::Device;

    fn deref(&self) -> &vdpa::Device {
        // SAFETY: We entered while the gate was open and have not left (invariant of `Gate`).
        unsafe { vdpa::Device::from_raw(self.gate.dev.as_ptr()) }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::rvv_gate_leave(self.gate.srcu.get(), self.counter) }
    }
}

/// Clamps an index that was checked against `len`, so that speculation cannot leave the array.
pub(crate) fn clamp_index(idx: u32, len: u32) -> u32 {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_array_index_nospec(idx, len) }
}
