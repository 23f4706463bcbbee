// SPDX-License-Identifier: GPL-2.0

//! Module parameters of the block simulator, defined in C, and what limits them.

use crate::bindings;

/// `shared_backend`: whether all disks keep their sectors in the same memory.
#[inline]
pub fn shared_backend() -> bool {
    // SAFETY: The function reads a variable that changes only while the module is loaded.
    unsafe { bindings::vdpa_sim_blk_shared_backend() }
}

/// `capacity`: the number of sectors of 512 bytes.
#[inline]
pub fn capacity() -> u64 {
    // SAFETY: The function reads a variable that changes only while the module is loaded.
    unsafe { bindings::vdpa_sim_blk_capacity() }
}

/// `num_queues`: the number of request queues.
#[inline]
pub fn num_queues() -> u16 {
    // SAFETY: The function reads a variable that changes only while the module is loaded.
    unsafe { bindings::vdpa_sim_blk_num_queues() }
}

/// The size of the machine's memory in bytes, more than which no disk can have.
#[inline]
pub fn memory_size() -> u64 {
    // SAFETY: The function reads a variable that changes only while the module is loaded.
    unsafe { bindings::vdpa_sim_blk_memory_size() }
}
