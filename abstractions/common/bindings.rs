// SPDX-License-Identifier: GPL-2.0

//! Generated bindings. Only the other files of `abstractions/` use them.
#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

pub use kernel::bindings::*;
use kernel::ffi;

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;

include!(env!("VHOST_VDPA_BINDINGS"));
