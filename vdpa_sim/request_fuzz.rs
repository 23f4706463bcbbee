// SPDX-License-Identifier: GPL-2.0

//! Runs the cases of `blk/tests/request_cases.rs` in userspace, and then hostile drivers until the
//! time is up.
//!
//! Usage: `request_fuzz [SECONDS [SEED]]`. A failure prints the seed that reproduces it.

mod blk {
    pub(crate) mod request;

    pub(crate) mod tests {
        pub(crate) mod request_cases;
    }
}
mod engine {
    #[allow(dead_code, reason = "requests need only a part of it")]
    pub(crate) mod random;
    #[allow(dead_code, reason = "requests need only a part of it")]
    pub(crate) mod ring;
}

use blk::tests::request_cases;
use engine::{random, ring};
use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| match args.next() {
        Some(arg) => arg.parse().expect("a number"),
        None => default,
    };
    let (seconds, first) = (arg(10), arg(1));
    let mut space = vec![0; request_cases::SPACE];
    if let Err(what) = request_cases::all(&mut space) {
        eprintln!("not ok: {what}");
        std::process::exit(1);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut well) = (first, 0);
    while Instant::now() < end || seed == first {
        let mut run = || request_cases::hostile(&mut space, seed, 100);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut run)) {
            Ok(Ok(requests)) => well += requests,
            outcome => {
                eprintln!("not ok: seed {seed}: {outcome:?}");
                std::process::exit(1);
            }
        }
        seed = seed.wrapping_add(1);
    }
    let requests = seed.wrapping_sub(first) * 100;
    println!("ok: {requests} hostile requests, {well} of them went well");
}
