#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make check: everything that is checked, one TAP line each. The last line is
# "N passed, N failed, N skipped", and the exit status says whether all was well.
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
trap 'echo "# interrupted"; failed=$((failed + 1)); finish' INT TERM

# Files that were deleted and not yet committed are no longer ours.
sources() {
	project_files "$@" | while read -r f; do [ ! -f "$f" ] || printf '%s\n' "$f"; done
}

if ! "$PROJECT/tools/setup.sh"; then
	count 'not ok' "the root and the stock tree can be prepared"
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
printf 'VERSION = %s\nPATCHLEVEL = %s\n' ${SERIES/./ } >"$kdir/Makefile"
try "KDIR without .config is refused" refused "$kdir" 'not configured'
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
try "structure layouts agree with the kernel's BTF" tools/check-layout.sh || built=
if [ -e selftests/Makefile ]; then
	try "selftests build" tools/in-root.sh make -C /src/selftests KSRC=/cache/tree O=/cache/selftests || built=
fi

# --- in the VM
if [ -z "$built" ]; then
	count ok "the checks in the VM" "there is nothing to run"
	finish
fi
echo "# booting the VM (about a minute under emulation)"
status=$CACHE/logs/check.status
{ tools/vm.sh -n "${RUN:-check}" -t "${CHECK_TIMEOUT:-3000}" tools/vm/check.sh; echo $? >"$status"; } 2>&1 |
	tee "$CACHE/logs/check-vm.log" | grep --line-buffered -E '^(# |vm: )' | sed -u 's/^vm: /# &/'
# The TAP lines of the VM are counted again: numbers inside are theirs.
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
	name=$(sed -E 's/^(not )?ok *[0-9]* *-? *//' <<<"$line")
	skip=''
	if [[ $name == *'# SKIP'* && $verdict == ok ]]; then
		skip=$(sed -E 's/.*# SKIP *//' <<<"$name")
		[ -n "$skip" ] || skip='no reason given'
		name=$(sed -E 's/ *# SKIP.*//' <<<"$name")
	fi
	count "$verdict" "$name" "$skip"
done <"$CACHE/logs/check-vm.log"
rc=$(cat "$status")
grep -q '# the end of the checks' "$CACHE/logs/check-vm.log" && [ "$seen" -gt 0 ]
try "all checks in the VM ran to the end" test $? -eq 0
try "dmesg of the VM is clean" test "$rc" -eq 0
finish
