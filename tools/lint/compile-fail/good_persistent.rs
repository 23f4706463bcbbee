// SPDX-License-Identifier: GPL-2.0
// builds

parent! {
    const MAPS: Maps = Maps::Persistent;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }
}
