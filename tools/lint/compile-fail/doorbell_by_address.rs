// SPDX-License-Identifier: GPL-2.0
// fails: expected `Notification`, found integer

// Only a parent knows where a doorbell is: userspace could write to any other page frame.
fn fault(fault: &vdpa_bus_driver::doorbell::Fault) -> vdpa_bus_driver::doorbell::FaultResult {
    fault.insert_device(0x1000)
}
