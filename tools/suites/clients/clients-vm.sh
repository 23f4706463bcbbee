# SPDX-License-Identifier: GPL-2.0
# Real clients of the driver: run by tools/suites/clients/clients.sh in the VM, with the nested guest's
# initramfs and, for NESTED=tcg, its kernel in /cache.
# Usage: tools/vm.sh tools/suites/clients/clients-vm.sh [SCENARIO...]
# Scenarios: tool libblkio devices svq migration-c migration-rust, by default all.

. /src/tools/suites/clients/load.sh
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
. /src/tools/vm/nested-vm.sh
choose_nested
echo "# nested guests: $(nested_summary)"
load_parents
ulimit -l unlimited # the driver charges what it pins to this limit
# Two guests at a time, each with 192 MiB.
echo 200 >/proc/sys/vm/nr_hugepages
[ "$(cat /proc/sys/vm/nr_hugepages)" -eq 200 ] || vm_die "not enough huge pages"
python3 -Bu /src/tools/suites/clients/all.py "$@"
exit
