// SPDX-License-Identifier: GPL-2.0

//! A list that is nearly always one long.

use kernel::prelude::*;

/// Some values, the first of which needs no memory of its own.
pub(crate) struct Few<T> {
    first: Option<T>,
    /// Not there where it would be empty: even that is work to drop.
    rest: Option<KVVec<T>>,
}

impl<T> Few<T> {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            rest: None,
        }
    }

    /// None, but room for `n`.
    pub(crate) fn with_capacity(n: usize) -> Result<Self> {
        let mut few = Self::new();
        if n > 1 {
            few.rest = Some(KVVec::with_capacity(n - 1, GFP_KERNEL)?);
        }
        Ok(few)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The last one.
    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        let last = self.rest.as_mut().and_then(|rest| rest.last_mut());
        last.or(self.first.as_mut())
    }

    /// Adds one behind the others. On an error it is dropped.
    pub(crate) fn push(&mut self, value: T) -> Result {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            let rest = self.rest.get_or_insert_with(KVVec::new);
            rest.push(value, GFP_KERNEL)?;
        }
        Ok(())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter {
            first: self.first,
            rest: self.rest.map(|rest| rest.into_iter()),
        }
    }
}

/// The iterator over the values.
pub(crate) struct IntoIter<T> {
    first: Option<T>,
    rest: Option<<KVVec<T> as IntoIterator>::IntoIter>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.rest.as_mut()?.next())
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
