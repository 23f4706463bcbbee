# SPDX-License-Identifier: GPL-2.0
# Requests per second through a block simulator, C's and ours by turns, and the ratio of the
# medians: 4k at random, 128k one after the other, reads and writes.
# Usage: tools/vm.sh -t 3600 tools/vm/sim-blk-speed.sh [SECONDS [ROUNDS [PARAM=VALUE...]]]
# PARAMs are for our module. VIA=virtio_vdpa (default) or libblkio says how; the latter goes through
# the driver that MODULES names. PARENTS="vdpasim_blk rust_vdpasim_blk" says who is measured; a
# management device can be there more than once, as NAME:FEATURES. The ratios are to the first.

# Sourced without arguments, as tools/vm.sh does, a script sees its caller's.
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
seconds=${1:-4} rounds=${2:-5}
shift $(($# < 2 ? $# : 2))
parents=${PARENTS:-vdpasim_blk rust_vdpasim_blk} via=${VIA:-virtio_vdpa}
case $via in
virtio_vdpa)
	gcc-14 -O2 -pthread -o $WORK/load /src/tools/bench/disk.c || vm_die "no program"
	load() { $WORK/load load "$@"; }
	modprobe -a virtio_blk virtio_vdpa || exit 4 ;;
libblkio)
	gcc-14 -O2 -o $WORK/load /src/tools/bench/blkio.c -lblkio || vm_die "no program"
	load() { $WORK/load "$@"; }
	ulimit -l unlimited
	load_driver ;;
*)	vm_die "VIA=$via: say virtio_vdpa or libblkio" ;;
esac
insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0
insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_blk.ko"
[[ $parents != *rust* ]] || insmod_file "$KO_DIR/rust_vdpa_sim_blk.ko" use_va=0 "$@"

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

one() { # one PARENT CASE BYTES DEPTH
	local got
	got=$(load "${disk[$1]}" "$2" "$3" "$4" "$seconds") || vm_die "$1 $2 $3: $got"
	echo "$1 $2 $3 $4 $got" | tee -a $WORK/results
}
declare -A disk
number=0
for parent in $parents; do
	features=${parent#"${parent%%:*}"} number=$((number + 1))
	vdpa dev add name "speed$number" mgmtdev "${parent%%:*}" \
		${features:+device_features "${features#:}"} || vm_die "no device of $parent"
	if [ $via = libblkio ]; then
		disk[$parent]=$(vhost_node "speed$number")
	else
		disk[$parent]=$(disk_of "speed$number")
	fi
	[ -n "${disk[$parent]}" ] || vm_die "no disk of $parent"
done
for ((round = 1; round <= rounds; round++)); do
	for load in 'randread 4096 32' 'randwrite 4096 32' 'randread 4096 1' 'read 131072 8' 'write 131072 8'; do
		for parent in $parents; do one "$parent" $load; done
	done
done
python3 - $WORK/results $parents <<'PY'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    parent, what, size, depth, per_second, mib = line.split()
    runs.setdefault((what, size, depth), {}).setdefault(parent, []).append(float(per_second))
for (what, size, depth), by in runs.items():
    print(f'{what} {int(size) // 1024}k depth {depth}')
    first = statistics.median(by[sys.argv[2]])
    for parent in sys.argv[2:]:
        median = statistics.median(by[parent])
        spread = f'{min(by[parent]):.0f} to {max(by[parent]):.0f}'
        print(f'    {parent:32} {median:8.0f}/s  ({spread:>16})  {median / first:5.2f}')
PY
for ((; number > 0; number--)); do vdpa dev del "speed$number"; done
