// SPDX-License-Identifier: GPL-2.0

//! Tracepoints, `events/rust_vhost_vdpa/`; their fields are in `abstractions/helpers/trace.h`.

use crate::{
    bindings,
    vdpa, //
};
use kernel::prelude::*;

/// What `ret` of an event says of a result.
fn ret<T>(result: &Result<T>) -> c_int {
    match result {
        Ok(_) => 0,
        Err(e) => e.to_errno(),
    }
}

/// An `UPDATE`; `entries` is how many ranges it became.
pub fn map(
    minor: i32,
    asid: u32,
    (iova, size, uaddr): (u64, u64, u64),
    perm: u8,
    result: &Result<u64>,
) {
    let entries = *result.as_ref().unwrap_or(&0);
    // SAFETY: Plain values.
    unsafe {
        bindings::vhost_vdpa_trace_map(
            minor,
            asid,
            iova,
            size,
            uaddr,
            u32::from(perm),
            entries,
            ret(result),
        )
    }
}

/// An `INVALIDATE`; `entries` is how many ranges it removed.
pub fn unmap(minor: i32, asid: u32, iova: u64, size: u64, result: &Result<u64>) {
    let entries = *result.as_ref().unwrap_or(&0);
    // SAFETY: Plain values.
    unsafe { bindings::vhost_vdpa_trace_unmap(minor, asid, iova, size, entries, ret(result)) }
}

/// A table given to a parent.
pub fn set_map(dev: &vdpa::Device, asid: u32, entries: u32, result: &Result) {
    // SAFETY: The device is there as long as the reference; its name is read.
    unsafe { bindings::vhost_vdpa_trace_set_map(dev.as_raw(), asid, entries, ret(result)) }
}

/// A device reset, and whether the parent was asked to clean its maps.
pub fn reset(minor: i32, clean_map: bool, result: &Result) {
    // SAFETY: Plain values.
    unsafe { bindings::vhost_vdpa_trace_reset(minor, clean_map, ret(result)) }
}

/// Backend features offered, and what userspace asked for.
pub fn backend_features(minor: i32, offered: u64, acked: u64, result: &Result) {
    // SAFETY: Plain values.
    unsafe { bindings::vhost_vdpa_trace_backend_features(minor, offered, acked, ret(result)) }
}

/// The removal of a device.
pub fn remove(minor: i32, was_open: bool) {
    // SAFETY: Plain values.
    unsafe { bindings::vhost_vdpa_trace_remove(minor, was_open) }
}
