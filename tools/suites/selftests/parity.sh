#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make parity: the same selftests on C's driver and ours, on the same C simulator
# (set_map, with a small table), compared test by test. What is meant to be better
# is listed; any other difference fails.
. "$(dirname "$0")/../../lib.sh"

prepare csim
step "building the modules" "$PROJECT/tools/build/build.sh" modules
step "building the selftests" "$PROJECT/tools/build/build.sh" selftests
step "building the test modules" "$PROJECT/tools/build/build.sh" test-modules
mkdir -p "$CACHE/parity"
for driver in c rust; do
	step "selftests on the $driver driver (about 4 minutes)" env MODULES=$driver \
		"$PROJECT/tools/vm.sh" -n "parity-$driver" -t 2400 -e SIM=c -e ENTRIES=256 \
		"$PROJECT/selftests/run.sh"
	cp "$CACHE/runs/parity-$driver/output" "$CACHE/parity/$driver"
	tail -n 1 "$CACHE/parity/$driver" | sed "s/^/      $driver: /"
done
"$PROJECT/selftests/compare.sh" "$CACHE/parity/c" "$CACHE/parity/rust"
