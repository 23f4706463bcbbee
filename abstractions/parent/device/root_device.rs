// SPDX-License-Identifier: GPL-2.0

//! A device without a bus or a parent, for what has no hardware behind it.
//!
//! C: `root_device_register()`, `include/linux/device.h`.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    str::CStr, //
};

/// A registered root device.
///
/// # Invariants
///
/// The pointer came from `__root_device_register()`, and nobody else unregisters it.
pub struct RootDevice(NonNull<bindings::device>);

// SAFETY: A device may be unregistered from any thread.
unsafe impl Send for RootDevice {}
// SAFETY: There is nothing to do with a shared reference but read the pointer.
unsafe impl Sync for RootDevice {}

impl RootDevice {
    /// Registers a device as `/sys/devices/NAME`.
    pub fn new(name: &CStr, module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The name is copied, and the module outlives what it registers.
        let dev = from_err_ptr(unsafe {
            bindings::__root_device_register(name.as_char_ptr(), module.as_ptr())
        })?;
        // INVARIANT: Fresh from `__root_device_register()`.
        Ok(Self(NonNull::new(dev).ok_or(ENOMEM)?))
    }

    /// The C struct.
    pub(crate) fn as_raw(&self) -> *mut bindings::device {
        self.0.as_ptr()
    }
}

impl Drop for RootDevice {
    fn drop(&mut self) {
        // SAFETY: By the invariant this happens once.
        unsafe { bindings::root_device_unregister(self.0.as_ptr()) }
    }
}
