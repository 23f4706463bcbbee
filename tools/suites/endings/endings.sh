#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Every operation against every ending (selftests/endings.c), also on a parent behind an emulated
# Intel IOMMU.
#
#   tools/suites/endings/endings.sh [FLAVOUR...]	(default: all of them)
#
# ENDINGS_STRIDE=N runs every Nth cell; ENDINGS_NAMED=1 names those that do not exist, with reasons.
# VM_KERNEL=stock runs them on the distribution's kernel, else it is the debug kernel.
. "$(dirname "$0")/../../lib.sh"
need_root

export VM_KERNEL=${VM_KERNEL:-debug}
prepare_tests endings
# The NIC's DMA becomes the test parent's: no driver has it.
VM_QEMU_OPTS="-device intel-iommu,intremap=off -netdev hubport,id=e0,hubid=9 -device virtio-net-pci,netdev=e0,romfile=,addr=0x11,disable-legacy=on,iommu_platform=on ${VM_QEMU_OPTS:-}"
VM_APPEND="intel_iommu=on ${VM_APPEND:-}"
export VM_QEMU_OPTS VM_APPEND
exec "$PROJECT/tools/vm.sh" -n "${RUN:-endings}" -t "${VM_TIMEOUT:-7200}" \
	-e "ENDINGS_STRIDE=${ENDINGS_STRIDE:-1}" -e "ENDINGS_FIRST=${ENDINGS_FIRST:-0}" \
	-e "ENDINGS_ONLY=${ENDINGS_ONLY:-}" -e "ENDINGS_NAMED=${ENDINGS_NAMED:-}" tools/suites/endings/endings-vm.sh "$@"
