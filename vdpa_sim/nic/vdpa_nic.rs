// SPDX-License-Identifier: GPL-2.0

//! A NIC on the engine of `vdpa_sim`: its queues, its control commands, and links between NICs.
#![forbid(unsafe_code)]

/// The prefix of log lines.
const __LOG_PREFIX: &[u8] = b"vdpa_nic\0";

pub mod cvq;
pub mod nic;
pub mod peer;

#[cfg(kunit_suites)]
mod tests {
    mod cvq;
    mod peer;
}
