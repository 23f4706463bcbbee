// SPDX-License-Identifier: GPL-2.0
// fails: expected `&DoorbellMaps`, found `&Page`

use vdpa_bus_driver::doorbell::{Fault, FaultResult};

// The owner of a page could free it while userspace has it mapped.
fn fault(fault: &Fault, page: &kernel::page::Page) -> FaultResult {
    fault.insert_dummy(page)
}
