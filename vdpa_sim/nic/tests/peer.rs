// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of [`crate::peer`].

use crate::peer::{Links, Port, RxQueue, RX_QUEUE_SIZE};
use kernel::{prelude::*, sync::Arc};

#[kunit_tests(rust_vdpa_sim_peer)]
mod tests {
    use super::*;

    /// Returns a frame that differs from those before it.
    fn frame(number: usize) -> Result<KVVec<u8>> {
        let len = 1 + number * 613 % 9000;
        Ok(KVVec::from_elem(number as u8, len, GFP_KERNEL)?)
    }

    #[test]
    fn frames_come_out_as_they_went_in() -> Result {
        let rx_queue = RxQueue::new()?;
        let mut into = KVVec::from_elem(0u8, 9000, GFP_KERNEL)?;
        rx_queue.prepare()?;
        rx_queue.set_open(true);
        // Enough frames for the ring to wrap around several times, with up to three frames in it.
        for number in 0..1000 {
            rx_queue.send(&frame(number)?);
            if number < 2 {
                continue;
            }
            let sent = frame(number - 2)?;
            assert_eq!(rx_queue.peek(&mut into), Some(sent.len()));
            assert!(into.get(..sent.len()) == Some(&sent[..]));
            rx_queue.forget(sent.len());
        }
        assert_eq!(rx_queue.overruns(), 0);
        rx_queue.set_open(false);
        assert_eq!(rx_queue.peek(&mut into), None);
        Ok(())
    }

    #[test]
    fn a_full_receive_queue_loses_frames() -> Result {
        let rx_queue = RxQueue::new()?;
        let mut into = KVVec::from_elem(0u8, 1020, GFP_KERNEL)?;
        let sent = KVVec::from_elem(7u8, 1020, GFP_KERNEL)?;
        // Without a link there is no room, and a closed queue accepts nothing.
        rx_queue.set_open(true);
        rx_queue.send(&sent);
        assert_eq!(rx_queue.overruns(), 1);
        rx_queue.prepare()?;
        rx_queue.set_open(false);
        rx_queue.send(&sent);
        assert_eq!((rx_queue.peek(&mut into), rx_queue.overruns()), (None, 1));
        rx_queue.set_open(true);
        for _ in 0..RX_QUEUE_SIZE / 1024 + 3 {
            rx_queue.send(&sent);
        }
        assert_eq!(rx_queue.overruns(), 4);
        for _ in 0..RX_QUEUE_SIZE / 1024 {
            assert_eq!(rx_queue.peek(&mut into), Some(1020));
            rx_queue.forget(1020);
        }
        assert_eq!(rx_queue.peek(&mut into), None);
        Ok(())
    }

    #[test]
    fn long_frames_do_not_block_the_others() -> Result {
        let rx_queue = RxQueue::new()?;
        let mut into = KVec::from_elem(0u8, 100, GFP_KERNEL)?;
        let long = KVec::from_elem(1u8, 101, GFP_KERNEL)?;
        let short = KVec::from_elem(2u8, 100, GFP_KERNEL)?;
        rx_queue.prepare()?;
        rx_queue.set_open(true);
        for _ in 0..3 {
            rx_queue.send(&long);
        }
        assert_eq!((rx_queue.peek(&mut into), rx_queue.oversized()), (None, 3));
        // Enough frames for the ring to wrap around.
        for _ in 0..RX_QUEUE_SIZE / 100 {
            rx_queue.send(&long);
            rx_queue.send(&short);
            assert_eq!(rx_queue.peek(&mut into), Some(100));
            assert!(into.iter().all(|byte| *byte == 2));
            rx_queue.forget(100);
        }
        assert_eq!(rx_queue.peek(&mut into), None);
        assert_eq!(rx_queue.overruns(), 0);
        assert_eq!(rx_queue.oversized(), 3 + (RX_QUEUE_SIZE / 100) as u64);
        Ok(())
    }

    #[test]
    fn links_have_two_ends() -> Result {
        let links = Links::new()?;
        let (a, b, c) = (
            links.add(c"a", 1)?,
            links.add(c"b", 2)?,
            links.add(c"c", 1)?,
        );
        let peer_is = |port: &Port, other: &Arc<Port>| {
            port.peer().is_some_and(|peer| Arc::ptr_eq(&peer, other))
        };
        assert_eq!(links.connect(&a, b"nobody"), Err(ENODEV));
        assert_eq!(links.connect(&a, b"a"), Err(EINVAL));
        links.connect(&a, b"b")?;
        links.connect(&b, b"a")?;
        assert!(peer_is(&a, &b) && peer_is(&b, &a));
        assert_eq!(links.connect(&c, b"b"), Err(EBUSY));
        links.connect(&a, b"c")?;
        assert!(peer_is(&a, &c) && peer_is(&c, &a) && b.peer().is_none());
        links.remove(&c);
        assert!(a.peer().is_none());
        assert_eq!(links.connect(&a, b"c"), Err(ENODEV));
        links.connect(&a, b"b")?;
        links.connect(&b, b"")?;
        assert!(a.peer().is_none() && b.peer().is_none());
        Ok(())
    }
}
