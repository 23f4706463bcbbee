#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# make demo: from nothing to a nested guest whose disk and NIC run through the
# driver on the distribution's unmodified kernel. MODULES=c shows the C driver,
# NESTED=tcg has the nested guest emulated where it would run under KVM in the VM.
. "$(dirname "$0")/../../lib.sh"
. "$PROJECT/tools/vm/nested.sh"
need_root

began=$SECONDS
export MODULES=${MODULES:-rust}
prepare
if [ "$MODULES" = rust ]; then
	step "modules for $(kernel_release)" "$PROJECT/tools/build/build.sh" modules
	step "private structures: layouts against the kernel's BTF" "$PROJECT/tools/build/check-layout.sh" --cached
fi
nested_initramfs
say "  ... booting $(kernel_release) in a VM (about a minute under emulation)"
revision=$(git -c safe.directory="$PROJECT" -C "$PROJECT" describe --always --dirty 2>/dev/null || true)
rc=0
nested_vm -n "${RUN:-demo}" -t 5400 -m 3G -e "REVISION=$revision" ${FRAMES:+-e "FRAMES=$FRAMES"} tools/suites/demo/demo-vm.sh || rc=$?
if [ "$rc" -eq 0 ]; then
	say "      dmesg is clean"
	say "Demo succeeded in $((SECONDS - began)) s."
else
	say "Demo FAILED (status $rc); all that it left is in $CACHE/runs/${RUN:-demo}"
fi
exit "$rc"
