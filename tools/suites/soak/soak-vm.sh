# SPDX-License-Identifier: GPL-2.0
# In the VM, run by tools/suites/soak/soak.sh: the parts that are asked for, one after the other.

# What the kernel complains of is on the console, should the VM not live to tell.
dmesg -n 4
load_driver || vm_die "the driver does not load"
load_sim_net || vm_die "the simulator does not load"
insmod_file "/cache/test-modules-$VM_KERNEL/vdpa_test_parent.ko" || vm_die "no test parent"
SOAK_PARENTS="$(sim_net_mgmtdev) vdpa_test"
export DRIVER=$MODULES SOAK_PARENTS
failed=0

part() { # part NAME COMMAND...
	local began=$SECONDS rc=0 name=$1
	shift
	"$@" || rc=$?
	echo "# $name: $((SECONDS - began)) s, status $rc"
	[ $rc -eq 0 ] || failed=1
}

# A module that goes away from under an open file; the file's calls fail from there on.
unload_while_open() {
	local i sim
	sim=$(sim_net_module)
	for ((i = 1; i <= UNLOADS; i++)); do
		vdpa dev add name gone0 mgmtdev "$(sim_net_mgmtdev)" || return 1
		exec 9<>"$(vhost_node gone0)" || return 1
		timeout 60 rmmod "$sim" || { echo "not ok - rmmod number $i"; return 1; }
		! true >&9 || true
		exec 9>&-
		load_sim_net || return 1
	done
	echo "ok - $UNLOADS times unloaded while a file was open"
}

for p; do
	case $p in
	removal)
		rmmod virtio_vdpa 2>/dev/null
		modprobe virtio_vdpa
		SOAK_ROUNDS=$ROUNDS SOAK_REBINDS=$REBINDS part removal /cache/selftests/soak $TEST_ARGS
		rmmod virtio_vdpa ;;
	rmmod)	part rmmod unload_while_open ;;
	parent)	part parent /cache/selftests/parent ;;
	calls)
		for t in ${CALLS:-an_interrupt its_trigger a_worker}; do
			SOAK_SECONDS=$CALL_SECONDS part "calls under $t" /cache/selftests/parent \
				-r "parent.set_map.call_swapped_under_$t"
		done ;;
	faults)	part faults /cache/selftests/faults $TEST_ARGS ;;
	*)	vm_die "soak: no part $p" ;;
	esac
done
part unload rmmod vdpa_test_parent "$(sim_net_module)" "$(driver_module)"
[ $failed -eq 0 ]
exit
