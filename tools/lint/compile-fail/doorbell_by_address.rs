// SPDX-License-Identifier: GPL-2.0
// fails: expected `Notification`, found integer

// Only a parent says where a doorbell is: any other page frame would be userspace's to write.
fn fault(fault: &vdpa_bus_driver::doorbell::Fault) -> vdpa_bus_driver::doorbell::FaultResult {
    fault.insert_device(0x1000)
}
