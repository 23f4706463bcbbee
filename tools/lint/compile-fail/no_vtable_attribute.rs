// SPDX-License-Identifier: GPL-2.0
// fails: not all trait items implemented, missing: `USE_VTABLE_ATTR`

/// Parent whose optional ops would not be in the op table.
struct Case;

parent! {
    impl Case:
    const MAPS: Maps = Maps::Platform;
}
