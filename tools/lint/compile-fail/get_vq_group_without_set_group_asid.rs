// SPDX-License-Identifier: GPL-2.0
// fails: set_group_asid and get_vq_group come together

parent! {
    const MAPS: Maps = Maps::Private;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn get_vq_group(&self, _idx: u16) -> u32 {
        0
    }
}
