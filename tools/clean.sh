#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Remove what was built here; with --cache, everything that was prepared instead.
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" = --cache ]; then
	[ -d "$BASE" ] || exit 0
	need_root
	# Mounts live in private namespaces: nothing of the host's can be below.
	! grep -q " $BASE/" /proc/mounts || die "something is mounted below $BASE: unmount it first"
	as_root rm -rf --one-file-system "$BASE"
	exit
fi
# What builds leave behind, and nothing else.
as_owner=()
[ -w "$PROJECT/Makefile" ] || as_owner=(as_root)
"${as_owner[@]}" find "$PROJECT" -name .git -prune -o -type f \( \
	-name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o -name '*.a' -o \
	-name .built-for -o -name '.*.cmd' -o -name '.*.d' -o -name '*.rmeta' -o -name 'bindings_generated.rs' -o \
	-name modules.order -o -name Module.symvers -o -name rust-project.json \) -exec rm -f {} +
