// SPDX-License-Identifier: GPL-2.0

//! A list that is nearly always one long.

use kernel::prelude::*;

/// Some values, the first of which needs no memory of its own.
pub(crate) struct Few<T> {
    first: Option<T>,
    rest: KVVec<T>,
}

impl<T> Few<T> {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            rest: KVVec::new(),
        }
    }

    /// None, but room for `n`.
    pub(crate) fn with_capacity(n: usize) -> Result<Self> {
        let mut few = Self::new();
        if n > 1 {
            few.rest.reserve(n - 1, GFP_KERNEL)?;
        }
        Ok(few)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The last one.
    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        self.rest.last_mut().or(self.first.as_mut())
    }

    /// Adds one behind the others. On an error it is dropped.
    pub(crate) fn push(&mut self, value: T) -> Result {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.rest.push(value, GFP_KERNEL)?;
        }
        Ok(())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter =
        core::iter::Chain<core::option::IntoIter<T>, <KVVec<T> as IntoIterator>::IntoIter>;

    fn into_iter(self) -> Self::IntoIter {
        // Kernel vectors have a `chain` of another kind.
        Iterator::chain(self.first.into_iter(), self.rest)
    }
}

#[kunit_tests(rust_vhost_vdpa_few)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order() -> Result {
        for n in 0..5usize {
            let mut few = Few::with_capacity(n)?;
            assert!(few.is_empty());
            assert!(few.last_mut().is_none());
            for i in 0..n {
                few.push(i)?;
                assert_eq!(few.len(), i + 1);
                assert_eq!(few.last_mut(), Some(&mut { i }));
            }
            assert_eq!(few.is_empty(), n == 0);
            assert!(few.into_iter().eq(0..n));
        }
        Ok(())
    }
}
