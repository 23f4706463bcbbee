// SPDX-License-Identifier: GPL-2.0

//! vhost core: ownership and kick polling.
//!
//! C: `drivers/vhost/vhost.c`, `struct vhost_dev`.

use crate::bindings;
use core::{
    mem::offset_of,
    ops::Deref, //
};
use kernel::{
    alloc::flags::__GFP_ZERO,
    error::to_result,
    ioctl::_IO,
    prelude::*,
    types::Opaque, //
};

/// `VHOST_SET_OWNER`, which [`Dev::set_owner`] serves and not [`Dev::dev_ioctl`].
pub const VHOST_SET_OWNER: u32 = _IO(0xaf, 0x01);

/// Number of 64-bit words at the beginning of `struct vhost_msg` and `struct vhost_msg_v2` that
/// have a meaning. The rest is reserved.
pub const MESSAGE_WORDS: usize = 5;

/// Size of `struct vhost_msg` and of `struct vhost_msg_v2`, in bytes.
pub const MESSAGE_SIZE: usize = 72;

const _: () = {
    assert!(offset_of!(bindings::vhost_msg, __bindgen_anon_1) == 8);
    assert!(offset_of!(bindings::vhost_msg_v2, __bindgen_anon_1) == 8);
    assert!(8 + size_of::<bindings::vhost_iotlb_msg>() == size_of::<[u64; MESSAGE_WORDS]>());
    assert!(size_of::<bindings::vhost_msg>() == MESSAGE_SIZE);
    assert!(size_of::<bindings::vhost_msg_v2>() == MESSAGE_SIZE);
};

/// Handler of kicks.
pub trait Backend: Send + Sync + 'static {
    /// Handles a kick of queue `idx`. Runs under the eventfd's wait-queue lock with interrupts off:
    /// must not sleep.
    fn kick(&self, idx: u16);
}

/// A `struct vhost_dev` without workers, and the data of its user. Derefs to the data.
///
/// # Invariants
///
/// `raw` was initialised with the `vqs` that `_ptrs` points to. Neither moves. There is at least
/// one queue.
#[pin_data(PinnedDrop)]
pub struct Dev<T: Backend> {
    #[pin]
    raw: Opaque<bindings::vhost_dev>,
    vqs: KVVec<bindings::vhost_virtqueue>,
    _ptrs: KVec<*mut bindings::vhost_virtqueue>,
    #[pin]
    data: T,
}

// SAFETY: A `vhost_dev` is not tied to a thread; `T` is `Send`.
unsafe impl<T: Backend> Send for Dev<T> {}
// SAFETY: The methods take the device's mutex around calls of vhost core; `T` is `Sync`.
unsafe impl<T: Backend> Sync for Dev<T> {}

impl<T: Backend> Dev<T> {
    /// Returns an initialiser for a device with `nvqs` queues. `EINVAL` for 0, which vhost core
    /// does not expect.
    pub fn new(nvqs: u32, data: impl PinInit<T, Error>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || Self::with_queues(nvqs, data))
    }

    /// Allocates the queues, and returns an initialiser for the device with them.
    fn with_queues(nvqs: u32, data: impl PinInit<T, Error>) -> Result<impl PinInit<Self, Error>> {
        let n = usize::try_from(nvqs)?;
        if n == 0 {
            return Err(EINVAL);
        }
        let mut vqs =
            KVVec::<bindings::vhost_virtqueue>::with_capacity(n, GFP_KERNEL | __GFP_ZERO)?;
        let mut ptrs = KVec::with_capacity(n, GFP_KERNEL)?;
        for i in 0..n {
            // SAFETY: `i` is below the capacity, so the result points into the allocation.
            let vq = unsafe { vqs.as_mut_ptr().add(i) };
            // SAFETY: `vq` is a queue of zeroes in the allocation, which is valid and which nobody
            // else has.
            unsafe { (*vq).handle_kick = Some(Self::handle_kick) };
            ptrs.push(vq, GFP_KERNEL)?;
        }
        // SAFETY: The memory is zeroed up to the capacity, and zeroes are a valid queue.
        unsafe { vqs.inc_len(n) };
        let table = ptrs.as_mut_ptr();
        Ok(try_pin_init!(Self {
                raw <- Opaque::ffi_init(|slot| {
                    // SAFETY: `table` has `n` queues. `slot` is pinned, and both vectors live as
                    // long as it does.
                    unsafe {
                        bindings::vhost_dev_init(
                            slot, table, nvqs as c_int, 0, 0, 0,
                            // Kicks are handled in the wake-up, not by a worker.
                            false, None,
                        )
                    }
                }),
                vqs,
                _ptrs: ptrs,
                data <- data,
            }? Error))
    }

    /// Makes the calling process the owner if `bind` succeeds. Both happen under vhost core's
    /// mutex. Errors: `EBUSY` if there is an owner, `ENOMEM`, or that of `bind`.
    ///
    /// No other call sees the owner before `bind` has returned. So no kick eventfd can be set that
    /// a failure would leave behind.
    pub fn set_owner(&self, bind: impl FnOnce() -> Result) -> Result {
        let _guard = self.lock();
        // SAFETY: By the invariant `raw` is initialised, and its mutex is held.
        to_result(unsafe { bindings::vhost_dev_set_owner(self.raw.get()) } as c_int)?;
        let bound = bind();
        if bound.is_err() {
            // SAFETY: By the invariant `raw` is initialised, and its mutex is held; a null table
            // means none. No queue is polled: polling begins in `vring_ioctl`, which needs an
            // owner, and there was none when the mutex was taken.
            unsafe { bindings::vhost_dev_reset_owner(self.raw.get(), core::ptr::null_mut()) }
        }
        bound
    }

    /// Handles the ioctls that all vhost devices have, but `VHOST_SET_OWNER` (`EINVAL`; see
    /// [`Self::set_owner`]). Errors: `EPERM` without an owner, `ENOIOCTLCMD` for other ioctls,
    /// those of vhost core.
    pub fn dev_ioctl(&self, cmd: u32, arg: usize) -> Result {
        if cmd == VHOST_SET_OWNER {
            return Err(EINVAL);
        }
        let _guard = self.lock();
        // SAFETY: By the invariant `raw` is initialised, and its mutex is held; vhost core checks
        // `arg`.
        let ret = unsafe { bindings::vhost_dev_ioctl(self.raw.get(), cmd, arg as *mut c_void) };
        to_result(ret as c_int)
    }

    /// Handles the ioctls that all vhost queues have. Errors: `EPERM` without an owner,
    /// `ENOIOCTLCMD` for other ioctls, those of vhost core.
    pub fn vring_ioctl(&self, cmd: u32, arg: usize) -> Result {
        let _guard = self.lock();
        // SAFETY: By the invariant `raw` is initialised, and its mutex is held.
        to_result(unsafe { bindings::vhost_dev_check_owner(self.raw.get()) } as c_int)?;
        // SAFETY: By the invariant `raw` is initialised, and its mutex is held; vhost core checks
        // `arg`.
        let ret = unsafe { bindings::vhost_vring_ioctl(self.raw.get(), cmd, arg as *mut c_void) };
        to_result(ret as c_int)
    }

    fn lock(&self) -> DevGuard {
        // SAFETY: By the invariant `raw` is initialised, so the field is inside of it.
        let lock = unsafe { &raw mut (*self.raw.get()).mutex };
        // SAFETY: `vhost_dev_init()` initialised the mutex, which lives as long as `self`.
        unsafe { bindings::vhost_vdpa_mutex_lock(lock) };
        DevGuard(lock)
    }

    /// Returns the device that contains `raw`.
    ///
    /// # Safety
    ///
    /// `raw` must be the `vhost_dev` of a `Self` that lives for `'a`.
    unsafe fn from_dev<'a>(raw: *mut bindings::vhost_dev) -> &'a Self {
        // SAFETY: By this function's contract `raw` is the field of a `Self`; `Opaque` is
        // transparent.
        unsafe { &*raw.byte_sub(offset_of!(Self, raw)).cast() }
    }

    /// Kick handler of every queue.
    ///
    /// # Safety
    ///
    /// `work` must be that of the poll of a queue of a `Self`.
    unsafe extern "C" fn handle_kick(work: *mut bindings::vhost_work) {
        let offset =
            offset_of!(bindings::vhost_virtqueue, poll) + offset_of!(bindings::vhost_poll, work);
        // SAFETY: By this function's contract `work` is inside of a queue's poll.
        let vq: *mut bindings::vhost_virtqueue = unsafe { work.byte_sub(offset) }.cast();
        // SAFETY: The queue is valid; `vhost_dev_init()` set its pointer to the device.
        let dev = unsafe { (*vq).dev };
        // SAFETY: The device is the `raw` of a `Self`, which stops polling before it goes away.
        let this = unsafe { Self::from_dev(dev) };
        // SAFETY: Both pointers are into the allocation of `vqs`.
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
        // No kick may arrive once the data is dropped.
        // SAFETY: By the invariant `raw` is initialised, and nobody else has a reference to it.
        unsafe { bindings::vhost_dev_stop(self.raw.get()) };
        // SAFETY: By the invariant `raw` is initialised. It was just stopped, nobody else has a
        // reference to it, and this happens once: it puts the eventfds that the queues hold.
        unsafe { bindings::vhost_dev_cleanup(self.raw.get()) };
    }
}

/// Guard of the mutex of a `vhost_dev`.
struct DevGuard(*mut bindings::mutex);

impl Drop for DevGuard {
    fn drop(&mut self) {
        // SAFETY: `Dev::lock` locked the mutex, which outlives its guard.
        unsafe { bindings::vhost_vdpa_mutex_unlock(self.0) }
    }
}
