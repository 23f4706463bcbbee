// SPDX-License-Identifier: GPL-2.0
// fails: persistent maps need reset_map and no compat_reset

parent! {
    const MAPS: Maps = Maps::Persistent;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }
}
