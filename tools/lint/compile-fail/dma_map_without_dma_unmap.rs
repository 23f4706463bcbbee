// SPDX-License-Identifier: GPL-2.0
// fails: dma_map and dma_unmap come together

parent! {
    const MAPS: Maps = Maps::Private;

    fn dma_map(&self, _asid: c_uint, _iova: u64, _size: u64, _pa: u64, _perm: u32) -> Result {
        Ok(())
    }
}
