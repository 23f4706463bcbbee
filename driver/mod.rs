// SPDX-License-Identifier: GPL-2.0

//! Devices that userspace owns, and the files through which it does. See `vhost_vdpa.rs` for the
//! contents of each file.

pub(crate) mod debug;
pub(crate) mod device;
pub(crate) mod file;
mod ioctl;
mod message;
pub(crate) mod uapi;
