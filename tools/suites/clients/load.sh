# SPDX-License-Identifier: GPL-2.0
# Sourced in the VM by what has clients: clients-vm.sh, clients-short-vm.sh and kvm-guests-vm.sh.

# load_parents: the driver, and every simulator that was built. By default simulators want
# virtual addresses, and nothing is pinned: USE_VA=1 lets them.
load_parents() {
	load_driver || vm_die "the driver does not load: $(dmesg | tail -n 2)"
	local ko
	for ko in rust_vdpa_sim_net rust_vdpa_sim_blk; do
		[ ! -e "$KO_DIR/$ko.ko" ] || insmod_file "$KO_DIR/$ko.ko" use_va="${USE_VA:-0}" || vm_die "$ko does not load"
	done
	if [ "${VM_KERNEL:-stock}" = debug ]; then
		modprobe vdpa_sim use_va="${USE_VA:-0}" && modprobe -a vdpa_sim_net vdpa_sim_blk
	elif [ -e "${C_SIM_DIR:=/cache/csim}/vdpa_sim.ko" ]; then
		insmod_file "$C_SIM_DIR/vdpa_sim.ko" use_va="${USE_VA:-0}" && insmod_file "$C_SIM_DIR/vdpa_sim_net.ko" &&
			insmod_file "$C_SIM_DIR/vdpa_sim_blk.ko"
	fi || vm_die "C's simulators do not load"
}

# unload_parents: all of them again, and the driver; nothing may hold on to any.
unload_parents() {
	local m rc=0
	for m in rust_vdpa_sim_blk rust_vdpa_sim_net vdpa_sim_blk vdpa_sim_net vdpa_sim "$(driver_module)"; do
		[ ! -d "/sys/module/$m" ] || rmmod "$m" || rc=1
	done
	return $rc
}
