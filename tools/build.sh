#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build against the prepared stock tree, inside the root.
# Usage: build.sh modules|copy|clippy|debug|fmt|fmtcheck|clean
# "modules" builds in the checkout, "copy" in a copy ($CACHE/build), which other kernels' builds do not
# touch, and "debug" for the debug kernel, in a copy ($CACHE/debug-build).
. "$(dirname "$0")/lib.sh"
need_root

options=(CONFIG_RUST_VHOST_VDPA=m CONFIG_RUST_VDPA_SIM_NET=m CONFIG_RUST_VDPA_SIM_BLK=m CONFIG_RUST_MLX5_COMPAT=m CONFIG_RUST_VDPA_SAMPLE=m)
mapfile -t kmake < <(kernel_make)
kmake=(make -j"$(nproc)" "${kmake[@]}" M=/src "${options[@]}")

# What root built in somebody else's checkout belongs to them.
give_back() {
	local owner
	owner=$(stat -c %u:%g "$PROJECT")
	[ "$owner" = 0:0 ] || as_root chown -R --from=0:0 "$owner" "$PROJECT"
}

# Two builds in one directory destroy each other.
exec 8>"$BASE/build.lock"
flock 8

copy_to() { # copy_to DIR: the sources, to a folder of the cache
	mkdir -p "$CACHE/$1"
	in_root rsync -a --delete --exclude=/.git --filter=':- .gitignore' /src/ "/cache/$1/"
}
# clean_for DIR STAMP: objects in DIR of another kernel's tree have the same names and newer times.
clean_for() {
	local stamp
	stamp=$(cat "$2" 2>/dev/null || true)
	[ "$stamp" = "$(readlink "$CACHE/tree")" ] || {
		[ -z "$stamp" ] || in_root "${kmake[@]}" M="$1" clean
		readlink "$CACHE/tree" >"$2"
	}
}

rc=0
case ${1:-modules} in
modules)
	clean_for /src "$PROJECT/.built-for"
	in_root "${kmake[@]}" modules || rc=$?
	for ko in rust_vhost_vdpa.ko rust_vdpa_sim_net.ko rust_vdpa_sim_blk.ko rust_mlx5_compat.ko rust_vdpa_sample.ko; do
		[ "$rc" -ne 0 ] || [ -e "$PROJECT/$ko" ] || { say "$ko was not built" >&2; rc=1; }
	done ;;
copy)
	copy_to build
	clean_for /cache/build "$CACHE/build/.built-for"
	in_root "${kmake[@]}" M=/cache/build modules || rc=$? ;;
clippy)
	# In a copy, so that the objects of the ordinary build stay what they are.
	log=$CACHE/logs/clippy.out
	mkdir -p "$CACHE/logs"
	copy_to clippy
	clean_for /cache/clippy "$CACHE/clippy/.built-for"
	in_root "${kmake[@]}" M=/cache/clippy CLIPPY=1 modules 2>&1 | tee "$log" || rc=$?
	# A warning stands in the log once: the next run must not take silence for health.
	if grep -qE '^(warning|error)' "$log"; then
		in_root find /cache/clippy -name '*.o' -delete
		[ "$rc" -ne 0 ] || rc=1
	fi ;;
debug)
	copy_to debug-build
	# The debug kernel's tree is not the stock one: a stamp of its own.
	if [ "$(cat "$CACHE/debug-build.for" 2>/dev/null)" != "$(readlink "$CACHE/debug")" ]; then
		in_root find /cache/debug-build -name '*.o' -delete
		readlink "$CACHE/debug" >"$CACHE/debug-build.for"
	fi
	in_root make -j"$(nproc)" -C /cache/debug M=/cache/debug-build LLVM=-"$(root_of llvm)" \
		"${options[@]}" modules || rc=$? ;;
clean) in_root "${kmake[@]}" clean || rc=$? ;;
fmt|fmtcheck)
	mapfile -t files < <(project_files .rs | while read -r f; do [ ! -f "$PROJECT/$f" ] || echo "/src/$f"; done)
	[ ${#files[@]} -gt 0 ] || die "no Rust files found"
	check=()
	[ "$1" = fmt ] || check=(--check)
	in_root rustfmt --config-path /cache/tree/.rustfmt.toml --edition 2021 --color never \
		"${check[@]}" "${files[@]}" || rc=$? ;;
*) die "build.sh: $1?" ;;
esac
give_back
exit "$rc"
