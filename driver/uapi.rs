// SPDX-License-Identifier: GPL-2.0

//! ABI of the device files: ioctl numbers, message types and their structures.
//!
//! C: `include/uapi/linux/vhost.h`, `include/uapi/linux/vhost_types.h`. Structures are read and
//! written field by field, so there is no padding to leak.

use kernel::{
    ioctl::{_IO, _IOR, _IOW, _IOWR},
    prelude::*,
    transmute::{AsBytes, FromBytes},
    uaccess::{UserPtr, UserSlice, UserSliceReader},
};

pub(crate) use vdpa_bus_driver::vhost::VHOST_SET_OWNER;
use vdpa_bus_driver::vhost::{MESSAGE_SIZE, MESSAGE_WORDS};

/// `VHOST_VIRTIO`.
const VHOST: u32 = 0xaf;

/// `struct vhost_vring_state` and `struct vhost_vring_file`, for the size in the number.
type Pair = [u32; 2];
/// `struct vhost_vring_addr`, for the size in the number.
type Addr = [u64; 5];

pub(crate) const VHOST_GET_FEATURES: u32 = _IOR::<u64>(VHOST, 0x00);
pub(crate) const VHOST_SET_FEATURES: u32 = _IOW::<u64>(VHOST, 0x00);
pub(crate) const VHOST_SET_LOG_BASE: u32 = _IOW::<u64>(VHOST, 0x04);
pub(crate) const VHOST_SET_LOG_FD: u32 = _IOW::<i32>(VHOST, 0x07);
pub(crate) const VHOST_SET_VRING_NUM: u32 = _IOW::<Pair>(VHOST, 0x10);
pub(crate) const VHOST_SET_VRING_ADDR: u32 = _IOW::<Addr>(VHOST, 0x11);
pub(crate) const VHOST_SET_VRING_BASE: u32 = _IOW::<Pair>(VHOST, 0x12);
pub(crate) const VHOST_GET_VRING_BASE: u32 = _IOWR::<Pair>(VHOST, 0x12);
pub(crate) const VHOST_SET_VRING_CALL: u32 = _IOW::<Pair>(VHOST, 0x21);
pub(crate) const VHOST_SET_VRING_ERR: u32 = _IOW::<Pair>(VHOST, 0x22);
pub(crate) const VHOST_SET_BACKEND_FEATURES: u32 = _IOW::<u64>(VHOST, 0x25);
pub(crate) const VHOST_GET_BACKEND_FEATURES: u32 = _IOR::<u64>(VHOST, 0x26);
pub(crate) const VHOST_VDPA_GET_DEVICE_ID: u32 = _IOR::<u32>(VHOST, 0x70);
pub(crate) const VHOST_VDPA_GET_STATUS: u32 = _IOR::<u8>(VHOST, 0x71);
pub(crate) const VHOST_VDPA_SET_STATUS: u32 = _IOW::<u8>(VHOST, 0x72);
/// The size in the number is that of `struct vhost_vdpa_config` without its flexible array.
pub(crate) const VHOST_VDPA_GET_CONFIG: u32 = _IOR::<Pair>(VHOST, 0x73);
pub(crate) const VHOST_VDPA_SET_CONFIG: u32 = _IOW::<Pair>(VHOST, 0x74);
pub(crate) const VHOST_VDPA_SET_VRING_ENABLE: u32 = _IOW::<Pair>(VHOST, 0x75);
pub(crate) const VHOST_VDPA_GET_VRING_NUM: u32 = _IOR::<u16>(VHOST, 0x76);
pub(crate) const VHOST_VDPA_SET_CONFIG_CALL: u32 = _IOW::<i32>(VHOST, 0x77);
pub(crate) const VHOST_VDPA_GET_IOVA_RANGE: u32 = _IOR::<[u64; 2]>(VHOST, 0x78);
pub(crate) const VHOST_VDPA_GET_CONFIG_SIZE: u32 = _IOR::<u32>(VHOST, 0x79);
pub(crate) const VHOST_VDPA_GET_AS_NUM: u32 = _IOR::<u32>(VHOST, 0x7a);
pub(crate) const VHOST_VDPA_GET_VRING_GROUP: u32 = _IOWR::<Pair>(VHOST, 0x7b);
pub(crate) const VHOST_VDPA_SET_GROUP_ASID: u32 = _IOW::<Pair>(VHOST, 0x7c);
pub(crate) const VHOST_VDPA_SUSPEND: u32 = _IO(VHOST, 0x7d);
pub(crate) const VHOST_VDPA_RESUME: u32 = _IO(VHOST, 0x7e);
pub(crate) const VHOST_VDPA_GET_VRING_DESC_GROUP: u32 = _IOWR::<Pair>(VHOST, 0x7f);
pub(crate) const VHOST_VDPA_GET_VQS_COUNT: u32 = _IOR::<u32>(VHOST, 0x80);
pub(crate) const VHOST_VDPA_GET_GROUP_NUM: u32 = _IOR::<u32>(VHOST, 0x81);
pub(crate) const VHOST_VDPA_GET_VRING_SIZE: u32 = _IOWR::<Pair>(VHOST, 0x82);

/// `vhost_msg::type`.
const VHOST_IOTLB_MSG: u32 = 1;
/// `vhost_msg_v2::type`.
const VHOST_IOTLB_MSG_V2: u32 = 2;

/// `vhost_iotlb_msg::type`.
pub(crate) const VHOST_IOTLB_UPDATE: u8 = 2;
pub(crate) const VHOST_IOTLB_INVALIDATE: u8 = 3;
pub(crate) const VHOST_IOTLB_BATCH_BEGIN: u8 = 5;
pub(crate) const VHOST_IOTLB_BATCH_END: u8 = 6;

/// `vhost_iotlb_msg::perm`: the accesses that the device may make.
pub(crate) const VHOST_ACCESS_RO: u8 = 1;
pub(crate) const VHOST_ACCESS_WO: u8 = 2;
pub(crate) const VHOST_ACCESS_RW: u8 = 3;

/// The only flag of `struct vhost_vring_addr`, without effect on a vDPA device.
pub(crate) const VHOST_VRING_F_LOG: u32 = 1;

/// IOTLB message, from a `struct vhost_msg` or `struct vhost_msg_v2`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) iova: u64,
    pub(crate) size: u64,
    pub(crate) uaddr: u64,
    /// `VHOST_ACCESS_*`.
    pub(crate) perm: u8,
    /// `VHOST_IOTLB_*`.
    pub(crate) kind: u8,
}

impl Message {
    /// The number of 64-bit words of either structure that must be there. The rest is reserved.
    pub(crate) const WORDS: usize = MESSAGE_WORDS;
    /// The size of either structure in bytes. Like in C, a write returns it if the message was
    /// handled.
    pub(crate) const SIZE: usize = MESSAGE_SIZE;

    /// Parses a message. Returns it with its address space ID.
    ///
    /// Version 2 has the ID where version 1 has a hole. It is used only if that was negotiated
    /// (`asids`); otherwise the ID is 0. Errors: `EINVAL` for an unknown version, or an `UPDATE` of
    /// size 0.
    #[inline]
    pub(crate) fn parse(words: [u64; Self::WORDS], asids: bool) -> Result<(u32, Self)> {
        let [head, iova, size, uaddr, tail] = words;
        let [v0, v1, v2, v3, a0, a1, a2, a3] = head.to_ne_bytes();
        let asid = match u32::from_ne_bytes([v0, v1, v2, v3]) {
            VHOST_IOTLB_MSG_V2 if asids => u32::from_ne_bytes([a0, a1, a2, a3]),
            VHOST_IOTLB_MSG | VHOST_IOTLB_MSG_V2 => 0,
            _ => return Err(EINVAL),
        };
        let [perm, kind, ..] = tail.to_ne_bytes();
        if kind == VHOST_IOTLB_UPDATE && size == 0 {
            return Err(EINVAL);
        }
        let msg = Self {
            iova,
            size,
            uaddr,
            perm,
            kind,
        };
        Ok((asid, msg))
    }
}

/// Device status bits.
pub(crate) const VIRTIO_CONFIG_S_DRIVER_OK: u8 = 4;
pub(crate) const VIRTIO_CONFIG_S_FEATURES_OK: u8 = 8;

/// Feature bit of the packed ring.
pub(crate) const VIRTIO_F_RING_PACKED: u64 = 1 << 34;

/// Returns `EOPNOTSUPP`, for which the kernel crate has no name.
pub(crate) fn eopnotsupp() -> Error {
    Error::from_errno(-95)
}

/// Returns `ENOBUFS`, for which the kernel crate has no name.
pub(crate) fn enobufs() -> Error {
    Error::from_errno(-105)
}

/// Argument of an ioctl: an address in userspace, which may be invalid.
#[derive(Clone, Copy)]
pub(crate) struct Arg(pub(crate) usize);

impl Arg {
    fn reader(self, len: usize) -> UserSliceReader {
        UserSlice::new(UserPtr::from_addr(self.0), len).reader()
    }

    /// Reads a value. `EFAULT` if the address is invalid.
    pub(crate) fn read<T: FromBytes>(self) -> Result<T> {
        self.reader(size_of::<T>()).read()
    }

    /// Writes a value without padding. `EFAULT` if the address is invalid.
    pub(crate) fn write<T: AsBytes>(self, value: &T) -> Result {
        UserSlice::new(UserPtr::from_addr(self.0), size_of::<T>())
            .writer()
            .write(value)
    }

    /// Returns the address of the bytes after the first `skip`.
    pub(crate) fn after(self, skip: usize) -> UserPtr {
        UserPtr::from_addr(self.0).wrapping_byte_add(skip)
    }
}

/// `struct vhost_vring_state`, `struct vhost_vring_file`, or the header of `struct
/// vhost_vdpa_config`: two numbers.
pub(crate) struct TwoWords {
    pub(crate) first: u32,
    pub(crate) second: u32,
}

impl TwoWords {
    pub(crate) fn read(arg: Arg) -> Result<Self> {
        let mut reader = arg.reader(8);
        Ok(Self {
            first: reader.read()?,
            second: reader.read()?,
        })
    }
}

/// `struct vhost_vring_addr`.
pub(crate) struct VringAddr {
    pub(crate) flags: u32,
    pub(crate) desc: u64,
    pub(crate) used: u64,
    pub(crate) avail: u64,
    pub(crate) log: u64,
}

impl VringAddr {
    pub(crate) fn read(arg: Arg) -> Result<Self> {
        let mut reader = arg.reader(size_of::<Addr>());
        let _index: u32 = reader.read()?;
        Ok(Self {
            flags: reader.read()?,
            desc: reader.read()?,
            used: reader.read()?,
            avail: reader.read()?,
            log: reader.read()?,
        })
    }
}

#[kunit_tests(rust_vhost_vdpa_message)]
mod tests {
    use super::*;

    /// Returns the words of a message.
    fn words(version: u32, asid: u32, size: u64, kind: u8) -> [u64; Message::WORDS] {
        let ([v0, v1, v2, v3], [a0, a1, a2, a3]) = (version.to_ne_bytes(), asid.to_ne_bytes());
        let head = u64::from_ne_bytes([v0, v1, v2, v3, a0, a1, a2, a3]);
        // The bytes behind the type are ignored.
        let tail = u64::from_ne_bytes([VHOST_ACCESS_WO, kind, 1, 2, 3, 4, 5, 6]);
        [head, 0x1000, size, 0x7000, tail]
    }

    fn asid(version: u32, asids: bool) -> Result<u32> {
        let words = words(version, 7, 0x2000, VHOST_IOTLB_UPDATE);
        Message::parse(words, asids).map(|(asid, _)| asid)
    }

    #[test]
    fn fields() -> Result {
        let words = words(VHOST_IOTLB_MSG_V2, 0, 0x2000, VHOST_IOTLB_INVALIDATE);
        let (_, msg) = Message::parse(words, false)?;
        assert_eq!((msg.iova, msg.size, msg.uaddr), (0x1000, 0x2000, 0x7000));
        assert_eq!(msg.perm, VHOST_ACCESS_WO);
        assert_eq!(msg.kind, VHOST_IOTLB_INVALIDATE);
        Ok(())
    }

    #[test]
    fn address_space_only_if_negotiated() {
        assert_eq!(asid(VHOST_IOTLB_MSG_V2, true), Ok(7));
        assert_eq!(asid(VHOST_IOTLB_MSG_V2, false), Ok(0));
        // Version 1 has a hole there.
        assert_eq!(asid(VHOST_IOTLB_MSG, true), Ok(0));
        assert_eq!(asid(VHOST_IOTLB_MSG, false), Ok(0));
    }

    #[test]
    fn unknown_versions() {
        for version in [0, 3, 1 << 16, 1 << 31 | 1, u32::MAX] {
            assert_eq!(asid(version, true), Err(EINVAL));
        }
    }

    #[test]
    fn size_zero() {
        for kind in 0..=u8::MAX {
            let parsed = Message::parse(words(VHOST_IOTLB_MSG, 0, 0, kind), false);
            assert_eq!(parsed.is_err(), kind == VHOST_IOTLB_UPDATE);
        }
    }
}
