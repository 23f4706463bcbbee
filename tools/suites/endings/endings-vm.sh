# SPDX-License-Identifier: GPL-2.0
# In the VM, run by tools/suites/endings/endings.sh: FLAVOUR...

# Sourced without arguments, as tools/vm.sh does, a script sees its caller's.
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
parent=/cache/test-modules-$VM_KERNEL/vdpa_test_parent.ko
nic=0000:00:11.0
dmesg -n 4
load_driver || vm_die "the driver does not load"
insmod_file "$parent" || vm_die "no test parent"
[ -n "$(ls /sys/class/iommu 2>/dev/null)" ] || vm_die "the kernel sees no IOMMU"
[ ! -e /sys/bus/pci/devices/$nic/driver ] || echo $nic >/sys/bus/pci/devices/$nic/driver/unbind
export DRIVER=$MODULES TEST_PARENT_KO=$parent TEST_PARENT_DMA=$nic
leaks=/sys/kernel/debug/kmemleak
[ ! -e $leaks ] || echo clear >$leaks
rc=0
/cache/selftests/endings "$@" || rc=$?
rmmod vdpa_test_parent
modprobe -r vduse 2>/dev/null
unload_driver && echo "ok - modules unload" || { echo "not ok - modules unload"; rc=1; }
if [ -e $leaks ]; then
	# It takes two scans to believe that an object is lost.
	echo scan >$leaks
	sleep 6
	echo scan >$leaks
	if [ -s $leaks ]; then
		echo "not ok - kmemleak finds nothing"
		head -n 60 $leaks | sed 's/^/# | /'
		rc=1
	else
		echo "ok - kmemleak finds nothing"
	fi
else
	echo "# this kernel has no kmemleak"
fi
exit $rc
