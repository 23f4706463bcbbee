# SPDX-License-Identifier: GPL-2.0
# How fast the simulators are: C's and ours by turns, all in one VM. Run by tools/bench/sim-speed.sh, which
# makes a table of it. One line a measurement: PATH CASE WHO PER-SECOND.
# Usage: tools/vm.sh -t 7200 -m 3G tools/bench/sim-speed-vm.sh [ROUNDS [SECONDS]]
#   PATHS="virtio_vdpa libblkio net"	what to measure
#   CASES="4k-read-1 ..."		only these cases of disks: SIZE-KIND-DEPTH; random if 4k
# libblkio goes through the driver that MODULES names.

# Sourced without arguments, as tools/vm.sh does, a script sees its caller's.
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
rounds=${1:-5} seconds=${2:-3}
paths=${PATHS:-virtio_vdpa libblkio net}
cases=${CASES:-4k-read-1 4k-write-1 4k-read-32 4k-write-32 128k-read-8 128k-write-8}

load() { # load blk|net: both simulators
	[ ! -d "/sys/module/rust_vdpa_sim_$1" ] || return 0
	[ -d /sys/module/vdpa_sim ] || insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_$1.ko"
	insmod_file "$KO_DIR/rust_vdpa_sim_$1.ko" use_va=0
}

# by_turns COMMAND WHO...: runs COMMAND WHO for each of them. Who goes first changes with the round.
by_turns() {
	local command=$1 i
	shift
	for ((i = 0; i < $#; i++)); do
		$command "${@:(i + round) % $# + 1:1}" || exit
	done
}

# Disks.

mgmtdev() { case $1 in c) echo vdpasim_blk ;; rust) echo rust_vdpasim_blk ;; esac; }

virtio_vdpa() { # virtio_vdpa WHO: for $case
	local size=${case%%-*} kind=${case#*-} depth=${case##*-} got
	kind=${kind%-*}
	[ "$size" != 4k ] || kind=rand$kind
	got=$(fio --name=speed --filename="${disk[$1]}" --ioengine=io_uring --direct=1 --rw="$kind" \
		--bs="$size" --iodepth="$depth" --time_based --runtime="$seconds" --norandommap \
		--gtod_reduce=1 --minimal) || vm_die "fio: $got"
	# The fields of requests a second: of reads, of writes.
	echo "virtio_vdpa $case $1 $(cut -d ';' -f 8,49 <<<"$got" | tr ';' '\n' | sort -n | tail -n 1)"
}

# Debian's fio has no libblkio.
libblkio() { # libblkio WHO: for $case
	local size=${case%%-*} kind=${case#*-} depth=${case##*-} got
	kind=${kind%-*}
	[ "$size" != 4k ] || kind=rand$kind
	got=$($WORK/blkio "${disk[$1]}" "$kind" $((${size%k} * 1024)) "$depth" "$seconds") || vm_die "blkio: $got"
	echo "libblkio $case $1 ${got% *}"
}

disks() { # disks PATH
	local who case
	declare -A disk
	load blk
	case $1 in
	virtio_vdpa) modprobe -a virtio_blk virtio_vdpa || exit 4 ;;
	libblkio)
		gcc -O2 -o $WORK/blkio /src/tools/bench/blkio.c -lblkio || vm_die "no program"
		ulimit -l unlimited
		load_driver ;;
	esac
	for who in c rust; do
		vdpa dev add name "speed-$who" mgmtdev "$(mgmtdev $who)" || vm_die "no disk of $who"
		case $1 in
		virtio_vdpa) disk[$who]=$(disk_of "speed-$who") ;;
		libblkio) disk[$who]=$(vhost_node "speed-$who") ;;
		esac
		[ -n "${disk[$who]}" ] || vm_die "no disk of $who"
	done
	for ((round = 1; round <= rounds; round++)); do
		for case in $cases; do by_turns "$1" c rust; done
	done
	for who in c rust; do vdpa dev del "speed-$who"; done
	[ "$1" = virtio_vdpa ] || unload_driver
}

# NICs.

pg() { echo "$2" >"/proc/net/pktgen/$1" || vm_die "pktgen: $2"; }

net() { # net WHO: for $size
	local iface=${nic[$1]} before after
	pg kpktgend_0 rem_device_all
	pg kpktgend_0 "add_device $iface"
	pg "$iface" 'count 0'
	pg "$iface" "pkt_size $size"
	pg "$iface" 'dst_mac 52:54:00:11:22:33'
	pg "$iface" 'dst 192.0.2.9'
	echo start >/proc/net/pktgen/pgctrl &
	sleep 0.5
	before=$(cat "/sys/class/net/$iface/statistics/rx_packets" /proc/uptime | tr '\n' ' ')
	sleep "$seconds"
	after=$(cat "/sys/class/net/$iface/statistics/rx_packets" /proc/uptime | tr '\n' ' ')
	echo stop >/proc/net/pktgen/pgctrl
	wait
	echo "net $size-bytes $1 $(awk '{ print ($4 - $1) / ($5 - $2) }' <<<"$before $after")"
}

nics() {
	local who size
	declare -A nic mgmtdev=([c]=vdpasim_net [split]=rust_vdpasim_net [packed]=rust_vdpasim_net) \
		features=([packed]=0x7389f0028)
	load net
	modprobe -a virtio_net virtio_vdpa pktgen || exit 4
	for who in c split packed; do
		vdpa dev add name "speed-$who" mgmtdev "${mgmtdev[$who]}" mac 52:54:00:11:22:33 \
			${features[$who]:+device_features ${features[$who]}} || vm_die "no NIC of $who"
		nic[$who]=$(iface_of "speed-$who") || vm_die "no interface of $who"
		sysctl -eqw "net.ipv6.conf.${nic[$who]}.disable_ipv6=1"
		ip link set "${nic[$who]}" up
	done
	for ((round = 1; round <= rounds; round++)); do
		for size in 60 1514; do by_turns net c split packed; done
	done
	pg kpktgend_0 rem_device_all
	for who in c split packed; do vdpa dev del "speed-$who"; done
}

for path in $paths; do
	case $path in
	virtio_vdpa | libblkio) disks "$path" ;;
	net) nics ;;
	*) vm_die "PATHS: $path?" ;;
	esac
done
