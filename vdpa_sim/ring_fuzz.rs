// SPDX-License-Identifier: GPL-2.0

//! Runs the cases of `ring_cases.rs` in userspace, and then hostile drivers until time is up.
//!
//! Usage: `ring_fuzz [SECONDS [SEED]]`. A failure prints the seed that shows it again.

mod ring;
mod ring_cases;

use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| match args.next() {
        Some(arg) => arg.parse().expect("a number"),
        None => default,
    };
    let (seconds, first) = (arg(10), arg(1));
    if let Err(what) = ring_cases::all() {
        eprintln!("not ok: {what}");
        std::process::exit(1);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut passed) = (first, 0);
    while Instant::now() < end || seed == first {
        match std::panic::catch_unwind(|| ring_cases::hostile(seed, 100)) {
            Ok(Ok(chains)) => passed += chains,
            outcome => {
                eprintln!("not ok: seed {seed}: {outcome:?}");
                std::process::exit(1);
            }
        }
        seed = seed.wrapping_add(1);
    }
    let drivers = seed.wrapping_sub(first) * 100;
    println!("ok: {drivers} hostile drivers, {passed} chains got through");
}
