// SPDX-License-Identifier: GPL-2.0

//! Irq bypass: offering a queue's interrupt to a consumer such as KVM.
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

/// A registered producer; unregistered when dropped.
///
/// # Invariants
///
/// `inner` is registered.
#[pin_data(PinnedDrop)]
pub struct Producer {
    #[pin]
    inner: Opaque<bindings::irq_bypass_producer>,
}

// SAFETY: Registration and unregistration may happen on different threads.
unsafe impl Send for Producer {}
// SAFETY: There is nothing to call on a shared producer.
unsafe impl Sync for Producer {}

impl Producer {
    /// Offers interrupt `irq` under the token of the slot's eventfd.
    ///
    /// The token is compared, not followed, but a consumer may hold the same eventfd: drop the
    /// producer before the slot gets another one. `EINVAL` for a slot without an eventfd, `EBUSY`
    /// where the eventfd has a producer already.
    pub fn register(slot: &CallSlot, irq: c_int) -> Result<Pin<KBox<Self>>> {
        let token = slot.token();
        if token.is_null() {
            return Err(EINVAL);
        }
        KBox::pin_init(
            try_pin_init!(Self {
                inner <- Opaque::try_ffi_init(|slot: *mut bindings::irq_bypass_producer| {
                    // SAFETY: The slot is ours to write, and zero is a valid producer.
                    unsafe { slot.write_bytes(0, 1) };
                    // SAFETY: The producer is pinned, and unregistered before it is freed.
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
        // SAFETY: Registered by the invariant.
        unsafe { bindings::irq_bypass_unregister_producer(self.inner.get()) }
    }
}
