// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of [`crate::mlx5::keys`].

use super::key_cases;
use kernel::prelude::*;

#[kunit_tests(rust_mlx5_keys)]
mod tests {
    use super::*;

    #[test]
    fn bad_ranges() {
        assert_eq!(key_cases::bad_ranges(), Ok(()));
    }

    #[test]
    fn joined() {
        assert_eq!(key_cases::joined(), Ok(()));
    }

    #[test]
    fn pages() {
        assert_eq!(key_cases::pages(), Ok(()));
    }

    #[test]
    fn pieces() {
        assert_eq!(key_cases::pieces(), Ok(()));
    }

    #[test]
    fn holes() {
        assert_eq!(key_cases::holes(), Ok(()));
    }

    #[test]
    fn limits() {
        assert_eq!(key_cases::limits(), Ok(()));
    }

    #[test]
    fn the_end() {
        assert_eq!(key_cases::the_end(), Ok(()));
    }

    #[test]
    fn listed() {
        assert_eq!(key_cases::listed(), Ok(()));
    }

    #[test]
    fn equality() {
        assert_eq!(key_cases::equality(), Ok(()));
    }

    #[test]
    fn random_tables() {
        for seed in 1..20 {
            assert!(key_cases::random(seed, 10, false).is_ok());
        }
    }
}
