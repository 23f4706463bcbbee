#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What tools/package/package-check.sh runs in the machine that it boots. TAP on standard output.
# Usage: in-machine.sh installed|removed|norust [VERSION]
what=$1 version=${2:-}
failed=0
# try WHAT COMMAND...
try() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "ok - $name"
	else
		echo "not ok - $name"
		printf '%s\n' "$out" | tail -n 20 | sed 's/^/# /'
		failed=1
	fi
}
# soon COMMAND...: it succeeds within a time that emulation cannot exceed.
soon() {
	local i
	for i in $(seq 120); do
		"$@" >/dev/null 2>&1 && return
		sleep 1
	done
	"$@"
}
loaded() { [ -d "/sys/module/$1" ]; }
absent() { ! loaded "$1"; }
only() { # only MODULE: of the two drivers this one is loaded, and owns the name on the bus
	local other=vhost_vdpa
	[ "$1" = rust_vhost_vdpa ] || other=rust_vhost_vdpa
	lsmod | grep -E '^(rust_)?vhost_vdpa '
	loaded "$1" && absent "$other" && [ -d /sys/bus/vdpa/drivers/vhost_vdpa ]
}
neither() { absent vhost_vdpa && absent rust_vhost_vdpa; }
holds() { # holds FILE TEXT
	local text
	text=$(cat "$1") && echo "$1: $text" && [ "$text" = "$2" ]
}
is() { # is NODE "USER:GROUP MODE"
	local is
	is=$(stat -c '%U:%G %a' "$1") && echo "$1: $is" && [ "$is" = "$2" ]
}
refused() { ! "$@"; }
says() { # says TEXT COMMAND...: it fails, and the kernel's log has TEXT
	local text=$1
	shift
	dmesg -C
	if "$@"; then echo "$*: succeeded"; return 1; fi
	dmesg
	dmesg | grep -qF "$text"
}
as_nobody() { # as_nobody GROUP COMMAND...: an unprivileged user
	local group=$1
	shift
	setpriv --reuid=nobody --regid=nogroup --groups="$group" --inh-caps=-all "$@"
}
parameter() { holds /sys/module/rust_vhost_vdpa/parameters/max_iotlb_entries "$1"; }
version() { holds /sys/module/rust_vhost_vdpa/version "$version"; }
vdpa_add() { vdpa dev add name d0 mgmtdev rust_vdpasim_net; }
node=/dev/vhost-vdpa-0

echo "# $(uname -r), $what"
case $what in
installed)
	try "the driver is not loaded at boot" neither
	try "modprobe vhost_vdpa succeeds" modprobe vhost_vdpa
	try "it loaded this driver, not C's" only rust_vhost_vdpa
	try "a parameter for vhost_vdpa on the kernel's command line reaches it" parameter 456
	try "/sys/module tells its version" version
	try "modprobe vhost_vdpa once more changes nothing" eval 'modprobe vhost_vdpa && only rust_vhost_vdpa'
	try "modprobe -r vhost_vdpa unloads it" eval 'modprobe -r vhost_vdpa && neither'
	echo 'options vhost_vdpa max_iotlb_entries=123' >/etc/modprobe.d/test.conf
	try "a parameter for vhost_vdpa in modprobe.d reaches it" eval 'modprobe vhost_vdpa && parameter 123; modprobe -r vhost_vdpa'
	rm /etc/modprobe.d/test.conf
	try "a parameter that modprobe vhost_vdpa is given reaches it" eval 'modprobe vhost_vdpa max_iotlb_entries=77 && parameter 77'

	try "modprobe loads a parent" modprobe rust_vdpa_sim_net
	try "a device is added" vdpa_add
	try "its node is there, and its group is kvm" soon is $node 'root:kvm 660'
	try "a user in the group opens it" as_nobody kvm bash -c 'exec 3<>'$node
	try "a user outside does not" refused as_nobody nogroup bash -c 'exec 3<>'$node
	exec 4<>$node
	try "modprobe -r vhost_vdpa fails while the device is open" refused modprobe -r vhost_vdpa
	exec 4>&-
	if command -v driverctl >/dev/null; then
		try "driverctl gives the device to virtio_vdpa" eval 'driverctl -b vdpa set-override d0 virtio_vdpa && [ "$(basename "$(readlink /sys/bus/vdpa/devices/d0/driver)")" = virtio_vdpa ] && [ ! -e $node ]'
		try "driverctl gives it back" eval 'driverctl -b vdpa set-override d0 vhost_vdpa && soon is $node "root:kvm 660"'
		modprobe -r vhost_vdpa
		try "driverctl loads this driver by C's name" eval 'driverctl -b vdpa unset-override d0; driverctl -b vdpa set-override d0 vhost_vdpa && only rust_vhost_vdpa && soon is $node "root:kvm 660"'
		driverctl -b vdpa unset-override d0
	fi
	# Without an override either driver may have the device.
	try "virtio_vdpa is unloaded" modprobe -r virtio_vdpa
	try "modprobe -r vhost_vdpa unloads it after the last close" eval 'soon modprobe -r vhost_vdpa && neither'

	# C's driver beside it.
	try "modprobe --ignore-install vhost_vdpa loads C's" eval 'modprobe --ignore-install vhost_vdpa && only vhost_vdpa'
	try "the udev rule does the same for C's node" soon is $node 'root:kvm 660'
	try "modprobe vhost_vdpa leaves C's driver where it is" eval 'modprobe vhost_vdpa && only vhost_vdpa'
	try "loading this one beside C's fails, and the log says why" says 'rust_vhost_vdpa: another driver named vhost_vdpa is loaded: rmmod vhost_vdpa first' modprobe rust_vhost_vdpa
	try "modprobe -r vhost_vdpa unloads C's" eval 'modprobe -r vhost_vdpa && neither'
	ln -s /dev/null /etc/modprobe.d/rust-vhost-vdpa.conf
	try "with modprobe.d's file masked, modprobe vhost_vdpa loads C's" eval 'modprobe vhost_vdpa && only vhost_vdpa; modprobe -r vhost_vdpa'
	rm /etc/modprobe.d/rust-vhost-vdpa.conf
	try "without the mask it loads this one again" eval 'modprobe vhost_vdpa && only rust_vhost_vdpa'
	vdpa dev del d0
	;;
norust)
	try "a kernel without modules of ours: modprobe vhost_vdpa loads C's" eval 'modprobe vhost_vdpa && only vhost_vdpa'
	try "with the parameter" holds /sys/module/vhost_vdpa/parameters/max_iotlb_entries 456
	try "modprobe -r vhost_vdpa unloads it" eval 'modprobe -r vhost_vdpa && neither'
	;;
removed)
	try "modprobe does not know this driver" refused modprobe rust_vhost_vdpa
	try "modprobe vhost_vdpa loads C's" eval 'modprobe vhost_vdpa && only vhost_vdpa'
	# A parent that was put aside, for C's driver to have a device.
	try "a parent is loaded" eval 'modprobe -a vdpa vhost_iotlb && insmod /root/rust_vdpa_sim_net.ko'
	try "a device is added" vdpa_add
	try "C's driver has it, and its node is what it is without the rule" soon is $node 'root:root 600'
	try "root opens it" bash -c 'exec 3<>'$node
	vdpa dev del d0
	;;
esac
# The kernel's log, where the test has not cleared it.
try "the kernel's log has no warning" eval '! journalctl -k -b --no-pager | grep -E "WARNING:|BUG:|Oops|Call Trace|refcount_t"'
[ $failed -eq 0 ] && echo "# done: all" || echo "# done: some failed"
