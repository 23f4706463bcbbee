// SPDX-License-Identifier: GPL-2.0

//! Compile-time checks that op tables have the ops which drivers of the bus expect: for each way to
//! have maps, and for parents whose table depends on a parameter.

#![allow(dead_code, reason = "constants without a name use it")]

use crate::{
    iotlb::Iotlb,
    op_table::OpTable,
    parent_ops::{Maps, VdpaConfigOps},
    parent_types::{Callback, Mm, QueueMap, VqState}, //
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// Module of a parent that is never registered, because `#[vtable]` of Linux 7.3 needs one.
#[cfg(not(before_linux_7_3))]
struct NoModule;

#[cfg(not(before_linux_7_3))]
impl kernel::ModuleMetadata for NoModule {
    const NAME: &'static kernel::str::CStr = c"none";
    const THIS_MODULE: ThisModule = {
        // SAFETY: Code that is in no module has a null `THIS_MODULE`, and users of a `ThisModule`
        // accept null.
        unsafe { ThisModule::from_ptr(core::ptr::null_mut()) }
    };
}

/// One combination of ops.
trait Combination: Send + Sync + 'static {
    const MAPS: Maps;
    const SET_MAP: bool = false;
    const DMA_MAP: bool = false;
    const USE_VA: bool = false;
    const QUEUE_MAP: bool = false;
}

/// Parent with the op table of combination `C`.
struct Parent<C>(PhantomData<C>);

#[vtable]
impl<C: Combination> VdpaConfigOps for Parent<C> {
    #[cfg(not(before_linux_7_3))]
    type OwnerModule = NoModule;
    const MAPS: Maps = C::MAPS;
    const USE_VA: bool = C::USE_VA;
    const HAS_SET_MAP: bool = C::SET_MAP;
    const HAS_DMA_MAP: bool = C::DMA_MAP;
    const HAS_DMA_UNMAP: bool = C::DMA_MAP;
    const HAS_RESET_MAP: bool = matches!(C::MAPS, Maps::Persistent | Maps::Legacy);
    const HAS_COMPAT_RESET: bool = matches!(C::MAPS, Maps::Legacy);
    const HAS_BIND_MM: bool = C::USE_VA;
    const HAS_UNBIND_MM: bool = C::USE_VA;
    const HAS_GET_VQ_MAP: bool = C::QUEUE_MAP;

    fn set_vq_address(&self, _idx: u16, _desc: u64, _driver: u64, _device: u64) -> Result {
        Ok(())
    }

    fn set_vq_num(&self, _idx: u16, _num: u32) {}

    fn kick_vq(&self, _idx: u16) {}

    fn set_vq_cb(&self, _idx: u16, _cb: Callback) {}

    fn set_vq_ready(&self, _idx: u16, _ready: bool) {}

    fn get_vq_ready(&self, _idx: u16) -> bool {
        false
    }

    fn set_vq_state(&self, _idx: u16, _state: &VqState) -> Result {
        Ok(())
    }

    fn get_vq_state(&self, _idx: u16) -> Result<VqState> {
        Ok(VqState::split(0))
    }

    fn get_vq_align(&self) -> u32 {
        1
    }

    fn get_device_features(&self) -> u64 {
        0
    }

    fn set_driver_features(&self, _features: u64) -> Result {
        Ok(())
    }

    fn get_driver_features(&self) -> u64 {
        0
    }

    fn set_config_cb(&self, _cb: Callback) {}

    fn get_vq_num_max(&self) -> u16 {
        1
    }

    fn get_device_id(&self) -> u32 {
        0
    }

    fn get_vendor_id(&self) -> u32 {
        0
    }

    fn get_status(&self) -> u8 {
        0
    }

    fn set_status(&self, _status: u8) {}

    fn reset(&self) -> Result {
        Ok(())
    }

    fn compat_reset(&self, _flags: u32) -> Result {
        Ok(())
    }

    fn get_config_size(&self) -> usize {
        0
    }

    fn get_config(&self, _offset: usize, _buf: &mut [u8]) {}

    fn set_config(&self, _offset: usize, _buf: &[u8]) {}

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn dma_map(&self, _asid: c_uint, _iova: u64, _size: u64, _pa: u64, _perm: u32) -> Result {
        Ok(())
    }

    fn dma_unmap(&self, _asid: c_uint, _iova: u64, _size: u64) -> Result {
        Ok(())
    }

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }

    fn get_vq_map(&self, _idx: u16) -> QueueMap {
        QueueMap::Ordinary
    }

    fn bind_mm(&self, _mm: &Mm) -> Result {
        Ok(())
    }

    fn unbind_mm(&self) {}
}

/// Returns true if the op table of a combination has exactly the ops that the combination has.
const fn fits<C: Combination>() -> bool {
    let ops = OpTable::<Parent<C>>::VTABLE;
    let back = matches!(C::MAPS, Maps::Persistent | Maps::Legacy);
    ops.set_map.is_some() == C::SET_MAP
        && ops.dma_map.is_some() == C::DMA_MAP
        && ops.dma_unmap.is_some() == C::DMA_MAP
        && ops.reset_map.is_some() == back
        && ops.compat_reset.is_some() == matches!(C::MAPS, Maps::Legacy)
        && ops.bind_mm.is_some() == C::USE_VA
        && ops.unbind_mm.is_some() == C::USE_VA
        && ops.get_vq_map.is_some() == C::QUEUE_MAP
        // Ops that the combination does not have must be null; mandatory ops must not.
        && ops.suspend.is_none()
        && ops.resume.is_none()
        && ops.set_group_asid.is_none()
        && ops.get_vq_group.is_none()
        && ops.get_vq_desc_group.is_none()
        && ops.get_vq_irq.is_none()
        && ops.get_vq_notification.is_none()
        && ops.kick_vq_with_data.is_none()
        && ops.get_generation.is_none()
        && ops.get_backend_features.is_none()
        && ops.set_vq_address.is_some()
        && ops.kick_vq.is_some()
        && ops.get_vq_state.is_some()
        && ops.reset.is_some()
        && ops.get_config.is_some()
        && ops.free.is_some()
}

/// Defines a combination and checks its op table.
macro_rules! check {
    ($name:ident: $maps:ident $(, $what:ident)*) => {
        #[doc = concat!("The combination ", stringify!($name), ".")]
        struct $name;

        impl Combination for $name {
            const MAPS: Maps = Maps::$maps;
            $(const $what: bool = true;)*
        }

        const _: () = assert!(fits::<$name>());
    };
}

check!(PlatformIommu: Platform);
check!(PlatformIommuQueueMap: Platform, QUEUE_MAP);
check!(PersistentSetMap: Persistent, SET_MAP);
check!(PersistentSetMapQueueMap: Persistent, SET_MAP, QUEUE_MAP);
check!(PersistentSetMapVa: Persistent, SET_MAP, USE_VA);
check!(PersistentDmaMap: Persistent, DMA_MAP);
check!(PersistentDmaMapVa: Persistent, DMA_MAP, USE_VA);
check!(LegacySetMap: Legacy, SET_MAP);
check!(LegacySetMapQueueMap: Legacy, SET_MAP, QUEUE_MAP);
check!(LegacySetMapVa: Legacy, SET_MAP, USE_VA);
check!(LegacyDmaMap: Legacy, DMA_MAP);
check!(LegacyDmaMapVa: Legacy, DMA_MAP, USE_VA);
check!(PrivateSetMap: Private, SET_MAP);
check!(PrivateSetMapVa: Private, SET_MAP, USE_VA);
check!(PrivateDmaMap: Private, DMA_MAP);
check!(PrivateDmaMapVa: Private, DMA_MAP, USE_VA);
