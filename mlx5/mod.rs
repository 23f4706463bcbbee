// SPDX-License-Identifier: GPL-2.0

//! The NIC of `mlx5_compat.rs`: its queues, its memory keys, and what it shows of them.

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
