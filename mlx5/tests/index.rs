// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of [`crate::mlx5::index`].

use crate::mlx5::index::{consistent, Queues};
use kernel::prelude::*;
use vdpa_parent::virtio_ids as ids;

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
        // A driver may ask for the group of the control queue before it negotiates.
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
