// SPDX-License-Identifier: GPL-2.0

//! The NIC of `mlx5_compat.rs`: its queues, its memory keys, and their files in debugfs.

pub(crate) mod command;
mod debugfs;
pub(crate) mod device;
pub(crate) mod index;
mod keys;
mod maps;
pub(crate) mod port;
mod table;

#[cfg(CONFIG_KUNIT = "y")]
mod tests {
    mod command;
    mod index;
    mod key_cases;
    mod keys;
}
