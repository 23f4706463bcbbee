// SPDX-License-Identifier: GPL-2.0

//! Eventfds, and the slots through which a parent's callbacks signal them.
//!
//! C: `fs/eventfd.c`, `struct vdpa_callback`.
//!
//! # Locking
//!
//! `CallSlot::registration` (sleeps), then `CallSlot::ctx` (spins, interrupts off), then the
//! eventfd's own wait-queue lock. Kicks run under an eventfd's wait-queue lock and take none of
//! these.

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

/// Reference to an eventfd's context.
///
/// # Invariants
///
/// The pointer is a valid `eventfd_ctx`, and we own one reference to it.
pub struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: An `eventfd_ctx` is reference counted and not tied to a thread.
unsafe impl Send for EventFd {}
// SAFETY: Shared references only signal, which takes the context's own lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// Returns the eventfd behind a descriptor of the calling process, or `None` for -1.
    ///
    /// Errors: `EBADF` for a bad descriptor, `EINVAL` for one that is not an eventfd.
    pub fn from_user(fd: c_int) -> Result<Option<Self>> {
        if fd == bindings::VHOST_FILE_UNBIND {
            return Ok(None);
        }
        // SAFETY: The function accepts any number.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The call succeeded and returned a reference.
        Ok(NonNull::new(ctx).map(Self))
    }

    /// Adds one to the counter and wakes the waiters. May be called in any context but NMI.
    pub fn signal(&self) {
        // SAFETY: By the invariant the context is valid.
        unsafe { bindings::vhost_vdpa_eventfd_signal(self.0.as_ptr()) }
    }

    /// Returns the token by which irq bypass matches producers and consumers. It is compared and
    /// never dereferenced.
    pub(super) fn token(&self) -> *mut bindings::eventfd_ctx {
        self.0.as_ptr()
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the invariant we own this reference, and it is put once.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) }
    }
}

/// The callback of a parent that a slot is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The callback for used buffers of this queue.
    Queue(u16),
    /// The callback for changes of the config space.
    Config,
}

/// Slot in which a parent's callback finds the eventfd to signal.
///
/// The parent gets the slot as the callback's private pointer. Parents that signal eventfds
/// themselves also get the context, as the trigger. A replaced eventfd is put only after the parent
/// has its successor, so neither way can reach a freed one.
///
/// # Invariants
///
/// While the parent has this slot's callback registered, its trigger is null or the eventfd in
/// `ctx`, or `tell` still owns the eventfd and is about to replace the trigger.
#[pin_data]
pub struct CallSlot {
    source: Source,
    /// Serialises changes. True if the parent has the callback.
    #[pin]
    registration: Mutex<bool>,
    #[pin]
    ctx: IrqSpinLock<Option<EventFd>>,
    signalled: Atomic<u64>,
}

impl CallSlot {
    /// Returns an initialiser for an empty slot.
    fn new(source: Source) -> impl PinInit<Self> {
        pin_init!(Self {
            source,
            registration <- new_mutex!(false, "CallSlot::registration"),
            ctx <- IrqSpinLock::new(None, c"CallSlot::ctx", kernel::static_lock_class!()),
            signalled: Atomic::new(0),
        })
    }

    /// Replaces the eventfd, and registers or unregisters the callback with the parent. Callers
    /// hold `registration`, and set it to `callback`.
    ///
    /// # Safety
    ///
    /// `dev` must be the device that the slot is for, in every call, and the slot must not move or
    /// be freed while the parent has the callback.
    unsafe fn tell(&self, dev: &vdpa::Device, new: Option<EventFd>, callback: bool) {
        let trigger = new
            .as_ref()
            .map_or(core::ptr::null_mut(), |ctx| ctx.token());
        // Always the slot, never null: an interrupt handler of the parent may read the callback
        // just before it is unregistered, and the private pointer just after.
        let private = core::ptr::from_ref(self).cast_mut().cast();
        let old = core::mem::replace(&mut *self.ctx.lock(), new);
        let mut cb = bindings::vdpa_callback::default();
        // SAFETY: The function only writes to `cb`.
        unsafe { bindings::vhost_vdpa_call_slot_callback(&mut cb, callback, private, trigger) };
        match self.source {
            // SAFETY: By this function's contract the slot outlives the registration. `ctx` owns
            // the trigger until the next call, which replaces the parent's copy before it puts the
            // eventfd.
            Source::Queue(idx) => unsafe { dev.set_vq_cb(idx, &mut cb) },
            Source::Config => {
                // C gives the parent no trigger for config changes.
                cb.trigger = core::ptr::null_mut();
                // SAFETY: By this function's contract the slot outlives the registration; there is
                // no trigger.
                unsafe { dev.set_config_cb(&mut cb) }
            }
        }
        drop(old);
    }

    /// Returns true if the slot has an eventfd.
    pub fn is_set(&self) -> bool {
        self.ctx.lock().is_some()
    }

    /// Returns the token for irq bypass, or null without an eventfd.
    pub(super) fn token(&self) -> *mut bindings::eventfd_ctx {
        self.ctx
            .lock()
            .as_ref()
            .map_or(core::ptr::null_mut(), |ctx| ctx.token())
    }

    /// Signals the eventfd, if there is one. May be called in any context but NMI.
    pub fn signal(&self) {
        if let Some(ctx) = &*self.ctx.lock() {
            self.signalled.add(1, Relaxed);
            ctx.signal();
        }
    }

    /// Returns the number of calls that found an eventfd to signal.
    pub fn signalled(&self) -> u64 {
        self.signalled.load(Relaxed)
    }
}

/// Slots of one device: one for each queue, and one for config changes.
///
/// If the parent still has the callback of a slot when the slots are dropped, that slot is leaked,
/// with a warning: the parent may call it at any time.
///
/// # Invariants
///
/// Only the device at `dev` is given a slot. A slot's memory is freed only if the parent does not
/// have its callback, and after an RCU grace period since it was unregistered.
pub struct CallSlots {
    /// The device. It is compared and never dereferenced.
    dev: *mut bindings::vdpa_device,
    /// The slot for config changes, then those of the queues.
    slots: KVec<Pin<KBox<CallSlot>>>,
    /// True if a callback was unregistered that may still be running.
    taken: Atomic<bool>,
}

// SAFETY: The pointer is never dereferenced, and the slots are `Send`.
unsafe impl Send for CallSlots {}
// SAFETY: The pointer is never dereferenced, and the slots are `Sync`.
unsafe impl Sync for CallSlots {}

impl CallSlots {
    /// Creates empty slots for a device. Errors: `ENOMEM`.
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

    /// Returns the slot for `source`, or `None` for a queue that does not exist.
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

    /// Replaces the eventfd of a slot and tells the parent; `None` unregisters the callback.
    ///
    /// If the device is `running`, a registered callback stays registered even without an eventfd,
    /// and then does nothing: parents copy callbacks while their interrupt handlers read them, and
    /// must not call one that is only half written. [`CallSlots::unregister_unset`] unregisters it
    /// after the reset.
    ///
    /// The order keeps the old eventfd alive as long as anyone can signal it: first callbacks see
    /// the new one, then the parent gets the new one as its trigger, then the old one is put.
    ///
    /// Errors: `EINVAL` for a queue that does not exist, or another device.
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
        // SAFETY: `dev` is the device of these slots, as checked above; `drop` frees no slot that
        // is registered.
        unsafe { slot.tell(dev, new, *registered) };
        Ok(())
    }

    /// Unregisters the callbacks that the parent kept without an eventfd.
    pub fn unregister_unset(&self, dev: &vdpa::Device) {
        self.unregister(dev, |slot, registered| registered && !slot.is_set());
    }

    /// Unregisters all callbacks and drops all eventfds. The parent is told for each slot.
    pub fn unregister_all(&self, dev: &vdpa::Device) {
        self.unregister(dev, |_, _| true);
    }

    /// Unregisters the callbacks for which `which` returns true. Does nothing for another device.
    fn unregister(&self, dev: &vdpa::Device, which: impl Fn(&CallSlot, bool) -> bool) {
        if dev.as_raw() != self.dev {
            return;
        }
        for slot in &self.slots {
            let mut registered = slot.registration.lock();
            if which(slot, *registered) {
                self.taken.store(true, Relaxed);
                *registered = false;
                // SAFETY: `dev` is the device of these slots, as checked above. It loses the
                // callback, whose slot is freed only after a grace period.
                unsafe { slot.tell(dev, None, false) };
            }
        }
    }

    /// Waits for callbacks that were running, in interrupt context, when they were unregistered.
    /// Sleeps.
    pub fn wait_for_callbacks(&self) {
        if self.taken.xchg(false, Full) {
            // SAFETY: Callers may sleep and are not in an RCU read-side critical section.
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
/// `slot` must be a [`CallSlot`] that a parent was given, and not freed.
#[no_mangle]
unsafe extern "C" fn vhost_vdpa_call_slot_signal(slot: *mut c_void) {
    // SAFETY: `tell` makes a slot the private pointer of the callback; by the invariant of
    // `CallSlots` it is not freed while the parent may call.
    unsafe { &*slot.cast::<CallSlot>() }.signal();
}
