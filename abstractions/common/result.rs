// SPDX-License-Identifier: GPL-2.0

//! What C functions return, for those that are called with every message.

use kernel::{error, prelude::*};

/// [`error::to_result`], which itself is a call into the kernel crate, inline for success.
#[inline(always)]
pub fn to_result(ret: c_int) -> Result {
    if ret >= 0 {
        Ok(())
    } else {
        error::to_result(ret)
    }
}
