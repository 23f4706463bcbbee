#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Run the selftests against a simulator NIC, inside the VM:
#
#   tools/vm.sh selftests/run.sh [TEST...]		(MODULES=c for the C driver)
#
# One TAP stream on standard output, its totals at the end. Exit status: 0 when
# nothing failed, 1 when something did, 4 when everything was skipped.
#
#   DRIVER=rust|c	whose expectations (default: the module that is loaded)
#   MGMTDEV=NAME	who makes the device (default: rust_vdpasim_net, then vdpasim_net)
#   BIN=DIR		the binaries (default: /cache/selftests, then build beside this)
#   VHOST_VDPA_DEV=NODE	a device that exists already: none is made
#   SIM=rust|c		whose simulator to load, if none is there (default: MODULES)
#   USE_VA=0|1		simulators: map by physical (default) or user address
#   BATCH=0|1		simulators: dma_map, or set_map (default)
#   ENTRIES=N		simulators: no more than N entries an address space
#   ENDINGS_STRIDE=N	endings runs every Nth of its cells (61); tools/suites/endings/endings.sh runs all
#   TEST_ARGS=...	passed to each binary, e.g. "-t size_zero_update"

# Sourced without arguments, as tools/vm.sh does, a script sees its caller's.
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=selftest0
device=

log() { printf '# %s\n' "$*"; }

cleanup() {
	[ -z "$device" ] || vdpa dev del "$device" || log "$device was not removed"
	device=
}

# bail REASON: nothing can be run, and that is not a pass.
bail() {
	printf 'Bail out! %s\n0 passed, 1 failed, 0 skipped\n' "$*"
	cleanup
	exit 1
}

has_mgmtdev() { vdpa mgmtdev show "$1" >/dev/null 2>&1; }

# What tools/vm.sh offers, where nobody has loaded the modules before.
load_modules() {
	declare -F load_driver >/dev/null || return 0
	[ -d /sys/bus/vdpa/drivers/vhost_vdpa ] || load_driver || bail "the driver does not load"
	if [ "${MGMTDEV:-}" = rust_mlx5_compat ]; then
		has_mgmtdev "$MGMTDEV" ||
			insmod_file "$KO_DIR/rust_mlx5_compat.ko" max_iotlb_entries="${ENTRIES:-2048}" ||
			bail "rust_mlx5_compat does not load"
		return
	fi
	if ! has_mgmtdev rust_vdpasim_net && ! has_mgmtdev vdpasim_net; then
		[ "${SIM:-$MODULES}" != c ] ||
			insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" \
				use_va="${USE_VA:-0}" batch_mapping="${BATCH:-1}" \
				max_iotlb_entries="${ENTRIES:-2048}"
		MODULES=${SIM:-$MODULES} load_sim_net || bail "the simulator does not load"
	fi
}

# The parent of selftests/modules, if it was built (tools/build/build.sh test-modules).
load_test_parent() {
	local ko=${TEST_MODULES:-/cache/test-modules-${VM_KERNEL:-stock}}/vdpa_test_parent.ko
	[ ! -e "$ko" ] || export TEST_PARENT_KO=$ko
	declare -F insmod_file >/dev/null && [ -e "$ko" ] && [ ! -d /sys/module/vdpa_test_parent ] || return 0
	insmod_file "$ko" || bail "the test parent does not load"
}

# wait_node NAME: the character device of vdpa device NAME, once it is there.
wait_node() {
	local n i
	for ((i = 0; i < 100; i++)); do
		for n in /sys/bus/vdpa/devices/"$1"/vhost-vdpa-*; do
			[ -e "$n" ] && [ -e "/dev/${n##*/}" ] && { echo "/dev/${n##*/}"; return; }
		done
		sleep 0.1
	done
	return 1
}

load_modules
load_test_parent
if [ -z "${DRIVER:-}" ]; then
	[ -d /sys/module/rust_vhost_vdpa ] && DRIVER=rust || DRIVER=c
fi
export DRIVER ENTRIES=${ENTRIES:-} ENDINGS_STRIDE=${ENDINGS_STRIDE:-61}

if [ -z "${MGMTDEV:-}" ]; then
	for m in rust_vdpasim_net vdpasim_net; do
		has_mgmtdev $m && { MGMTDEV=$m; break; }
	done
fi
if [ -z "${VHOST_VDPA_DEV:-}" ]; then
	[ -n "${MGMTDEV:-}" ] || bail "no simulator: load rust_vdpa_sim_net or vdpa_sim_net"
	# Ours offer packed rings only to those who ask: all features, of a NIC with one queue pair and
	# of a disk that can be written to.
	case $MGMTDEV in
	rust_vdpasim_net) wanted='device_features 0x7389f0028' ;;
	rust_vdpasim_blk) wanted='device_features 0x738007646' ;;
	*) wanted= ;;
	esac
	vdpa dev add name $name mgmtdev "$MGMTDEV" $wanted || bail "vdpa dev add failed on $MGMTDEV"
	device=$name
	VHOST_VDPA_DEV=$(wait_node $name) || bail "$name has no /dev/vhost-vdpa node"
fi
export VHOST_VDPA_DEV MGMTDEV

if [ -z "${BIN:-}" ]; then
	BIN=/cache/selftests
	[ -d $BIN ] || BIN=$here/build
fi
if [ $# -eq 0 ]; then
	set -- file device vring iotlb pin multi_device removal
	# Compat calls are the same on the debug kernel.
	[ "${VM_KERNEL:-stock}" = debug ] || set -- "$@" device32 vring32 iotlb32
	case ${MGMTDEV:-} in
	*sim_blk) set -- "$@" blk disk_migration sim_faults ;;
	*) set -- "$@" datapath legacy migration stress parent interleavings sim_faults ;;
	esac
	[ "${MGMTDEV:-}" != rust_mlx5_compat ] || set -- "$@" mlx5
	# These bring their own devices, so once is enough.
	[[ ${MGMTDEV:-} != *sim_net ]] || set -- "$@" shared_memory vduse_daemon endings
fi

# Outside of tools/vm.sh the CPUs are what they are.
declare -F second_cpu >/dev/null || second_cpu() { :; }

# mawk reads whole blocks of a pipe, unless it is told to show each line as it comes.
interactive=()
[[ $(awk -W version 2>&1 </dev/null) != mawk* ]] || interactive=(-W interactive)
echo 'TAP version 13'
log "driver $DRIVER, parent ${MGMTDEV:-?}, device $VHOST_VDPA_DEV, kernel $(uname -r)"
out=$(mktemp -d)
for t in "$@"; do
	echo "# ==== $t"
	if [ ! -x "$BIN/$t" ]; then
		echo "not ok 1 $t: $BIN/$t was not built"
		echo "# ==== end"
		continue
	fi
	# These have threads beside each other.
	case $t in multi_device | removal | stress | interleavings | endings) cpu=1 ;; *) cpu=0 ;; esac
	second_cpu $cpu || echo "not ok 1 $t: the second CPU's state can be changed"
	rc=0 args=${TEST_ARGS:-}
	# Waiting half a minute for a silent daemon is the same on the debug kernel.
	[ "$t-${VM_KERNEL:-stock}" != vduse_daemon-debug ] || args=${args:--V v1_30s}
	"$BIN/$t" $args 2>&1 || rc=$?
	# 1 is a failure that some line tells of; anything else is a crash.
	case $rc in 0 | 1 | 4) ;; *) echo "not ok 1 $t: ended with status $rc" ;; esac
	echo "# ==== end $rc"
done | awk "${interactive[@]}" -v totals="$out/totals" '
	function finish_one(  n) {
		if (planned >= 0 && seen < planned) {
			fail++
			printf "not ok %d %s: %d of %d tests reported\n", ++number, test, seen, planned
		}
		planned = -1; seen = 0
	}
	BEGIN { planned = -1 }
	/^# ==== end( |$)/ { finish_one(); next }
	/^# ==== / { test = $3; print; next }
	/^TAP version/ || /^# Totals:/ || /^#  +(RUN|OK) / { next }
	/^1\.\./ { planned = substr($0, 4) + 0; next }
	/^(not )?ok [0-9]/ {
		seen++
		if (/ # SKIP/) skip++
		else if (/ # XFAIL/) xfail++
		else if (/^ok/ && !/ # XPASS/) pass++
		else fail++
		result = /^ok/ ? "ok" : "not ok"
		sub(/^(not )?ok [0-9]+ /, "")
		# The 32-bit build of a test has the same names.
		if (test ~ /32$/)
			sub(/^[a-z_]+/, "&32")
		printf "%s %d %s\n", result, ++number, $0
		fflush()
		next
	}
	{ print; fflush() }
	END {
		printf "1..%d\n", number
		printf "# Totals: pass:%d fail:%d xfail:%d skip:%d\n", pass, fail, xfail, skip
		printf "%d %d %d %d\n", pass, fail, xfail, skip >totals
	}'
cleanup
read -r pass fail xfail skip <"$out/totals"
rm -rf "$out"
# An expected failure (the C driver only) is counted with the passes.
echo "$((pass + xfail)) passed, $fail failed, $skip skipped"
[ "$fail" -eq 0 ] || exit 1
[ $((pass + xfail)) -gt 0 ] || exit 4
exit 0
