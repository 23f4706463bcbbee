#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Differential fuzzing: the same sequences of calls on C's driver and on ours, in
# one VM of the stock kernel (see selftests/fuzz/fuzz.c).
#
#   tools/suites/fuzz/fuzz.sh [SECONDS]	fresh seeds for that long (default 300)
#   tools/suites/fuzz/fuzz.sh --corpus	the seeds in selftests/fuzz/corpus
#   tools/suites/fuzz/fuzz.sh --seed SEED PARENT [OPERATIONS]	one seed
#   tools/suites/fuzz/fuzz.sh --threads [SECONDS]	two threads on one file, on our driver alone:
#		nothing is compared (VM_KERNEL=debug has KASAN and lockdep look on)
#
# PARENT is set_map or dma_map, either with ,use_va; or vduse. The device goes and comes back now and
# then, and the daemon of vduse dies, on ours with the file open (in the corpus only with ,gone). SEED (from the clock),
# SEEDS (50) a round, OPS (300) a seed and PARENTS (all five) choose what fresh
# seeds are run; KEEP=1 keeps the last round's logs, KO=DIR (as the VM sees it) takes
# our module from there, PREPARED=1 builds nothing but the fuzzer.
. "$(dirname "$0")/../../lib.sh"

name=fuzz limit=600 vars=(-e SEED="${SEED:-$(date +%s)000}")
[ -z "${KEEP:-}" ] || vars+=(-e KEEP=1)
[ -z "${PARENTS:-}" ] || vars+=(-e PARENTS="$PARENTS")
[ -z "${KO:-}" ] || vars+=(-e KO_DIR="$KO")
case ${1:-} in
--corpus)
	name=fuzz-corpus
	vars+=(-e CORPUS=/src/selftests/fuzz/corpus) ;;
--seed)
	[ $# -ge 3 ] || die "usage: tools/suites/fuzz/fuzz.sh --seed SEED PARENT [OPERATIONS]"
	vars+=(-e SEED="$2" -e PARENTS="$3" -e OPS="${4:-300}" -e SEEDS=1 -e SECONDS_MAX=0) ;;
--threads)
	name=fuzz-threads
	limit=$((${2:-60} * 4))
	vars+=(-e THREADS="${2:-60}") ;;
*)
	limit=${1:-300}
	vars+=(-e SECONDS_MAX="$limit" -e SEEDS="${SEEDS:-50}" -e OPS="${OPS:-300}") ;;
esac

if [ -z "${PREPARED:-}" ]; then
	prepare
	"$PROJECT/tools/build/build.sh"
	prepare csim
fi
mkdir -p "$CACHE/fuzz"
step "building the fuzzer" in_root gcc -O2 -Wall -static -pthread -o /cache/fuzz/fuzz /src/selftests/fuzz/fuzz.c
step "building the daemon" in_root sh -c '
	gcc -O2 -Wall -D_GNU_SOURCE= -I /src/selftests/lib/include -isystem /cache/tree/tools/testing/selftests \
		-static -o /cache/fuzz/vdused /src/selftests/fuzz/vdused.c /src/selftests/lib/*.c'
out=$CACHE/fuzz/last-$name
set +e
"$PROJECT/tools/vm.sh" -n $name -t $((limit + 900)) "${vars[@]}" "$PROJECT/tools/suites/fuzz/fuzz-vm.sh" |
	tee "$out" | grep --line-buffered -Ev '^(COUNT|RULE|FIRST|LAST) '
rc=${PIPESTATUS[0]}
set -e
if [ "$name" = fuzz-threads ]; then
	[ "$rc" -eq 0 ] || die "two threads did not survive (exit $rc); the output is $out"
	exit
fi
awk '
	/^FIRST/ { first = $2 }
	/^LAST/ { last = $2 }
	/^COUNT/ { for (i = 2; i <= NF; i++) { split($i, kv, "="); n[kv[1]] += kv[2] } }
	/^RULE/ { k = $2; sub(/^RULE [0-9]+ /, ""); rule[$0] += k }
	END {
		printf "%d operations, %d reads of state and %d closed files compared in %d seeds",
			n["ops"], n["samples"], n["ends"], n["seeds"]
		if (first != "") printf " (%s to %s)", first, last
		printf "\n%d seeds diverged without an explanation, %d were not compared\n",
			n["diverged"], n["skipped"]
		for (r in rule) printf "      %d by intent: %s\n", rule[r], r
		exit n["ops"] == 0
	}' "$out" || rc=1
[ "$rc" -eq 0 ] || die "fuzzing failed (exit $rc); the output is $out, the logs are in $CACHE/runs/$name"
