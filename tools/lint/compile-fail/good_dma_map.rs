// SPDX-License-Identifier: GPL-2.0
// builds

parent! {
    const MAPS: Maps = Maps::Legacy;

    fn dma_map(&self, _asid: c_uint, _iova: u64, _size: u64, _pa: u64, _perm: u32) -> Result {
        Ok(())
    }

    fn dma_unmap(&self, _asid: c_uint, _iova: u64, _size: u64) -> Result {
        Ok(())
    }

    fn reset_map(&self, _asid: c_uint) -> Result {
        Ok(())
    }

    fn compat_reset(&self, _flags: u32) -> Result {
        Ok(())
    }
}
