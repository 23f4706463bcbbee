// SPDX-License-Identifier: GPL-2.0

//! Devices without a bus or a parent, for parents without hardware.
//!
//! C: `root_device_register()`, `include/linux/device.h`.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    str::CStr, //
};

/// Registered root device. Dropping it unregisters the device.
///
/// # Invariants
///
/// The pointer came from `__root_device_register()`, and nobody else unregisters it.
pub struct RootDevice(NonNull<bindings::device>);

// SAFETY: A device may be unregistered from any thread.
unsafe impl Send for RootDevice {}
// SAFETY: Shared references only read the pointer.
unsafe impl Sync for RootDevice {}

impl RootDevice {
    /// Registers a device as `/sys/devices/NAME`. Errors: those of `root_device_register()`.
    pub fn new(name: &CStr, module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The name is copied, and the module outlives its devices.
        let dev = from_err_ptr(unsafe {
            bindings::__root_device_register(name.as_char_ptr(), module.as_ptr())
        })?;
        // INVARIANT: The pointer is fresh from `__root_device_register()`.
        Ok(Self(NonNull::new(dev).ok_or(ENOMEM)?))
    }

    /// Returns the C struct.
    pub(crate) fn as_raw(&self) -> *mut bindings::device {
        self.0.as_ptr()
    }
}

impl Drop for RootDevice {
    fn drop(&mut self) {
        // SAFETY: By the invariant the device is registered, and nobody else unregisters it.
        unsafe { bindings::root_device_unregister(self.0.as_ptr()) }
    }
}
