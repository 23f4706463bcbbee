// SPDX-License-Identifier: GPL-2.0
// fails: private maps have no reset_map

parent! {
    const MAPS: Maps = Maps::Private;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }
}
