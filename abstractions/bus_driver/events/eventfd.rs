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

use crate::{
    bindings,
    irqlock::IrqSpinLock,
    vdpa, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    new_mutex, pr_warn_once,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
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

    /// Returns the token by which irq bypass matches producers and consumers. Compared, never followed.
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

/// A slot in which a parent's callback finds the eventfd to signal.
///
/// The slot is what the parent is given as the callback's private pointer; parents that signal
/// eventfds themselves are given the context too, as the trigger. A replaced eventfd is put only
/// after the parent has been given its successor, so neither way can reach a freed one.
///
/// # Invariants
///
/// While the parent has this slot's callback registered, the trigger it was given is the one in
/// `ctx`, or `tell` is about to replace it and still holds it.
#[pin_data]
pub struct CallSlot {
    source: Source,
    /// Serialises changes: whether the parent has the callback.
    #[pin]
    registration: Mutex<bool>,
    #[pin]
    ctx: IrqSpinLock<Option<EventFd>>,
    signalled: Atomic<u64>,
}

impl CallSlot {
    /// An empty slot.
    fn new(source: Source) -> impl PinInit<Self> {
        pin_init!(Self {
            source,
            registration <- new_mutex!(false, "CallSlot::registration"),
            ctx <- IrqSpinLock::new(None, c"CallSlot::ctx", kernel::static_lock_class!()),
            signalled: Atomic::new(0),
        })
    }

    /// Replaces the eventfd and tells the parent, with the callback or without. Callers hold
    /// `registration`, and say there whether the parent has the callback.
    ///
    /// # Safety
    ///
    /// `dev` must be the device that the slot is for, whenever it is told something, and the slot must
    /// stay where it is while that has the callback.
    unsafe fn tell(&self, dev: &vdpa::Device, new: Option<EventFd>, callback: bool) {
        let trigger = new
            .as_ref()
            .map_or(core::ptr::null_mut(), |ctx| ctx.token());
        // Always the slot, never null: a parent's interrupt handler may have looked at the callback
        // just before it is taken away and look at the private pointer just after.
        let private = core::ptr::from_ref(self).cast_mut().cast();
        let old = core::mem::replace(&mut *self.ctx.lock(), new);
        let mut cb = bindings::vdpa_callback::default();
        // SAFETY: Only fills in `cb`.
        unsafe { bindings::vhost_vdpa_call_slot_callback(&mut cb, callback, private, trigger) };
        match self.source {
            // SAFETY: The slot outlives the registration by this function's contract; `ctx` holds the
            // trigger until the next call, which replaces the parent's copy before it is put.
            Source::Queue(idx) => unsafe { dev.set_vq_cb(idx, &mut cb) },
            Source::Config => {
                // C gives the parent no trigger for config changes.
                cb.trigger = core::ptr::null_mut();
                // SAFETY: The slot outlives the registration by this function's contract; there is no
                // trigger.
                unsafe { dev.set_config_cb(&mut cb) }
            }
        }
        drop(old);
    }

    /// Returns true if there is an eventfd.
    pub fn is_set(&self) -> bool {
        self.ctx.lock().is_some()
    }

    /// Returns the token for irq bypass, null without an eventfd.
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

    /// Returns how often a callback found an eventfd to signal.
    pub fn signalled(&self) -> u64 {
        self.signalled.load(Relaxed)
    }
}

/// The slots of one device: one for each queue, and one for config changes.
///
/// A slot whose callback the parent still has when the slots are dropped is leaked, with a warning:
/// the parent may call at any time.
///
/// # Invariants
///
/// No device but the one at `dev` is told of a slot. A slot's memory is freed only if the parent does
/// not have its callback, and after a grace period since it was taken away.
pub struct CallSlots {
    /// The device. Compared, never followed.
    dev: *mut bindings::vdpa_device,
    /// Config changes, then the queues.
    slots: KVec<Pin<KBox<CallSlot>>>,
    /// A callback was taken away, and may be running yet.
    taken: Atomic<bool>,
}

// SAFETY: The pointer is not followed, and the slots are `Send`.
unsafe impl Send for CallSlots {}
// SAFETY: The pointer is not followed, and the slots are `Sync`.
unsafe impl Sync for CallSlots {}

impl CallSlots {
    /// Empty slots for a device.
    pub fn new(dev: &vdpa::Device) -> Result<Self> {
        let nvqs = dev.nvqs();
        let mut slots = KVec::with_capacity(nvqs as usize + 1, GFP_KERNEL)?;
        let slot = |source| KBox::pin_init(CallSlot::new(source), GFP_KERNEL);
        slots.push(slot(Source::Config)?, GFP_KERNEL)?;
        for idx in 0..nvqs {
            slots.push(slot(Source::Queue(idx as u16))?, GFP_KERNEL)?;
        }
        Ok(Self {
            dev: dev.as_raw(),
            slots,
            taken: Atomic::new(false),
        })
    }

    /// Returns the slot of config changes, or of a queue, if there is such a one.
    pub fn get(&self, source: Source) -> Option<&CallSlot> {
        let i = match source {
            Source::Config => 0,
            Source::Queue(idx) => usize::from(idx) + 1,
        };
        Some(self.slots.get(i)?.as_ref().get_ref())
    }

    /// Returns the slots of the queues.
    pub fn queues(&self) -> impl Iterator<Item = &CallSlot> {
        self.slots.iter().skip(1).map(|slot| &**slot)
    }

    /// Makes callbacks signal `new`, and tells the parent; `None` takes the callback away.
    ///
    /// A device that is `running` keeps it: parents copy callbacks while their interrupt handlers
    /// look at them, and one that is half there must not be called. One that finds no eventfd does
    /// nothing. [`CallSlots::unregister_unset`] takes it away after the reset.
    ///
    /// The order is what keeps the old eventfd alive as long as anyone can signal it: callbacks
    /// see the new one, then the parent gets it as its trigger, then the old one is put.
    ///
    /// Errors: `EINVAL` for a queue that is not there, and for another device.
    pub fn install(
        &self,
        dev: &vdpa::Device,
        source: Source,
        new: Option<EventFd>,
        running: bool,
    ) -> Result {
        let slot = self.get(source).ok_or(EINVAL)?;
        if dev.as_raw() != self.dev {
            return Err(EINVAL);
        }
        let mut registered = slot.registration.lock();
        self.taken.store(true, Relaxed);
        *registered = new.is_some() || running && *registered;
        // SAFETY: The device is the slots', and nothing frees a slot that is registered.
        unsafe { slot.tell(dev, new, *registered) };
        Ok(())
    }

    /// Takes the callbacks away that the parent kept without an eventfd.
    pub fn unregister_unset(&self, dev: &vdpa::Device) {
        self.unregister(dev, |slot, registered| registered && !slot.is_set());
    }

    /// Takes all callbacks and eventfds away, and tells the parent for each.
    pub fn unregister_all(&self, dev: &vdpa::Device) {
        self.unregister(dev, |_, _| true);
    }

    /// Takes the callbacks away for which `which` says so. Does nothing with another device.
    fn unregister(&self, dev: &vdpa::Device, which: impl Fn(&CallSlot, bool) -> bool) {
        if dev.as_raw() != self.dev {
            return;
        }
        for slot in &self.slots {
            let mut registered = slot.registration.lock();
            if which(slot, *registered) {
                self.taken.store(true, Relaxed);
                *registered = false;
                // SAFETY: The device is the slots', and is not to have this callback any more.
                unsafe { slot.tell(dev, None, false) };
            }
        }
    }

    /// Waits for callbacks that were running, in interrupt context, when they were taken away.
    pub fn wait_for_callbacks(&self) {
        if self.taken.xchg(false, Full) {
            // SAFETY: Sleeps; callers hold no spin lock and are in no RCU read section.
            unsafe { bindings::synchronize_rcu() }
        }
    }
}

impl Drop for CallSlots {
    fn drop(&mut self) {
        self.wait_for_callbacks();
        let slots = core::mem::replace(&mut self.slots, KVec::new());
        for slot in slots {
            let registered = *slot.registration.lock();
            if registered {
                pr_warn_once!(
                    "a parent has a callback of a device that is gone: its memory is not freed\n"
                );
                core::mem::forget(slot);
            }
        }
    }
}

/// Signals the eventfd of a slot, for the C callback.
///
/// # Safety
///
/// `slot` must be a [`CallSlot`] that a parent was told of, and not freed.
#[no_mangle]
unsafe extern "C" fn vhost_vdpa_call_slot_signal(slot: *mut c_void) {
    // SAFETY: The private pointer of a callback is a slot, by `tell`; the invariant of `CallSlots` keeps it
    // while the parent may call.
    unsafe { &*slot.cast::<CallSlot>() }.signal();
}
