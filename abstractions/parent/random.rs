// SPDX-License-Identifier: GPL-2.0

//! Random numbers.
//!
//! C: `include/linux/random.h`.

use crate::bindings;

/// Fills a buffer with random bytes, good enough for keys once the kernel has enough entropy.
pub fn fill_random(bytes: &mut [u8]) {
    // SAFETY: The buffer is as long as is said.
    unsafe { bindings::get_random_bytes(bytes.as_mut_ptr().cast(), bytes.len()) };
}
