// SPDX-License-Identifier: GPL-2.0

//! The crate around each case of this folder: a parent that has only the ops that matter.
//!
//! `tools/lint/compile-fail.sh` compiles it once a case, whose file is in `CASE`.

#![forbid(unsafe_code)]

kernel::prelude::module! {
    type: CaseModule,
    name: "compile_fail",
    authors: ["The rust-vhost-vdpa authors"],
    description: "A parent that is never loaded",
    license: "GPL v2",
}

/// The module, without which the crate has no `THIS_MODULE`.
struct CaseModule;

impl kernel::Module for CaseModule {
    fn init(_module: &'static kernel::ThisModule) -> kernel::error::Result<Self> {
        Ok(Self)
    }
}

/// Defines the parent `Case` with the ops that every parent has, and the given ones. Its op table
/// is generated, as for a device that is registered.
macro_rules! parent {
    ($(#[$attribute:meta])* impl $case:ident: $($ops:tt)*) => {
        $(#[$attribute])*
        impl VdpaConfigOps for $case {
            $($ops)*

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
                4
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
            fn get_config_size(&self) -> usize {
                0
            }
            fn get_config(&self, _offset: usize, _buf: &mut [u8]) {}
            fn set_config(&self, _offset: usize, _buf: &[u8]) {}
        }

        const _: () = {
            let _ = &OpTable::<$case>::VTABLE;
        };
    };
    ($($ops:tt)*) => {
        /// The parent.
        struct Case;

        parent!(#[vtable] impl Case: $($ops)*);
    };
}

#[allow(dead_code, reason = "each case uses its part")]
#[allow(unused_imports, reason = "each case uses its part")]
mod case {
    use kernel::prelude::*;
    use vdpa_parent::{
        iotlb::Iotlb,
        mgmtdev::{Management, ManagementDevice},
        op_table::OpTable,
        parent_device::{NewDevice, Registered, Shape},
        parent_ops::{
            Callback, IovaRange, Maps, Mm, Notification, Provision, Stats, VdpaConfigOps, VqState,
        },
    };

    include!(env!("CASE"));
}
