# SPDX-License-Identifier: GPL-2.0
# In the VM: bind the disk and the NICs to vp_vdpa and run the selftests on them.
# Run by tools/suites/vp-vdpa/vp-vdpa.sh, whose QEMU options give the devices their places.

blk=0000:00:10.0 nets=(0000:00:11.0 0000:00:12.0)
# PLATFORM_IOMMU is for tests that C and the IOMMU's driver answer with a warning.
export PLATFORM_IOMMU=1 VP_VDPA_KO=${C_SIM_DIR:-/cache/csim}/vp_vdpa.ko
[ "${VM_KERNEL:-stock}" != debug ] || VP_VDPA_KO=$(modinfo -F filename vp_vdpa)

[ -n "$(ls /sys/class/iommu 2>/dev/null)" ] || vm_die "the kernel sees no IOMMU"
load_driver
insmod_file "$VP_VDPA_KO" || vm_die "vp_vdpa does not load"
insmod_file "$TEST_MODULES/irqbypass_test.ko" || vm_die "the irq bypass consumer does not load"

# Tests may take vp_vdpa away and bring it back: the override makes it find its device.
for d in $blk "${nets[@]}"; do
	echo vp-vdpa >/sys/bus/pci/devices/$d/driver_override
	[ ! -e /sys/bus/pci/devices/$d/driver ] || echo $d >/sys/bus/pci/devices/$d/driver/unbind
	echo $d >/sys/bus/pci/drivers_probe
	vdpa mgmtdev show pci/$d >/dev/null || vm_die "$d is no management device"
done
vdpa mgmtdev show | sed 's/^/# /'

fail=0 pass=0 skip=0
suite() { # suite NAME TEST...: run.sh on VHOST_VDPA_DEV
	echo "# ---- $1 ($VHOST_VDPA_DEV)"
	shift
	bash /src/selftests/run.sh "$@" | tee $WORK/suite
	local rc=${PIPESTATUS[0]} p f s
	# 4: everything was skipped.
	[ $rc -eq 0 ] || [ $rc -eq 4 ] || [ $rc -eq 1 ] || fail=$((fail + 1))
	read -r p f s < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' $WORK/suite)
	pass=$((pass + ${p:-0})) fail=$((fail + ${f:-1})) skip=$((skip + ${s:-0}))
}
shared='' own=''
for t in $TESTS; do
	case $t in vp_vdpa) own="$own $t" ;; matrix) ;; *) shared="$shared $t" ;; esac
done

# What every parent has to bear, on a disk and on a NIC.
if [ -n "$shared" ]; then
	for d in $blk ${nets[0]}; do
		vdpa dev add name vp0 mgmtdev pci/$d || vm_die "vdpa dev add on $d"
		VHOST_VDPA_DEV=$(vhost_node vp0) || vm_die "vp0 has no character device"
		export VHOST_VDPA_DEV MGMTDEV=pci/$d
		suite "$d" $shared
		vdpa dev del vp0 || vm_die "vdpa dev del"
	done
fi

# What only this parent has; these tests make their devices themselves.
if [ -n "$own" ]; then
	export VP_BLK=$blk VP_NETS="${nets[*]}" VHOST_VDPA_DEV=/dev/vhost-vdpa-0 MGMTDEV=pci/$blk
	suite 'vp_vdpa itself' $own
fi

# Reset and persistence, on the disk.
if [[ " $TESTS " == *' matrix '* ]]; then
	VP_BLK=$blk bash -c '. /src/tools/vm/guest.sh; . /src/tools/suites/matrix/matrix-vm.sh vp_vdpa' | tee $WORK/suite
	read -r p f s < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' $WORK/suite)
	pass=$((pass + ${p:-0})) fail=$((fail + ${f:-1})) skip=$((skip + ${s:-0}))
fi

echo "# $MODULES: $pass passed, $fail failed, $skip skipped"
rmmod irqbypass_test && rmmod vp_vdpa && unload_driver || { echo 'not ok - the modules unload'; fail=1; }
[ $fail -eq 0 ] && [ $pass -gt 0 ]
exit
