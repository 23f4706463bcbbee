#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make check: everything that is checked, one TAP line each. The last line is
# "N passed, N failed, N skipped", and the exit status says whether all was well.
#
#   CHECK="selftests debug ..."	only these suites in VMs (all: see "lane" below)
#   CHECK_MINUTES=N	suites in VMs that have not begun N minutes after the start are skipped, and
#			counted so
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
# namespaces that end with them.
end_all() {
	local pid
	for pid; do
		# shellcheck disable=SC2046
		end_all $(pgrep -P "$pid")
		kill "$pid" 2>/dev/null
	done
}
lanes=()
trap 'end_all "${lanes[@]}"; echo "# interrupted"; failed=$((failed + 1)); finish' INT TERM

# Files that were deleted and not yet committed are no longer ours.
sources() {
	project_files "$@" | while read -r f; do [ ! -f "$f" ] || printf '%s\n' "$f"; done
}

if ! prepare csim debug; then
	count 'not ok' "the root, the stock tree and the debug kernel can be prepared"
	finish
fi

# --- the source
mapfile -t all < <(sources)
mapfile -t rust < <(sources .rs)
mapfile -t shell < <(sources .sh .ci/run)
try "there is something to check" test ${#all[@]} -gt 50 -a ${#rust[@]} -gt 10 -a ${#shell[@]} -gt 5
try "shell scripts parse" bash -c 'for f; do bash -n "$f" || exit 1; done' sh "${shell[@]}"
try "every file says its licence" tools/in-root.sh sh -c 'cd /src && exec tools/check-source.py spdx "$@"' sh "${all[@]}"
try "no unsafe outside abstractions/, a SAFETY comment for each inside" \
	tools/in-root.sh sh -c 'cd /src && exec tools/check-source.py unsafe "$@"' sh "${rust[@]}"
try "rustfmt" tools/build.sh fmtcheck
try "rings hold against drivers, right and hostile ones" tools/ring-fuzz.sh 0
try "a model of the driver's state holds in every interleaving, and finds each mutant" tools/model.sh
named() { # named PREFIX LAST: a test for each fault of Documentation/testing.rst
	local n missing=0
	for n in $(seq -w 01 "$2"); do
		grep -rqE "^TEST.*[ (]$1_${n}_" selftests/*.c || { echo "no test $1_$n"; missing=1; }
		grep -q "^$1_$n " Documentation/testing.rst || { echo "$1_$n is not documented"; missing=1; }
	done
	return $missing
}
try "each fault that C's driver once had has a test named after it" named h04 25
try "each fault that it still has has one too" named h05 16

splats_found() { # splats_found TEXT: in a log that ends with it
	local log rc
	log=$(mktemp)
	printf '[ 1.0] WARNING: while booting\n[ 2.0] vm: the script starts\n%s\n' "$1" >"$log"
	tools/splats.sh "$log"
	rc=$?
	rm -f "$log"
	return $rc
}
try "a kernel warning in a log is found" splats_found '[ 3.0] WARNING: kernel/fork.c:1 at f+0x1/0x2, CPU#0: sh/1'
try "a lockdep report in a log is found" splats_found '[ 3.0] WARNING: possible circular locking dependency detected'
try "a hung task in a log is found" splats_found '[ 3.0] INFO: task sh:1 blocked for more than 120 seconds.'
no_splats() { ! splats_found "$1"; }
try "what comes before the script, and an ordinary line, are no splats" no_splats '[ 3.0] virtio_blk: 1 queue'

# --- how a kernel is chosen, on made-up package lists; that an interrupted run leaves nothing
for script in resolve guard; do
	printed=$("tools/$script-test.sh")
	ended=$?
	while IFS= read -r line; do
		case $line in
		'ok '*) count ok "${line#ok [0-9]* - }" ;;
		'not ok '*) count 'not ok' "${line#not ok [0-9]* - }" ;;
		'#'*) printf '%s\n' "$line" ;;
		esac
	done <<<"$printed"
	try "$script: the cases ran to their end" test "$ended" -eq 0
done

# --- KDIR: each unusable tree is refused, with the sentence that fits
refused() { # refused DIR PATTERN
	local out
	out=$(make --no-print-directory -C "$PROJECT" KDIR="$1" modules 2>&1) &&
		{ echo "not refused: $out"; return 1; }
	grep -qE "$2" <<<"$out" || { echo "other words than $2: $out"; return 1; }
}
kdir=$(mktemp -d)
try "KDIR that does not exist is refused" refused "$kdir/none" 'not a directory'
try "KDIR that is no kernel tree is refused" refused "$kdir" 'not a kernel build tree'
printf 'VERSION = 6\nPATCHLEVEL = 12\n' >"$kdir/Makefile"
try "KDIR of another series is refused" refused "$kdir" 'Linux 6\.12, and these modules are written for'
for series in $(supported_series); do
	printf 'VERSION = %s\nPATCHLEVEL = %s\n' ${series/./ } >"$kdir/Makefile"
	try "KDIR of Linux $series is refused only for what it lacks" refused "$kdir" 'not configured'
done
echo '# CONFIG_RUST is not set' >"$kdir/.config"
try "KDIR without Rust is refused" refused "$kdir" 'without Rust'
echo 'CONFIG_RUST=y' >"$kdir/.config"
try "KDIR without vDPA is refused" refused "$kdir" 'without CONFIG_VDPA'
printf 'CONFIG_VDPA=m\nCONFIG_VHOST=m\nCONFIG_RUSTC_VERSION_TEXT="rustc 0.1 (none)"\n' >>"$kdir/.config"
try "KDIR without Rust metadata is refused" refused "$kdir" 'no Rust metadata'
mkdir "$kdir/rust"; touch "$kdir/rust/libkernel.rmeta" "$kdir/Module.symvers"
printf '#!/bin/sh\necho "rustc 0.2 (other)"\n' >"$kdir/rustc"; chmod +x "$kdir/rustc"
RUSTC=$kdir/rustc try "KDIR of another rustc is refused" refused "$kdir" "was built with 'rustc 0.1 \(none\)'"
rm -rf "$kdir"

# --- the build
try "clippy" tools/build.sh clippy
built=1
try "modules build for $(kernel_release)" tools/build.sh modules || built=
try "modules build for the debug kernel" tools/build.sh debug || built=
try "structure layouts agree with the kernel's BTF" tools/check-layout.sh || built=
try "selftests build" tools/in-root.sh make -C /src/selftests KSRC=/cache/tree O=/cache/selftests || built=
try "test modules build" tools/test-modules.sh || built=
try "test modules build for the debug kernel" tools/test-modules.sh debug || built=
try "a kernel tree can read Kconfig" tools/in-root.sh /src/tools/check-kconfig.sh /cache/debug
try "the page about parents has the sample's text" tools/in-root.sh sh -c \
	'cd /src && exec tools/check-snippets.py Documentation/writing-a-parent.rst samples/rng.rs'
try "requests to disks do as a model of them" tools/request-fuzz.sh 5
try "memory keys translate as plain ranges do" tools/mlx5-keys.sh 5
if [ -z "$built" ]; then
	count ok "the checks in VMs" "there is nothing to run"
	finish
fi

# --- in VMs: two at a time, in two lanes that take about as long; the debug kernel is in the second
# suite NAME COMMAND...: run what prints TAP, its words to a log, "# " lines to the user.
suite() {
	local name=$1 rc
	shift
	[ -z "${CHECK:-}" ] || [[ " $CHECK " == *" $name "* ]] || return 0
	if [ -n "${CHECK_MINUTES:-}" ] && [ $((SECONDS - began)) -ge $((CHECK_MINUTES * 60)) ]; then
		echo "# $name: there is no time left for it"
		echo "ok - all of it # SKIP $CHECK_MINUTES minutes were over" >"$CACHE/logs/check-$name.log"
		echo late >"$CACHE/logs/check-$name.status"
		return 0
	fi
	echo "# $name: starts"
	"$@" </dev/null >"$CACHE/logs/check-$name.log" 2>&1
	rc=$?
	echo $rc >"$CACHE/logs/check-$name.status"
	echo "# $name: ended with $rc after $((SECONDS - began)) s"
}
# Kernels beside the default one, by name.
mapfile -t others < <(kernel_names check=some | grep -vxF "$KERNEL")
suites=(compile-fail selftests fuzz clients libblkio matrix simulators disks cables hostile mlx5 sample vp_vdpa debug vp_vdpa-debug)
suites+=("${others[@]/#/kernel-}")
for name in "${suites[@]}"; do rm -f "$CACHE/logs/check-$name".{log,status}; done

fuzz_corpus() {
	PREPARED=1 tools/fuzz.sh --corpus
	local rc=$?
	[ $rc -eq 0 ] || printf 'not '
	echo "ok - every seed of the corpus does the same on C's driver and on ours"
	return $rc
}
vm() { # vm SECONDS SCRIPT [ARG...]: a VM named after the script
	local limit=$1
	shift
	tools/vm.sh -n "check-$(basename "$1" .sh)" -t "$limit" "$@"
}
first_lane() {
	suite compile-fail tools/compile-fail.sh
	suite selftests tools/vm.sh -n check -t 3000 tools/vm/check.sh
	suite fuzz fuzz_corpus
	suite clients vm 1800 tools/vm/clients-short.sh
	suite libblkio vm 1800 tools/vm/vduse-blkio.sh
	suite simulators vm 1800 tools/vm/sim-net.sh
	suite disks vm 2400 tools/vm/sim-blk.sh management disks sizes requests
	suite cables vm 1800 tools/vm/sim-net-ctrl.sh
}
second_lane() {
	suite debug env VM_KERNEL=debug tools/vm.sh -n check-debug -t 3600 tools/vm/check-debug.sh
	suite vp_vdpa-debug env VM_KERNEL=debug RUN=check-vp-vdpa-debug VM_TIMEOUT=3000 \
		KO_DIR=/cache/debug-build TESTS=vp_vdpa tools/vp-vdpa.sh rust
	suite matrix vm 2400 tools/vm/matrix.sh
	suite mlx5 vm 1800 tools/vm/mlx5-compat.sh provision rust
	suite sample vm 1800 tools/vm/sample.sh
	local other
	for other in "${others[@]}"; do suite "kernel-$other" tools/kernel-check.sh "$other"; done
	suite hostile vm 1200 tools/vm/sim-net-hostile.sh
	suite vp_vdpa env RUN=check-vp-vdpa VM_TIMEOUT=1800 tools/vp-vdpa.sh rust
}
echo "# VMs boot now, two at a time (about half a minute each under emulation, debug ones two)"
first_lane &
lanes+=($!)
second_lane &
lanes+=($!)
wait "${lanes[@]}"
lanes=()

# The TAP lines of the VMs are counted again: numbers inside are theirs.
for name in "${suites[@]}"; do
	[ -z "${CHECK:-}" ] || [[ " $CHECK " == *" $name "* ]] || continue
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
