// SPDX-License-Identifier: GPL-2.0

//! vhost core: ownership and kick polling.
//!
//! C: `drivers/vhost/vhost.c`, `struct vhost_dev`.

use super::bindings;
use crate::uapi::Message;
use core::{
    mem::offset_of,
    ops::Deref, //
};
use kernel::{
    alloc::flags::__GFP_ZERO,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

// What is read of a message (`uapi.rs`), and what is said to have been written.
const _: () = {
    assert!(offset_of!(bindings::vhost_msg, __bindgen_anon_1) == 8);
    assert!(offset_of!(bindings::vhost_msg_v2, __bindgen_anon_1) == 8);
    assert!(8 + size_of::<bindings::vhost_iotlb_msg>() == size_of::<[u64; Message::WORDS]>());
    assert!(size_of::<bindings::vhost_msg>() == Message::SIZE);
    assert!(size_of::<bindings::vhost_msg_v2>() == Message::SIZE);
};

/// What a device does with kicks.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Queue `idx` was kicked. Runs under the eventfd's wait-queue lock with interrupts off: must
    /// not sleep.
    fn kick(&self, idx: u16);
}

/// A `struct vhost_dev` without workers, and the data of its user. Derefs to the data.
///
/// # Invariants
///
/// `raw` was initialised with the `vqs` behind `ptrs`, none of which move. There is at least one.
#[pin_data(PinnedDrop)]
pub(crate) struct Dev<T: Backend> {
    #[pin]
    raw: Opaque<bindings::vhost_dev>,
    vqs: KVVec<bindings::vhost_virtqueue>,
    _ptrs: KVec<*mut bindings::vhost_virtqueue>,
    #[pin]
    data: T,
}

// SAFETY: A `vhost_dev` is not tied to a thread; `T` is `Send`.
unsafe impl<T: Backend> Send for Dev<T> {}
// SAFETY: The methods below take the locks that vhost core asks for, or read one word as it does without;
// `T` is `Sync`.
unsafe impl<T: Backend> Sync for Dev<T> {}

impl<T: Backend> Dev<T> {
    /// A device with `nvqs` queues. `EINVAL` for none: what was acked is found in the first.
    pub(crate) fn new(nvqs: u32, data: impl PinInit<T, Error>) -> Result<Pin<KBox<Self>>> {
        let n = usize::try_from(nvqs)?;
        if n == 0 {
            return Err(EINVAL);
        }
        let mut vqs =
            KVVec::<bindings::vhost_virtqueue>::with_capacity(n, GFP_KERNEL | __GFP_ZERO)?;
        let mut ptrs = KVec::with_capacity(n, GFP_KERNEL)?;
        for i in 0..n {
            // SAFETY: `i` is below the capacity; the memory is zeroed, which is a valid queue.
            let vq = unsafe { vqs.as_mut_ptr().add(i) };
            // SAFETY: As above.
            unsafe { (*vq).handle_kick = Some(Self::handle_kick) };
            ptrs.push(vq, GFP_KERNEL)?;
        }
        // SAFETY: All of the capacity is zeroed, which is a valid value.
        unsafe { vqs.inc_len(n) };
        let table = ptrs.as_mut_ptr();
        KBox::pin_init(
            try_pin_init!(Self {
                raw <- Opaque::ffi_init(|slot| {
                    // SAFETY: `table` has `n` queues; the box's contents stay where they are,
                    // and both vectors live as long as `slot`.
                    unsafe {
                        bindings::vhost_dev_init(
                            slot, table, nvqs as c_int, 0, 0, 0, false, None,
                        )
                    }
                }),
                vqs,
                _ptrs: ptrs,
                data <- data,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The ioctls of every vhost device: ownership and memory table. `ENOIOCTLCMD` for others,
    /// `EPERM` for who is not the owner.
    pub(crate) fn dev_ioctl(&self, cmd: u32, arg: usize) -> Result {
        let _guard = self.lock();
        // SAFETY: `raw` is initialised and its mutex held.
        let ret = unsafe { bindings::vhost_dev_ioctl(self.raw.get(), cmd, arg as *mut c_void) };
        to_result(ret as c_int)
    }

    /// The ioctls of every vhost queue. `ENOIOCTLCMD` for unknown ones.
    pub(crate) fn vring_ioctl(&self, cmd: u32, arg: usize) -> Result {
        let _guard = self.lock();
        // SAFETY: `raw` is initialised and its mutex held.
        let ret = unsafe { bindings::vhost_vring_ioctl(self.raw.get(), cmd, arg as *mut c_void) };
        to_result(ret as c_int)
    }

    /// Takes ownership back after the rest of `VHOST_SET_OWNER` failed.
    pub(crate) fn reset_owner(&self) {
        let _guard = self.lock();
        // SAFETY: `raw` is initialised and its mutex held; a null table means none.
        unsafe { bindings::vhost_dev_reset_owner(self.raw.get(), core::ptr::null_mut()) }
    }

    /// Has vhost core know what was acked.
    pub(crate) fn set_backend_features(&self, features: u64) {
        // SAFETY: `raw` is initialised; the function takes the mutexes.
        unsafe { bindings::vhost_set_backend_features(self.raw.get(), features) }
    }

    /// What was acked, as vhost core knows it.
    #[inline]
    pub(crate) fn backend_features(&self) -> u64 {
        let vq = self.vqs.as_ptr();
        // SAFETY: By the invariant there is a first queue. As in vhost core, the word is read without a
        // lock.
        unsafe { core::ptr::read_volatile(&raw const (*vq).acked_backend_features) }
    }

    fn lock(&self) -> DevGuard {
        // SAFETY: `raw` is initialised.
        let lock = unsafe { &raw mut (*self.raw.get()).mutex };
        // SAFETY: As above.
        unsafe { bindings::rvv_mutex_lock(lock) };
        DevGuard(lock)
    }

    /// # Safety
    ///
    /// `raw` must be the `vhost_dev` of a `Self` that lives for `'a`.
    unsafe fn from_dev<'a>(raw: *mut bindings::vhost_dev) -> &'a Self {
        // SAFETY: The field is part of a `Self`; `Opaque` is transparent.
        unsafe { &*raw.byte_sub(offset_of!(Self, raw)).cast() }
    }

    /// The kick handler of every queue.
    ///
    /// # Safety
    ///
    /// `work` must be that of the poll of a queue of a `Self`.
    unsafe extern "C" fn handle_kick(work: *mut bindings::vhost_work) {
        let offset =
            offset_of!(bindings::vhost_virtqueue, poll) + offset_of!(bindings::vhost_poll, work);
        // SAFETY: vhost core calls this with the work of a queue's poll.
        let vq: *mut bindings::vhost_virtqueue = unsafe { work.byte_sub(offset) }.cast();
        // SAFETY: Queues point back at their device since `vhost_dev_init()`.
        let dev = unsafe { (*vq).dev };
        // SAFETY: The device is one of ours, and lives while it is polled.
        let this = unsafe { Self::from_dev(dev) };
        // SAFETY: Both point into the allocation behind `vqs`.
        let idx = unsafe { vq.offset_from(this.vqs.as_ptr()) };
        this.data.kick(idx as u16);
    }
}

impl<T: Backend> Deref for Dev<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

#[pinned_drop]
impl<T: Backend> PinnedDrop for Dev<T> {
    fn drop(self: Pin<&mut Self>) {
        // No kick may come in while the data goes.
        // SAFETY: `raw` is initialised, and nobody else has a reference to it.
        unsafe { bindings::vhost_dev_stop(self.raw.get()) };
        // SAFETY: As above.
        unsafe { bindings::vhost_dev_cleanup(self.raw.get()) };
    }
}

/// Holds the mutex of a `vhost_dev`.
struct DevGuard(*mut bindings::mutex);

impl Drop for DevGuard {
    fn drop(&mut self) {
        // SAFETY: Locked by `Dev::lock`, whose result does not outlive the device.
        unsafe { bindings::rvv_mutex_unlock(self.0) }
    }
}
