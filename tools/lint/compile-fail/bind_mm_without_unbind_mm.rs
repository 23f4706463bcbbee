// SPDX-License-Identifier: GPL-2.0
// fails: bind_mm and unbind_mm come together

parent! {
    const MAPS: Maps = Maps::Private;
    const USE_VA: bool = true;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn bind_mm(&self, _mm: &Mm) -> Result {
        Ok(())
    }
}
