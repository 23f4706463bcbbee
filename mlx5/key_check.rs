// SPDX-License-Identifier: GPL-2.0

//! Runs the cases of `tests/key_cases.rs` in userspace, then one table with an allocator that
//! fails, and then random tables until the time is up.
//!
//! Usage: `key_check [SECONDS [SEED]]`. A failure prints the seed that reproduces it.

mod keys;
mod tests {
    pub(crate) mod key_cases;
}

/// Tables for memory keys, whose allocations can be made to fail.
mod table {
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Number of further allocations that succeed.
    pub(crate) static LEFT: AtomicI64 = AtomicI64::new(i64::MAX);

    /// Out of memory.
    #[derive(Debug)]
    pub(crate) struct NoMemory;

    /// Growable table.
    #[derive(PartialEq, Eq)]
    pub(crate) struct Table<T>(Vec<T>);

    impl<T> Table<T> {
        /// Creates an empty table.
        pub(crate) const fn new() -> Self {
            Self(Vec::new())
        }

        /// Reserves room for `more` further entries.
        pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoMemory> {
            self.0.reserve(more);
            match LEFT.fetch_sub(1, Ordering::Relaxed) {
                ..=0 => Err(NoMemory),
                _ => Ok(()),
            }
        }

        /// Appends an entry.
        pub(crate) fn push(&mut self, entry: T) -> Result<(), NoMemory> {
            if self.0.len() == self.0.capacity() {
                self.reserve(1)?;
            }
            self.0.push(entry);
            Ok(())
        }
    }

    impl<T> std::ops::Deref for Table<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }
}

use random;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tests::key_cases;

/// Builds a key with 0, 1, 2 and more allocations until it succeeds; before, each attempt must fail
/// with `NoMemory`. Returns the number of allocations.
fn starved() -> Result<i64, &'static str> {
    for allowed in 0.. {
        table::LEFT.store(allowed, Ordering::Relaxed);
        let outcome = std::panic::catch_unwind(key_cases::three_pieces);
        table::LEFT.store(i64::MAX, Ordering::Relaxed);
        match outcome {
            Ok(Ok(())) if allowed == 0 => return Err("nothing was allocated"),
            Ok(Ok(())) => return Ok(allowed),
            Ok(Err(keys::KeyError::NoMemory)) => {}
            _ => return Err("something else than a lack of memory"),
        }
    }
    Err("no number of allocations suffices")
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |default: u64| match args.next() {
        Some(arg) => arg.parse().expect("a number"),
        None => default,
    };
    let (seconds, first) = (arg(10), arg(1));
    for (name, case) in key_cases::ALL {
        match case() {
            Ok(()) => println!("ok: {name}"),
            Err(what) => {
                eprintln!("not ok: {name}: {what}");
                std::process::exit(1);
            }
        }
    }
    match starved() {
        Ok(allocations) => println!("ok: {allocations} allocations, each of which failed once"),
        Err(what) => {
            eprintln!("not ok: without memory: {what}");
            std::process::exit(1);
        }
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut reached) = (first, 0);
    while Instant::now() < end || seed == first {
        match std::panic::catch_unwind(|| key_cases::random(seed, 100, seed % 8 == 0)) {
            Ok(Ok(addresses)) => reached += addresses,
            outcome => {
                eprintln!("not ok: seed {seed}: {outcome:?}");
                std::process::exit(1);
            }
        }
        seed = seed.wrapping_add(1);
    }
    let tables = seed.wrapping_sub(first) * 100;
    println!("ok: {tables} random tables, {reached} addresses led to memory");
}
