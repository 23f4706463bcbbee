// SPDX-License-Identifier: GPL-2.0

//! Irq bypass: offers a queue's interrupt to a consumer such as KVM.
//!
//! C: `virt/lib/irqbypass.c`, `include/linux/irqbypass.h`.

use crate::{
    bindings,
    eventfd::CallSlot, //
};
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Registered irq bypass producer. Dropping it unregisters the producer.
///
/// # Invariants
///
/// `inner` is registered.
#[pin_data(PinnedDrop)]
pub struct Producer {
    #[pin]
    inner: Opaque<bindings::irq_bypass_producer>,
}

// SAFETY: A producer may be unregistered on another thread than the one that registered it.
unsafe impl Send for Producer {}
// SAFETY: No method takes a shared producer.
unsafe impl Sync for Producer {}

impl Producer {
    /// Registers a producer of interrupt `irq`, with the token of the slot's eventfd.
    ///
    /// The token is compared and never dereferenced, but a consumer may have the same eventfd: drop
    /// the producer before the slot gets another one. Errors: `EINVAL` if the slot has no eventfd,
    /// `EBUSY` if the eventfd has a producer already, `ENOMEM`.
    pub fn register(slot: &CallSlot, irq: c_int) -> Result<Pin<KBox<Self>>> {
        let token = slot.token();
        if token.is_null() {
            return Err(EINVAL);
        }
        KBox::pin_init(
            try_pin_init!(Self {
                inner <- Opaque::try_ffi_init(|slot: *mut bindings::irq_bypass_producer| {
                    // SAFETY: The slot is valid for writes, and zeroes are a valid producer.
                    unsafe { slot.write_bytes(0, 1) };
                    // SAFETY: The producer is pinned, and `drop` unregisters it before it is freed.
                    // INVARIANT: If this succeeds it is registered.
                    to_result(unsafe {
                        bindings::irq_bypass_register_producer(slot, token, irq)
                    })
                }),
            }? Error),
            GFP_KERNEL,
        )
    }
}

#[pinned_drop]
impl PinnedDrop for Producer {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant the producer is registered, and only `drop` unregisters it.
        unsafe { bindings::irq_bypass_unregister_producer(self.inner.get()) }
    }
}
