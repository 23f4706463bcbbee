// SPDX-License-Identifier: GPL-2.0

//! Which queues there are, and which of them is the control queue: that depends on the features.

use kernel::prelude::*;
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

#[kunit_tests(rust_mlx5_index)]
mod tests {
    use super::*;

    const MQ: u64 = ids::F_NET_MQ | ids::F_NET_CTRL_VQ;

    /// Four pairs.
    const QUEUES: Queues = Queues::new(4);

    #[test]
    fn only_data_queues() {
        assert!(QUEUES.exists(1, 0));
        assert!(!QUEUES.exists(2, 0));
        assert!(!QUEUES.exists(8, 0));
    }

    #[test]
    fn control_queue_behind_the_first_pair() {
        assert!(QUEUES.exists(2, ids::F_NET_CTRL_VQ));
        assert!(QUEUES.is_control(2, ids::F_NET_CTRL_VQ));
        assert!(!QUEUES.exists(3, ids::F_NET_CTRL_VQ));
    }

    #[test]
    fn control_queue_behind_all_pairs() {
        assert!(QUEUES.exists(8, MQ) && QUEUES.is_control(8, MQ));
        assert!(QUEUES.exists(2, MQ) && !QUEUES.is_control(2, MQ));
        assert!(!QUEUES.exists(9, MQ));
    }

    #[test]
    fn groups_before_features() {
        // A driver may ask for the group of the control queue before it says anything.
        assert!(QUEUES.is_control(2, 0));
        assert!(!QUEUES.is_control(8, 0));
    }

    #[test]
    fn several_pairs_need_the_control_queue() {
        assert!(consistent(0));
        assert!(consistent(ids::F_NET_CTRL_VQ));
        assert!(consistent(MQ));
        assert!(!consistent(ids::F_NET_MQ));
    }
}
