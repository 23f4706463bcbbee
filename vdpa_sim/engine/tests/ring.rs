// SPDX-License-Identifier: GPL-2.0

//! The KUnit suite of [`crate::ring`].

use super::{
    ring_cases,
    ring_memory::FakeMemory,
    ring_model, //
};
use kernel::prelude::*;

#[kunit_tests(rust_vdpa_sim_ring)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        assert_eq!(ring_cases::all(&FakeMemory::new()), Ok(()));
    }

    #[test]
    fn honest_drivers() {
        let mem = FakeMemory::new();
        for seed in 1..20 {
            assert!(ring_model::honest(&mem, seed, 10).is_ok_and(|returned| returned > 0));
        }
    }

    #[test]
    fn flaky_memory() {
        let mem = FakeMemory::new();
        for seed in 1..20 {
            assert!(ring_model::flaky(&mem, seed, 10).is_ok_and(|returned| returned > 0));
        }
    }

    #[test]
    fn hostile_drivers() {
        let mem = FakeMemory::new();
        for seed in 1..20 {
            assert!(ring_cases::hostile(&mem, seed, 20).is_ok_and(|passed| passed > 0));
        }
    }
}
