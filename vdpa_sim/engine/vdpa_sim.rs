// SPDX-License-Identifier: GPL-2.0

//! Engine of parents in software: queues, address spaces, maps and faults.
#![forbid(unsafe_code)]

/// Prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_sim\0";

/// Used by [`engine_ops!`].
pub use vdpa_parent;

pub mod engine;
pub mod engine_ops;
pub mod faults;
pub mod flavour;
pub mod maps;
pub mod queue;
#[cfg(CONFIG_KUNIT = "y")]
pub mod random;
pub mod ring;
pub mod space;
pub mod vq_state;

#[cfg(kunit_suites)]
mod tests {
    mod ring;
    mod ring_cases;
    mod ring_memory;
    mod ring_model;
}
