#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# One kernel of tools/kernels: its modules build, its structures have the layouts that they were built
# with, and the selftests pass on our simulator in a VM of it. TAP on standard output.
# Usage: kernel-check.sh NAME [TEST...]
#
# Status 0: nothing failed (a kernel that the archive does not have whole is a skip); 1: something did.
# Everything is in $BASE/NAME; the checkout's own objects stay what they are.
export KERNEL=$1
shift
. "$(dirname "$0")/../../lib.sh"
set +e
use_kernel
mkdir -p "$CACHE/logs"
failed=0
verdict() { # verdict STATUS WHAT
	if [ "$1" -eq 0 ]; then echo "ok - $2"; else echo "not ok - $2"; failed=1; fi
}

"$PROJECT/tools/setup.sh" csim 2>&1 | sed 's/^/# /'
rc=${PIPESTATUS[0]}
if [ "$rc" -eq 77 ]; then
	echo "ok - kernel $KERNEL # SKIP $(kernel_field "$KERNEL" suite) does not have it whole, and neither has the cache"
	exit 0
fi
verdict "$rc" "kernel $KERNEL can be prepared"
[ "$rc" -eq 0 ] || exit 1
echo "# kernel $KERNEL is $(kernel_release), Debian $(cat "$CACHE/kernel/version")"
tap "modules build" "$PROJECT/tools/build/build.sh" copy || exit 1
tap "structure layouts agree with the kernel's BTF" "$PROJECT/tools/build/check-layout.sh" --cached || exit 1
tap "selftests build" "$PROJECT/tools/build/build.sh" selftests "$@" || exit 1
tap "test modules build" "$PROJECT/tools/build/build.sh" test-modules || exit 1
KO_DIR='' VM_SPARE_CPU=1 "$PROJECT/tools/vm.sh" -n "kernel-$KERNEL" -t 3000 -e KO_DIR=/cache/build selftests/run.sh "$@"
verdict $? "selftests ran to their end, and dmesg is clean"
exit $failed
