// SPDX-License-Identifier: GPL-2.0
// fails: a parent has set_map or dma_map, not both

parent! {
    const MAPS: Maps = Maps::Private;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn dma_map(&self, _asid: c_uint, _iova: u64, _size: u64, _pa: u64, _perm: u32) -> Result {
        Ok(())
    }

    fn dma_unmap(&self, _asid: c_uint, _iova: u64, _size: u64) -> Result {
        Ok(())
    }
}
