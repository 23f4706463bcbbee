# SPDX-License-Identifier: GPL-2.0
# Shared by every script in tools/: which kernel is meant and where its cache is, how to become
# root, how to speak to the user, and how to run a command inside the build root.
# Sourced by bash; never run by itself.
#
# BASE holds the roots and one folder for each kernel, which is CACHE; BASE/default points at the
# kernel of runs without KERNEL=. KERNEL is exported, so that one run is about one kernel throughout.

set -euo pipefail
umask 022

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BASE=${VHOST_VDPA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rust-vhost-vdpa}
. "$PROJECT/tools/table.sh"

# use_kernel: set CACHE to the folder of the kernel that is meant; while that is not known, to BASE.
use_kernel() {
	[ -n "${KERNEL:-}" ] || KERNEL=$(readlink "$BASE/default" 2>/dev/null || true)
	export KERNEL
	CACHE=$BASE${KERNEL:+/$KERNEL}
}
use_kernel

# prepare [PART...]: set-up (tools/setup.sh), which also decides what kernel is meant.
prepare() {
	"$PROJECT/tools/setup.sh" "$@"
	use_kernel
}

say()  { printf '%s\n' "$*"; }
note() { printf '      %s\n' "$*"; }
die()  { printf 'error: %s\n' "$*" >&2; exit 1; }

# count_instructions: VMs from here on have one CPU whose time is the instructions it executed.
count_instructions() {
	export VM_ACCEL=tcg VM_CPUS=1 VM_QEMU_OPTS='-icount shift=2,sleep=off'
}

# tap WHAT COMMAND...: a TAP line that says whether the command succeeded, and its last words if it did not.
tap() {
	local what=$1 log rc=0
	shift
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	if [ "$rc" -eq 0 ]; then
		printf 'ok - %s\n' "$what"
	else
		printf 'not ok - %s\n' "$what"
		tail -n 30 "$log" | sed 's/^/# /'
	fi
	rm -f "$log"
	return "$rc"
}

# recipe FILE...: their text, of which a key is made. Its paths read as if all scripts were in tools/ itself, where they
# once were: a script that moves from room to room makes nothing anew.
recipe() {
	sed -E 's,tools/(image|build|package)/,tools/,g; s,/\.\./lib\.sh,/lib.sh,; s,\(recipe ",(cat ",' "$@"
}

# prepare_tests TEST...: the kernel that VM_KERNEL names and our modules for it, unless PREPARED says that
# they are there; the test modules, and these selftests.
prepare_tests() {
	if [ -n "${PREPARED:-}" ]; then
		:
	elif [ "$VM_KERNEL" = debug ]; then
		prepare debug
		step "modules for the debug kernel" "$PROJECT/tools/build/build.sh" debug
	else
		prepare
		step "modules" "$PROJECT/tools/build/build.sh" modules
	fi
	step "test modules" "$PROJECT/tools/build/build.sh" "$([ "$VM_KERNEL" != debug ] || echo debug-)test-modules"
	step "selftests" "$PROJECT/tools/build/build.sh" selftests "$@"
}

# step NAME COMMAND...: one line when it starts, one line with its time when it
# ends, and one now and then in between. The command's own output goes to a log
# that is named on failure.
step() {
	local name=$1 log start rc=0 beat
	shift
	mkdir -p "$CACHE/logs"
	log=$CACHE/logs/$(printf '%s' "$name" | tr -cs 'A-Za-z0-9.' '-' | cut -c1-40).log
	start=$SECONDS
	printf '  ... %s\n' "$name"
	(
		trap 'kill $! 2>/dev/null; exit 0' TERM
		while :; do
			sleep 30 9>&- >/dev/null 2>&1 &
			wait $!
			printf '      %s: %d s, %s\n' "$name" $((SECONDS - start)) \
				"$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c1-90)"
		done
	) 9>&- &
	beat=$!
	trap 'kill '"$beat"' 2>/dev/null || true' EXIT
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	kill "$beat" 2>/dev/null || true
	wait "$beat" 2>/dev/null || true
	trap - EXIT
	if [ "$rc" -ne 0 ]; then
		tail -n 25 "$log" | sed 's/^/      | /' >&2
		die "$name failed (exit $rc); the whole log is $log"
	fi
	printf '  ok  %s (%d s)\n' "$name" $((SECONDS - start))
}

# as_root COMMAND...: needs no password, or says so.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -n -- "$@"
	fi
}

need_root() {
	[ "$(id -u)" -eq 0 ] && return
	command -v sudo >/dev/null 2>&1 ||
		die "run this as root, or install sudo and allow it without a password"
	sudo -n true 2>/dev/null ||
		die "this needs root: allow sudo without a password, or run it as root"
}

# The root of the kernel that is meant: tools/setup.sh points this link at a finished one. OTHER_ROOT
# names another.
root_dir() {
	readlink -f "${OTHER_ROOT:-$CACHE/root}" 2>/dev/null
}

# in_root COMMAND...: run it in the build root. /proc, /sys, /dev, the checkout
# (/src), the cache (/cache) and the kernel's files are mounted in a private namespace, so an
# interrupted run leaves nothing mounted and deleting the cache never reaches
# the host; a private process namespace leaves no process behind either.
in_root() {
	local root
	root=$(root_dir) && [ -d "$root" ] || die "no build root yet: run make setup"
	as_root env ROOT_DIR="$root" PROJECT="$PROJECT" CACHE="$CACHE" \
		unshare --mount --pid --fork --kill-child --propagation private -- bash -c '
		set -e
		mount --bind "$ROOT_DIR" "$ROOT_DIR"
		mount -t proc proc "$ROOT_DIR/proc"
		mount --rbind /sys "$ROOT_DIR/sys"
		mount --rbind /dev "$ROOT_DIR/dev"
		mkdir -p "$ROOT_DIR/src" "$ROOT_DIR/cache"
		mount --bind "$PROJECT" "$ROOT_DIR/src"
		mount --bind "$CACHE" "$ROOT_DIR/cache"
		for dir in usr/lib/modules boot; do
			[ ! -d "$CACHE/kernel/$dir" ] || mount --bind "$CACHE/kernel/$dir" "$ROOT_DIR/$dir"
		done
		cd /
		chroot "$ROOT_DIR" /usr/bin/env -i \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
			"$@"' in_root "$@"
}

# The release of the kernel that is meant, as uname -r says it.
kernel_release() {
	cat "$CACHE/kernel/release" 2>/dev/null || die "no kernel yet: run make setup"
}

# The compiler that the kernel's configuration names: Debian calls it by its triplet.
kernel_cc() {
	sed -nE 's/^CONFIG_CC_VERSION_TEXT="([^ ]+) .*/\1/p' "$CACHE/tree/.config"
}

# kernel_make: the arguments that build against the kernel's prepared tree, in the root.
kernel_make() {
	printf '%s\n' -C /cache/tree "CC=$(kernel_cc)" CROSS_COMPILE=x86_64-linux-gnu- LOCALVERSION=
}

# root_of FIELD: cc, llvm or another field of the root of the kernel that is meant.
root_of() {
	root_field "$(cat "$CACHE/kernel/root")" "$1"
}

# project_files [SUFFIX...]: the project's own files, relative to it, never what was built.
project_files() {
	local pattern=() s
	for s; do pattern+=("*$s"); done
	if git -c safe.directory="$PROJECT" -C "$PROJECT" ls-files -co --exclude-standard -- \
			"${pattern[@]}" 2>/dev/null; then
		return
	fi
	[ ${#pattern[@]} -gt 0 ] || pattern=('*')
	for s in "${pattern[@]}"; do
		( cd "$PROJECT" && find . -name .git -prune -o -type f -path "./$s" \
			! -name '*.o' ! -name '*.ko' ! -name '*.mod*' ! -name '.*.cmd' ! -name '*_generated.rs' \
			! -name modules.order ! -name Module.symvers -print | sed 's,^\./,,' )
	done
}
