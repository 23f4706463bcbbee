#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The checks of make check that need no VM: formatting, lints, the rules of the source, models and
# userspace fuzzers, how a kernel is chosen, what make KDIR= refuses. TAP on standard output.
. "$(dirname "$0")/../lib.sh"
set +e
cd "$PROJECT" || exit 1

failed=0
try() { tap "$@" || failed=1; }

# Files that were deleted and not yet committed are no longer ours.
sources() {
	project_files "$@" | while read -r f; do [ ! -f "$f" ] || printf '%s\n' "$f"; done
}

# --- the source
mapfile -t all < <(sources)
mapfile -t rust < <(sources .rs)
mapfile -t shell < <(sources .sh .ci/run)
try "there is something to check" test ${#all[@]} -gt 50 -a ${#rust[@]} -gt 10 -a ${#shell[@]} -gt 5
try "shell scripts parse" bash -c 'for f; do bash -n "$f" || exit 1; done' sh "${shell[@]}"
try "every file says its licence" tools/in-root.sh sh -c 'cd /src && exec tools/lint/check-source.py spdx "$@"' sh "${all[@]}"
try "no unsafe outside abstractions/, a SAFETY comment for each inside" \
	tools/in-root.sh sh -c 'cd /src && exec tools/lint/check-source.py unsafe "$@"' sh "${rust[@]}"
try "rustfmt" tools/build/build.sh fmtcheck
try "rings hold against drivers, right and hostile ones" tools/suites/sim-net/ring-fuzz.sh 0
try "a model of the driver's state holds in every interleaving, and finds each mutant" tools/suites/model/model.sh
mapfile -t named < <(sources .rst .c .rs)
try "each test that the pages name exists, and each fault in their table has one" \
	tools/in-root.sh sh -c 'cd /src && exec tools/lint/check-source.py tests "$@"' sh "${named[@]}"

splats_found() { # splats_found TEXT: in a log that ends with it
	local log rc
	log=$(mktemp)
	printf '[ 1.0] WARNING: while booting\n[ 2.0] vm: the script starts\n%s\n' "$1" >"$log"
	tools/vm/splats.sh "$log"
	rc=$?
	rm -f "$log"
	return $rc
}
try "a kernel warning in a log is found" splats_found '[ 3.0] WARNING: kernel/fork.c:1 at f+0x1/0x2, CPU#0: sh/1'
try "a lockdep report in a log is found" splats_found '[ 3.0] WARNING: possible circular locking dependency detected'
try "a hung task in a log is found" splats_found '[ 3.0] INFO: task sh:1 blocked for more than 120 seconds.'
no_splats() { ! splats_found "$1"; }
try "what comes before the script, and an ordinary line, are no splats" no_splats '[ 3.0] virtio_blk: 1 queue'

# --- how a kernel is chosen, on made-up package lists; that an interrupted run leaves nothing; the text, with
# tools of Debian and of the kernel
for script in resolve-test guard-test check-text; do
	printed=$("tools/lint/$script.sh")
	ended=$?
	printf '%s\n' "$printed"
	[[ $'\n'$printed != *$'\nnot ok '* ]] || failed=1
	try "${script%-test}: the cases ran to their end" test "$ended" -eq 0
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

# --- what needs a build
try "clippy" tools/build/build.sh clippy
try "the page about parents has the sample's text" tools/in-root.sh sh -c \
	'cd /src && exec tools/lint/check-snippets.py Documentation/writing-a-parent.rst samples/rng.rs'
try "requests to disks do as a model of them" tools/suites/sim-blk/request-fuzz.sh 5
try "memory keys translate as plain ranges do" tools/suites/mlx5-compat/mlx5-keys.sh 5
exit $failed
