#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Guests under KVM in the VM, on the simulators and, behind the emulated IOMMU, on vp_vdpa:
# eventfds between KVM and the driver, doorbells in the guest, removal, death and migration.
#
#   tools/suites/kvm-guests/kvm-guests.sh [SCENARIO...]	(default: all of kvm.py)
#
# STOPS (10), RESETS (2) and PLUGS (4) say how often a guest is stopped, reset, or given a NIC.
# One TAP stream; the modules were built before. MODULES=c is C's driver, VM_KERNEL=debug the debug kernel.
. "$(dirname "$0")/../../lib.sh"
. "$PROJECT/tools/vm/nested.sh"
need_root

if [ "${VM_KERNEL:-stock}" = debug ]; then prepare debug; else prepare csim; fi
nested_initramfs
. "$PROJECT/tools/vm/iommu-machine.sh"
image=$(mktemp /dev/shm/kvm-guests-XXXXXX.img)
trap 'rm -f "$image"' EXIT
truncate -s 8M "$image"
iommu_machine "$image"
rc=0
kvm_vm -n "${RUN:-kvm-guests}" -t "${VM_TIMEOUT:-1800}" -m 4G ${USE_VA:+-e "USE_VA=$USE_VA"} \
	${STOPS:+-e "STOPS=$STOPS"} ${RESETS:+-e "RESETS=$RESETS"} ${PLUGS:+-e "PLUGS=$PLUGS"} \
	tools/suites/kvm-guests/kvm-guests-vm.sh "$@" || rc=$?
# No KVM in the VM is no fault of the driver's.
if [ "$rc" -eq 75 ]; then
	echo 'ok - guests under KVM # SKIP KVM does not work in the VM'
	rc=0
fi
exit "$rc"
