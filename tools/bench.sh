#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make bench: C's driver and ours side by side in one VM of the stock kernel.
# ROUNDS (5) and CASES (see tools/bench/mapbench.c) choose what is run.
. "$(dirname "$0")/lib.sh"

"$PROJECT/tools/setup.sh"
"$PROJECT/tools/build.sh"
"$PROJECT/tools/setup.sh" csim
mkdir -p "$CACHE/bench"
step "building the benchmark" in_root gcc-14 -O2 -Wall -o /cache/bench/mapbench /src/tools/bench/mapbench.c
say "Rounds appear as they end; each takes about a minute under emulation."
out=$CACHE/bench/last
set +e
"$PROJECT/tools/vm.sh" -n bench -t 5400 -m 6G -e ROUNDS="${ROUNDS:-5}" ${CASES:+-e CASES="$CASES"} \
	"$PROJECT/tools/vm/bench.sh" | tee "$out" | grep --line-buffered '^# round'
rc=${PIPESTATUS[0]}
set -e
[ "$rc" -eq 0 ] || die "the benchmark failed (exit $rc); its output is $out"
"$PROJECT/tools/bench.py" "$out"
