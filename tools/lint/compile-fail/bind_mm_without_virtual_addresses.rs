// SPDX-License-Identifier: GPL-2.0
// fails: bind_mm is for parents that use virtual addresses

parent! {
    const MAPS: Maps = Maps::Private;

    fn set_map(&self, _asid: c_uint, _iotlb: &Iotlb) -> Result {
        Ok(())
    }

    fn bind_mm(&self, _mm: &Mm) -> Result {
        Ok(())
    }

    fn unbind_mm(&self) {}
}
