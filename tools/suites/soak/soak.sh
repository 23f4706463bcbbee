#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make soak: what takes too long for `make check`, on the debug kernel: KASAN, lockdep
# and the checks of sleeping in atomic context look on, and a splat fails the run.
#
#   tools/suites/soak/soak.sh [PART...]	parent, removal, rmmod, calls, faults, endings (default: all of them)
#
# parent: the selftests on vdpa_test_parent
# removal: ROUNDS (1000) devices are deleted, REBINDS (100) unbound and as many given to
#	virtio_vdpa and back, each under a running load
# rmmod: the parent's module goes, UNLOADS (20) times, while a file is open
# calls: eventfds are swapped for CALL_SECONDS (60) each while a parent signals them from
#	an interrupt, through its trigger, and from a worker (CALLS chooses among an_interrupt,
#	its_trigger and a_worker)
# faults: every call with each of its allocations and user copies failing
# endings: every operation against every ending, in a VM of its own (tools/suites/endings/endings.sh), with
#	kmemleak where the kernel has it
#
# VM_KERNEL=stock runs them on the distribution's kernel (which injects no faults),
# MODULES=c with the C driver, on which removal waits for ever.
. "$(dirname "$0")/../../lib.sh"

export VM_KERNEL=${VM_KERNEL:-debug}
prepare_tests soak parent faults endings
[ $# -gt 0 ] || set -- parent removal rmmod calls faults endings
parts=() endings=
for part; do
	if [ "$part" = endings ]; then endings=1; else parts+=("$part"); fi
done
rc=0
[ -z "$endings" ] || PREPARED=1 RUN="${RUN:-soak}-endings" "$PROJECT/tools/suites/endings/endings.sh" || rc=$?
[ ${#parts[@]} -gt 0 ] || exit $rc
"$PROJECT/tools/vm.sh" -n "${RUN:-soak}" -t "${VM_TIMEOUT:-7200}" \
	-e "ROUNDS=${ROUNDS:-1000}" -e "REBINDS=${REBINDS:-100}" -e "UNLOADS=${UNLOADS:-20}" \
	-e "CALL_SECONDS=${CALL_SECONDS:-60}" ${CALLS:+-e "CALLS=$CALLS"} \
	-e "TEST_ARGS=${TEST_ARGS:-}" tools/suites/soak/soak-vm.sh "${parts[@]}" || rc=$?
exit $rc
