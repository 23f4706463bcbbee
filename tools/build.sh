#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build against the prepared stock tree, inside the root.
# Usage: build.sh modules|clippy|fmt|fmtcheck|clean
. "$(dirname "$0")/lib.sh"
need_root

# The compiler that Debian's .config names.
kmake=(make -j"$(nproc)" -C /cache/tree M=/src CC=x86_64-linux-gnu-gcc-14
       CROSS_COMPILE=x86_64-linux-gnu- LOCALVERSION=)

# Only what git knows or could add: never what a build generated.
rust_files() {
	git -C "$PROJECT" ls-files -co --exclude-standard -- '*.rs' |
		while read -r f; do [ ! -e "$PROJECT/$f" ] || printf '/src/%s\n' "$f"; done
}

# What root built in somebody else's checkout belongs to them.
give_back() {
	local owner
	owner=$(stat -c %u:%g "$PROJECT")
	[ "$owner" = 0:0 ] || as_root chown -R --from=0:0 "$owner" "$PROJECT"
}

rc=0
case ${1:-modules} in
modules) in_root "${kmake[@]}" modules || rc=$? ;;
clippy)
	# Clippy only speaks of what it compiles: forget the objects of a plain build.
	in_root sh -c 'find /src -name "*.o" -newer /dev/null -path "*rust*" -delete; :'
	in_root "${kmake[@]}" CLIPPY=1 modules || rc=$? ;;
clean) in_root "${kmake[@]}" clean || rc=$? ;;
fmt|fmtcheck)
	mapfile -t files < <(rust_files)
	[ ${#files[@]} -gt 0 ] || exit 0
	check=()
	[ "$1" = fmt ] || check=(--check)
	# skip_children: the files are all named, and their modules are not looked for.
	in_root rustfmt --config-path /cache/tree/.rustfmt.toml --edition 2021 \
		"${check[@]}" "${files[@]}" || rc=$? ;;
*) die "build.sh: $1?" ;;
esac
give_back
exit "$rc"
