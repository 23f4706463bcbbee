// SPDX-License-Identifier: GPL-2.0

//! vDPA devices for drivers of the vdpa bus.
//!
//! C: `include/linux/vdpa.h`, `struct vdpa_device` and `struct vdpa_config_ops`.

use crate::{
    bindings,
    iotlb::{Iotlb, Map},
    result::to_result, //
};
use kernel::{
    device,
    mm::Mm,
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};

/// Range of IOVAs in bytes, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The first IOVA.
    pub first: u64,
    /// The last IOVA.
    pub last: u64,
}

impl IovaRange {
    /// Every IOVA.
    pub const ALL: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// Returns true if all of `[start, last]` is in the range.
    pub fn holds(&self, start: u64, last: u64) -> bool {
        start >= self.first && last <= self.last
    }
}

/// Doorbell of a queue, as its parent named it. Only [`Device::get_vq_notification`] makes one.
#[derive(Clone, Copy)]
pub struct Notification {
    addr: u64,
    size: u64,
}

impl Notification {
    /// Returns the physical address.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns true if the doorbell is one whole page: whoever maps part of a page can write to the
    /// rest of that page too.
    pub fn is_page(&self) -> bool {
        let page = PAGE_SIZE as u64;
        self.addr & (page - 1) == 0 && self.size == page
    }
}

/// The way in which a parent takes maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapStyle {
    /// The whole table of an address space at a time (`set_map`).
    SetMap,
    /// One range at a time (`dma_map`, `dma_unmap`).
    DmaMap,
    /// Not at all: the platform's IOMMU translates for the device.
    Platform,
}

/// A vDPA device whose ops may be called.
///
/// Methods have the names and the meaning of the ops; see `include/linux/vdpa.h`. Ops may sleep
/// unless the method says otherwise.
///
/// # Invariants
///
/// The C struct is a registered `vdpa_device` and the driver bound to it has not been unbound.
#[repr(transparent)]
pub struct Device(Opaque<bindings::vdpa_device>);

// SAFETY: A `vdpa_device` is not tied to a thread.
unsafe impl Send for Device {}
// SAFETY: Parents need not accept concurrent ops, and get none: references are given out under the
// lock of `revocable::DeviceMutex`, to `probe` before access is granted, and to `remove` after it
// was revoked. `revocable::UnserializedOps` has only ops that parents must accept at any time.
unsafe impl Sync for Device {}

/// Calls an optional op, or evaluates to the value after `else`.
macro_rules! op {
    ($dev:ident . $op:ident ( $($arg:expr),* ) else $default:expr) => {
        match $dev.ops().$op {
            // SAFETY: By the invariant of `Device` its ops may be called; the arguments are plain
            // values, or pointers that stay valid during the call.
            Some(op) => unsafe { op($dev.as_raw() $(, $arg)*) },
            None => $default,
        }
    };
}

impl Device {
    /// Wraps the device that the bus passes to `probe` and `remove`.
    ///
    /// # Safety
    ///
    /// `ptr` must satisfy the invariants for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::vdpa_device) -> &'a Self {
        // SAFETY: `Self` is transparent; the caller guarantees a valid device for `'a`.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C struct.
    pub(crate) fn as_raw(&self) -> *mut bindings::vdpa_device {
        self.0.get()
    }

    fn ops(&self) -> &bindings::vdpa_config_ops {
        // SAFETY: By the invariant the device is registered: its op table exists and is constant.
        unsafe { &*(*self.as_raw()).config }
    }

    /// Returns true if the parent has all mandatory ops, and `dma_map` and `dma_unmap` only
    /// together. `probe` refuses other parents.
    pub fn has_mandatory_ops(&self) -> bool {
        let ops = self.ops();
        ops.set_vq_address.is_some()
            && ops.set_vq_num.is_some()
            && ops.kick_vq.is_some()
            && ops.set_vq_cb.is_some()
            && ops.set_vq_ready.is_some()
            && ops.set_vq_state.is_some()
            && ops.get_vq_state.is_some()
            && ops.get_device_features.is_some()
            && ops.set_driver_features.is_some()
            && ops.get_driver_features.is_some()
            && ops.set_config_cb.is_some()
            && ops.get_vq_num_max.is_some()
            && ops.get_device_id.is_some()
            && ops.get_status.is_some()
            && ops.set_status.is_some()
            && ops.reset.is_some()
            && ops.get_config_size.is_some()
            && ops.get_config.is_some()
            && ops.set_config.is_some()
            && (ops.dma_map.is_some() == ops.dma_unmap.is_some())
    }

    /// Returns the embedded `struct device`.
    pub fn device(&self) -> &device::Device {
        // SAFETY: The embedded device lives as long as the vdpa device.
        unsafe { device::Device::from_raw(&raw mut (*self.as_raw()).dev) }
    }

    /// Returns the number of virtqueues.
    pub fn nvqs(&self) -> u32 {
        // SAFETY: The device is valid by the invariant; the field is constant after registration.
        unsafe { (*self.as_raw()).nvqs }
    }

    /// Returns the number of virtqueue groups.
    pub fn ngroups(&self) -> u32 {
        // SAFETY: The device is valid by the invariant; the field is constant after registration.
        unsafe { (*self.as_raw()).ngroups }
    }

    /// Returns the number of address spaces.
    pub fn nas(&self) -> u32 {
        // SAFETY: The device is valid by the invariant; the field is constant after registration.
        unsafe { (*self.as_raw()).nas }
    }

    /// Returns true if the parent wants user virtual addresses in its maps.
    pub fn use_va(&self) -> bool {
        // SAFETY: The device is valid by the invariant; the field is constant after registration.
        unsafe { (*self.as_raw()).use_va }
    }

    /// Returns the way in which the parent takes maps. C prefers `dma_map` if there is `set_map`
    /// too.
    pub fn map_style(&self) -> MapStyle {
        if self.ops().dma_map.is_some() {
            MapStyle::DmaMap
        } else if self.ops().set_map.is_some() {
            MapStyle::SetMap
        } else {
            MapStyle::Platform
        }
    }

    /// Returns true if the parent has the op `suspend`.
    pub fn has_suspend(&self) -> bool {
        self.ops().suspend.is_some()
    }

    /// Returns true if the parent has the op `resume`.
    pub fn has_resume(&self) -> bool {
        self.ops().resume.is_some()
    }

    /// Returns true if the parent has the op `get_vq_desc_group`.
    pub fn has_get_vq_desc_group(&self) -> bool {
        self.ops().get_vq_desc_group.is_some()
    }

    /// Returns true if the parent has the op `reset_map`.
    pub fn has_reset_map(&self) -> bool {
        self.ops().reset_map.is_some()
    }

    /// Returns true if the parent has the op `compat_reset`.
    pub fn has_compat_reset(&self) -> bool {
        self.ops().compat_reset.is_some()
    }

    /// Returns true if the parent has the op `get_vq_notification`.
    pub fn has_get_vq_notification(&self) -> bool {
        self.ops().get_vq_notification.is_some()
    }

    /// Sets the addresses of a queue's descriptor, driver and device areas.
    pub fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result {
        to_result(
            op!(self.set_vq_address(idx, desc, driver, device) else -(bindings::EOPNOTSUPP as c_int)),
        )
    }

    /// Sets the number of entries of a queue.
    pub fn set_vq_num(&self, idx: u16, num: u32) {
        op!(self.set_vq_num(idx, num) else ())
    }

    /// Tells the device that a queue has work. Does not sleep: it runs in an eventfd's wake-up.
    pub fn kick_vq(&self, idx: u16) {
        op!(self.kick_vq(idx) else ())
    }

    /// Enables or disables a queue.
    pub fn set_vq_ready(&self, idx: u16, ready: bool) {
        op!(self.set_vq_ready(idx, ready) else ())
    }

    /// Sets the state from which a queue continues.
    pub fn set_vq_state(&self, idx: u16, state: VqState) -> Result {
        let raw = state.to_raw();
        to_result(op!(self.set_vq_state(idx, &raw) else -(bindings::EOPNOTSUPP as c_int)))
    }

    /// Returns the state of a queue. `packed` selects the form in which the parent wrote it.
    pub fn get_vq_state(&self, idx: u16, packed: bool) -> Result<VqState> {
        let mut raw = bindings::vdpa_vq_state::default();
        to_result(op!(self.get_vq_state(idx, &mut raw) else -(bindings::EOPNOTSUPP as c_int)))?;
        Ok(VqState::from_raw(&raw, packed))
    }

    /// Returns the doorbell of a queue, or `None` without the op. May be called from a page fault.
    pub fn get_vq_notification(&self, idx: u16) -> Option<Notification> {
        let op = self.ops().get_vq_notification?;
        // SAFETY: By the invariant of `Device` its ops may be called.
        let area = unsafe { op(self.as_raw(), idx) };
        Some(Notification {
            addr: area.addr,
            size: area.size,
        })
    }

    /// Returns the number of a queue's interrupt, or `None` if the queue has none of its own.
    pub fn get_vq_irq(&self, idx: u16) -> Option<c_int> {
        let irq = op!(self.get_vq_irq(idx) else -1);
        (irq >= 0).then_some(irq)
    }

    /// Returns the group of a queue, or `None` without the op.
    pub fn get_vq_group(&self, idx: u16) -> Option<u32> {
        let op = self.ops().get_vq_group?;
        // SAFETY: By the invariant of `Device` its ops may be called.
        Some(unsafe { op(self.as_raw(), idx) })
    }

    /// Returns the group of a queue's descriptors, or `None` without the op.
    pub fn get_vq_desc_group(&self, idx: u16) -> Option<u32> {
        let op = self.ops().get_vq_desc_group?;
        // SAFETY: By the invariant of `Device` its ops may be called.
        Some(unsafe { op(self.as_raw(), idx) })
    }

    /// Returns the size of a queue, or `None` without the op.
    pub fn get_vq_size(&self, idx: u16) -> Option<u16> {
        let op = self.ops().get_vq_size?;
        // SAFETY: By the invariant of `Device` its ops may be called.
        Some(unsafe { op(self.as_raw(), idx) })
    }

    /// Returns the largest size that a queue may have.
    pub fn get_vq_num_max(&self) -> u16 {
        op!(self.get_vq_num_max() else 0)
    }

    /// Returns the virtio features that the device offers.
    pub fn get_device_features(&self) -> u64 {
        op!(self.get_device_features() else 0)
    }

    /// Returns the backend features that the parent adds to the driver's; 0 without the op.
    pub fn get_backend_features(&self) -> u64 {
        op!(self.get_backend_features() else 0)
    }

    /// Returns the virtio features that were negotiated.
    pub fn get_driver_features(&self) -> u64 {
        op!(self.get_driver_features() else 0)
    }

    /// Negotiates features, under vdpa core's config lock.
    pub fn set_features(&self, features: u64) -> Result {
        // SAFETY: By the invariant of `Device` its ops may be called.
        to_result(unsafe { bindings::vhost_vdpa_set_features(self.as_raw(), features) })
    }

    /// Returns the virtio device id.
    pub fn get_device_id(&self) -> u32 {
        op!(self.get_device_id() else 0)
    }

    /// Returns the device status.
    pub fn get_status(&self) -> u8 {
        op!(self.get_status() else 0)
    }

    /// Sets the device status, under vdpa core's config lock. For status 0 call [`Self::reset`].
    pub fn set_status(&self, status: u8) {
        // SAFETY: By the invariant of `Device` its ops may be called.
        unsafe { bindings::vdpa_set_status(self.as_raw(), status) }
    }

    /// Resets the device, under vdpa core's config lock. With `clean_map` a legacy parent (one that
    /// has `compat_reset`) also drops its maps and returns to its 1:1 map.
    pub fn reset(&self, clean_map: bool) -> Result {
        let flags = if clean_map {
            bindings::VDPA_RESET_F_CLEAN_MAP
        } else {
            0
        };
        // SAFETY: By the invariant of `Device` its ops may be called.
        to_result(unsafe { bindings::vhost_vdpa_reset(self.as_raw(), flags) })
    }

    /// Suspends the device; the states of its queues can be read. `EOPNOTSUPP` without the op.
    pub fn suspend(&self) -> Result {
        to_result(op!(self.suspend() else -(bindings::EOPNOTSUPP as c_int)))
    }

    /// Resumes a suspended device. `EOPNOTSUPP` without the op.
    pub fn resume(&self) -> Result {
        to_result(op!(self.resume() else -(bindings::EOPNOTSUPP as c_int)))
    }

    /// Returns the size of the config space in bytes.
    pub fn get_config_size(&self) -> usize {
        op!(self.get_config_size() else 0)
    }

    /// Reads config space, under vdpa core's config lock.
    pub fn get_config(&self, offset: u32, buf: &mut [u8]) {
        // SAFETY: By the invariant of `Device` its ops may be called; `buf` is valid for writes of
        // its length.
        unsafe {
            bindings::vdpa_get_config(
                self.as_raw(),
                offset,
                buf.as_mut_ptr().cast(),
                buf.len() as c_uint,
            )
        }
    }

    /// Writes config space, under vdpa core's config lock.
    pub fn set_config(&self, offset: u32, buf: &[u8]) {
        // SAFETY: By the invariant of `Device` its ops may be called; `buf` is valid for reads of
        // its length.
        unsafe {
            bindings::vdpa_set_config(
                self.as_raw(),
                offset,
                buf.as_ptr().cast(),
                buf.len() as c_uint,
            )
        }
    }

    /// Returns the IOVAs that the parent allows, or `None` without the op.
    pub fn get_iova_range(&self) -> Option<IovaRange> {
        let op = self.ops().get_iova_range?;
        // SAFETY: By the invariant of `Device` its ops may be called.
        let range = unsafe { op(self.as_raw()) };
        Some(IovaRange {
            first: range.first,
            last: range.last,
        })
    }

    /// Replaces the parent's whole table of an address space. Does nothing without the op.
    pub fn set_map(&self, asid: u32, iotlb: &Iotlb) -> Result {
        to_result(op!(self.set_map(asid, iotlb.as_raw()) else 0))
    }

    /// Adds one range to an address space of the parent. Does nothing without the op.
    pub fn dma_map(&self, asid: u32, map: &Map) -> Result {
        let (iova, size, addr, perm) = (map.start, map.size(), map.addr, map.perm);
        to_result(op!(self.dma_map(asid, iova, size, addr, perm, map.opaque()) else 0))
    }

    /// Removes one range from an address space of the parent. Does nothing without the op.
    pub fn dma_unmap(&self, asid: u32, iova: u64, size: u64) -> Result {
        to_result(op!(self.dma_unmap(asid, iova, size) else 0))
    }

    /// Resets an address space to the parent's default map. Does nothing without the op.
    pub fn reset_map(&self, asid: u32) -> Result {
        to_result(op!(self.reset_map(asid) else 0))
    }

    /// Moves a group to an address space. `EOPNOTSUPP` without the op.
    pub fn set_group_asid(&self, group: u32, asid: u32) -> Result {
        to_result(op!(self.set_group_asid(group, asid) else -(bindings::EOPNOTSUPP as c_int)))
    }

    /// Returns true if the parent has the op `set_group_asid`.
    pub fn has_set_group_asid(&self) -> bool {
        self.ops().set_group_asid.is_some()
    }

    /// Lets the parent use the owner's address space. Does nothing unless the parent uses virtual
    /// addresses.
    pub fn bind_mm(&self, mm: &Mm) -> Result {
        if !self.use_va() {
            return Ok(());
        }
        to_result(op!(self.bind_mm(mm.as_raw()) else 0))
    }

    /// Undoes [`Self::bind_mm`].
    pub fn unbind_mm(&self) {
        if self.use_va() {
            op!(self.unbind_mm() else ())
        }
    }

    /// Registers the callback for a queue; null pointers unregister it.
    ///
    /// # Safety
    ///
    /// `cb` must stay callable, and its trigger valid, until another callback is registered or the
    /// device is gone.
    pub(crate) unsafe fn set_vq_cb(&self, idx: u16, cb: &mut bindings::vdpa_callback) {
        op!(self.set_vq_cb(idx, cb) else ())
    }

    /// Registers the callback for config changes; null pointers unregister it.
    ///
    /// # Safety
    ///
    /// `cb` must stay callable until another callback is registered or the device is gone.
    pub(crate) unsafe fn set_config_cb(&self, cb: &mut bindings::vdpa_callback) {
        op!(self.set_config_cb(cb) else ())
    }
}

/// State of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VqState {
    /// Split queue: the next available index.
    Split(u16),
    /// Packed queue: indices in the lower 15 bits, wrap counters in bit 15.
    Packed {
        /// Next descriptor that the driver makes available.
        avail: u16,
        /// Next descriptor that the device uses.
        used: u16,
    },
}

impl VqState {
    fn to_raw(self) -> bindings::vdpa_vq_state {
        let mut raw = bindings::vdpa_vq_state::default();
        match self {
            Self::Split(avail_index) => {
                raw.__bindgen_anon_1.split =
                    core::mem::ManuallyDrop::new(bindings::vdpa_vq_state_split { avail_index });
            }
            Self::Packed { avail, used } => {
                let mut packed = bindings::vdpa_vq_state_packed::default();
                packed.set_last_avail_counter(avail >> 15);
                packed.set_last_avail_idx(avail & 0x7fff);
                packed.set_last_used_counter(used >> 15);
                packed.set_last_used_idx(used & 0x7fff);
                raw.__bindgen_anon_1.packed = core::mem::ManuallyDrop::new(packed);
            }
        }
        raw
    }

    fn from_raw(raw: &bindings::vdpa_vq_state, packed: bool) -> Self {
        if packed {
            // SAFETY: The union was zeroed before the op, and its integers are valid with any bits.
            let state = unsafe { &raw.__bindgen_anon_1.packed };
            Self::Packed {
                avail: state.last_avail_idx() | state.last_avail_counter() << 15,
                used: state.last_used_idx() | state.last_used_counter() << 15,
            }
        } else {
            // SAFETY: The union was zeroed before the op, and its integers are valid with any bits.
            Self::Split(unsafe { raw.__bindgen_anon_1.split.avail_index })
        }
    }
}

/// Returns `idx` if it is below `len`, and 0 otherwise, also under speculation.
pub fn clamp_index(idx: u32, len: u32) -> u32 {
    // SAFETY: The function only computes with its arguments.
    unsafe { bindings::vhost_vdpa_array_index_nospec(idx, len) }
}
