// SPDX-License-Identifier: GPL-2.0

//! Bytes of a config space.
//!
//! virtio 1.3, section 2.5: fields are little-endian once a driver has accepted version 1. Before
//! that they have the driver's native byte order, as for a legacy driver.

#[cfg(kunit_suites)]
use kernel::prelude::*;

/// Config space of `N` bytes, which is built field by field.
#[derive(Clone, Copy)]
pub struct ConfigBytes<const N: usize> {
    bytes: [u8; N],
    little_endian: bool,
}

impl<const N: usize> ConfigBytes<N> {
    /// Creates a config space of zeroes, whose fields are little-endian or else native.
    pub const fn new(little_endian: bool) -> Self {
        Self {
            bytes: [0; N],
            little_endian,
        }
    }

    /// Writes bytes at offset `AT`. They must fit, which is checked at compile time.
    pub fn put<const AT: usize, const LEN: usize>(mut self, from: [u8; LEN]) -> Self {
        const { assert!(AT <= N && LEN <= N - AT) };
        for (byte, value) in self.bytes.iter_mut().skip(AT).zip(from) {
            *byte = value;
        }
        self
    }

    /// Writes a field of two bytes at offset `AT`.
    pub fn put_u16<const AT: usize>(self, value: u16) -> Self {
        let bytes = if self.little_endian {
            value.to_le_bytes()
        } else {
            value.to_ne_bytes()
        };
        self.put::<AT, 2>(bytes)
    }

    /// Writes a field of four bytes at offset `AT`.
    pub fn put_u32<const AT: usize>(self, value: u32) -> Self {
        let bytes = if self.little_endian {
            value.to_le_bytes()
        } else {
            value.to_ne_bytes()
        };
        self.put::<AT, 4>(bytes)
    }

    /// Writes a field of eight bytes at offset `AT`.
    pub fn put_u64<const AT: usize>(self, value: u64) -> Self {
        let bytes = if self.little_endian {
            value.to_le_bytes()
        } else {
            value.to_ne_bytes()
        };
        self.put::<AT, 8>(bytes)
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> [u8; N] {
        self.bytes
    }
}

/// Copies a range of a config space to `buf`. A range that is not inside of it leaves `buf` as it
/// is.
pub fn read(config: &[u8], offset: usize, buf: &mut [u8]) {
    let range = offset..offset.saturating_add(buf.len());
    if let Some(bytes) = config.get(range) {
        buf.copy_from_slice(bytes);
    }
}

#[cfg(kunit_suites)]
#[kunit_tests(rust_vdpa_parent_config)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_little_endian() {
        let config = ConfigBytes::<16>::new(true)
            .put_u64::<0>(0x0807_0605_0403_0201)
            .put_u32::<8>(0x0c0b_0a09)
            .put_u16::<12>(0x0e0d)
            .put::<14, 2>([0x0f, 0x10]);
        let bytes = config.into_bytes();
        assert!(bytes.iter().zip(1u8..).all(|(byte, want)| *byte == want));
    }

    #[test]
    fn fields_are_native_for_legacy_drivers() {
        let bytes = ConfigBytes::<4>::new(false)
            .put_u32::<0>(0x1234_5678)
            .into_bytes();
        assert_eq!(u32::from_ne_bytes(bytes), 0x1234_5678);
    }

    #[test]
    fn reads_stay_inside() {
        let config = [1u8, 2, 3, 4];
        let mut two = [9u8; 2];
        read(&config, 2, &mut two);
        assert_eq!(two, [3, 4]);
        read(&config, 3, &mut two);
        assert_eq!(two, [3, 4]);
        read(&config, usize::MAX, &mut two);
        assert_eq!(two, [3, 4]);
        read(&config, 4, &mut []);
    }
}
