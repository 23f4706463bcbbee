// SPDX-License-Identifier: GPL-2.0
// fails: cannot borrow data in dereference of `OwnedIotlb` as mutable

// Two of these could be swapped; list and tree of each would then point into the other.
fn contents(iotlb: &mut vdpa_parent::iotlb::OwnedIotlb) -> &mut Iotlb {
    &mut **iotlb
}
