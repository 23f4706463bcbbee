// SPDX-License-Identifier: GPL-2.0

//! Module parameters of the block simulator, which are defined in C, and their bounds.

use crate::bindings;

/// Returns `shared_backend`: true if all disks have the same memory for their sectors.
#[inline]
pub fn shared_backend() -> bool {
    // SAFETY: The function has no preconditions; the variable is constant once the module is
    // loaded.
    unsafe { bindings::vdpa_sim_blk_shared_backend() }
}

/// Returns `capacity`, the number of sectors of 512 bytes.
#[inline]
pub fn capacity() -> u64 {
    // SAFETY: The function has no preconditions; the variable is constant once the module is
    // loaded.
    unsafe { bindings::vdpa_sim_blk_capacity() }
}

/// Returns `num_queues`, the number of request queues.
#[inline]
pub fn num_queues() -> u16 {
    // SAFETY: The function has no preconditions; the variable is constant once the module is
    // loaded.
    unsafe { bindings::vdpa_sim_blk_num_queues() }
}

/// Returns the size of the machine's memory in bytes. No disk can be larger.
#[inline]
pub fn memory_size() -> u64 {
    // SAFETY: The function has no preconditions: it reads a number of the memory management.
    unsafe { bindings::vdpa_sim_blk_memory_size() }
}
