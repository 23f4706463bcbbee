# SPDX-License-Identifier: GPL-2.0
# Sourced in the VM by what runs nested guests: chooses between KVM and emulation.

# kvm_runs: loads KVM if the CPU has it, and has the firmware begin under it. A /dev/kvm that can
# be opened is not enough: some cannot run an ordinary guest, and QEMU hangs.
kvm_runs() {
	local flag module said qemu i
	flag=$(grep -owE -m 1 'svm|vmx' /proc/cpuinfo | head -n 1)
	case $flag in
	svm) module=kvm_amd ;;
	vmx) module=kvm_intel ;;
	*) why='the CPU has neither svm nor vmx'; return 1 ;;
	esac
	said=$(modprobe $module 2>&1) || { why="$module does not load: $said"; return 1; }
	[ -w /dev/kvm ] || { why="$module gives no /dev/kvm"; return 1; }
	# Its first words come from protected mode.
	qemu-system-x86_64 -nodefaults -display none -L /usr/share/seabios -M q35 -accel kvm -cpu host -m 16 \
		-chardev file,id=said,path="$WORK/firmware" -device isa-debugcon,iobase=0x402,chardev=said \
		>"$WORK/probe" 2>&1 </dev/null &
	qemu=$!
	for i in $(seq 300); do
		! grep -q '^SeaBIOS ' "$WORK/firmware" 2>/dev/null || break
		kill -0 $qemu 2>/dev/null || break
		sleep 0.1
	done
	kill -9 $qemu 2>/dev/null; wait $qemu 2>/dev/null
	grep -q '^SeaBIOS ' "$WORK/firmware" 2>/dev/null ||
		{ why="the firmware does not run under it: $(tail -n 1 "$WORK/probe")"; return 1; }
}

# choose_nested: NESTED is kvm or tcg from here on, and GUEST_KERNEL what guests run. Ends the
# script with status 75 if KVM was asked for and does not work, see tools/vm/nested.sh.
choose_nested() {
	local why=''
	case ${NESTED:-tcg} in
	kvm)	kvm_runs || { echo "# KVM does not work in this VM: $why"; exit 75; }
		GUEST_KERNEL=/cache/demo/vmlinux ;;
	tcg)	GUEST_KERNEL=/cache/guest/vmlinux ;;
	esac
	export NESTED GUEST_KERNEL
	NESTED_MACHINE=$(nested_machine) NESTED_APPEND=$(nested_append)
	export NESTED_MACHINE NESTED_APPEND
}

# nested_machine: QEMU's arguments for the machine of a guest.
nested_machine() {
	if [ "$NESTED" = kvm ]; then echo -accel kvm -cpu host; else echo -accel tcg,thread=single; fi
	echo -L /usr/share/seabios -L /usr/share/qemu -kernel "$GUEST_KERNEL" -initrd /cache/demo/initramfs
}

# nested_append: the guest kernel's parameters that do not depend on what it is to do. Each access to
# PCI configuration space by port and each timer that is set is an exit from the guest: it looks at no
# bus but the first, and its tick is periodic.
nested_append() {
	echo -n "console=ttyS0 quiet panic=-1 tsc=unstable"
	[ "$NESTED" = kvm ] || return 0
	echo -n " mitigations=off init_on_alloc=0 audit=0 apparmor=0 ipv6.disable=1 iomem=relaxed"
	echo -n " pci=lastbus=0 highres=off lapic=notscdeadline"
}

# nested_summary: a line for people.
nested_summary() {
	if [ "$NESTED" = kvm ]; then
		echo "KVM in the VM ($(sed -n 's/^kvm_\(amd\|intel\) .*/kvm_\1/p' /proc/modules)), the stock kernel $GUEST_RELEASE"
	else
		echo "emulation (TCG), a small kernel of the same source"
	fi
}
