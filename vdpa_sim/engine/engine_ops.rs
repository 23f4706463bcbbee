// SPDX-License-Identifier: GPL-2.0

//! Ops that the engine implements for a parent, and helpers for parents with one queue.

use crate::{
    engine::{Class, Io, Setup, UnitSetup},
    queue::Queue,
    ring::{Chain, RingResult},
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use vdpa_parent::{guest_mem::GuestMemory, parent_device::Shape, worker::Again};

/// Shape of a device from [`Setup::one_queue`].
pub const ONE_QUEUE: Shape = Shape {
    vqs: 1,
    groups: 1,
    address_spaces: 1,
};

impl<C: Class<Files = ()>> Setup<C> {
    /// Returns the setup of a device with one queue of at most `queue_max` entries, a power of two.
    /// Errors: `ENOMEM`.
    pub fn one_queue(class: C, unit: C::Unit, offered: u64, queue_max: u16) -> Result<Self> {
        let mut units = KVec::new();
        units.push(UnitSetup { queues: 1, unit }, GFP_KERNEL)?;
        Ok(Self {
            class: Arc::new(class, GFP_KERNEL)?,
            units,
            offered,
            groups: ONE_QUEUE.groups,
            address_spaces: ONE_QUEUE.address_spaces,
            queue_max,
            files: (),
        })
    }
}

impl Io<'_> {
    /// Serves up to `budget` requests of the first queue. Returns whether there are more.
    ///
    /// `request` gets the memory of the ring, in which the chain is walked, the chain, and the
    /// memory of the buffers. It returns the number of bytes that it wrote. If it fails because
    /// something is not mapped, the request is repeated once the maps have changed. If the chain is
    /// impossible, the queue is broken until the driver stops it and starts it again.
    pub fn serve(
        &self,
        queues: &mut [Queue],
        budget: u32,
        mut request: impl FnMut(&GuestMemory<'_>, Chain, &GuestMemory<'_>) -> RingResult<u32>,
    ) -> Again {
        let Some(queue) = queues.first_mut() else {
            return Again::No;
        };
        let Some(view) = self.view(queue) else {
            return Again::No;
        };
        view.with(|mem| {
            for _ in 0..budget {
                let Some(chain) = queue.pop(mem.ring) else {
                    break;
                };
                let token = chain.token();
                let Some(len) = queue.walk(token, || request(mem.ring, chain, mem.buffers)) else {
                    break;
                };
                queue.push(mem.ring, token, len);
            }
            queue.end_run(mem.ring)
        })
    }
}

/// Implements, in an `impl VdpaConfigOps`, ops by the methods of the same names of the
/// [`crate::engine::Engine`] in the field `$engine`: those that are listed, or all that the engine can do
/// by itself, which leaves those about maps.
#[macro_export]
macro_rules! engine_ops {
    ($engine:ident) => {
        $crate::engine_ops!($engine: set_vq_address, set_vq_num, kick_vq, set_vq_cb, set_vq_ready,
            get_vq_ready, set_vq_state, get_vq_state, get_vendor_vq_stats, get_vq_size, get_vq_align,
            get_vq_group, get_device_features, get_backend_features, set_driver_features,
            get_driver_features, set_config_cb, get_vq_num_max, get_device_id, get_vendor_id,
            get_status, set_status, reset, suspend, resume, get_config_size, get_config, set_config,
            get_generation, set_group_asid);
    };
    ($engine:ident: $($op:ident),+) => {
        $($crate::engine_ops!(@$op $engine);)+
    };

    (@set_vq_address $engine:ident) => {
        fn set_vq_address(&self, idx: u16, desc: u64, driver: u64, device: u64) -> Result {
            self.$engine.set_vq_address(idx, desc, driver, device)
        }
    };
    (@set_vq_num $engine:ident) => {
        fn set_vq_num(&self, idx: u16, num: u32) {
            self.$engine.set_vq_num(idx, num);
        }
    };
    (@kick_vq $engine:ident) => {
        fn kick_vq(&self, idx: u16) {
            self.$engine.kick_vq(idx);
        }
    };
    (@set_vq_cb $engine:ident) => {
        fn set_vq_cb(&self, idx: u16, cb: $crate::vdpa_parent::parent_ops::Callback) {
            self.$engine.set_vq_cb(idx, cb);
        }
    };
    (@set_vq_ready $engine:ident) => {
        fn set_vq_ready(&self, idx: u16, ready: bool) {
            self.$engine.set_vq_ready(idx, ready);
        }
    };
    (@get_vq_ready $engine:ident) => {
        fn get_vq_ready(&self, idx: u16) -> bool {
            self.$engine.get_vq_ready(idx)
        }
    };
    (@set_vq_state $engine:ident) => {
        fn set_vq_state(
            &self,
            idx: u16,
            state: &$crate::vdpa_parent::parent_ops::VqState,
        ) -> Result {
            self.$engine.set_vq_state(idx, state)
        }
    };
    (@get_vq_state $engine:ident) => {
        fn get_vq_state(&self, idx: u16) -> Result<$crate::vdpa_parent::parent_ops::VqState> {
            self.$engine.get_vq_state(idx)
        }
    };
    (@get_vendor_vq_stats $engine:ident) => {
        const HAS_GET_VENDOR_VQ_STATS: bool = true;

        fn get_vendor_vq_stats(
            &self,
            idx: u16,
            stats: &mut $crate::vdpa_parent::parent_ops::Stats<'_>,
        ) -> Result {
            self.$engine.get_vendor_vq_stats(idx, stats)
        }
    };
    (@get_vq_size $engine:ident) => {
        const HAS_GET_VQ_SIZE: bool = true;

        fn get_vq_size(&self, idx: u16) -> u16 {
            self.$engine.get_vq_size(idx)
        }
    };
    (@get_vq_align $engine:ident) => {
        fn get_vq_align(&self) -> u32 {
            self.$engine.get_vq_align()
        }
    };
    (@get_vq_group $engine:ident) => {
        const HAS_GET_VQ_GROUP: bool = true;

        fn get_vq_group(&self, idx: u16) -> u32 {
            self.$engine.get_vq_group(idx)
        }
    };
    (@get_device_features $engine:ident) => {
        fn get_device_features(&self) -> u64 {
            self.$engine.get_device_features()
        }
    };
    (@get_backend_features $engine:ident) => {
        const HAS_GET_BACKEND_FEATURES: bool = true;

        fn get_backend_features(&self) -> u64 {
            self.$engine.get_backend_features()
        }
    };
    (@set_driver_features $engine:ident) => {
        fn set_driver_features(&self, features: u64) -> Result {
            self.$engine.set_driver_features(features)
        }
    };
    (@get_driver_features $engine:ident) => {
        fn get_driver_features(&self) -> u64 {
            self.$engine.get_driver_features()
        }
    };
    (@set_config_cb $engine:ident) => {
        fn set_config_cb(&self, cb: $crate::vdpa_parent::parent_ops::Callback) {
            self.$engine.set_config_cb(cb);
        }
    };
    (@get_vq_num_max $engine:ident) => {
        fn get_vq_num_max(&self) -> u16 {
            self.$engine.get_vq_num_max()
        }
    };
    (@get_device_id $engine:ident) => {
        fn get_device_id(&self) -> u32 {
            self.$engine.get_device_id()
        }
    };
    (@get_vendor_id $engine:ident) => {
        fn get_vendor_id(&self) -> u32 {
            self.$engine.get_vendor_id()
        }
    };
    (@get_status $engine:ident) => {
        fn get_status(&self) -> u8 {
            self.$engine.get_status()
        }
    };
    (@set_status $engine:ident) => {
        fn set_status(&self, status: u8) {
            self.$engine.set_status(status);
        }
    };
    (@reset $engine:ident) => {
        fn reset(&self) -> Result {
            self.$engine.reset();
            Ok(())
        }
    };
    (@suspend $engine:ident) => {
        const HAS_SUSPEND: bool = true;

        fn suspend(&self) -> Result {
            self.$engine.suspend();
            Ok(())
        }
    };
    (@resume $engine:ident) => {
        const HAS_RESUME: bool = true;

        fn resume(&self) -> Result {
            self.$engine.resume();
            Ok(())
        }
    };
    (@get_config_size $engine:ident) => {
        fn get_config_size(&self) -> usize {
            self.$engine.get_config_size()
        }
    };
    (@get_config $engine:ident) => {
        fn get_config(&self, offset: usize, buf: &mut [u8]) {
            self.$engine.get_config(offset, buf);
        }
    };
    (@set_config $engine:ident) => {
        fn set_config(&self, offset: usize, buf: &[u8]) {
            self.$engine.set_config(offset, buf);
        }
    };
    (@get_generation $engine:ident) => {
        const HAS_GET_GENERATION: bool = true;

        fn get_generation(&self) -> u32 {
            self.$engine.get_generation()
        }
    };
    (@set_group_asid $engine:ident) => {
        const HAS_SET_GROUP_ASID: bool = true;

        fn set_group_asid(&self, group: c_uint, asid: c_uint) -> Result {
            self.$engine.set_group_asid(group, asid)
        }
    };
}
