#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make speed: C's simulators and ours side by side, in turn in one VM of the stock kernel:
# disks under virtio_vdpa and through libblkio, NICs under virtio_vdpa.
#
#   ROUNDS=5		how often each is measured
#   TIME=3		for how many seconds
#   PATHS="virtio_vdpa libblkio net"
#   CASES="..."		only these cases of disks; see tools/bench/sim-speed-vm.sh
#   COUNT=1		one CPU whose time is the instructions it executed, so that other work on
#			the machine does not matter; it takes longer
. "$(dirname "$0")/../lib.sh"

prepare csim
"$PROJECT/tools/build/build.sh"
[ -z "${COUNT:-}" ] || count_instructions
say "Measurements appear as they end; all of them take half an hour under emulation."
out=$CACHE/sim-speed.last
rc=0
"$PROJECT/tools/vm.sh" -n sim-speed -t 7200 -m 3G ${PATHS:+-e PATHS="$PATHS"} ${CASES:+-e CASES="$CASES"} \
	"$PROJECT/tools/bench/sim-speed-vm.sh" "${ROUNDS:-5}" "${TIME:-3}" | tee "$out" || rc=$?
[ "$rc" -eq 0 ] || die "the measurement failed (exit $rc); its output is $out"
"$PROJECT/tools/bench/sim-speed.py" "$out"
