// SPDX-License-Identifier: GPL-2.0

//! A list that is nearly always one long.

use kernel::prelude::*;

/// Some values, the first of which needs no memory of its own.
pub struct Few<T> {
    first: Option<T>,
    /// Not there where it would be empty: even that is work to drop.
    rest: Option<KVVec<T>>,
}

impl<T> Few<T> {
    /// None.
    pub const fn new() -> Self {
        Self {
            first: None,
            rest: None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        rest.wrapping_add(self.first.is_some().into())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds one behind the others. On an error it is dropped.
    #[inline]
    pub fn push(&mut self, value: T) -> Result {
        if self.first.is_some() {
            return self.push_rest(value);
        }
        self.first = Some(value);
        Ok(())
    }

    fn push_rest(&mut self, value: T) -> Result {
        let rest = self.rest.get_or_insert_with(KVVec::new);
        Ok(rest.push(value, GFP_KERNEL)?)
    }

    /// Hands each to `f`, in order, up to the first that fails. What `f` returned `Ok` for is its, to
    /// drop or to keep; what it did not is dropped here.
    #[inline]
    pub fn hand_over(&mut self, mut f: impl FnMut(&T) -> Result) -> Result {
        let mut next = self.first.take();
        let mut rest = self.rest.take().map(KVVec::into_iter);
        while let Some(value) = next {
            f(&value)?;
            core::mem::forget(value);
            next = rest.as_mut().and_then(Iterator::next);
        }
        Ok(())
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[kunit_tests(rust_vhost_vdpa_few)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order() -> Result {
        for n in 0..5usize {
            let mut few = Few::new();
            assert!(few.is_empty());
            for i in 0..n {
                few.push(i)?;
                assert_eq!(few.len(), i + 1);
            }
            assert_eq!(few.is_empty(), n == 0);
            let mut next = 0;
            few.hand_over(|&i| {
                assert_eq!(i, next);
                next += 1;
                Ok(())
            })?;
            assert_eq!(next, n);
            assert!(few.is_empty());
        }
        Ok(())
    }

    /// Counts how often one of its kind was dropped.
    struct Dropped<'a>(&'a core::cell::Cell<usize>);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn drops_what_was_not_handed_over() -> Result {
        for n in 0..5usize {
            for fails in 0..=n {
                let dropped = core::cell::Cell::new(0);
                let mut few = Few::new();
                for _ in 0..n {
                    few.push(Dropped(&dropped))?;
                }
                let mut calls = 0;
                let handed = few.hand_over(|_| {
                    calls += 1;
                    if calls > fails {
                        Err(EINVAL)
                    } else {
                        Ok(())
                    }
                });
                assert_eq!(handed.is_err(), fails < n);
                assert_eq!(dropped.get(), n - fails);
                assert!(few.is_empty());
            }
        }
        Ok(())
    }
}
