// SPDX-License-Identifier: GPL-2.0

//! Ops of a vDPA parent: `struct vdpa_config_ops` as a safe trait.
//!
//! The C op table is generated from the implementation
//! (`abstractions/parent/ops/op_table.rs`), so a parent works with every driver of the vDPA
//! bus. Combinations of ops that the bus or its drivers would misunderstand do not compile.

use crate::iotlb::Iotlb;
pub use crate::parent_types::{
    not_supported, Callback, IovaRange, Mm, Notification, Provision, QueueMap, Stats, VqState,
};
use kernel::{
    build_error,
    cpumask::Cpumask,
    error::VTABLE_DEFAULT_ERROR,
    prelude::*, //
};

/// Translation of a device's addresses, and the effect of a reset on its maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Maps {
    /// The platform's IOMMU translates. The maps belong to the driver; no op concerns them.
    Platform,
    /// The device translates, and keeps its maps until `reset_map`, whatever happens to the queues.
    Persistent,
    /// The device translates, and drops its maps when it is reset by a driver that expects so:
    /// `compat_reset` with `VDPA_RESET_F_CLEAN_MAP`. Any other reset keeps them.
    Legacy,
    /// The device translates, and has no op that returns to its default maps.
    Private,
}

/// The ops of a vDPA device. Every method is the op of the same name in C.
///
/// `self` is the device's private data. Ops run in process context unless their description says
/// otherwise. This driver calls one op at a time, but for kicks and doorbells; `virtio_vdpa` and vdpa
/// core do not promise that, so the parent has to lock. `idx` is less than the number of queues with
/// which the device was registered.
///
/// A parent whose op table depends on a parameter has one type for each table: it implements all
/// ops once, generic over a marker, and takes [`Self::USE_VA`] and the `HAS_` constants of ops that
/// are not in every table from the marker. An op whose `HAS_` constant is false is not in the
/// table. See `vdpa_sim/sim.rs` for an example.
///
/// With [`Self::USE_VA`] the addresses of maps are user virtual ones while an mm is bound, and
/// physical ones otherwise. `set_map`, `dma_map` and `dma_unmap` may then be called with
/// `mmap_lock` held: they must not wait for anyone who accesses user memory.
#[vtable]
pub trait VdpaConfigOps: Sized + Send + Sync + 'static {
    /// The translation of addresses.
    const MAPS: Maps;
    /// True if the device uses user virtual addresses.
    const USE_VA: bool = false;

    /// Sets the addresses of a queue's three areas.
    fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result;

    /// Sets the size of a queue.
    fn set_vq_num(&self, idx: u16, num: u32);

    /// Tells the device that a queue has work. Must not sleep: callers hold spin locks with
    /// interrupts off. Must not take a lock under which a [`Callback`] is called.
    fn kick_vq(&self, idx: u16);

    /// Like `kick_vq`. The lower 16 bits are the queue, the upper 16 bits its next available index.
    fn kick_vq_with_data(&self, _data: u32) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Replaces the callback of a queue. On return the old one is not running and is never called
    /// again.
    fn set_vq_cb(&self, idx: u16, cb: Callback);

    /// Starts or stops a queue.
    fn set_vq_ready(&self, idx: u16, ready: bool);

    /// Returns true if a queue is started.
    fn get_vq_ready(&self, idx: u16) -> bool;

    /// Sets the state from which a queue starts.
    fn set_vq_state(&self, idx: u16, state: &VqState) -> Result;

    /// Returns the state of a queue.
    fn get_vq_state(&self, idx: u16) -> Result<VqState>;

    /// Adds the statistics of a queue to `stats`.
    fn get_vendor_vq_stats(&self, _idx: u16, _stats: &mut Stats<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the doorbell of a queue.
    fn get_vq_notification(&self, _idx: u16) -> Notification {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the interrupt of a queue. It must not change once DRIVER_OK is set.
    fn get_vq_irq(&self, _idx: u16) -> Result<c_int> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the size of a queue, or its largest possible size before it is set up.
    fn get_vq_size(&self, _idx: u16) -> u16 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the alignment of queue areas in bytes.
    fn get_vq_align(&self) -> u32;

    /// Returns the group of a queue.
    fn get_vq_group(&self, _idx: u16) -> u32 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the group of a queue's descriptors.
    fn get_vq_desc_group(&self, _idx: u16) -> u32 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the virtio features on offer.
    fn get_device_features(&self) -> u64;

    /// Returns the backend features of the parent itself, as bits.
    fn get_backend_features(&self) -> u64 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets the features that the driver accepted.
    ///
    /// The bus calls it with 0 when a driver reads the config space before it negotiates.
    fn set_driver_features(&self, features: u64) -> Result;

    /// Returns the negotiated features.
    fn get_driver_features(&self) -> u64;

    /// Replaces the callback for changes of the config space, like `set_vq_cb`.
    fn set_config_cb(&self, cb: Callback);

    /// Returns the largest size of a queue.
    fn get_vq_num_max(&self) -> u16;

    /// Returns the smallest size of a queue, which is 1 without this op.
    fn get_vq_num_min(&self) -> u16 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the virtio device ID.
    fn get_device_id(&self) -> u32;

    /// Returns the virtio vendor ID.
    fn get_vendor_id(&self) -> u32;

    /// Returns the device status.
    fn get_status(&self) -> u8;

    /// Sets the device status. Never called with 0: that is a reset.
    fn set_status(&self, status: u8);

    /// Resets the device. Maps stay, unless [`Maps::Platform`] leaves them to the driver; groups
    /// return to address space 0. On return the device does nothing any more.
    fn reset(&self) -> Result;

    /// Resets the device for drivers that do not know persistent maps. `VDPA_RESET_F_CLEAN_MAP` in
    /// the flags asks for the maps to be dropped.
    fn compat_reset(&self, _flags: u32) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Suspends the device, so that `get_vq_state` returns the state in which each queue stopped.
    fn suspend(&self) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Resumes the device after `suspend`.
    fn resume(&self) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the size of the config space in bytes, with all fields that depend on features.
    fn get_config_size(&self) -> usize;

    /// Reads config space at `offset` into `buf`, which is zeroed. If the range is not inside of
    /// the config space, `buf` stays zeroed.
    fn get_config(&self, offset: usize, buf: &mut [u8]);

    /// Writes config space at `offset`. If the range is not inside of the config space, nothing
    /// changes.
    fn set_config(&self, offset: usize, buf: &[u8]);

    /// Returns a number that changes whenever the config space does.
    fn get_generation(&self) -> u32 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the IOVAs that the device can reach.
    fn get_iova_range(&self) -> IovaRange {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets the CPUs that serve a queue.
    fn set_vq_affinity(&self, _idx: u16, _mask: &Cpumask) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the CPUs that serve a queue.
    fn get_vq_affinity(&self, _idx: u16) -> Option<&Cpumask> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Replaces the maps of an address space. On return the device does not use the old ones any
    /// more.
    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Adds a map to an address space: `size` bytes at `iova` translate to address `pa`.
    fn dma_map(&self, _asid: c_uint, _iova: u64, _size: u64, _pa: u64, _perm: u32) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes maps from an address space. On return the device does not use them any more.
    fn dma_unmap(&self, _asid: c_uint, _iova: u64, _size: u64) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Resets an address space to its default map: IOVAs are physical addresses.
    fn reset_map(&self, _asid: c_uint) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Moves a group to an address space. Never runs concurrently with `set_status`.
    fn set_group_asid(&self, _group: c_uint, _asid: c_uint) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the device that does the DMA of a queue.
    fn get_vq_map(&self, _idx: u16) -> QueueMap {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Lets the device use the virtual addresses of `mm`.
    fn bind_mm(&self, _mm: &Mm) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Undoes `bind_mm`. On return the device does not use these addresses any more.
    fn unbind_mm(&self) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Checks at compile time that the ops of `T` belong together.
pub const fn assert_pairing<T: VdpaConfigOps>() {
    assert!(
        T::HAS_DMA_MAP == T::HAS_DMA_UNMAP,
        "dma_map and dma_unmap come together"
    );
    assert!(
        !(T::HAS_SET_MAP && T::HAS_DMA_MAP),
        "a parent has set_map or dma_map, not both"
    );
    assert!(
        !T::HAS_COMPAT_RESET || T::HAS_RESET_MAP,
        "compat_reset needs reset_map"
    );
    assert!(
        T::HAS_BIND_MM == T::HAS_UNBIND_MM,
        "bind_mm and unbind_mm come together"
    );
    assert!(
        !T::HAS_BIND_MM || T::USE_VA,
        "bind_mm is for parents that use virtual addresses"
    );
    assert!(
        !T::USE_VA || T::HAS_SET_MAP || T::HAS_DMA_MAP,
        "virtual addresses need set_map or dma_map"
    );
    assert!(!T::HAS_RESUME || T::HAS_SUSPEND, "resume needs suspend");
    assert!(
        T::HAS_SET_GROUP_ASID == T::HAS_GET_VQ_GROUP,
        "set_group_asid and get_vq_group come together"
    );
    let own = T::HAS_SET_MAP || T::HAS_DMA_MAP;
    match T::MAPS {
        Maps::Platform => assert!(
            !own && !T::HAS_RESET_MAP,
            "with a platform IOMMU no op concerns maps"
        ),
        Maps::Persistent => assert!(
            own && T::HAS_RESET_MAP && !T::HAS_COMPAT_RESET,
            "persistent maps need reset_map and no compat_reset"
        ),
        Maps::Legacy => assert!(
            own && T::HAS_RESET_MAP && T::HAS_COMPAT_RESET,
            "maps that go with a reset need reset_map and compat_reset"
        ),
        Maps::Private => assert!(own && !T::HAS_RESET_MAP, "private maps have no reset_map"),
    }
}
