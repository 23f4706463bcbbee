// SPDX-License-Identifier: GPL-2.0

//! Kernel thread that does a device's work and can be woken from any context.
//!
//! C: `kthread_create_worker()`, `include/linux/kthread.h`.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    new_spinlock,
    prelude::*,
    str::CStr,
    sync::{Arc, SpinLock},
    types::Opaque, //
};

/// Tells a worker whether to run again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Run once more, after whatever else is queued on the thread.
    Yes,
    /// Wait until queued.
    No,
}

/// Work of a worker.
pub trait Run: Send + Sync + 'static {
    /// Does a bounded amount of work, in process context.
    fn run(&self) -> Again;
}

/// Work item. `work` is the first field, so that a pointer to it is one to the whole item.
#[pin_data]
#[repr(C)]
struct Task<T> {
    #[pin]
    work: Opaque<bindings::kthread_work>,
    target: Arc<T>,
}

/// Thread and its work item, for wakers that may outlive them.
///
/// # Invariants
///
/// While it is `Some`, the thread runs, the item is valid, and the item belongs to the thread.
struct Slot(
    Option<(
        NonNull<bindings::kthread_worker>,
        NonNull<bindings::kthread_work>,
    )>,
);

// SAFETY: Work may be queued from any thread.
unsafe impl Send for Slot {}

/// Queues the work of a worker, as long as the worker exists.
#[derive(Clone)]
pub struct Waker(Arc<SpinLock<Slot>>);

impl Waker {
    /// Queues a run. To be called in process context. Does nothing if the worker is gone.
    pub fn wake(&self) {
        let slot = self.0.lock();
        if let Some((thread, work)) = slot.0 {
            // SAFETY: By the invariant both are valid, as long as the lock is held.
            unsafe { bindings::kthread_queue_work(thread.as_ptr(), work.as_ptr()) };
        }
    }
}

/// Kernel thread that calls `T::run` whenever it is queued.
///
/// # Invariants
///
/// `thread` runs until this is dropped, and only `task` is queued on it.
pub struct Worker<T: Run> {
    thread: NonNull<bindings::kthread_worker>,
    task: Pin<KBox<Task<T>>>,
    slot: Waker,
}

// SAFETY: Work may be queued and the thread stopped from any thread; `T` is `Send` and `Sync`.
unsafe impl<T: Run> Send for Worker<T> {}
// SAFETY: Queueing takes a lock of the thread; `T` is `Sync`.
unsafe impl<T: Run> Sync for Worker<T> {}

impl<T: Run> Worker<T> {
    /// Starts a thread, named after the device `name` and the thread's number there. Errors:
    /// `ENOMEM`, those of `kthread_create_worker()`.
    pub fn new(name: &CStr, number: c_uint, target: Arc<T>) -> Result<Self> {
        let task = KBox::pin_init(
            pin_init!(Task {
                work <- Opaque::ffi_init(|slot: *mut bindings::kthread_work| {
                    // SAFETY: The slot is valid for writes.
                    unsafe { slot.write(bindings::kthread_work::default()) };
                    // SAFETY: The slot is valid, so the field is inside of it.
                    let node = unsafe { &raw mut (*slot).node };
                    // SAFETY: The node is valid for writes and does not move: an empty list points
                    // to itself.
                    unsafe { bindings::INIT_LIST_HEAD(node) };
                    // SAFETY: The slot is valid for writes.
                    unsafe { (*slot).func = Some(Self::run) };
                }),
                target,
            }),
            GFP_KERNEL,
        )?;
        let slot = Arc::pin_init(new_spinlock!(Slot(None)), GFP_KERNEL)?;
        // SAFETY: The format takes a string and an `unsigned int`, which are passed.
        let thread = from_err_ptr(unsafe {
            bindings::kthread_create_worker_on_node(
                0,
                bindings::NUMA_NO_NODE,
                c"vdpa-%s/%u".as_char_ptr(),
                name.as_char_ptr(),
                number,
            )
        })?;
        // SAFETY: The worker was just created, and nobody destroys it yet.
        let sleeper = unsafe { (*thread).task };
        // SAFETY: The task lives until `kthread_destroy_worker()`; it waits for its first wake-up.
        unsafe { bindings::wake_up_process(sleeper) };
        let thread = NonNull::new(thread).ok_or(ENOMEM)?;
        if let Some(work) = NonNull::new(task.work.get()) {
            // INVARIANT: The thread runs and the item is valid until `drop` removes both from the
            // slot.
            slot.lock().0 = Some((thread, work));
        }
        // INVARIANT: The thread runs, and nothing is queued on it.
        Ok(Self {
            thread,
            task,
            slot: Waker(slot),
        })
    }

    /// Returns a waker, which queues runs like [`Worker::queue`] and may outlive the worker.
    pub fn waker(&self) -> Waker {
        self.slot.clone()
    }

    /// Queues a run. May be called in any context. Does nothing if a run is queued already.
    pub fn queue(&self) {
        // SAFETY: By the invariant the thread runs, and the work item outlives it.
        unsafe { bindings::kthread_queue_work(self.thread.as_ptr(), self.task.work.get()) };
    }

    /// Implements the work function with [`Run::run`].
    ///
    /// # Safety
    ///
    /// Only a worker's thread may call it, with the `work` of a `Task<T>`.
    unsafe extern "C" fn run(work: *mut bindings::kthread_work) {
        const { assert!(core::mem::offset_of!(Task<T>, work) == 0) };
        // SAFETY: The caller passes the first field of a `Task<T>`, which lives until the thread
        // has ended.
        let task = unsafe { &*work.cast::<Task<T>>() };
        if task.target.run() == Again::Yes {
            // SAFETY: The item was queued on a worker, which is that of the current thread.
            let thread = unsafe { (*work).worker };
            // SAFETY: This thread runs, and the item lives until the thread has ended. While the
            // item is being cancelled, the function does nothing.
            unsafe { bindings::kthread_queue_work(thread, work) };
        }
    }
}

impl<T: Run> Drop for Worker<T> {
    fn drop(&mut self) {
        self.slot.0.lock().0 = None;
        // SAFETY: The item is valid and belongs to this thread; afterwards it is neither queued nor
        // running.
        unsafe { bindings::kthread_cancel_work_sync(self.task.work.get()) };
        // SAFETY: By the invariant the thread runs, and only `drop` destroys it.
        unsafe { bindings::kthread_destroy_worker(self.thread.as_ptr()) };
    }
}
