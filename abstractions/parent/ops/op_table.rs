// SPDX-License-Identifier: GPL-2.0

//! C op table of a parent, generated from its [`VdpaConfigOps`].
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

/// Op table of a parent. Optional ops that the parent does not implement are null.
pub struct OpTable<T>(PhantomData<T>);

/// The table's entry for an op: null if the op is optional and the parent does not have it.
macro_rules! entry {
    ($name:ident) => {
        Some(Self::$name)
    };
    ($name:ident $has:ident) => {
        if T::$has {
            Some(Self::$name)
        } else {
            None
        }
    };
}

/// Defines the function that the table has for an op: find the private data, call the method.
macro_rules! thunk {
    (call $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        thunk!(@fn $name($($arg: $ty),*) $(-> $ret)? = |this, _vdev| { this.$name($($arg),*) });
    };
    (call_const $name:ident() -> $ret:ty) => {
        #[doc = concat!("Calls [`VdpaConfigOps::", stringify!($name), "`].")]
        ///
        /// # Safety
        ///
        /// Only drivers of the vDPA bus call it, with a live device of type `T`.
        unsafe extern "C" fn $name(vdev: *const bindings::vdpa_device) -> $ret {
            // SAFETY: The table belongs to devices of type `T`, whose ops are not called before
            // they are registered nor after they are freed.
            let this = unsafe { private::<T>(vdev.cast_mut()) };
            this.$name()
        }
    };
    (result $name:ident($($arg:ident: $ty:ty),*)) => {
        thunk!(@fn $name($($arg: $ty),*) -> c_int = |this, _vdev| {
            from_result(|| this.$name($($arg),*).map(|()| 0))
        });
    };
    (with $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = |$this:ident| $body:block) => {
        thunk!(@fn $name($($arg: $ty),*) $(-> $ret)? = |$this, _vdev| $body);
    };
    (with $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = |$this:ident, $vdev:ident| $body:block) => {
        thunk!(@fn $name($($arg: $ty),*) $(-> $ret)? = |$this, $vdev| $body);
    };
    (@fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = |$this:ident, $vdev:ident| $body:block) => {
        #[doc = concat!("Calls [`VdpaConfigOps::", stringify!($name), "`].")]
        ///
        /// # Safety
        ///
        /// Only the vDPA bus and its drivers call it, with a live device of type `T`.
        unsafe extern "C" fn $name(
            $vdev: *mut bindings::vdpa_device
            $(, $arg: $ty)*
        ) $(-> $ret)? {
            // SAFETY: The table belongs to devices of type `T`, whose ops are not called before
            // they are registered nor after they are freed.
            let $this = unsafe { private::<T>($vdev) };
            $body
        }
    };
}

/// Defines the table and its functions. Each op is one entry, with the arguments that C passes:
///
/// * `call` passes them on,
/// * `call_const` does so for an op that gets a const device,
/// * `result` turns the method's `Result` into an errno,
/// * `with` says how the method is called.
///
/// An optional op begins with the constant that says whether the parent has it.
macro_rules! ops {
    ($($([$has:ident])? $kind:ident $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
       $(= |$this:ident $(, $vdev:ident)?| $body:block)?;)*) => {
        impl<T: VdpaConfigOps> OpTable<T> {
            /// The table.
            pub const VTABLE: bindings::vdpa_config_ops = {
                assert_pairing::<T>();
                bindings::vdpa_config_ops {
                    $($name: entry!($name $($has)?),)*
                    free: Some(Self::free),
                }
            };

            $(thunk!($kind $name($($arg: $ty),*) $(-> $ret)? $(= |$this $(, $vdev)?| $body)?);)*
        }
    };
}

ops! {
    result set_vq_address(idx: u16, desc: u64, driver: u64, device: u64);
    call set_vq_num(idx: u16, num: u32);
    call kick_vq(idx: u16);
    [HAS_KICK_VQ_WITH_DATA] call kick_vq_with_data(data: u32);
    with set_vq_cb(idx: u16, cb: *mut bindings::vdpa_callback) = |this| {
        // SAFETY: The driver gives a valid struct, and keeps its content callable until it is
        // replaced.
        this.set_vq_cb(idx, unsafe { Callback::from_raw(cb) })
    };
    call set_vq_ready(idx: u16, ready: bool);
    call get_vq_ready(idx: u16) -> bool;
    with set_vq_state(idx: u16, state: *const bindings::vdpa_vq_state) -> c_int = |this| {
        // SAFETY: The driver gives a valid struct.
        let state = unsafe { VqState::from_raw(state) };
        from_result(|| this.set_vq_state(idx, &state).map(|()| 0))
    };
    with get_vq_state(idx: u16, state: *mut bindings::vdpa_vq_state) -> c_int = |this| {
        from_result(|| {
            let found = this.get_vq_state(idx)?.into_raw();
            // SAFETY: The driver gives a valid struct to write to.
            unsafe { state.write(found) };
            Ok(0)
        })
    };
    [HAS_GET_VENDOR_VQ_STATS] with get_vendor_vq_stats(
        idx: u16,
        msg: *mut bindings::sk_buff,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int = |this, vdev| {
        // The bus does not check the index.
        // SAFETY: The device is live; its number of queues does not change.
        if u32::from(idx) >= unsafe { (*vdev).nvqs } {
            return EINVAL.to_errno();
        }
        // SAFETY: The bus gives a message to append to during the call.
        let mut stats = unsafe { Stats::from_raw(msg) };
        from_result(|| this.get_vendor_vq_stats(idx, &mut stats).map(|()| 0))
    };
    [HAS_GET_VQ_NOTIFICATION] with get_vq_notification(
        idx: u16,
    ) -> bindings::vdpa_notification_area = |this| {
        let area = this.get_vq_notification(idx);
        bindings::vdpa_notification_area {
            addr: area.addr,
            size: area.size,
        }
    };
    [HAS_GET_VQ_IRQ] with get_vq_irq(idx: u16) -> c_int = |this| {
        from_result(|| this.get_vq_irq(idx))
    };
    [HAS_GET_VQ_SIZE] call get_vq_size(idx: u16) -> u16;
    call get_vq_align() -> u32;
    [HAS_GET_VQ_GROUP] call get_vq_group(idx: u16) -> u32;
    [HAS_GET_VQ_DESC_GROUP] call get_vq_desc_group(idx: u16) -> u32;
    call get_device_features() -> u64;
    [HAS_GET_BACKEND_FEATURES] call_const get_backend_features() -> u64;
    result set_driver_features(features: u64);
    call get_driver_features() -> u64;
    with set_config_cb(cb: *mut bindings::vdpa_callback) = |this| {
        // SAFETY: The driver gives a valid struct, and keeps its content callable until it is
        // replaced.
        this.set_config_cb(unsafe { Callback::from_raw(cb) })
    };
    call get_vq_num_max() -> u16;
    [HAS_GET_VQ_NUM_MIN] call get_vq_num_min() -> u16;
    call get_device_id() -> u32;
    call get_vendor_id() -> u32;
    call get_status() -> u8;
    call set_status(status: u8);
    result reset();
    [HAS_COMPAT_RESET] result compat_reset(flags: u32);
    [HAS_SUSPEND] result suspend();
    [HAS_RESUME] result resume();
    call get_config_size() -> usize;
    with get_config(offset: c_uint, buf: *mut c_void, len: c_uint) = |this| {
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
    };
    with set_config(offset: c_uint, buf: *const c_void, len: c_uint) = |this| {
        if len == 0 {
            return;
        }
        // SAFETY: The driver gives a buffer of `len` bytes.
        let buf = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len as usize) };
        this.set_config(offset as usize, buf)
    };
    [HAS_GET_GENERATION] call get_generation() -> u32;
    [HAS_GET_IOVA_RANGE] with get_iova_range() -> bindings::vdpa_iova_range = |this| {
        let range = this.get_iova_range();
        bindings::vdpa_iova_range {
            first: range.first,
            last: range.last,
        }
    };
    [HAS_SET_VQ_AFFINITY] with set_vq_affinity(
        idx: u16,
        mask: *const bindings::cpumask,
    ) -> c_int = |this| {
        // SAFETY: The driver gives a mask that lives and stays as it is during the call.
        let mask = unsafe { Cpumask::from_raw(mask) };
        from_result(|| this.set_vq_affinity(idx, mask).map(|()| 0))
    };
    [HAS_GET_VQ_AFFINITY] with get_vq_affinity(idx: u16) -> *const bindings::cpumask = |this| {
        this.get_vq_affinity(idx)
            .map_or(core::ptr::null(), |mask| mask.as_raw().cast_const())
    };
    [HAS_SET_MAP] with set_map(asid: c_uint, iotlb: *mut bindings::vhost_iotlb) -> c_int = |this| {
        // SAFETY: The driver gives an IOTLB that nobody changes during the call.
        let iotlb = unsafe { Iotlb::from_raw(iotlb) };
        from_result(|| this.set_map(asid, iotlb).map(|()| 0))
    };
    [HAS_DMA_MAP] with dma_map(
        asid: c_uint,
        iova: u64,
        size: u64,
        pa: u64,
        perm: u32,
        _opaque: *mut c_void,
    ) -> c_int = |this| {
        from_result(|| this.dma_map(asid, iova, size, pa, perm).map(|()| 0))
    };
    [HAS_DMA_UNMAP] result dma_unmap(asid: c_uint, iova: u64, size: u64);
    [HAS_RESET_MAP] result reset_map(asid: c_uint);
    [HAS_SET_GROUP_ASID] result set_group_asid(group: c_uint, asid: c_uint);
    [HAS_GET_VQ_MAP] with get_vq_map(idx: u16) -> bindings::virtio_map = |this, vdev| {
        let dma_dev = match this.get_vq_map(idx) {
            // SAFETY: The device is valid. Its map was set before registration, to the variant
            // `dma_dev`.
            QueueMap::Ordinary => unsafe { (*vdev).vmap.dma_dev },
            QueueMap::Itself => vdev.cast(),
        };
        bindings::virtio_map { dma_dev }
    };
    [HAS_BIND_MM] with bind_mm(mm: *mut bindings::mm_struct) -> c_int = |this| {
        // SAFETY: The driver keeps the mm from going away during the call.
        let mm = unsafe { Mm::from_raw(mm) };
        from_result(|| this.bind_mm(mm).map(|()| 0))
    };
    [HAS_UNBIND_MM] call unbind_mm();
}

impl<T> OpTable<T> {
    /// Drops the private data; the bus frees the memory afterwards.
    ///
    /// # Safety
    ///
    /// Only the vDPA bus calls it, when the last reference to a device of type `T` is gone.
    unsafe extern "C" fn free(vdev: *mut bindings::vdpa_device) {
        // SAFETY: The caller guarantees that this is a device of type `T` which nobody else has.
        unsafe { drop_data::<T>(vdev) }
    }
}
