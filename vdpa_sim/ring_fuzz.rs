// SPDX-License-Identifier: GPL-2.0

//! Runs the cases of `engine/tests/` in userspace, and then correct drivers, drivers of flaky
//! memory and hostile drivers until the time is up.
//!
//! Usage: `ring_fuzz [SECONDS [SEED]]`. A failure prints the seed that reproduces it. With 0
//! seconds, a fixed number of seeds is tried.

mod engine {
    pub(crate) mod random;
    #[allow(dead_code, reason = "parents use more of it")]
    pub(crate) mod ring;

    pub(crate) mod tests {
        pub(crate) mod ring_cases;
        pub(crate) mod ring_memory;
        pub(crate) mod ring_model;
    }
}

use engine::{
    random, ring,
    tests::{
        ring_cases,
        ring_memory::{FakeMemory, Outcome},
        ring_model,
    },
};
use std::time::{Duration, Instant};

/// Number of seeds that are tried with 0 seconds.
const SEEDS: u64 = 200;
/// Number of queues per seed.
const ROUNDS: u32 = 100;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| match args.next() {
        Some(arg) => arg.parse().expect("a number"),
        None => default,
    };
    let (seconds, first) = (arg(10), arg(1));
    if let Err(what) = ring_cases::all(&FakeMemory::new()) {
        eprintln!("not ok: {what}");
        std::process::exit(1);
    }
    let run = |seed: u64, what: &str, drivers: fn(&FakeMemory, u64, u32) -> Outcome<u64>| {
        match std::panic::catch_unwind(|| drivers(&FakeMemory::new(), seed, ROUNDS)) {
            Ok(Ok(chains)) => chains,
            outcome => {
                eprintln!("not ok: {what} drivers, seed {seed}: {outcome:?}");
                std::process::exit(1);
            }
        }
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seeds, mut honest, mut flaky, mut hostile) = (0, 0, 0, 0);
    while Instant::now() < end || (seconds == 0 && seeds < SEEDS) {
        let seed = first.wrapping_add(seeds);
        honest += run(seed, "honest", ring_model::honest);
        flaky += run(seed, "flaky", ring_model::flaky);
        hostile += run(seed, "hostile", ring_cases::hostile);
        seeds += 1;
    }
    let drivers = seeds * u64::from(ROUNDS);
    println!("ok: {drivers} honest drivers got {honest} buffers back");
    println!("ok: {drivers} drivers of flaky memory got {flaky} buffers back");
    println!("ok: {drivers} hostile drivers, {hostile} chains got through");
}
