#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make bench: C's driver and ours side by side, in turn in one VM of the stock kernel
# (in a second one behind an emulated IOMMU for the platform's).
#
#   ROUNDS=5		how often each driver runs each case
#   PARENTS="set_map dma_map use_va platform"
#   CASES="..."		see tools/bench/mapbench.c; default: by parent
#   FULL=1		the largest sizes too (4 GiB); the VM then has 11 GB
#   COUNT=1		one CPU whose time is the instructions it executed, so that other work on
#			the machine does not matter; what memory and a second CPU cost is not in it
. "$(dirname "$0")/../lib.sh"

prepare
"$PROJECT/tools/build/build.sh"
prepare csim
mkdir -p "$CACHE/bench"
step "building the benchmarks" in_root sh -c '
	cd /src/tools/bench
	gcc -O2 -Wall -o /cache/bench/mapbench mapbench.c &&
	gcc -O2 -Wall -std=gnu11 -D_GNU_SOURCE= -static -I /src/selftests/lib/include \
		-isystem /cache/tree/tools/testing/selftests -o /cache/bench/kickbench kickbench.c /src/selftests/lib/*.c'
say "Rounds appear as they end; each takes some minutes under emulation."
out=$CACHE/bench/last
[ -z "${COUNT:-}" ] || count_instructions
: >"$out"

run() { # run PARENT...: one VM
	local mem=6G
	[ -z "${FULL:-}" ] || mem=11G
	"$PROJECT/tools/vm.sh" -n "bench-$1" -t 7200 -m $mem -e ROUNDS="${ROUNDS:-5}" -e PARENTS="$*" \
		-e FULL="${FULL:-}" ${CASES:+-e CASES="$CASES"} "$PROJECT/tools/bench/bench-vm.sh" |
		tee -a "$out" | grep --line-buffered '^# round'
	return "${PIPESTATUS[0]}"
}

rc=0 parents=()
for p in ${PARENTS:-set_map dma_map use_va platform}; do
	[ "$p" = platform ] || parents+=("$p")
done
[ ${#parents[@]} -eq 0 ] || run "${parents[@]}" || rc=$?
if [ "$rc" -eq 0 ] && [[ " ${PARENTS:-platform} " == *' platform '* ]]; then
	. "$PROJECT/tools/vm/iommu-machine.sh"
	image=$(mktemp /dev/shm/bench-XXXXXX.img)
	trap 'rm -f "$image"' EXIT
	truncate -s 1M "$image"
	iommu_machine "$image"
	run platform || rc=$?
fi
[ "$rc" -eq 0 ] || die "the benchmark failed (exit $rc); its output is $out"
"$PROJECT/tools/bench/bench.py" "$out"
