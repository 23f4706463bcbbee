#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Remove what was built here; with --cache, everything that was prepared instead.
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" = --cache ]; then
	[ -d "$CACHE" ] || exit 0
	need_root
	# Mounts live in private namespaces: nothing of the host's can be below.
	! grep -q " $CACHE/" /proc/mounts || die "something is mounted below $CACHE: unmount it first"
	as_root rm -rf --one-file-system "$CACHE"
	exit
fi
# Exactly what git ignores, and nothing that a person wrote and has not added yet.
git -C "$PROJECT" clean -fdXq 2>/dev/null ||
	as_root git -c safe.directory="$PROJECT" -C "$PROJECT" clean -fdXq
