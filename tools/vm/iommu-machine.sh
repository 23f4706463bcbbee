# SPDX-License-Identifier: GPL-2.0
# Sourced after lib.sh by what needs vp_vdpa in the VM: QEMU's virtio-blk and
# virtio-net devices behind an emulated Intel IOMMU.

# iommu_machine IMAGE: set VM_QEMU_OPTS and VM_APPEND; the disk is IMAGE, which must
# be where QEMU in the root sees it too (/dev/shm).
iommu_machine() {
	# intremap: the emulated timer's interrupt does not survive it on a busy host.
	# page-per-vq: without a page of its own no doorbell can be mapped.
	local pci=disable-legacy=on,iommu_platform=on,page-per-vq=on
	VM_QEMU_OPTS="-device intel-iommu,intremap=off
	 -blockdev driver=file,node-name=vpfile,filename=$1,locking=off
	 -blockdev driver=raw,node-name=vpdisk,file=vpfile
	 -device virtio-blk-pci,drive=vpdisk,serial=vp-vdpa-test,num-queues=2,addr=0x10,$pci
	 -netdev hubport,id=vph0,hubid=7 -netdev hubport,id=vph1,hubid=7
	 -device virtio-net-pci,netdev=vph0,mac=52:54:00:76:70:00,romfile=,addr=0x11,$pci
	 -device virtio-net-pci,netdev=vph1,mac=52:54:00:76:70:01,romfile=,addr=0x12,$pci ${VM_QEMU_OPTS:-}"
	VM_QEMU_OPTS=${VM_QEMU_OPTS//[$'\n\t']/}
	VM_APPEND="intel_iommu=on ${VM_APPEND:-}"
	export VM_QEMU_OPTS VM_APPEND
}
