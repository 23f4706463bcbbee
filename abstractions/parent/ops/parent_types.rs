// SPDX-License-Identifier: GPL-2.0

//! What the ops of a vDPA parent take and return.
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

/// The error `EOPNOTSUPP`, which the kernel crate does not name.
pub fn not_supported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// What a driver wants called when a queue has something for it, or the config space changed.
///
/// # Invariants
///
/// The function may be called with the private pointer until the driver sets another callback on
/// the same queue and that call has returned, or the device is reset or removed. Whoever keeps a
/// `Callback` therefore calls it under the lock under which it is replaced.
pub struct Callback(bindings::vdpa_callback);

// SAFETY: Drivers accept the call from any thread.
unsafe impl Send for Callback {}
// SAFETY: Drivers accept simultaneous calls, as interrupts may cause them too.
unsafe impl Sync for Callback {}

impl Callback {
    /// No callback: calling it does nothing.
    pub const fn none() -> Self {
        // INVARIANT: There is no function.
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
    /// `ptr` must be valid for reads, and what it holds as valid as the invariant says.
    pub(crate) unsafe fn from_raw(ptr: *const bindings::vdpa_callback) -> Self {
        // SAFETY: The caller vouches for the pointer.
        let raw = unsafe { &*ptr };
        // INVARIANT: The caller vouches for it.
        Self(bindings::vdpa_callback {
            callback: raw.callback,
            private: raw.private,
            trigger: raw.trigger,
        })
    }

    /// Whether a call would do something.
    pub fn is_set(&self) -> bool {
        self.0.callback.is_some()
    }

    /// Calls it. The caller must be in process context and hold no spin lock.
    pub fn call(&self) {
        // SAFETY: Allowed by the invariant.
        unsafe { bindings::vdpa_parent_callback_call(&self.0) }
    }
}

/// Where a packed queue stands.
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

/// Where a queue stands: what `get_vq_state` saves and `set_vq_state` restores.
///
/// Which of the two forms it has is not stored in it but follows from the negotiated features.
pub struct VqState(bindings::vdpa_vq_state);

impl VqState {
    /// The state of a split queue: the next available index to look at.
    pub fn split(avail_index: u16) -> Self {
        // The other form is longer: its bytes are zeroes.
        let mut raw = bindings::vdpa_vq_state::default();
        raw.__bindgen_anon_1.split =
            ManuallyDrop::new(bindings::vdpa_vq_state_split { avail_index });
        Self(raw)
    }

    /// The state of a packed queue.
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
        // SAFETY: The caller vouches for it; the struct is plain data.
        Self(unsafe { ptr.read() })
    }

    /// The C struct.
    pub(crate) fn into_raw(self) -> bindings::vdpa_vq_state {
        self.0
    }

    /// Reads it as the state of a split queue.
    pub fn as_split(&self) -> u16 {
        // SAFETY: Every bit pattern is a valid `u16`.
        let split = unsafe { &self.0.__bindgen_anon_1.split };
        split.avail_index
    }

    /// Reads it as the state of a packed queue.
    pub fn as_packed(&self) -> PackedState {
        // SAFETY: Every bit pattern is valid for the bit fields.
        let packed = unsafe { &self.0.__bindgen_anon_1.packed };
        PackedState {
            last_avail_counter: packed.last_avail_counter() != 0,
            last_avail_idx: packed.last_avail_idx(),
            last_used_counter: packed.last_used_counter() != 0,
            last_used_idx: packed.last_used_idx(),
        }
    }
}

/// The range of IOVAs that a device can reach.
#[derive(Clone, Copy, Debug)]
pub struct IovaRange {
    /// The first one.
    pub first: u64,
    /// The last one, inclusive.
    pub last: u64,
}

/// The doorbell of a queue, to be mapped into userspace.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// Its physical address.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Which device does the DMA of a queue, as `get_vq_map` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMap {
    /// The one that does it for all queues without that op.
    Ordinary,
    /// The vDPA device itself: software serves this queue.
    Itself,
}

/// The page tables that a parent with user virtual addresses is bound to.
pub use kernel::mm::Mm;

/// The statistics of a queue, being gathered for userspace.
pub struct Stats<'a> {
    msg: *mut bindings::sk_buff,
    _borrow: PhantomData<&'a mut bindings::sk_buff>,
}

impl Stats<'_> {
    /// Wraps the message of `get_vendor_vq_stats`.
    ///
    /// # Safety
    ///
    /// `msg` must be a netlink message that the caller may append to as long as this lives.
    pub(crate) unsafe fn from_raw(msg: *mut bindings::sk_buff) -> Self {
        Self {
            msg,
            _borrow: PhantomData,
        }
    }

    /// Adds one number.
    ///
    /// Errors: `EMSGSIZE` when the message is full.
    pub fn put(&mut self, name: &CStr, value: u64) -> Result {
        // SAFETY: The message is ours to append to; the name is copied.
        to_result(unsafe { bindings::vdpa_parent_vq_stat(self.msg, name.as_char_ptr(), value) })
    }
}

/// What the administrator asked for: the attributes of `vdpa dev add` and `vdpa dev set`.
#[repr(transparent)]
pub struct Provision(bindings::vdpa_dev_set_config);

impl Provision {
    /// The bit of the MAC address in [`crate::mgmtdev::Management::ATTRIBUTES`].
    pub const MAC: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MACADDR;
    /// The bit of the MTU.
    pub const MTU: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MTU;
    /// The bit of the number of queue pairs.
    pub const MAX_VQP: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MAX_VQP;
    /// The bit of the device features.
    pub const FEATURES: u64 = 1 << bindings::vdpa_attr_VDPA_ATTR_DEV_FEATURES;

    /// Wraps the argument of `dev_add` and `dev_set_attr`.
    ///
    /// # Safety
    ///
    /// `ptr` must stay valid and unchanged for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *const bindings::vdpa_dev_set_config) -> &'a Self {
        // SAFETY: `Self` has one field, at offset 0 and of the same size; the caller vouches for
        // the rest.
        unsafe { &*ptr.cast() }
    }

    /// `value` if its bit is set.
    fn given<T>(&self, bit: u64, value: T) -> Option<T> {
        (self.0.mask & bit != 0).then_some(value)
    }

    /// The features to offer at most.
    pub fn features(&self) -> Option<u64> {
        self.given(Self::FEATURES, self.0.device_features)
    }

    /// The features to offer: those that were asked for, else `default`.
    ///
    /// Errors: `EINVAL` when some are not in `supported`.
    pub fn features_of(&self, supported: u64, default: u64) -> Result<u64> {
        let features = self.features().unwrap_or(default);
        if features & !supported != 0 {
            return Err(EINVAL);
        }
        Ok(features)
    }

    /// The MAC address.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.given(Self::MAC, self.0.net.mac)
    }

    /// The MTU in bytes.
    pub fn mtu(&self) -> Option<u16> {
        self.given(Self::MTU, self.0.net.mtu)
    }

    /// The number of queue pairs; not zero.
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
        // SAFETY: Both have the same size, and the constructors initialise every byte.
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
        // The counter is the lowest bit of each half.
        assert_eq!(number(VqState::packed(packed)), 0x0003_0007);
    }
}
