# SPDX-License-Identifier: GPL-2.0
# What only guests under KVM show of the driver: run by tools/suites/kvm-guests/kvm-guests.sh in the VM.
# Usage: tools/suites/kvm-guests/kvm-guests.sh [SCENARIO...]; see main() in tools/suites/kvm-guests/kvm.py.

. /src/tools/vm/nested-vm.sh
. /src/tools/suites/clients/load.sh
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
choose_nested
echo "# nested guests: $(nested_summary)"
load_parents
if [ "${VM_KERNEL:-stock}" = debug ]; then
	modprobe vp_vdpa
else
	insmod_file "${C_SIM_DIR:-/cache/csim}/vp_vdpa.ko"
fi || vm_die "vp_vdpa does not load"
ulimit -l unlimited # the driver charges what it pins to this limit
# Two guests at a time, each with 192 MiB.
echo 200 >/proc/sys/vm/nr_hugepages
[ "$(cat /proc/sys/vm/nr_hugepages)" -eq 200 ] || vm_die "not enough huge pages"
PYTHONPATH=/src/tools/suites/clients python3 -Bu /src/tools/suites/kvm-guests/kvm.py "$@"
exit
