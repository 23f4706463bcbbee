# SPDX-License-Identifier: GPL-2.0
# Sourced after lib.sh by what runs nested guests in the VM.
#
# NESTED=tcg emulates them in the VM, with a small kernel that is built for that. By default, or
# with NESTED=kvm, they run under KVM in the VM, with the distribution's own kernel.

# nested_initramfs: their initramfs, with the stock kernel's virtio modules.
nested_initramfs() {
	local key
	case ${NESTED:-kvm} in kvm | tcg) ;; *) die "NESTED=$NESTED: say kvm or tcg" ;; esac
	mkdir -p "$CACHE/demo"
	key=$(readlink "$CACHE/kernel" "$CACHE/root" | tr '\n' ' ')$(cd "$PROJECT/tools/image" &&
		cat mkinitramfs.sh guest/* | sha256sum | cut -c1-12)
	[ "$(cat "$CACHE/demo/key" 2>/dev/null)" != "$key" ] || return 0
	step "the nested guest's initramfs" "$PROJECT/tools/in-root.sh" \
		/src/tools/image/mkinitramfs.sh /cache/demo/initramfs "$(kernel_release)"
	printf '%s\n' "$key" >"$CACHE/demo/key"
}

# kvm_vm ARG...: tools/vm.sh with those arguments, its guests under KVM. The VM has one CPU unless
# VM_CPUS says otherwise: with two, QEMU 11.1.3 had guests that stood still, lost frames or reset while they
# booted. By its source, its emulation of SVM keeps the vector that VMRUN injected, and delivers it once more when
# another CPU has this one leave its loop, as for an atomic access across two cache lines.
kvm_vm() {
	VM_CPUS=${VM_CPUS:-1} "$PROJECT/tools/vm.sh" -e NESTED=kvm -e "GUEST_RELEASE=$(kernel_release)" "$@"
}

# nested_vm ARG...: tools/vm.sh with those arguments. If the script ends with 75, see
# tools/vm/nested-vm.sh, KVM does not work in the VM: then the small kernel is built, and the
# script runs once more.
nested_vm() {
	local rc=75
	if [ "${NESTED:-kvm}" = kvm ]; then
		rc=0
		kvm_vm "$@" || rc=$?
		[ "$rc" -eq 75 ] || return "$rc"
		say "# no KVM in the VM: nested guests are emulated, with a small kernel of their own"
	fi
	prepare guest
	"$PROJECT/tools/vm.sh" -e NESTED=tcg "$@"
}
