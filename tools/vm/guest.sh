# SPDX-License-Identifier: GPL-2.0
# Sourced in the VM before the script runs (see tools/vm.sh). The VM is thrown
# away afterwards, so nothing here cleans up after itself unless it is tested.

set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export MODULES=${MODULES:-rust}
if [ "${VM_KERNEL:-stock}" = debug ]; then
	export KO_DIR=${KO_DIR:-/cache/debug-build}
	mountpoint -q /lib/modules || mount --bind /cache/debug/mods/lib/modules /lib/modules
fi
export KO_DIR=${KO_DIR:-/src}
export WORK=/run/work
mkdir -p $WORK
mountpoint -q $WORK || mount -t tmpfs -o size=80% tmpfs $WORK
export HOME=$WORK
cd $WORK || exit 1
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug

vm_die() { printf 'Bail out! %s\n' "$*"; exit 1; }

# insmod_file FILE [PARAM...]: insmod with the modules it depends on, which
# insmod alone does not look for.
insmod_file() {
	local ko=$1 dep
	shift
	[ -e "$ko" ] || vm_die "$ko does not exist: build it first"
	for dep in $(modinfo -F depends "$ko" | tr , ' '); do
		[ -d "/sys/module/$dep" ] || modprobe "$dep" 2>/dev/null ||
			[ ! -e "${ko%/*}/$dep.ko" ] || insmod_file "${ko%/*}/$dep.ko"
	done
	insmod "$ko" "$@"
}

# same_kernel: the running kernel carries the BTF that check-layout.sh compared.
same_kernel() {
	local sum file
	# The debug kernel's modules were built from the very tree that it was.
	[ "${VM_KERNEL:-stock}" != debug ] || return 0
	[ -e /cache/layout/sums ] || vm_die "the layouts of this kernel's structures were never compared"
	modprobe -a vdpa vhost vhost_iotlb irqbypass || vm_die "no vdpa or vhost modules"
	while read -r sum file; do
		[ "$(sha256sum <"/sys/kernel/btf/${file%.btf}")" = "$sum  -" ] ||
			vm_die "the running kernel's BTF of ${file%.btf} is not the one whose layouts were compared"
	done </cache/layout/sums
}

# load_driver [PARAM...]: the driver under test on the vdpa bus as vhost_vdpa, and nobody else.
load_driver() {
	# Tests that fill a table one message at a time are quadratic, and a debug kernel is slow.
	[ "${VM_KERNEL:-stock}" != debug ] || [[ $* == *max_iotlb_entries* ]] ||
		set -- "$@" max_iotlb_entries=256
	rmmod virtio_vdpa 2>/dev/null
	case $MODULES in
	rust)
		same_kernel
		[ ! -d /sys/module/vhost_vdpa ] || rmmod vhost_vdpa ||
			vm_die "the C driver vhost_vdpa is loaded and in use"
		insmod_file "$KO_DIR/rust_vhost_vdpa.ko" "$@" ;;
	c)	modprobe irqbypass && modprobe vhost_vdpa "$@" ;;
	*)	vm_die "MODULES=$MODULES: say rust or c" ;;
	esac
}
driver_module() { case $MODULES in rust) echo rust_vhost_vdpa ;; c) echo vhost_vdpa ;; esac; }
unload_driver() { rmmod "$(driver_module)"; }

# The simulator NIC that goes with it, and the name of its management device.
load_sim_net() {
	case $MODULES in
	# By default the simulators want virtual addresses, and nothing is pinned.
	rust)	insmod_file "$KO_DIR/rust_vdpa_sim_net.ko" use_va="${USE_VA:-0}" \
			batch_mapping="${BATCH:-1}" max_iotlb_entries="${ENTRIES:-2048}" "$@" ;;
	c)
		if [ "${VM_KERNEL:-stock}" = debug ]; then
			modprobe vdpa_sim use_va=0 && modprobe vdpa_sim_net "$@"
			return
		fi
		[ -d /sys/module/vdpa_sim ] || insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0
		insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_net.ko" "$@" ;;
	esac
}
sim_net_module() { case $MODULES in rust) echo rust_vdpa_sim_net ;; c) echo vdpa_sim_net ;; esac; }
sim_net_mgmtdev() { case $MODULES in rust) echo rust_vdpasim_net ;; c) echo vdpasim_net ;; esac; }

# vhost_node NAME: the character device of vdpa device NAME, once it is there.
vhost_node() {
	local n i
	for i in $(seq 100); do
		for n in /sys/bus/vdpa/devices/"$1"/vhost-vdpa-*; do
			[ -e "$n" ] && [ -e "/dev/${n##*/}" ] && { echo "/dev/${n##*/}"; return; }
		done
		sleep 0.1
	done
	return 1
}

# disk_of NAME: the block device that virtio_vdpa made of a vdpa device.
disk_of() {
	local d
	for _ in $(seq 100); do
		for d in /sys/bus/vdpa/devices/"$1"/virtio*/block/*; do
			[ -b "/dev/${d##*/}" ] && { echo "/dev/${d##*/}"; return; }
		done
		sleep 0.1
	done
	return 1
}

# iface_of NAME: the network interface that virtio_vdpa made of a vdpa device.
iface_of() {
	for _ in $(seq 100); do
		ls /sys/bus/vdpa/devices/"$1"/virtio*/net 2>/dev/null && return
		sleep 0.1
	done
	return 1
}

# pins: how many pages are pinned now.
pins() {
	# The parts of the counters that each CPU keeps have to be folded in first.
	echo 1 >/proc/sys/vm/stat_refresh
	awk '/^nr_foll_pin_acquired/ { a = $2 } /^nr_foll_pin_released/ { r = $2 } END { print a - r }' /proc/vmstat
}

# pins_at_rest: the same once it stays so: the root's own file system pins pages, too, for the
# moment of a read, and the two counters are not read at one moment.
pins_at_rest() {
	local last='' now same=0 i
	for i in $(seq 100); do
		now=$(pins)
		if [ "$now" = "$last" ]; then same=$((same + 1)); else same=0; fi
		last=$now
		[ $same -lt 4 ] || break
		sleep 0.05
	done
	echo "$now"
}

# second_cpu 0|1: the CPU that tools/vm.sh spares is off or on. A second CPU takes half as much of an emulating
# machine's time again, and is on for tests that have threads beside each other.
second_cpu() {
	local online=/sys/devices/system/cpu/cpu1/online
	[ -n "${VM_SPARE_CPU:-}" ] && [ "$(cat $online)" != "$1" ] || return 0
	echo "$1" >$online
}

# check WHAT COMMAND...: a line of TAP that tells whether the command succeeded, and else its words.
# The caller sets fail=0 first and looks at it last.
check() {
	local what=$1
	shift
	if "$@" >$WORK/log 2>&1; then echo "ok - $what"; else
		echo "not ok - $what"; sed 's/^/# | /' $WORK/log; fail=1
	fi
}
no() { ! "$@"; }
# has PATTERN TEXT: the text is shown where it does not match.
has() { grep -q "$1" <<<"$2" || { echo "$2"; false; }; }

# run_script SCRIPT [ARG...]: what tools/vm.sh asks for; leaves status and dmesg in $OUT.
run_script() {
	local rc=0
	mkdir -p "$OUT"
	echo 'vm: the script starts' >/dev/kmsg
	bash -c '. /src/tools/vm/guest.sh; . "$@"' vm "$@" </dev/null 2>&1 | cat
	rc=${PIPESTATUS[0]}
	dmesg >"$OUT/dmesg"
	cat /proc/sys/kernel/tainted >"$OUT/tainted"
	echo "$rc" >"$OUT/status"
	# Without a shared folder a port takes it: see tools/vm.sh.
	[ ! -e /dev/virtio-ports/vhost-vdpa-left ] || tar -C "$OUT" -cf /dev/virtio-ports/vhost-vdpa-left .
	sync
}
