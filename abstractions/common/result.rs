// SPDX-License-Identifier: GPL-2.0

//! Inline conversion of return values, for C functions that every message calls.

use kernel::{error, prelude::*};

/// Converts a return value as [`error::to_result`] does, without a call into the kernel crate for
/// success.
#[inline(always)]
pub fn to_result(ret: c_int) -> Result {
    if ret >= 0 {
        Ok(())
    } else {
        error::to_result(ret)
    }
}
