// SPDX-License-Identifier: GPL-2.0

//! Random numbers.
//!
//! C: `include/linux/random.h`.

use crate::bindings;

/// Fills a buffer with random bytes. They are good enough for keys once the kernel's random number
/// generator is seeded.
pub fn fill_random(bytes: &mut [u8]) {
    // SAFETY: The buffer is valid for writes of its length.
    unsafe { bindings::get_random_bytes(bytes.as_mut_ptr().cast(), bytes.len()) };
}
