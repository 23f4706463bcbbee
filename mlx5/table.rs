// SPDX-License-Identifier: GPL-2.0

//! The tables of memory keys, in the kernel's memory.

use kernel::prelude::*;

/// There is no memory for another entry.
pub(crate) struct NoMemory;

/// A table that grows.
pub(crate) struct Table<T>(KVVec<T>);

impl<T> Table<T> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// Makes room for so many more entries.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoMemory> {
        self.0.reserve(more, GFP_KERNEL).map_err(|_| NoMemory)
    }

    /// Adds an entry at the end.
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
