// SPDX-License-Identifier: GPL-2.0
// fails: compat_reset needs reset_map

parent! {
    const MAPS: Maps = Maps::Private;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn compat_reset(&self, _flags: u32) -> Result {
        Ok(())
    }
}
