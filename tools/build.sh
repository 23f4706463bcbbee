#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build against the prepared stock tree, inside the root.
# Usage: build.sh modules|clippy|debug|fmt|fmtcheck|clean
# "debug" builds for the debug kernel, in a copy: $CACHE/debug-build.
. "$(dirname "$0")/lib.sh"
need_root

# The compiler that Debian's .config names.
kmake=(make -j"$(nproc)" -C /cache/tree M=/src CC=x86_64-linux-gnu-gcc-14
       CROSS_COMPILE=x86_64-linux-gnu- LOCALVERSION=
       CONFIG_RUST_VHOST_VDPA=m CONFIG_RUST_VDPA_SIM_NET=m CONFIG_RUST_VDPA_SIM_BLK=m CONFIG_RUST_MLX5_COMPAT=m CONFIG_RUST_VDPA_SAMPLE=m)

# What root built in somebody else's checkout belongs to them.
give_back() {
	local owner
	owner=$(stat -c %u:%g "$PROJECT")
	[ "$owner" = 0:0 ] || as_root chown -R --from=0:0 "$owner" "$PROJECT"
}

# Two builds in one directory destroy each other.
exec 8>"$CACHE/build.lock"
flock 8

rc=0
case ${1:-modules} in
modules)
	in_root "${kmake[@]}" modules || rc=$?
	for ko in rust_vhost_vdpa.ko rust_vdpa_sim_net.ko rust_vdpa_sim_blk.ko rust_mlx5_compat.ko rust_vdpa_sample.ko; do
		[ "$rc" -ne 0 ] || [ -e "$PROJECT/$ko" ] || { say "$ko was not built" >&2; rc=1; }
	done ;;
clippy)
	# In a copy, so that the objects of the ordinary build stay what they are.
	log=$CACHE/logs/clippy.out
	mkdir -p "$CACHE/clippy" "$CACHE/logs"
	in_root rsync -a --delete --exclude=/.git --filter=':- .gitignore' /src/ /cache/clippy/
	in_root "${kmake[@]}" M=/cache/clippy CLIPPY=1 modules 2>&1 | tee "$log" || rc=$?
	# A warning stands in the log once: the next run must not take silence for health.
	if grep -qE '^(warning|error)' "$log"; then
		in_root find /cache/clippy -name '*.o' -delete
		[ "$rc" -ne 0 ] || rc=1
	fi ;;
debug)
	mkdir -p "$CACHE/debug-build"
	in_root rsync -a --delete --exclude=/.git --filter=':- .gitignore' /src/ /cache/debug-build/
	in_root make -j"$(nproc)" -C /cache/debug M=/cache/debug-build LLVM=-19 \
		CONFIG_RUST_VHOST_VDPA=m CONFIG_RUST_VDPA_SIM_NET=m CONFIG_RUST_VDPA_SIM_BLK=m CONFIG_RUST_MLX5_COMPAT=m CONFIG_RUST_VDPA_SAMPLE=m modules || rc=$? ;;
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
