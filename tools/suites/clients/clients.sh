#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make clients: real clients of the driver, end to end in the VM: QEMU in every way that
# it has (with shadow virtqueues and live migration, too), libblkio and the vdpa tool.
#
#   tools/suites/clients/clients.sh [SCENARIO...]	(default: all that clients-vm.sh names)
#
# VM_KERNEL=debug runs them on the debug kernel, USE_VA=1 with simulators that want user
# virtual addresses, NESTED=tcg emulates guests that would run under KVM in the VM. The last line is
# "N passed, N failed, N skipped", and the exit status says whether all was well.
. "$(dirname "$0")/../../lib.sh"
. "$PROJECT/tools/vm/nested.sh"
need_root

began=$SECONDS
if [ "${VM_KERNEL:-stock}" = debug ]; then
	prepare debug
	step "modules for the debug kernel" "$PROJECT/tools/build/build.sh" debug
	timeout=7200
else
	prepare csim
	step "modules for $(kernel_release)" "$PROJECT/tools/build/build.sh" modules
	step "private structures: layouts against the kernel's BTF" "$PROJECT/tools/build/check-layout.sh" --cached
	timeout=3000
fi
nested_initramfs
say "# booting the VM (about a minute under emulation)"

log=$CACHE/logs/${RUN:-clients}-vm.log
mkdir -p "$CACHE/logs"
rc=0
nested_vm -n "${RUN:-clients}" -t "${CLIENTS_TIMEOUT:-$timeout}" -m "${VM_MEM:-4G}" \
	${USE_VA:+-e "USE_VA=$USE_VA"} tools/suites/clients/clients-vm.sh "$@" 2>&1 | tee "$log" | sed -u '/^1\.\.[0-9]/d; /^[0-9]* passed, /d' || rc=$?

set +e
passed=0 failed=0 skipped=0
while read -r line; do
	case $line in
	'not ok'*) failed=$((failed + 1)) ;;
	'ok'*'# SKIP'*) skipped=$((skipped + 1)) ;;
	'ok'*) passed=$((passed + 1)) ;;
	esac
done <"$log"
# last NAME: a verdict that only the end of the run allows; its status is the last command's.
last() {
	local good=$?
	if [ $good -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); printf 'not '; fi
	printf 'ok %d - %s\n' $((passed + failed + skipped)) "$1"
}
grep -qE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log"
last "all scenarios ran to the end"
[ "$rc" -eq 0 ] || { [ "$rc" -eq 1 ] && [ "$failed" -gt 0 ]; }
last "dmesg of the VM is clean"
printf '1..%d\n# %d s\n' $((passed + failed + skipped)) $((SECONDS - began))
printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
