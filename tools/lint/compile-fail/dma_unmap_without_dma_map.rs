// SPDX-License-Identifier: GPL-2.0
// fails: dma_map and dma_unmap come together

parent! {
    const MAPS: Maps = Maps::Private;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn dma_unmap(&self, _asid: c_uint, _iova: u64, _size: u64) -> Result {
        Ok(())
    }
}
