// SPDX-License-Identifier: GPL-2.0

//! Tables for memory keys, in kernel memory.

use kernel::prelude::*;

/// Out of memory.
pub(crate) struct NoMemory;

/// Growable table.
pub(crate) struct Table<T>(KVVec<T>);

impl<T> Table<T> {
    /// Creates an empty table.
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// Reserves room for `more` further entries.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoMemory> {
        self.0.reserve(more, GFP_KERNEL).map_err(|_| NoMemory)
    }

    /// Appends an entry.
    pub(crate) fn push(&mut self, entry: T) -> Result<(), NoMemory> {
        self.0.push(entry, GFP_KERNEL).map_err(|_| NoMemory)
    }
}

impl<T> core::ops::Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Table<T> {}
