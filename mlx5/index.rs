// SPDX-License-Identifier: GPL-2.0

//! Which queues there are, and which of them is the control queue: that depends on the features.

use vdpa_parent::virtio_ids as ids;

/// The queues of a device.
#[derive(Clone, Copy)]
pub(crate) struct Queues {
    pairs: u16,
}

impl Queues {
    /// So many pairs, and a control queue.
    pub(crate) const fn new(pairs: u16) -> Self {
        Self { pairs }
    }

    /// Whether the driver means the control queue, if there is one: behind all pairs if the
    /// driver can use several, else behind the first.
    pub(crate) fn is_control(&self, idx: u16, features: u64) -> bool {
        match features & ids::F_NET_MQ {
            0 => idx == 2,
            _ => idx == 2 * self.pairs,
        }
    }

    /// Whether there is a queue with that number.
    pub(crate) fn exists(&self, idx: u16, features: u64) -> bool {
        match (features & ids::F_NET_MQ, features & ids::F_NET_CTRL_VQ) {
            (0, 0) => idx < 2,
            (0, _) => idx < 3,
            _ => idx <= 2 * self.pairs,
        }
    }
}

/// Whether the features of a driver make sense together.
pub(crate) fn consistent(features: u64) -> bool {
    features & ids::F_NET_MQ == 0 || features & ids::F_NET_CTRL_VQ != 0
}
