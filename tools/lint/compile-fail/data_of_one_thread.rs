// SPDX-License-Identifier: GPL-2.0
// fails: cannot be shared between threads safely

/// Parent with data that only one thread may use.
struct Case(core::cell::Cell<u32>);

parent! {
    #[vtable]
    impl Case:
    const MAPS: Maps = Maps::Platform;
}
