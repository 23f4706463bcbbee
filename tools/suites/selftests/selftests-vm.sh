# SPDX-License-Identifier: GPL-2.0
# The part of `make check` that needs a kernel: TAP lines on standard output.
# Run by tools/check.sh in the VM.

report() { # report STATUS NAME
	if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; fi
}

# --- while C's driver holds the name on the bus, ours says what to do about it
if [ "$MODULES" = rust ]; then
	same_kernel
	modprobe irqbypass
	modprobe vhost_vdpa
	dmesg -C
	error=$(insmod_file "$KO_DIR/rust_vhost_vdpa.ko" 2>&1)
	rc=$?
	said=$(dmesg | grep -i 'vhost_vdpa' | grep -iE 'unload|rmmod|modprobe -r')
	[ $rc -ne 0 ] && [[ $error == *'Device or resource busy'* ]]
	report $? "load is refused with EBUSY while C's vhost_vdpa is loaded"
	[ -n "$said" ]
	report $? "the refusal's log line says what to unload"
	echo "# ${said:-nothing said} / ${error:-no error}"
	rmmod vhost_vdpa
fi

# --- load, use, unload
load_driver && load_sim_net
report $? "modules load"
vdpa dev add name check0 mgmtdev "$(sim_net_mgmtdev)" && node=$(vhost_node check0)
report $? "a simulator device gets its /dev/vhost-vdpa-N"
if [ -n "${node:-}" ]; then
	drv=$(readlink /sys/bus/vdpa/devices/check0/driver)
	[ "${drv##*/}" = vhost_vdpa ]
	report $? "the driver's name on the bus is vhost_vdpa"
	exec 7<>"$node"
	! unload_driver 2>/dev/null
	report $? "the module cannot be unloaded while its device is open"
	exec 7>&-
	vdpa dev del check0
	report $? "the device is deleted once it is closed"
fi
unload_driver && rmmod "$(sim_net_module)"
report $? "modules unload"
! lsmod | grep -qE "^($(driver_module)|$(sim_net_module)) "
report $? "nothing of ours is left in lsmod"

# --- the selftests
if [ -e /src/selftests/run.sh ]; then
	load_driver && load_sim_net || report 1 "modules load a second time"
	bash -c '. /src/tools/vm/guest.sh; . /src/selftests/run.sh' selftests
	echo "# selftests ended with $?"
	if [ "$MODULES" = rust ] && [ -e "${C_SIM_DIR:-/cache/csim}/vdpa_sim_net.ko" ]; then
		insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0 &&
			insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_net.ko"
		MGMTDEV=vdpasim_net MGMTDEV_B=rust_vdpasim_net TEST_ARGS="-V packed -f migration" \
			bash -c '. /src/tools/vm/guest.sh; shift; . /src/selftests/run.sh "$@"' selftests x migration
		rmmod vdpa_sim_net vdpa_sim
		report $? "C's simulator, from which a guest moved to ours, unloads"
	fi
	unload_driver && rmmod "$(sim_net_module)"
	report $? "modules unload after the selftests"
fi
echo "# the end of the checks"
exit 0
