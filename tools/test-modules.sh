#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the test modules of selftests/modules in $CACHE/test-modules-KERNEL.
# Usage: test-modules.sh [stock|debug]
. "$(dirname "$0")/lib.sh"

kernel=${1:-stock} how='CC=x86_64-linux-gnu-gcc-14 CROSS_COMPILE=x86_64-linux-gnu- LOCALVERSION='
tree=/cache/tree
[ "$kernel" = stock ] || tree=/cache/debug how='LLVM=-19'
in_root sh -c "
	mkdir -p /cache/test-modules-$kernel &&
	cp -u /src/selftests/modules/Kbuild /src/selftests/modules/*.[ch] /cache/test-modules-$kernel/ &&
	exec make -C $tree M=/cache/test-modules-$kernel $how modules"
