#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make check: everything that is checked, one TAP line each. The last line is
# "N passed, N failed, N skipped", and the exit status says whether all was well.
#
#   CHECK="static selftests ..."	only these suites (all: see "order" below)
#   CHECK_MINUTES=N	suites that have not begun N minutes after the start are skipped, and counted so
. "$(dirname "$0")/lib.sh"
set +e
cd "$PROJECT" || exit 1

passed=0 failed=0 skipped=0 n=0 began=$SECONDS

count() { # count ok|'not ok' NAME [SKIP REASON]
	n=$((n + 1))
	if [ -n "${3:-}" ]; then
		skipped=$((skipped + 1))
		printf 'ok %d - %s # SKIP %s\n' $n "$2" "$3"
	elif [ "$1" = ok ]; then
		passed=$((passed + 1))
		printf 'ok %d - %s\n' $n "$2"
	else
		failed=$((failed + 1))
		printf 'not ok %d - %s\n' $n "$2"
	fi
}

# try NAME COMMAND...: passes if the command succeeds; else its last words are shown.
try() {
	local name=$1 log=$CACHE/logs/check.log
	shift
	mkdir -p "$CACHE/logs"
	if "$@" >"$log" 2>&1 </dev/null; then
		count ok "$name"
	else
		count 'not ok' "$name"
		tail -n 30 "$log" | sed 's/^/# /'
		return 1
	fi
}

finish() {
	printf '# %d s\n' $((SECONDS - began))
	printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
	exit
}

# end_all PID...: end processes and what they started. The VMs are in process
# namespaces that end with them. A process is stopped while its children are looked up: a
# worker whose suite ends would begin the next one.
end_all() {
	local pid children=()
	for pid; do
		kill -STOP "$pid" 2>/dev/null
		mapfile -t children < <(pgrep -P "$pid")
		kill "$pid" 2>/dev/null
		kill -CONT "$pid" 2>/dev/null
		end_all "${children[@]}"
	done
}
lanes=()
trap 'end_all "${lanes[@]}"; echo "# interrupted"; failed=$((failed + 1)); finish' INT TERM

if ! prepare csim; then
	count 'not ok' "the root and the stock tree can be prepared"
	finish
fi

# --- what the suites need
built=1
try "modules build for $(kernel_release)" tools/build/build.sh modules || built=
try "structure layouts agree with the kernel's BTF" tools/build/check-layout.sh --cached || built=
try "selftests build" tools/build/build.sh selftests || built=
try "test modules build" tools/build/build.sh test-modules || built=
if [ -z "$built" ]; then
	count ok "the suites" "there is nothing to run"
	finish
fi

# --- the suites: two at a time, whoever is free takes the next. Those that take longest come first,
# but what needs the debug kernel, or set-up for another one, only when the first has had time to make it.
# Kernels beside the default one, by name.
mapfile -t others < <(kernel_names check=some | grep -vxF "$KERNEL")
order=(debug selftests disks simulators matrix kvm-guests fuzz "${others[@]/#/kernel-}" static
	vp_vdpa-debug libblkio links clients mlx5 vp_vdpa sample compile-fail hostile)

vm() { # vm SECONDS SCRIPT [ARG...]: a VM named after the script
	local limit=$1
	shift
	tools/vm.sh -n "check-$(basename "${1%-vm.sh}" .sh)" -t "$limit" "$@"
}

# small_vm SECONDS SCRIPT [ARG...]: the same with one CPU. Two take half as much of the machine's time
# again, which only suites with several queues, or with threads beside each other, are worth.
small_vm() { VM_CPUS=1 vm "$@"; }

# The debug kernel is made by the first suite that needs it, while others run on the stock one.
debug_built() {
	local rc=0
	exec 7>"$CACHE/logs/check-debug.lock"
	flock 7
	if [ ! -e "$CACHE/logs/check-debug.built" ]; then
		tap "the debug kernel can be prepared" prepare debug &&
			tap "modules build for the debug kernel" tools/build/build.sh debug &&
			tap "test modules build for the debug kernel" tools/build/build.sh debug-test-modules
		rc=$?
		tap "a kernel tree can read Kconfig" tools/in-root.sh /src/tools/lint/check-kconfig.sh /cache/debug || rc=1
		echo $rc >"$CACHE/logs/check-debug.built"
	fi
	exec 7>&-
	return "$(cat "$CACHE/logs/check-debug.built")"
}

fuzz_corpus() {
	PREPARED=1 tools/suites/fuzz/fuzz.sh --corpus
	local rc=$?
	[ $rc -eq 0 ] || printf 'not '
	echo "ok - every seed of the corpus does the same on C's driver and on ours"
	return $rc
}

run_suite() { # run_suite NAME: prints TAP
	case $1 in
	static) tools/lint/check-static.sh ;;
	compile-fail) tools/lint/compile-fail.sh ;;
	selftests) VM_SPARE_CPU=1 tools/vm.sh -n check -t 3000 tools/suites/selftests/selftests-vm.sh ;;
	fuzz) fuzz_corpus ;;
	clients) small_vm 1800 tools/suites/clients/clients-short-vm.sh ;;
	libblkio) small_vm 1800 tools/suites/clients/vduse-blkio-vm.sh ;;
	simulators) small_vm 1800 tools/suites/sim-net/sim-net-vm.sh ;;
	disks) vm 2400 tools/suites/sim-blk/sim-blk-vm.sh management disks sizes requests ;;
	links) vm 1800 tools/suites/sim-net/sim-net-ctrl-vm.sh ;;
	hostile) small_vm 1200 tools/suites/sim-net/sim-net-hostile-vm.sh ;;
	debug) debug_built && VM_KERNEL=debug VM_SPARE_CPU=1 tools/vm.sh -n check-debug -t 3600 tools/suites/selftests/selftests-debug-vm.sh ;;
	vp_vdpa-debug) debug_built && VM_KERNEL=debug RUN=check-vp-vdpa-debug VM_TIMEOUT=3000 \
		KO_DIR=/cache/debug-build TESTS=vp_vdpa tools/suites/vp-vdpa/vp-vdpa.sh rust ;;
	vp_vdpa) RUN=check-vp-vdpa VM_TIMEOUT=1800 tools/suites/vp-vdpa/vp-vdpa.sh rust ;;
	matrix) small_vm 2400 tools/suites/matrix/matrix-vm.sh ;;
	kvm-guests) RUN=check-kvm-guests VM_TIMEOUT=2400 tools/suites/kvm-guests/kvm-guests.sh notify-rust life-rust doorbell gone ;;
	mlx5) vm 1800 tools/suites/mlx5-compat/mlx5-compat-vm.sh provision rust ;;
	sample) small_vm 1800 tools/suites/sample/sample-vm.sh ;;
	# What depends on the kernel; make kernels runs all of it.
	kernel-*) tools/suites/kernels/kernel-check.sh "${1#kernel-}" file device vring iotlb pin removal datapath parent interleavings ;;
	*) echo "not ok - no suite has this name"; return 1 ;;
	esac
}

suites=()
for name in "${order[@]}"; do
	[ -z "${CHECK:-}" ] || [[ " $CHECK " == *" $name "* ]] || continue
	suites+=("$name")
	rm -f "$CACHE/logs/check-$name".{log,status}
done
rm -f "$CACHE/logs/check-debug.built"
if [ ${#suites[@]} -eq 0 ]; then
	count 'not ok' "CHECK names a suite: ${order[*]}"
	finish
fi

# suite NAME: run it, its words to a log.
suite() {
	local name=$1 rc
	if [ -n "${CHECK_MINUTES:-}" ] && [ $((SECONDS - began)) -ge $((CHECK_MINUTES * 60)) ]; then
		echo "# $name: there is no time left for it"
		echo "ok - all of it # SKIP $CHECK_MINUTES minutes were over" >"$CACHE/logs/check-$name.log"
		echo late >"$CACHE/logs/check-$name.status"
		return 0
	fi
	echo "# $name: starts"
	local start=$SECONDS
	run_suite "$name" </dev/null >"$CACHE/logs/check-$name.log" 2>&1
	rc=$?
	echo $rc >"$CACHE/logs/check-$name.status"
	echo "# $name: ended with $rc, $((SECONDS - start)) s long, $((SECONDS - began)) s after the start"
}

# next_suite: take the first that nobody has taken.
queue=$CACHE/logs/check-queue
next_suite() {
	(
		flock 6
		head -n 1 "$queue"
		sed -i 1d "$queue"
	) 6>"$queue.lock"
}
printf '%s\n' "${suites[@]}" >"$queue"
worker() {
	local name
	while name=$(next_suite) && [ -n "$name" ]; do suite "$name"; done
}
echo "# ${#suites[@]} suites, two at a time; under emulation a VM boots in about half a minute, a debug one in one and a half"
worker &
lanes+=($!)
worker &
lanes+=($!)
wait "${lanes[@]}"
lanes=()
rm -f "$queue" "$queue.lock"

# The TAP lines of the suites are counted again: numbers inside are theirs.
for name in "${suites[@]}"; do
	log=$CACHE/logs/check-$name.log
	seen=0
	while IFS= read -r line; do
		case $line in
		ok*|'not ok'*) ;;
		'Bail out!'*) line="not ok - $line" ;;
		*) continue ;;
		esac
		seen=$((seen + 1))
		verdict=ok
		[[ $line != not* ]] || verdict='not ok'
		what=$(sed -E 's/^(not )?ok *[0-9]* *-? *//' <<<"$line")
		skip=''
		if [[ $what == *'# SKIP'* && $verdict == ok ]]; then
			skip=$(sed -E 's/.*# SKIP *//' <<<"$what")
			[ -n "$skip" ] || skip='no reason given'
			what=$(sed -E 's/ *# SKIP.*//' <<<"$what")
		fi
		count "$verdict" "$name: $what" "$skip"
	done < <(tr -d '\r' <"$log")
	ended=$(cat "$CACHE/logs/check-$name.status")
	[ "$ended" != late ] || continue
	try "$name: something was tested" test "$seen" -gt 0
	if ! try "$name: ran to its end, and dmesg is clean" test "$ended" = 0; then
		tail -n 15 "$log" | sed 's/^/# | /'
	fi
done
finish
