// SPDX-License-Identifier: GPL-2.0

//! Event descriptors, and the slots through which a parent's callbacks reach them.
//!
//! C: `fs/eventfd.c`, `struct vdpa_callback`.
//!
//! # Locking
//!
//! `CallSlot::registration` (sleeps), then `CallSlot::ctx` (spins, interrupts off), then the
//! eventfd's own wait-queue lock. Kicks run under an eventfd's wait-queue lock and take none of
//! ours.

use super::{
    bindings,
    irqlock::IrqSpinLock,
    vdpa, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex, //
    },
};

/// A reference to an eventfd's context.
///
/// # Invariants
///
/// The pointer is a valid `eventfd_ctx`, and we own one reference to it.
pub struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: An `eventfd_ctx` is reference counted and not tied to a thread.
unsafe impl Send for EventFd {}
// SAFETY: Signalling takes the context's own lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// The eventfd behind a descriptor of the calling process; -1 means none.
    ///
    /// Errors: `EBADF` for a bad descriptor, `EINVAL` for one that is no eventfd.
    pub fn from_user(fd: c_int) -> Result<Option<Self>> {
        if fd == bindings::VHOST_FILE_UNBIND {
            return Ok(None);
        }
        // SAFETY: Any number is fine.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The call succeeded and gave us a reference.
        Ok(NonNull::new(ctx).map(Self))
    }

    /// Adds one to the counter and wakes who waits for it. Any context but NMI.
    pub fn signal(&self) {
        // SAFETY: Valid by the invariant.
        unsafe { bindings::vhost_vdpa_eventfd_signal(self.0.as_ptr()) }
    }

    /// What irq bypass matches producers and consumers by. Compared, never followed.
    pub(super) fn token(&self) -> *mut bindings::eventfd_ctx {
        self.0.as_ptr()
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: Gives up the reference that the invariant says we own.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) }
    }
}

/// Which callback of a parent a slot is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Used buffers of this queue.
    Queue(u16),
    /// Config space changed.
    Config,
}

/// Where a parent's callback finds the eventfd to signal.
///
/// The slot is what the parent is given as the callback's private pointer; parents that signal
/// eventfds themselves are given the context too, as the trigger. A replaced eventfd is put only
/// after the parent has been given its successor, so neither way can reach a freed one.
///
/// # Invariants
///
/// While the parent has this slot's callback registered, the trigger it was given is the one in
/// `ctx`, or `install` is about to replace it and still holds it.
#[pin_data]
pub struct CallSlot {
    source: Source,
    /// Serialises `install`: whether the parent has the callback.
    #[pin]
    registration: Mutex<bool>,
    #[pin]
    ctx: IrqSpinLock<Option<EventFd>>,
    signalled: Atomic<u64>,
}

impl CallSlot {
    /// An empty slot.
    pub fn new(source: Source) -> impl PinInit<Self> {
        pin_init!(Self {
            source,
            registration <- new_mutex!(false, "CallSlot::registration"),
            ctx <- IrqSpinLock::new(None, c"CallSlot::ctx", kernel::static_lock_class!()),
            signalled: Atomic::new(0),
        })
    }

    /// Makes callbacks signal `new`, and tells the parent; `None` takes the callback away.
    ///
    /// A device that is `running` keeps it: parents copy callbacks while their interrupt handlers
    /// look at them, and one that is half there must not be called. One that finds no eventfd does
    /// nothing. [`CallSlot::unregister_callback`] takes it away after the reset.
    ///
    /// The order is what keeps the old eventfd alive as long as anyone can signal it: callbacks
    /// see the new one, then the parent gets it as its trigger, then the old one is put.
    ///
    /// A slot must stay where it is until it has been installed with `None`, or the device is
    /// gone: that is why it is pinned and why [`Drop`] of its owner comes after removal.
    pub fn install(self: Pin<&Self>, dev: &vdpa::Device, new: Option<EventFd>, running: bool) {
        let mut registered = self.registration.lock();
        *registered = new.is_some() || running && *registered;
        self.tell(dev, new, *registered);
    }

    /// Takes the callback away from a parent that kept it without an eventfd.
    pub fn unregister_callback(self: Pin<&Self>, dev: &vdpa::Device) {
        let mut registered = self.registration.lock();
        if *registered && !self.is_set() {
            *registered = false;
            self.tell(dev, None, false);
        }
    }

    /// Replaces the eventfd and tells the parent, with the callback or without. Callers hold
    /// `registration`.
    fn tell(self: Pin<&Self>, dev: &vdpa::Device, new: Option<EventFd>, callback: bool) {
        let trigger = new
            .as_ref()
            .map_or(core::ptr::null_mut(), |ctx| ctx.token());
        // Always the slot, never null: a parent's interrupt handler may have looked at the callback
        // just before it is taken away and look at the private pointer just after.
        let private = core::ptr::from_ref(self.get_ref()).cast_mut().cast();
        let old = core::mem::replace(&mut *self.ctx.lock(), new);
        let mut cb = bindings::vdpa_callback::default();
        // SAFETY: Only fills in `cb`.
        unsafe { bindings::vhost_vdpa_call_slot_callback(&mut cb, callback, private, trigger) };
        match self.source {
            // SAFETY: The slot is pinned and outlives the registration; `ctx` holds the trigger
            // until the next `install`, which replaces the parent's copy before it is put.
            Source::Queue(idx) => unsafe { dev.set_vq_cb(idx, &mut cb) },
            Source::Config => {
                // C gives the parent no trigger for config changes.
                cb.trigger = core::ptr::null_mut();
                // SAFETY: The slot is pinned and outlives the registration; there is no trigger.
                unsafe { dev.set_config_cb(&mut cb) }
            }
        }
        drop(old);
    }

    /// Whether there is an eventfd.
    pub fn is_set(&self) -> bool {
        self.ctx.lock().is_some()
    }

    /// The token for irq bypass, null without an eventfd.
    pub(super) fn token(&self) -> *mut bindings::eventfd_ctx {
        self.ctx
            .lock()
            .as_ref()
            .map_or(core::ptr::null_mut(), |ctx| ctx.token())
    }

    /// Signals the eventfd, if there is one. Any context but NMI.
    pub fn signal(&self) {
        if let Some(ctx) = &*self.ctx.lock() {
            self.signalled.add(1, Relaxed);
            ctx.signal();
        }
    }

    /// How often a callback found an eventfd to signal.
    pub fn signalled(&self) -> u64 {
        self.signalled.load(Relaxed)
    }
}

/// Waits for callbacks that were running, in interrupt context, when they were taken away.
pub fn wait_for_callbacks() {
    // SAFETY: Sleeps; callers hold no spin lock and are in no RCU read section.
    unsafe { bindings::synchronize_rcu() }
}

/// What the C callback calls.
///
/// # Safety
///
/// `slot` must be a [`CallSlot`] that is installed.
#[no_mangle]
unsafe extern "C" fn vhost_vdpa_call_slot_signal(slot: *mut c_void) {
    // SAFETY: The private pointer of a registered callback is a pinned slot, by `install`.
    unsafe { &*slot.cast::<CallSlot>() }.signal();
}
