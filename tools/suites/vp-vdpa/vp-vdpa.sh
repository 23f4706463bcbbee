#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# vp_vdpa as the parent: QEMU's virtio-blk and virtio-net devices behind an emulated
# Intel IOMMU, in a VM of the stock kernel. One TAP stream a driver.
#
#   tools/suites/vp-vdpa/vp-vdpa.sh [rust|c|both]	(default: both)
#
# TESTS="vp_vdpa file ..." chooses binaries, TEST_ARGS is passed to each of them.
# VM_KERNEL=debug uses the debug kernel; KO_DIR says where other builds of ours are.
# Exit status: 0 when nothing failed and dmesg was clean in every run.
. "$(dirname "$0")/../../lib.sh"
need_root

drivers=${1:-both}
[ "$drivers" != both ] || drivers='rust c'

# How much memory.
if [ "${VM_KERNEL:-stock}" = debug ]; then
	prepare debug
	[ -n "${KO_DIR:-}" ] || step "modules for the debug kernel" "$PROJECT/tools/build/build.sh" debug
	mem=2G
else
	prepare csim
	mem=1G
fi

tests=${TESTS:-file device vring iotlb pin vp_vdpa matrix}
# shellcheck disable=SC2086
step "selftests: $tests" "$PROJECT/tools/build/build.sh" selftests $tests
step "the irq bypass consumer" "$PROJECT/tools/build/build.sh" "$([ "${VM_KERNEL:-stock}" != debug ] || echo debug-)test-modules"
modules=/cache/test-modules-${VM_KERNEL:-stock}

# The disk, on a tmpfs that QEMU in the root sees too: each sector says its number.
image=$(mktemp /dev/shm/vp-vdpa-XXXXXX.img)
trap 'rm -f "$image"' EXIT

. "$PROJECT/tools/vm/iommu-machine.sh"
iommu_machine "$image"

failed=0
for driver in $drivers; do
	perl -e 'print pack("(L<)128", ($_) x 128) for 0 .. 16383' >"$image"
	rc=0
	MODULES=$driver "$PROJECT/tools/vm.sh" -n "${RUN:-vp-vdpa}-$driver" -t "${VM_TIMEOUT:-900}" -m "$mem" \
		-e "TESTS=$tests" -e "TEST_ARGS=${TEST_ARGS:-}" -e "TEST_MODULES=$modules" \
		${KO_DIR:+-e "KO_DIR=$KO_DIR"} tools/suites/vp-vdpa/vp-vdpa-vm.sh || rc=$?
	[ "$rc" -eq 0 ] || { failed=1; say "vp-vdpa: the run on the $driver driver ended with $rc"; }
done
exit $failed
