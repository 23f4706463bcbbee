// SPDX-License-Identifier: GPL-2.0

//! Tracepoints, `events/rust_vhost_vdpa/`; their fields are in `abstractions/helpers/trace.h`.

use crate::{
    bindings,
    vdpa, //
};
use kernel::prelude::*;

/// Returns the value for the field `ret` of an event: 0 or a negative errno.
fn ret<T>(result: &Result<T>) -> c_int {
    match result {
        Ok(_) => 0,
        Err(e) => e.to_errno(),
    }
}

/// Traces an `UPDATE`. `entries` of the event is the number of ranges that were added.
pub fn map(
    minor: i32,
    asid: u32,
    (iova, size, uaddr): (u64, u64, u64),
    perm: u8,
    result: &Result<u64>,
) {
    let entries = *result.as_ref().unwrap_or(&0);
    // SAFETY: The function passes plain values to a tracepoint.
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

/// Traces an `INVALIDATE`. `entries` of the event is the number of ranges that were removed.
pub fn unmap(minor: i32, asid: u32, iova: u64, size: u64, result: &Result<u64>) {
    let entries = *result.as_ref().unwrap_or(&0);
    // SAFETY: The function passes plain values to a tracepoint.
    unsafe { bindings::vhost_vdpa_trace_unmap(minor, asid, iova, size, entries, ret(result)) }
}

/// Traces a table that was passed to a parent.
pub fn set_map(dev: &vdpa::Device, asid: u32, entries: u32, result: &Result) {
    // SAFETY: The reference keeps the device valid during the call, which reads its name.
    unsafe { bindings::vhost_vdpa_trace_set_map(dev.as_raw(), asid, entries, ret(result)) }
}

/// Traces a reset of a device. `clean_map` says that the parent was asked to drop its maps.
pub fn reset(minor: i32, clean_map: bool, result: &Result) {
    // SAFETY: The function passes plain values to a tracepoint.
    unsafe { bindings::vhost_vdpa_trace_reset(minor, clean_map, ret(result)) }
}

/// Traces the backend features that were offered and that userspace acked.
pub fn backend_features(minor: i32, offered: u64, acked: u64, result: &Result) {
    // SAFETY: The function passes plain values to a tracepoint.
    unsafe { bindings::vhost_vdpa_trace_backend_features(minor, offered, acked, ret(result)) }
}

/// Traces the removal of a device.
pub fn remove(minor: i32, was_open: bool) {
    // SAFETY: The function passes plain values to a tracepoint.
    unsafe { bindings::vhost_vdpa_trace_remove(minor, was_open) }
}
