#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the test modules of selftests/modules in $CACHE/test-modules-KERNEL.
# Usage: test-modules.sh [stock|debug]
. "$(dirname "$0")/lib.sh"

kernel=${1:-stock}
mapfile -t how < <(kernel_make)
[ "$kernel" = stock ] || how=(-C /cache/debug LLVM=-"$(root_of llvm)")
in_root sh -c '
	dir=$1; shift
	mkdir -p "$dir" && cp -u /src/selftests/modules/Kbuild /src/selftests/modules/*.[ch] "$dir" &&
	exec make M="$dir" "$@" modules' sh "/cache/test-modules-$kernel" "${how[@]}"
