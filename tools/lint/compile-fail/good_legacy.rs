// SPDX-License-Identifier: GPL-2.0
// builds

parent! {
    const MAPS: Maps = Maps::Legacy;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }

    fn compat_reset(&self, _flags: u32) -> Result {
        Ok(())
    }
}
