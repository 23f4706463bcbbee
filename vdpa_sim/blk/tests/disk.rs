// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of the disk: its requests and its backend.

use crate::blk::{
    backend::Backend,
    request::Store,
    tests::request_cases, //
};
use kernel::prelude::*;

#[kunit_tests(rust_vdpa_sim_blk)]
mod tests {
    use super::*;

    /// Allocates the memory that the cases need.
    fn space() -> Result<KVVec<u8>> {
        Ok(KVVec::from_elem(0u8, request_cases::SPACE, GFP_KERNEL)?)
    }

    #[test]
    fn cases() -> Result {
        assert_eq!(request_cases::all(&mut space()?), Ok(()));
        Ok(())
    }

    #[test]
    fn hostile_drivers() -> Result {
        let mut space = space()?;
        for seed in 1..20 {
            assert!(request_cases::hostile(&mut space, seed, 20).is_ok());
        }
        Ok(())
    }

    #[test]
    fn backends() -> Result {
        assert!(Backend::new(0).is_err());
        assert!(Backend::new(u64::MAX).is_err());
        let backend = Backend::new(129)?;
        assert_eq!(backend.size(), 129 * 512);
        assert_eq!(
            backend.piece(0, 1 << 20, |piece| piece.len()),
            Some(1 << 16)
        );
        assert_eq!(backend.piece(65535, 9, |piece| piece.len()), Some(1));
        assert_eq!(backend.piece(65536, 9, |piece| piece.fill(3)), Some(()));
        assert_eq!(
            backend.piece(65530, 9, |piece| piece.iter().all(|b| *b == 0)),
            Some(true)
        );
        assert_eq!(backend.piece(65537, 9000, |piece| piece.len()), Some(511));
        assert_eq!(backend.piece(129 * 512, 1, |_| ()), None);
        assert_eq!(backend.piece(u64::MAX, 1, |_| ()), None);
        Ok(())
    }
}
