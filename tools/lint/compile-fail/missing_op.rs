// SPDX-License-Identifier: GPL-2.0
// fails: `set_vq_num`, `kick_vq`, `set_vq_cb`

/// The parent.
struct Case;

#[vtable]
impl VdpaConfigOps for Case {
    const MAPS: Maps = Maps::Platform;
}
