// SPDX-License-Identifier: GPL-2.0

//! Module parameters of the block simulator, defined in C, and what limits them.

use super::bindings;

/// `shared_backend`: whether all disks keep their sectors in the same memory.
pub(crate) fn shared_backend() -> bool {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_blk_shared_backend() }
}

/// `capacity`: the number of sectors of 512 bytes.
pub(crate) fn capacity() -> u64 {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_blk_capacity() }
}

/// `num_queues`: the number of request queues.
pub(crate) fn num_queues() -> u16 {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_blk_num_queues() }
}

/// The size of the machine's memory in bytes, more than which no disk can have.
pub(crate) fn memory_size() -> u64 {
    // SAFETY: Has no requirements.
    unsafe { bindings::rvv_blk_memory_size() }
}
