// SPDX-License-Identifier: GPL-2.0
// fails: not all trait items implemented, missing: `USE_VTABLE_ATTR`

/// The parent, whose optional ops nobody would find.
struct Case;

parent! {
    impl Case:
    const MAPS: Maps = Maps::Platform;
}
