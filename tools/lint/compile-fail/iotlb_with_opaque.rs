// SPDX-License-Identifier: GPL-2.0
// fails: call to unsafe function

// Parents that use virtual addresses dereference the pointer.
fn add(iotlb: &mut vdpa_parent::iotlb::OwnedIotlb, opaque: *mut c_void) -> Result {
    iotlb.add_with_opaque(0, 4095, 0, 1, opaque)
}
