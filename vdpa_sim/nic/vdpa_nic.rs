// SPDX-License-Identifier: GPL-2.0

//! NIC on the engine of `vdpa_sim`: its queues, its control commands, and links between NICs.
#![forbid(unsafe_code)]

/// Prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_nic\0";

pub mod cvq;
pub mod nic;
pub mod peer;

#[cfg(kunit_suites)]
mod tests {
    mod cvq;
    mod peer;
}
