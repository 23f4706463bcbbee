# SPDX-License-Identifier: GPL-2.0
# Load the driver and a simulator NIC, show what there is, and unload both.
load_driver
load_sim_net
lsmod | grep -E 'vdpa|vhost'
vdpa dev add name smoke0 mgmtdev "$(sim_net_mgmtdev)"
node=$(vhost_node smoke0) || vm_die "no character device"
ls -l "$node"
cat "/sys/kernel/debug/rust_vhost_vdpa/${node##*/}/state"
exec 3<>"$node"
cat "/sys/kernel/debug/rust_vhost_vdpa/${node##*/}/state"
exec 3>&-
vdpa dev del smoke0
rmmod "$(sim_net_module)"
unload_driver
lsmod | grep -E 'vdpa|vhost'
exit 0
