// SPDX-License-Identifier: GPL-2.0

//! The C op table of a parent, generated from its [`VdpaConfigOps`].
//!
//! C: `struct vdpa_config_ops`, `include/linux/vdpa.h`.

use crate::{
    bindings,
    iotlb::Iotlb,
    parent_device::{drop_data, private},
    parent_ops::{assert_pairing, VdpaConfigOps},
    parent_types::{Callback, Mm, QueueMap, Stats, VqState},
};
use core::marker::PhantomData;
use kernel::{
    cpumask::Cpumask,
    error::from_result,
    prelude::*, //
};

/// The op table of a parent. Optional ops that the parent does not implement are null.
pub struct OpTable<T>(PhantomData<T>);

/// `Some(thunk)` where the parent has the op.
macro_rules! optional {
    ($has:ident, $thunk:ident) => {
        if T::$has {
            Some(Self::$thunk)
        } else {
            None
        }
    };
}

/// Defines one thunk: find the private data, call the method.
macro_rules! thunk {
    ($(#[$doc:meta])* fn $name:ident($this:ident $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// Only the vDPA bus and its drivers call it, with a live device of type `T`.
        unsafe extern "C" fn $name(
            vdev: *mut bindings::vdpa_device
            $(, $arg: $ty)*
        ) $(-> $ret)? {
            // SAFETY: The table belongs to devices of type `T`, whose ops are not called before
            // they are registered nor after they are freed.
            let $this = unsafe { private::<T>(vdev) };
            $body
        }
    };
}

impl<T: VdpaConfigOps> OpTable<T> {
    /// The table.
    pub const VTABLE: bindings::vdpa_config_ops = {
        assert_pairing::<T>();
        bindings::vdpa_config_ops {
            set_vq_address: Some(Self::set_vq_address),
            set_vq_num: Some(Self::set_vq_num),
            kick_vq: Some(Self::kick_vq),
            kick_vq_with_data: optional!(HAS_KICK_VQ_WITH_DATA, kick_vq_with_data),
            set_vq_cb: Some(Self::set_vq_cb),
            set_vq_ready: Some(Self::set_vq_ready),
            get_vq_ready: Some(Self::get_vq_ready),
            set_vq_state: Some(Self::set_vq_state),
            get_vq_state: Some(Self::get_vq_state),
            get_vendor_vq_stats: optional!(HAS_GET_VENDOR_VQ_STATS, get_vendor_vq_stats),
            get_vq_notification: optional!(HAS_GET_VQ_NOTIFICATION, get_vq_notification),
            get_vq_irq: optional!(HAS_GET_VQ_IRQ, get_vq_irq),
            get_vq_size: optional!(HAS_GET_VQ_SIZE, get_vq_size),
            get_vq_align: Some(Self::get_vq_align),
            get_vq_group: optional!(HAS_GET_VQ_GROUP, get_vq_group),
            get_vq_desc_group: optional!(HAS_GET_VQ_DESC_GROUP, get_vq_desc_group),
            get_device_features: Some(Self::get_device_features),
            get_backend_features: optional!(HAS_GET_BACKEND_FEATURES, get_backend_features),
            set_driver_features: Some(Self::set_driver_features),
            get_driver_features: Some(Self::get_driver_features),
            set_config_cb: Some(Self::set_config_cb),
            get_vq_num_max: Some(Self::get_vq_num_max),
            get_vq_num_min: optional!(HAS_GET_VQ_NUM_MIN, get_vq_num_min),
            get_device_id: Some(Self::get_device_id),
            get_vendor_id: Some(Self::get_vendor_id),
            get_status: Some(Self::get_status),
            set_status: Some(Self::set_status),
            reset: Some(Self::reset),
            compat_reset: optional!(HAS_COMPAT_RESET, compat_reset),
            suspend: optional!(HAS_SUSPEND, suspend),
            resume: optional!(HAS_RESUME, resume),
            get_config_size: Some(Self::get_config_size),
            get_config: Some(Self::get_config),
            set_config: Some(Self::set_config),
            get_generation: optional!(HAS_GET_GENERATION, get_generation),
            get_iova_range: optional!(HAS_GET_IOVA_RANGE, get_iova_range),
            set_vq_affinity: optional!(HAS_SET_VQ_AFFINITY, set_vq_affinity),
            get_vq_affinity: optional!(HAS_GET_VQ_AFFINITY, get_vq_affinity),
            set_map: optional!(HAS_SET_MAP, set_map),
            dma_map: optional!(HAS_DMA_MAP, dma_map),
            dma_unmap: optional!(HAS_DMA_UNMAP, dma_unmap),
            reset_map: optional!(HAS_RESET_MAP, reset_map),
            set_group_asid: optional!(HAS_SET_GROUP_ASID, set_group_asid),
            get_vq_map: optional!(HAS_GET_VQ_MAP, get_vq_map),
            bind_mm: optional!(HAS_BIND_MM, bind_mm),
            unbind_mm: optional!(HAS_UNBIND_MM, unbind_mm),
            free: Some(Self::free),
        }
    };

    thunk! {
        /// Calls [`VdpaConfigOps::set_vq_address`].
        fn set_vq_address(this, idx: u16, desc: u64, driver: u64, device: u64) -> c_int {
            from_result(|| this.set_vq_address(idx, desc, driver, device).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_vq_num`].
        fn set_vq_num(this, idx: u16, num: u32) {
            this.set_vq_num(idx, num)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::kick_vq`].
        fn kick_vq(this, idx: u16) {
            this.kick_vq(idx)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::kick_vq_with_data`].
        fn kick_vq_with_data(this, data: u32) {
            this.kick_vq_with_data(data)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_vq_cb`].
        fn set_vq_cb(this, idx: u16, cb: *mut bindings::vdpa_callback) {
            // SAFETY: The driver gives a valid struct, and keeps its content callable until it
            // is replaced.
            this.set_vq_cb(idx, unsafe { Callback::from_raw(cb) })
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_vq_ready`].
        fn set_vq_ready(this, idx: u16, ready: bool) {
            this.set_vq_ready(idx, ready)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_ready`].
        fn get_vq_ready(this, idx: u16) -> bool {
            this.get_vq_ready(idx)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_vq_state`].
        fn set_vq_state(this, idx: u16, state: *const bindings::vdpa_vq_state) -> c_int {
            // SAFETY: The driver gives a valid struct.
            let state = unsafe { VqState::from_raw(state) };
            from_result(|| this.set_vq_state(idx, &state).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_state`].
        fn get_vq_state(this, idx: u16, state: *mut bindings::vdpa_vq_state) -> c_int {
            from_result(|| {
                let found = this.get_vq_state(idx)?.into_raw();
                // SAFETY: The driver gives a valid struct to write to.
                unsafe { state.write(found) };
                Ok(0)
            })
        }
    }

    /// Calls [`VdpaConfigOps::get_vendor_vq_stats`]. The bus does not look whether there is such a
    /// queue.
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, with a live device of type `T`.
    unsafe extern "C" fn get_vendor_vq_stats(
        vdev: *mut bindings::vdpa_device,
        idx: u16,
        msg: *mut bindings::sk_buff,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        // SAFETY: The device is live; its number of queues does not change.
        if u32::from(idx) >= unsafe { (*vdev).nvqs } {
            return EINVAL.to_errno();
        }
        // SAFETY: The table belongs to devices of type `T`, and this one is registered.
        let this = unsafe { private::<T>(vdev) };
        // SAFETY: The message is the bus's to append to during the call.
        let mut stats = unsafe { Stats::from_raw(msg) };
        from_result(|| this.get_vendor_vq_stats(idx, &mut stats).map(|()| 0))
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_notification`].
        fn get_vq_notification(this, idx: u16) -> bindings::vdpa_notification_area {
            let area = this.get_vq_notification(idx);
            bindings::vdpa_notification_area {
                addr: area.addr,
                size: area.size,
            }
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_irq`].
        fn get_vq_irq(this, idx: u16) -> c_int {
            from_result(|| this.get_vq_irq(idx))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_size`].
        fn get_vq_size(this, idx: u16) -> u16 {
            this.get_vq_size(idx)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_align`].
        fn get_vq_align(this) -> u32 {
            this.get_vq_align()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_group`].
        fn get_vq_group(this, idx: u16) -> u32 {
            this.get_vq_group(idx)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_desc_group`].
        fn get_vq_desc_group(this, idx: u16) -> u32 {
            this.get_vq_desc_group(idx)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_device_features`].
        fn get_device_features(this) -> u64 {
            this.get_device_features()
        }
    }

    /// Calls [`VdpaConfigOps::get_backend_features`].
    ///
    /// # Safety
    ///
    /// Only drivers of the vDPA bus call it, with a live device of type `T`.
    unsafe extern "C" fn get_backend_features(vdev: *const bindings::vdpa_device) -> u64 {
        // SAFETY: The table belongs to devices of type `T`, and this one is registered.
        let this = unsafe { private::<T>(vdev.cast_mut()) };
        this.get_backend_features()
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_driver_features`].
        fn set_driver_features(this, features: u64) -> c_int {
            from_result(|| this.set_driver_features(features).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_driver_features`].
        fn get_driver_features(this) -> u64 {
            this.get_driver_features()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_config_cb`].
        fn set_config_cb(this, cb: *mut bindings::vdpa_callback) {
            // SAFETY: The driver gives a valid struct, and keeps its content callable until it
            // is replaced.
            this.set_config_cb(unsafe { Callback::from_raw(cb) })
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_num_max`].
        fn get_vq_num_max(this) -> u16 {
            this.get_vq_num_max()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_num_min`].
        fn get_vq_num_min(this) -> u16 {
            this.get_vq_num_min()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_device_id`].
        fn get_device_id(this) -> u32 {
            this.get_device_id()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vendor_id`].
        fn get_vendor_id(this) -> u32 {
            this.get_vendor_id()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_status`].
        fn get_status(this) -> u8 {
            this.get_status()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_status`].
        fn set_status(this, status: u8) {
            this.set_status(status)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::reset`].
        fn reset(this) -> c_int {
            from_result(|| this.reset().map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::compat_reset`].
        fn compat_reset(this, flags: u32) -> c_int {
            from_result(|| this.compat_reset(flags).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::suspend`].
        fn suspend(this) -> c_int {
            from_result(|| this.suspend().map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::resume`].
        fn resume(this) -> c_int {
            from_result(|| this.resume().map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_config_size`].
        fn get_config_size(this) -> usize {
            this.get_config_size()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_config`] with a zeroed buffer.
        fn get_config(this, offset: c_uint, buf: *mut c_void, len: c_uint) {
            if len == 0 {
                return;
            }
            let (buf, len) = (buf.cast::<u8>(), len as usize);
            // SAFETY: The driver gives a buffer of `len` bytes.
            unsafe { buf.write_bytes(0, len) };
            // SAFETY: The driver gives a buffer of `len` bytes that is this op's alone until it returns; it
            // was just initialised.
            let buf = unsafe { core::slice::from_raw_parts_mut(buf, len) };
            this.get_config(offset as usize, buf)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_config`].
        fn set_config(this, offset: c_uint, buf: *const c_void, len: c_uint) {
            if len == 0 {
                return;
            }
            // SAFETY: The driver gives a buffer of `len` bytes.
            let buf = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len as usize) };
            this.set_config(offset as usize, buf)
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_generation`].
        fn get_generation(this) -> u32 {
            this.get_generation()
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_iova_range`].
        fn get_iova_range(this) -> bindings::vdpa_iova_range {
            let range = this.get_iova_range();
            bindings::vdpa_iova_range {
                first: range.first,
                last: range.last,
            }
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_vq_affinity`].
        fn set_vq_affinity(this, idx: u16, mask: *const bindings::cpumask) -> c_int {
            // SAFETY: The driver gives a mask that lives and stays as it is during the call.
            let mask = unsafe { Cpumask::from_raw(mask) };
            from_result(|| this.set_vq_affinity(idx, mask).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::get_vq_affinity`].
        fn get_vq_affinity(this, idx: u16) -> *const bindings::cpumask {
            this.get_vq_affinity(idx)
                .map_or(core::ptr::null(), |mask| mask.as_raw().cast_const())
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_map`].
        fn set_map(this, asid: c_uint, iotlb: *mut bindings::vhost_iotlb) -> c_int {
            // SAFETY: The driver gives an IOTLB that nobody changes during the call.
            let iotlb = unsafe { Iotlb::from_raw(iotlb) };
            from_result(|| this.set_map(asid, iotlb).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::dma_map`].
        fn dma_map(
            this,
            asid: c_uint,
            iova: u64,
            size: u64,
            pa: u64,
            perm: u32,
            _opaque: *mut c_void
        ) -> c_int {
            from_result(|| this.dma_map(asid, iova, size, pa, perm).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::dma_unmap`].
        fn dma_unmap(this, asid: c_uint, iova: u64, size: u64) -> c_int {
            from_result(|| this.dma_unmap(asid, iova, size).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::reset_map`].
        fn reset_map(this, asid: c_uint) -> c_int {
            from_result(|| this.reset_map(asid).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::set_group_asid`].
        fn set_group_asid(this, group: c_uint, asid: c_uint) -> c_int {
            from_result(|| this.set_group_asid(group, asid).map(|()| 0))
        }
    }

    /// Calls [`VdpaConfigOps::get_vq_map`].
    ///
    /// # Safety
    ///
    /// Only drivers of the vDPA bus call it, with a live device of type `T`.
    unsafe extern "C" fn get_vq_map(
        vdev: *mut bindings::vdpa_device,
        idx: u16,
    ) -> bindings::virtio_map {
        // SAFETY: The table belongs to devices of type `T`, and this one is registered.
        let this = unsafe { private::<T>(vdev) };
        let dma_dev = match this.get_vq_map(idx) {
            // SAFETY: The device is live; its map was set before it was registered, and to a
            // device, not to a group.
            QueueMap::Ordinary => unsafe { (*vdev).vmap.dma_dev },
            QueueMap::Itself => vdev.cast(),
        };
        bindings::virtio_map { dma_dev }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::bind_mm`].
        fn bind_mm(this, mm: *mut bindings::mm_struct) -> c_int {
            // SAFETY: The driver keeps the mm from going away during the call.
            let mm = unsafe { Mm::from_raw(mm) };
            from_result(|| this.bind_mm(mm).map(|()| 0))
        }
    }

    thunk! {
        /// Calls [`VdpaConfigOps::unbind_mm`].
        fn unbind_mm(this) {
            this.unbind_mm()
        }
    }

    /// Drops the private data; the bus frees the memory afterwards.
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, when the last reference to a device of type `T` is gone.
    unsafe extern "C" fn free(vdev: *mut bindings::vdpa_device) {
        // SAFETY: Nobody has the device any more.
        unsafe { drop_data::<T>(vdev) }
    }
}
