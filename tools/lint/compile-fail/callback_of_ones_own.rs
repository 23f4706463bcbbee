// SPDX-License-Identifier: GPL-2.0
// fails: associated function `new` is private

// The owner of a slot could free it while a parent has it. Slots come with a device's `CallSlots`.
fn slot() {
    use vdpa_bus_driver::eventfd::{CallSlot, Source};
    let _ = CallSlot::new(Source::Config);
}
