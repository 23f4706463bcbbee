// SPDX-License-Identifier: GPL-2.0

//! A device that userspace owns, and the file through which it does. `vhost_vdpa.rs` says which file
//! has what.

pub(crate) mod debug;
pub(crate) mod device;
pub(crate) mod file;
mod ioctl;
mod message;
pub(crate) mod uapi;
