// SPDX-License-Identifier: GPL-2.0

//! A thread of its own for a device's work, which can be called for from any context.
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

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Run once more, after whatever else waits for the thread.
    Yes,
    /// Wait to be called.
    No,
}

/// What a worker does.
pub trait Run: Send + Sync + 'static {
    /// Does a bounded amount of work, in process context.
    fn run(&self) -> Again;
}

/// The work item: `work` comes first so that one pointer leads to both.
#[pin_data]
#[repr(C)]
struct Task<T> {
    #[pin]
    work: Opaque<bindings::kthread_work>,
    target: Arc<T>,
}

/// A thread, and its work item, for those who outlive them.
///
/// # Invariants
///
/// While there is one, the thread runs, the item lives, and both belong together.
struct Slot(
    Option<(
        NonNull<bindings::kthread_worker>,
        NonNull<bindings::kthread_work>,
    )>,
);

// SAFETY: Threads can be called for from any thread.
unsafe impl Send for Slot {}

/// Calls for a worker, as long as there is one.
#[derive(Clone)]
pub struct Waker(Arc<SpinLock<Slot>>);

impl Waker {
    /// Calls for a run, in process context. Without the worker this does nothing.
    pub fn wake(&self) {
        let slot = self.0.lock();
        if let Some((thread, work)) = slot.0 {
            // SAFETY: They are there by the invariant, and as long as the lock is held.
            unsafe { bindings::kthread_queue_work(thread.as_ptr(), work.as_ptr()) };
        }
    }
}

/// A thread that runs `T::run` whenever it was called for.
///
/// # Invariants
///
/// `thread` runs until this is dropped, and only `task` is queued on it.
pub struct Worker<T: Run> {
    thread: NonNull<bindings::kthread_worker>,
    task: Pin<KBox<Task<T>>>,
    slot: Waker,
}

// SAFETY: Threads can be called for and stopped from any thread; `T` is `Send` and `Sync`.
unsafe impl<T: Run> Send for Worker<T> {}
// SAFETY: Queueing is serialised by a lock of the thread's.
unsafe impl<T: Run> Sync for Worker<T> {}

impl<T: Run> Worker<T> {
    /// Starts a thread, named after the device `name` and its number there.
    pub fn new(name: &CStr, number: c_uint, target: Arc<T>) -> Result<Self> {
        let task = KBox::pin_init(
            pin_init!(Task {
                work <- Opaque::ffi_init(|slot: *mut bindings::kthread_work| {
                    // SAFETY: The slot is ours to write.
                    unsafe { slot.write(bindings::kthread_work::default()) };
                    // SAFETY: The field is inside of the slot.
                    let node = unsafe { &raw mut (*slot).node };
                    // SAFETY: The node is ours to write, and does not move: an empty list points to itself.
                    unsafe { bindings::INIT_LIST_HEAD(node) };
                    // SAFETY: The slot is ours to write.
                    unsafe { (*slot).func = Some(Self::run) };
                }),
                target,
            }),
            GFP_KERNEL,
        )?;
        let slot = Arc::pin_init(new_spinlock!(Slot(None)), GFP_KERNEL)?;
        // SAFETY: The format takes a string and an `unsigned int`.
        let thread = from_err_ptr(unsafe {
            bindings::kthread_create_worker_on_node(
                0,
                bindings::NUMA_NO_NODE,
                c"vdpa-%s/%u".as_char_ptr(),
                name.as_char_ptr(),
                number,
            )
        })?;
        // SAFETY: The thread was just created.
        let sleeper = unsafe { (*thread).task };
        // SAFETY: The task lives until `kthread_destroy_worker()`; it waits for its first wake-up.
        unsafe { bindings::wake_up_process(sleeper) };
        let thread = NonNull::new(thread).ok_or(ENOMEM)?;
        if let Some(work) = NonNull::new(task.work.get()) {
            // INVARIANT: They do until `drop` takes them out.
            slot.lock().0 = Some((thread, work));
        }
        // INVARIANT: The thread runs now, and nothing is queued.
        Ok(Self {
            thread,
            task,
            slot: Waker(slot),
        })
    }

    /// What calls for a run as [`Worker::queue`] does, and may outlive the worker.
    pub fn waker(&self) -> Waker {
        self.slot.clone()
    }

    /// Calls for a run. Works in any context; what was called for already is not doubled.
    pub fn queue(&self) {
        // SAFETY: The thread runs by the invariant, and the work item lives longer than that.
        unsafe { bindings::kthread_queue_work(self.thread.as_ptr(), self.task.work.get()) };
    }

    /// Calls [`Run::run`].
    ///
    /// # Safety
    ///
    /// Only the thread calls it, with the `work` of a `Task<T>`.
    unsafe extern "C" fn run(work: *mut bindings::kthread_work) {
        const { assert!(core::mem::offset_of!(Task<T>, work) == 0) };
        // SAFETY: The task lives until the thread has ended.
        let task = unsafe { &*work.cast::<Task<T>>() };
        if task.target.run() == Again::Yes {
            // SAFETY: The item was queued on a thread, which is the current one.
            let thread = unsafe { (*work).worker };
            // SAFETY: This thread runs, and nobody but it handles the item, which lives until the thread has
            // ended; while the item is being cancelled this does nothing.
            unsafe { bindings::kthread_queue_work(thread, work) };
        }
    }
}

impl<T: Run> Drop for Worker<T> {
    fn drop(&mut self) {
        self.slot.0.lock().0 = None;
        // SAFETY: The item belongs to this thread; afterwards it is neither queued nor running.
        unsafe { bindings::kthread_cancel_work_sync(self.task.work.get()) };
        // SAFETY: By the invariant this happens once.
        unsafe { bindings::kthread_destroy_worker(self.thread.as_ptr()) };
    }
}
