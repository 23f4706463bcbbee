// SPDX-License-Identifier: GPL-2.0

//! What the NIC of `mlx5_compat.rs` is made of.

pub(crate) mod command;
pub(crate) mod device;
pub(crate) mod index;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod key_cases;
mod keys;
mod maps;
pub(crate) mod port;
mod shown;
mod table;
