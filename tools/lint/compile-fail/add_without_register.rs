// SPDX-License-Identifier: GPL-2.0
// fails: cannot initialize a tuple struct which contains private fields

parent! {
    const MAPS: Maps = Maps::Platform;
}

/// Management device that claims to have registered a device, and has not.
struct Makes;

#[vtable]
impl Management for Makes {
    type Device = Case;

    const NAME: &'static CStr = c"case";
    const DEVICE_ID: u32 = 4;
    const ATTRIBUTES: u64 = 0;
    const FEATURES: u64 = 0;
    const MAX_VQS: u32 = 1;

    fn dev_add(&self, _new: NewDevice<'_, Case>, _provision: &Provision) -> Result<Registered> {
        Ok(Registered(()))
    }
}
