// SPDX-License-Identifier: GPL-2.0

//! Tests of guest memory, on pages that the kernel allocated.

use crate::{
    bindings,
    guest_mem::{GuestMemory, Range, To, Translate, Translation, READ, WRITE},
};
use kernel::{
    page::{Page, PAGE_SIZE},
    prelude::*, //
};

/// Returns the physical address of a page.
fn phys(page: &Page) -> u64 {
    // SAFETY: The page is allocated.
    unsafe { bindings::vdpa_parent_page_to_phys(page.as_ptr()) }
}

/// Translation with a list of ranges, of which the first that fits counts.
struct Ranges(KVec<Range>);

impl Translate for Ranges {
    fn find(&self, iova: u64) -> Option<Range> {
        let hit = |range: &&Range| range.start <= iova && iova <= range.last;
        self.0.iter().find(hit).copied()
    }
}

/// Wrong translation: returns the same range for every IOVA.
struct Liar(Range);

impl Translate for Liar {
    fn find(&self, _iova: u64) -> Option<Range> {
        Some(self.0)
    }
}

/// Returns a range of `len` bytes of memory at `iova`.
fn range(iova: u64, len: u64, pa: u64, perm: u32) -> Range {
    Range {
        start: iova,
        last: iova + (len - 1),
        to: To::Address(pa),
        perm,
    }
}

/// Returns a translation with these ranges.
fn ranges<const N: usize>(all: [Range; N]) -> Result<Ranges> {
    let mut vec = KVec::with_capacity(N, GFP_KERNEL)?;
    for range in all {
        vec.push(range, GFP_KERNEL)?;
    }
    Ok(Ranges(vec))
}

/// Allocates a page of zeroes.
fn page() -> Result<Page> {
    Ok(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?)
}

/// The size of a page.
const PAGE: u64 = PAGE_SIZE as u64;

#[cfg(kunit_suites)]
#[kunit_tests(rust_vdpa_guest_mem)]
mod tests {
    use super::*;

    #[test]
    fn accesses_cross_ranges() -> Result {
        let (a, b) = (page()?, page()?);
        // Two pages one behind the other, in reverse order, and not at the beginning of a page.
        let table = ranges([
            range(0x10100, PAGE, phys(&b), READ | WRITE),
            range(0x10100 + PAGE, PAGE, phys(&a), READ | WRITE),
        ])?;
        let mem = GuestMemory::new(Translation::By(&table));
        let mut bytes = KVVec::from_elem(0u8, 6000, GFP_KERNEL)?;
        for (byte, value) in bytes.iter_mut().zip((0..=250u8).cycle()) {
            *byte = value;
        }
        mem.write(0x10180, &bytes)?;
        let mut back = KVVec::from_elem(0u8, 6000, GFP_KERNEL)?;
        mem.read(0x10180, &mut back)?;
        assert!(bytes.iter().eq(back.iter()));

        // The same bytes by their physical addresses.
        let direct = GuestMemory::new(Translation::Identity);
        let mut two = [0u8; 2];
        direct.read(phys(&b) + 0x80, &mut two)?;
        assert_eq!(two, [0, 1]);
        let last = PAGE as usize - 0x80;
        direct.read(phys(&a), &mut two)?;
        assert_eq!(Some(two.as_slice()), bytes.get(last..last + 2));
        Ok(())
    }

    #[test]
    fn permissions_hold_for_what_is_remembered() -> Result {
        let a = page()?;
        let table = ranges([
            range(0, PAGE, phys(&a), READ),
            range(PAGE, PAGE, phys(&a), WRITE),
        ])?;
        let mem = GuestMemory::new(Translation::By(&table));
        let mut byte = [0u8];
        for _ in 0..2 {
            assert_eq!(mem.read(0, &mut byte), Ok(()));
            assert_eq!(mem.write(0, &byte), Err(EFAULT));
            assert_eq!(mem.store_u16(2, 1), Err(EFAULT));
            assert_eq!(mem.write(PAGE, &byte), Ok(()));
            assert_eq!(mem.read(PAGE, &mut byte), Err(EFAULT));
            assert_eq!(mem.load_u16(PAGE), Err(EFAULT));
        }
        Ok(())
    }

    #[test]
    fn nothing_beyond_a_range() -> Result {
        let a = page()?;
        let table = ranges([
            range(0x1000, 100, phys(&a), READ | WRITE),
            range(u64::MAX - 9, 10, phys(&a), READ | WRITE),
        ])?;
        let mem = GuestMemory::new(Translation::By(&table));
        let mut bytes = [0u8; 101];
        assert_eq!(mem.read(0x1000, &mut bytes), Err(EFAULT));
        assert_eq!(mem.read(0x0fff, &mut bytes), Err(EFAULT));
        assert_eq!(mem.write(0x1001, &bytes), Err(EFAULT));
        assert_eq!(mem.read(0x1001, &mut [0u8; 99]), Ok(()));
        // The last address is not followed by the first.
        assert_eq!(mem.read(u64::MAX - 9, &mut [0u8; 10]), Ok(()));
        assert_eq!(mem.read(u64::MAX - 9, &mut [0u8; 11]), Err(EFAULT));
        assert_eq!(mem.load_u16(u64::MAX), Err(EFAULT));
        assert_eq!(mem.read(0x2000, &mut []), Ok(()));
        Ok(())
    }

    #[test]
    fn single_accesses_are_aligned_and_whole() -> Result {
        let a = page()?;
        let table = ranges([
            range(0x1000, PAGE, phys(&a), READ | WRITE),
            range(0x3000, 1, phys(&a), READ | WRITE),
            range(0x4001, 8, phys(&a), READ | WRITE),
        ])?;
        let mem = GuestMemory::new(Translation::By(&table));
        mem.store_u16(0x1002, 0x1234)?;
        assert_eq!(mem.load_u16(0x1002), Ok(0x1234));
        assert_eq!(mem.load_u16(0x1001), Err(EFAULT));
        assert_eq!(mem.store_u16(0x1003, 1), Err(EFAULT));
        assert_eq!(mem.load_u16(0x1000 + PAGE - 1), Err(EFAULT));
        assert_eq!(mem.load_u16(0x3000), Err(EFAULT));
        // The address of the memory has to be aligned, not the IOVA.
        assert_eq!(mem.load_u16(0x4003), Ok(0x1234));
        assert_eq!(mem.load_u16(0x4002), Err(EFAULT));
        Ok(())
    }

    #[test]
    fn filler_is_zero() -> Result {
        let filler = Range {
            start: 0x1000,
            last: 0x1fff,
            to: To::Null,
            perm: READ | WRITE,
        };
        let table = ranges([filler])?;
        let mem = GuestMemory::new(Translation::By(&table));
        let mut bytes = [1u8; 16];
        mem.write(0x1000, &bytes)?;
        mem.store_u16(0x1000, 7)?;
        mem.read(0x1000, &mut bytes)?;
        assert_eq!(bytes, [0; 16]);
        assert_eq!(mem.load_u16(0x1000), Ok(0));
        assert_eq!(mem.read(0x1ff8, &mut bytes), Err(EFAULT));
        Ok(())
    }

    #[test]
    fn more_ranges_than_are_remembered() -> Result {
        let mut pages = KVec::new();
        let mut table = Ranges(KVec::new());
        for i in 0..40u64 {
            let page = page()?;
            table.0.push(
                range(i * 0x10000, PAGE, phys(&page), READ | WRITE),
                GFP_KERNEL,
            )?;
            pages.push(page, GFP_KERNEL)?;
        }
        let mem = GuestMemory::new(Translation::By(&table));
        for i in 0..40u16 {
            mem.store_u16(u64::from(i) * 0x10000 + 8, i)?;
        }
        let mut seed = 1u32;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let i = (seed >> 16) % 40;
            assert_eq!(mem.load_u16(u64::from(i) * 0x10000 + 8), Ok(i as u16));
            // A range that is used all the time.
            assert_eq!(mem.load_u16(8), Ok(0));
        }
        Ok(())
    }

    #[test]
    fn only_ram_is_touched() {
        let mem = GuestMemory::new(Translation::Identity);
        for pa in [
            1 << 46,
            1 << 51,
            1 << 52,
            1 << 62,
            u64::MAX - 1,
            u64::MAX - PAGE,
        ] {
            assert_eq!(mem.load_u16(pa), Err(EFAULT));
            assert_eq!(mem.write(pa, &[0; 64]), Err(EFAULT));
        }
    }

    #[test]
    fn wrong_answers_are_errors() -> Result {
        let a = page()?;
        let mut byte = [0u8];
        for (start, last) in [(0, 0xfff), (0x3000, 0x3fff), (0x2800, 0x1800)] {
            let liar = Liar(Range {
                start,
                last,
                to: To::Address(phys(&a)),
                perm: READ | WRITE,
            });
            let mem = GuestMemory::new(Translation::By(&liar));
            assert_eq!(mem.read(0x2000, &mut byte), Err(EFAULT));
        }
        // An address that would wrap around.
        let liar = Liar(range(0, 0x10000, u64::MAX - 0xfff, READ | WRITE));
        let mem = GuestMemory::new(Translation::By(&liar));
        assert_eq!(mem.read(0x2000, &mut byte), Err(EFAULT));
        Ok(())
    }
}
