#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build against the prepared stock tree, inside the root.
# Usage: build.sh modules|copy|clippy|debug|fmt|fmtcheck
#        build.sh selftests [TEST...]
#        build.sh test-modules|debug-test-modules
# All is built in copies of the sources in the cache, one for each kernel and purpose: a fresh checkout builds
# again only what differs. "copy" leaves the modules in $CACHE/build, "modules" also brings them to the checkout;
# "debug" builds for the debug kernel in $CACHE/debug-build.
. "$(dirname "$0")/../lib.sh"
need_root

options=(CONFIG_RUST_VHOST_VDPA=m CONFIG_RUST_VDPA_SIM_NET=m CONFIG_RUST_VDPA_SIM_BLK=m CONFIG_RUST_MLX5_COMPAT=m CONFIG_RUST_VDPA_SAMPLE=m)
mapfile -t kmake < <(kernel_make)
kmake=(make -j"$(nproc)" "${kmake[@]}" "${options[@]}")
debug_kmake=(make -j"$(nproc)" -C /cache/debug LLVM=-"$(root_of llvm)" "${options[@]}")

# What root built in somebody else's checkout belongs to them.
give_back() {
	local owner
	owner=$(stat -c %u:%g "$PROJECT")
	[ "$owner" = 0:0 ] || as_root chown -R --from=0:0 "$owner" "$PROJECT"
}

# Two builds in one directory destroy each other.
exec 8>"$BASE/build.lock"
flock 8

# copy_to DIR [FROM]: the sources, to a folder of the cache. What has not changed keeps its time there, which is
# the time when it was copied: whatever a checkout's clock says, make builds what is newer.
copy_to() {
	mkdir -p "$CACHE/$1"
	in_root rsync -rlp --checksum --delete --exclude=/.git --exclude-from=/src/.gitignore "/src/${2:-}" "/cache/$1/"
}
# build_in DIR TREE COMMAND...: that make in that copy. Its stamp is there while no build runs: what was built for
# another tree has the same names and newer times, and what was interrupted may be half an object.
build_in() {
	local dir=$1 stamp=$CACHE/$1/.built-for tree ended=0
	tree=$(basename "$(readlink "$CACHE/$2")")
	shift 2
	[ "$(cat "$stamp" 2>/dev/null)" = "$tree" ] || {
		in_root find "/cache/$dir" -name '*.o' -delete
		[ "$dir" != selftests-src ] || in_root rm -rf /cache/selftests
	}
	as_root rm -f "$stamp"
	in_root "$@" || ended=$?
	echo "$tree" >"$stamp"
	return $ended
}

rc=0
case ${1:-modules} in
modules | copy)
	copy_to build
	build_in build tree "${kmake[@]}" M=/cache/build modules || rc=$?
	for name in vhost_vdpa vdpa_sim_net vdpa_sim_blk mlx5_compat vdpa_sample; do
		[ "$rc" -ne 0 ] || [ -e "$CACHE/build/rust_$name.ko" ] || { say "rust_$name.ko was not built" >&2; rc=1; }
	done
	[ "$rc" -ne 0 ] || [ "$1" = copy ] || in_root sh -c 'rsync -p --checksum /cache/build/rust_*.ko /src/' || rc=$? ;;
clippy)
	# In a copy, so that the objects of the ordinary build stay what they are.
	log=$CACHE/logs/clippy.out
	mkdir -p "$CACHE/logs"
	copy_to clippy
	build_in clippy tree "${kmake[@]}" M=/cache/clippy CLIPPY=1 modules 2>&1 | tee "$log" || rc=$?
	# A warning stands in the log once: the next run must not take silence for health.
	if grep -qE '^(warning|error)' "$log"; then
		rm -f "$CACHE/clippy/.built-for"
		[ "$rc" -ne 0 ] || rc=1
	fi ;;
debug)
	copy_to debug-build
	build_in debug-build debug "${debug_kmake[@]}" M=/cache/debug-build modules || rc=$? ;;
selftests)
	shift
	copy_to selftests-src selftests/
	build_in selftests-src tree make -j"$(nproc)" -C /cache/selftests-src KSRC=/cache/tree O=/cache/selftests "${@/#//cache/selftests/}" || rc=$? ;;
test-modules)
	copy_to test-modules-stock selftests/modules/
	build_in test-modules-stock tree "${kmake[@]}" M=/cache/test-modules-stock modules || rc=$? ;;
debug-test-modules)
	copy_to test-modules-debug selftests/modules/
	build_in test-modules-debug debug "${debug_kmake[@]}" M=/cache/test-modules-debug modules || rc=$? ;;
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
