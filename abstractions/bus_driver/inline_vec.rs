// SPDX-License-Identifier: GPL-2.0

//! Vector that nearly always has one element.

use kernel::prelude::*;

/// Vector that keeps its first element inline and allocates memory only for further ones.
pub struct InlineVec<T> {
    first: Option<T>,
    /// `None` as long as there was no second element: dropping even an empty vector costs time.
    rest: Option<KVVec<T>>,
}

impl<T> InlineVec<T> {
    /// Creates an empty vector.
    pub const fn new() -> Self {
        Self {
            first: None,
            rest: None,
        }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        rest.wrapping_add(self.first.is_some().into())
    }

    /// Returns true if there is no element.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Appends an element. `ENOMEM` drops it.
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

    /// Removes all elements, and calls `f` for each, in order, up to the first that fails. An
    /// element for which `f` returned `Ok` is forgotten, because `f` took it over; the others are
    /// dropped.
    #[inline]
    pub fn drain(&mut self, mut f: impl FnMut(&T) -> Result) -> Result {
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

impl<T> Default for InlineVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[kunit_tests(rust_vhost_vdpa_inline_vec)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order() -> Result {
        for n in 0..5usize {
            let mut vec = InlineVec::new();
            assert!(vec.is_empty());
            for i in 0..n {
                vec.push(i)?;
                assert_eq!(vec.len(), i + 1);
            }
            assert_eq!(vec.is_empty(), n == 0);
            let mut next = 0;
            vec.drain(|&i| {
                assert_eq!(i, next);
                next += 1;
                Ok(())
            })?;
            assert_eq!(next, n);
            assert!(vec.is_empty());
        }
        Ok(())
    }

    /// Counts how many values of its kind were dropped.
    struct Dropped<'a>(&'a core::cell::Cell<usize>);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn drops_what_was_not_drained() -> Result {
        for n in 0..5usize {
            for fails in 0..=n {
                let dropped = core::cell::Cell::new(0);
                let mut vec = InlineVec::new();
                for _ in 0..n {
                    vec.push(Dropped(&dropped))?;
                }
                let mut calls = 0;
                let drained = vec.drain(|_| {
                    calls += 1;
                    if calls > fails {
                        Err(EINVAL)
                    } else {
                        Ok(())
                    }
                });
                assert_eq!(drained.is_err(), fails < n);
                assert_eq!(dropped.get(), n - fails);
                assert!(vec.is_empty());
            }
        }
        Ok(())
    }
}
