// SPDX-License-Identifier: GPL-2.0

//! Numbers of the data and control queues, which depend on the features.

use vdpa_parent::virtio_ids as ids;

/// The queues of a device.
#[derive(Clone, Copy)]
pub(crate) struct Queues {
    pairs: u16,
}

impl Queues {
    /// Creates the queues of a device with `pairs` pairs and a control queue.
    pub(crate) const fn new(pairs: u16) -> Self {
        Self { pairs }
    }

    /// Returns true if `idx` is the control queue, if there is one: it is behind all pairs if the
    /// driver can use several, else behind the first pair.
    pub(crate) fn is_control(&self, idx: u16, features: u64) -> bool {
        match features & ids::F_NET_MQ {
            0 => idx == 2,
            _ => idx == 2 * self.pairs,
        }
    }

    /// Returns true if queue `idx` exists.
    pub(crate) fn exists(&self, idx: u16, features: u64) -> bool {
        match (features & ids::F_NET_MQ, features & ids::F_NET_CTRL_VQ) {
            (0, 0) => idx < 2,
            (0, _) => idx < 3,
            _ => idx <= 2 * self.pairs,
        }
    }
}

/// Returns true if the features of a driver are consistent: several pairs need a control queue.
pub(crate) fn consistent(features: u64) -> bool {
    features & ids::F_NET_MQ == 0 || features & ids::F_NET_CTRL_VQ != 0
}
