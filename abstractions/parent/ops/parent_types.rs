// SPDX-License-Identifier: GPL-2.0

//! Types of the arguments and results of a vDPA parent's ops.
//!
//! C: `include/linux/vdpa.h`.

use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop, //
};
use kernel::{
    error::to_result,
    prelude::*,
    str::CStr, //
};

/// Returns the error `EOPNOTSUPP`, which the kernel crate does not name.
pub fn not_supported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// Callback of a driver, for used buffers of a queue or changes of the config space.
///
/// # Invariants
///
/// The function may be called with the private pointer until the driver sets another callback for
/// the same queue and that op has returned, or the device is reset or removed. So a `Callback` must
/// be called under the lock under which it is replaced.
pub struct Callback(bindings::vdpa_callback);

// SAFETY: Drivers accept calls from any thread.
unsafe impl Send for Callback {}
// SAFETY: Drivers accept concurrent calls, as from interrupts on several CPUs.
unsafe impl Sync for Callback {}

impl Callback {
    /// Returns an empty callback. Calling it does nothing.
    pub const fn none() -> Self {
        // INVARIANT: There is no function to call.
        Self(bindings::vdpa_callback {
            callback: None,
            private: core::ptr::null_mut(),
            trigger: core::ptr::null_mut(),
        })
    }

    /// Copies the argument of `set_vq_cb` or `set_config_cb`.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for reads, and the function and private pointer in it must satisfy the
    /// invariant.
    pub(crate) unsafe fn from_raw(ptr: *const bindings::vdpa_callback) -> Self {
        // SAFETY: The caller guarantees that the pointer is valid for reads.
        let raw = unsafe { &*ptr };
        // INVARIANT: The caller guarantees it.
        Self(bindings::vdpa_callback {
            callback: raw.callback,
            private: raw.private,
            trigger: raw.trigger,
        })
    }

    /// Returns true if there is a function to call.
    pub fn is_set(&self) -> bool {
        self.0.callback.is_some()
    }

    /// Calls the function, if there is one. To be called in process context, without a spin lock
    /// held.
    pub fn call(&self) {
        // SAFETY: By the invariant the function may be called with its private pointer.
        unsafe { bindings::vdpa_parent_callback_call(&self.0) }
    }
}

/// State of a packed queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedState {
    /// The driver's wrap counter as last seen.
    pub last_avail_counter: bool,
    /// The next descriptor to look at; 15 bits.
    pub last_avail_idx: u16,
    /// The device's own wrap counter.
    pub last_used_counter: bool,
    /// The next descriptor to write as used; 15 bits.
    pub last_used_idx: u16,
}

/// State of a queue, which `get_vq_state` saves and `set_vq_state` restores.
///
/// The struct does not say whether the queue is split or packed. That follows from the negotiated
/// features.
pub struct VqState(bindings::vdpa_vq_state);

impl VqState {
    /// Creates the state of a split queue. `avail_index` is the next available index to read.
    pub fn split(avail_index: u16) -> Self {
        // The other form is longer: its remaining bytes are zero.
        let mut raw = bindings::vdpa_vq_state::default();
        raw.__bindgen_anon_1.split =
            ManuallyDrop::new(bindings::vdpa_vq_state_split { avail_index });
        Self(raw)
    }

    /// Creates the state of a packed queue.
    pub fn packed(state: PackedState) -> Self {
        let mut packed = bindings::vdpa_vq_state_packed::default();
        packed.set_last_avail_counter(state.last_avail_counter.into());
        packed.set_last_avail_idx(state.last_avail_idx & 0x7fff);
        packed.set_last_used_counter(state.last_used_counter.into());
        packed.set_last_used_idx(state.last_used_idx & 0x7fff);
        Self(bindings::vdpa_vq_state {
            __bindgen_anon_1: bindings::vdpa_vq_state__bindgen_ty_1 {
                packed: ManuallyDrop::new(packed),
            },
        })
    }

    /// Copies the argument of `set_vq_state`.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for reads.
    pub(crate) unsafe fn from_raw(ptr: *const bindings::vdpa_vq_state) -> Self {
        // SAFETY: The caller guarantees that the pointer is valid for reads; the struct is plain
        // data.
        Self(unsafe { ptr.read() })
    }

    /// Returns the C struct.
    pub(crate) fn into_raw(self) -> bindings::vdpa_vq_state {
        self.0
    }

    /// Returns the next available index, if this is the state of a split queue.
    pub fn as_split(&self) -> u16 {
        // SAFETY: Every byte of the union is initialised, and every bit pattern is a valid `u16`.
        let split = unsafe { &self.0.__bindgen_anon_1.split };
        split.avail_index
    }

    /// Returns the fields, if this is the state of a packed queue.
    pub fn as_packed(&self) -> PackedState {
        // SAFETY: Every byte of the union is initialised, and every bit pattern is valid for the
        // fields.
        let packed = unsafe { &self.0.__bindgen_anon_1.packed };
        PackedState {
            last_avail_counter: packed.last_avail_counter() != 0,
            last_avail_idx: packed.last_avail_idx(),
            last_used_counter: packed.last_used_counter() != 0,
            last_used_idx: packed.last_used_idx(),
        }
    }
}

/// Range of IOVAs that a device can reach.
#[derive(Clone, Copy, Debug)]
pub struct IovaRange {
    /// The first IOVA.
    pub first: u64,
    /// The last IOVA, inclusive.
    pub last: u64,
}

/// Doorbell of a queue, which can be mapped into userspace.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// The physical address.
    pub addr: u64,
    /// The size in bytes.
    pub size: u64,
}

/// The device that does the DMA of a queue, as `get_vq_map` returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMap {
    /// The device that does the DMA of all queues if there is no such op.
    Ordinary,
    /// The vDPA device itself, because software serves this queue.
    Itself,
}

/// Address space to which a parent with user virtual addresses is bound.
pub use kernel::mm::Mm;

/// Statistics of a queue, which are being gathered for userspace.
pub struct Stats<'a> {
    msg: *mut bindings::sk_buff,
    _borrow: PhantomData<&'a mut bindings::sk_buff>,
}

impl Stats<'_> {
    /// Wraps the message of `get_vendor_vq_stats`.
    ///
    /// # Safety
    ///
    /// `msg` must be a netlink message to which the caller may append as long as the result lives.
    pub(crate) unsafe fn from_raw(msg: *mut bindings::sk_buff) -> Self {
        Self {
            msg,
            _borrow: PhantomData,
        }
    }

    /// Appends one number under a name.
    ///
    /// Errors: `EMSGSIZE` if the message is full.
    pub fn put(&mut self, name: &CStr, value: u64) -> Result {
        // SAFETY: By the contract of `from_raw` the message may be appended to; the name is copied.
        to_result(unsafe { bindings::vdpa_parent_vq_stat(self.msg, name.as_char_ptr(), value) })
    }
}

/// Attributes of `vdpa dev add` and `vdpa dev set`, as the administrator gave them.
#[repr(transparent)]
pub struct Provision(bindings::vdpa_dev_set_config);

impl Provision {
    /// Bit of the MAC address in [`crate::mgmtdev::Management::ATTRIBUTES`].
    pub const MAC: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MACADDR;
    /// Bit of the MTU.
    pub const MTU: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MTU;
    /// Bit of the number of queue pairs.
    pub const MAX_VQP: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MAX_VQP;
    /// Bit of the device features.
    pub const FEATURES: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_FEATURES;

    /// Wraps the argument of `dev_add` and `dev_set_attr`.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for reads and its struct constant for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *const bindings::vdpa_dev_set_config) -> &'a Self {
        // SAFETY: `Self` is transparent; the caller guarantees a valid and constant struct for
        // `'a`.
        unsafe { &*ptr.cast() }
    }

    /// Returns `value` if its bit is set.
    fn given<T>(&self, bit: u64, value: T) -> Option<T> {
        (self.0.mask & bit != 0).then_some(value)
    }

    /// Returns the device features that were given.
    pub fn features(&self) -> Option<u64> {
        self.given(Self::FEATURES, self.0.device_features)
    }

    /// Returns the device features that were given, or else `default`.
    ///
    /// Errors: `EINVAL` if some are not in `supported`.
    pub fn features_of(&self, supported: u64, default: u64) -> Result<u64> {
        let features = self.features().unwrap_or(default);
        if features & !supported != 0 {
            return Err(EINVAL);
        }
        Ok(features)
    }

    /// Returns the MAC address, if one was given.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.given(Self::MAC, self.0.net.mac)
    }

    /// Returns the MTU in bytes, if one was given.
    pub fn mtu(&self) -> Option<u16> {
        self.given(Self::MTU, self.0.net.mtu)
    }

    /// Returns the number of queue pairs, if one was given; not 0.
    pub fn max_vq_pairs(&self) -> Option<u16> {
        self.given(Self::MAX_VQP, self.0.net.max_vq_pairs)
    }
}

#[cfg(kunit_suites)]
#[kunit_tests(rust_vdpa_parent_types)]
mod tests {
    use super::*;

    /// Returns all bytes of a state.
    fn bytes(state: VqState) -> [u8; size_of::<bindings::vdpa_vq_state>()] {
        // SAFETY: Both types have the same size, and the constructors initialise every byte.
        unsafe { core::mem::transmute(state.into_raw()) }
    }

    #[test]
    fn every_byte_of_a_state_is_set() {
        let number = |state| u32::from_ne_bytes(bytes(state));
        for index in [0, 1, 0x7fff, 0x8000, u16::MAX] {
            assert_eq!(number(VqState::split(index)), u32::from(index));
        }
        let packed = PackedState {
            last_avail_counter: true,
            last_avail_idx: 3,
            last_used_counter: true,
            last_used_idx: 1,
        };
        // The wrap counter is the lowest bit of each half.
        assert_eq!(number(VqState::packed(packed)), 0x0003_0007);
    }
}
