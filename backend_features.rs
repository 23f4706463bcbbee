// SPDX-License-Identifier: GPL-2.0

//! Backend features: abilities of driver and parent beyond virtio, offered and acked.
//!
//! This is pure logic. The rules for each bit are here and nowhere else.
//!
//! C: `VHOST_GET_BACKEND_FEATURES`, `VHOST_SET_BACKEND_FEATURES`.

use crate::driver::uapi::eopnotsupp;
use kernel::prelude::*;
use vdpa_bus_driver::vdpa::{Device, MapStyle};

/// IOTLB messages in the second format.
pub(crate) const IOTLB_MSG_V2: u64 = 1 << 1;
/// IOTLB messages may be bracketed into batches.
pub(crate) const IOTLB_BATCH: u64 = 1 << 2;
/// IOTLB messages carry an address space id.
pub(crate) const IOTLB_ASID: u64 = 1 << 3;
/// The device can be suspended.
pub(crate) const SUSPEND: u64 = 1 << 4;
/// The device can be resumed.
pub(crate) const RESUME: u64 = 1 << 5;
/// Queues may be enabled after `DRIVER_OK`. Only the parent can offer it.
pub(crate) const ENABLE_AFTER_DRIVER_OK: u64 = 1 << 6;
/// Descriptors may live in an address space of their own.
pub(crate) const DESC_ASID: u64 = 1 << 7;
/// Maps survive a device reset.
pub(crate) const IOTLB_PERSIST: u64 = 1 << 8;

/// Features that the driver offers with every parent.
const ALWAYS: u64 = IOTLB_MSG_V2 | IOTLB_BATCH | IOTLB_ASID;
/// Features that may be acked at all.
const KNOWN: u64 = ALWAYS | SUSPEND | RESUME | ENABLE_AFTER_DRIVER_OK | DESC_ASID | IOTLB_PERSIST;

/// Abilities of a parent that backend features depend on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capabilities {
    pub(crate) suspend: bool,
    pub(crate) resume: bool,
    pub(crate) desc_group: bool,
    /// The parent has neither `set_map` nor `dma_map`.
    pub(crate) platform_iommu: bool,
    pub(crate) reset_map: bool,
    /// The features that the parent's `get_backend_features` returns.
    pub(crate) own: u64,
}

impl Capabilities {
    /// Gets the abilities of a parent.
    pub(crate) fn of(dev: &Device) -> Self {
        Self {
            suspend: dev.has_suspend(),
            resume: dev.has_resume(),
            desc_group: dev.has_get_vq_desc_group(),
            platform_iommu: dev.map_style() == MapStyle::Platform,
            reset_map: dev.has_reset_map(),
            own: dev.get_backend_features(),
        }
    }

    /// Returns true if maps survive a reset when userspace asks for it.
    pub(crate) fn persistent_map(&self) -> bool {
        self.platform_iommu || self.reset_map || self.own & IOTLB_PERSIST != 0
    }

    /// Returns the features on offer.
    pub(crate) fn offered(&self) -> u64 {
        let mut features = ALWAYS | self.own;
        for (has, bit) in [
            (self.suspend, SUSPEND),
            (self.resume, RESUME),
            (self.desc_group, DESC_ASID),
            (self.persistent_map(), IOTLB_PERSIST),
        ] {
            if has {
                features |= bit;
            }
        }
        features
    }

    /// Checks the features that userspace acks.
    ///
    /// Errors: `EOPNOTSUPP` for a bit that is unknown or that the parent lacks, `EINVAL` for
    /// `DESC_ASID` without `IOTLB_ASID`. C accepts `ENABLE_AFTER_DRIVER_OK` from every parent; here
    /// the parent must offer it.
    pub(crate) fn check(&self, features: u64) -> Result {
        if features & !KNOWN != 0 {
            return Err(eopnotsupp());
        }
        let lacks = |bit: u64, has: bool| features & bit != 0 && !has;
        if lacks(SUSPEND, self.suspend) || lacks(RESUME, self.resume) {
            return Err(eopnotsupp());
        }
        if lacks(DESC_ASID, features & IOTLB_ASID != 0) {
            return Err(EINVAL);
        }
        if lacks(DESC_ASID, self.desc_group)
            || lacks(IOTLB_PERSIST, self.persistent_map())
            || lacks(
                ENABLE_AFTER_DRIVER_OK,
                self.own & ENABLE_AFTER_DRIVER_OK != 0,
            )
        {
            return Err(eopnotsupp());
        }
        Ok(())
    }
}

#[kunit_tests(rust_vhost_vdpa_backend_features)]
mod tests {
    use super::*;

    /// Abilities of a parent that has none.
    const BARE: Capabilities = Capabilities {
        suspend: false,
        resume: false,
        desc_group: false,
        platform_iommu: false,
        reset_map: false,
        own: 0,
    };

    #[test]
    fn bare_parent() {
        assert_eq!(BARE.offered(), 0xe);
        assert_eq!(BARE.check(0), Ok(()));
        assert_eq!(BARE.check(0xe), Ok(()));
        for bit in [SUSPEND, RESUME, ENABLE_AFTER_DRIVER_OK, IOTLB_PERSIST] {
            assert_eq!(BARE.check(bit), Err(eopnotsupp()));
        }
    }

    #[test]
    fn unknown_bits() {
        for bit in [1u64, 1 << 9, 1 << 26, 1 << 63] {
            assert_eq!(BARE.check(bit), Err(eopnotsupp()));
        }
    }

    #[test]
    fn persistence_has_three_sources() {
        let platform = Capabilities {
            platform_iommu: true,
            ..BARE
        };
        let reset_map = Capabilities {
            reset_map: true,
            ..BARE
        };
        let own = Capabilities {
            own: IOTLB_PERSIST,
            ..BARE
        };
        for caps in [platform, reset_map, own] {
            assert_eq!(caps.offered() & IOTLB_PERSIST, IOTLB_PERSIST);
            assert_eq!(caps.check(IOTLB_PERSIST), Ok(()));
        }
    }

    #[test]
    fn desc_asid_needs_asid_first() {
        let caps = Capabilities {
            desc_group: true,
            ..BARE
        };
        assert_eq!(caps.check(DESC_ASID), Err(EINVAL));
        assert_eq!(caps.check(DESC_ASID | IOTLB_ASID), Ok(()));
        assert_eq!(BARE.check(DESC_ASID), Err(EINVAL));
        assert_eq!(BARE.check(DESC_ASID | IOTLB_ASID), Err(eopnotsupp()));
    }

    #[test]
    fn enable_after_driver_ok_is_the_parents() {
        let caps = Capabilities {
            own: ENABLE_AFTER_DRIVER_OK,
            ..BARE
        };
        assert_eq!(caps.offered(), 0x4e);
        assert_eq!(caps.check(ENABLE_AFTER_DRIVER_OK), Ok(()));
    }

    /// Features that real parents were seen to offer: C's simulator, VDUSE, vp_vdpa.
    #[test]
    fn known_parents() {
        let sim = Capabilities {
            suspend: true,
            resume: true,
            reset_map: true,
            own: ENABLE_AFTER_DRIVER_OK,
            ..BARE
        };
        assert_eq!(sim.offered(), 0x17e);
        assert_eq!(BARE.offered(), 0xe);
        let vp = Capabilities {
            platform_iommu: true,
            ..BARE
        };
        assert_eq!(vp.offered(), 0x10e);
    }
}
