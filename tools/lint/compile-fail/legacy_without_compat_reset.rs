// SPDX-License-Identifier: GPL-2.0
// fails: maps that go with a reset need reset_map and compat_reset

parent! {
    const MAPS: Maps = Maps::Legacy;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }
}
