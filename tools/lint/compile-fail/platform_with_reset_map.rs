// SPDX-License-Identifier: GPL-2.0
// fails: with a platform IOMMU no op concerns maps

parent! {
    const MAPS: Maps = Maps::Platform;

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }
}
