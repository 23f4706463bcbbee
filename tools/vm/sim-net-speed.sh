# SPDX-License-Identifier: GPL-2.0
# Frames per second through a net simulator under virtio_vdpa, by turns: C's, ours with the
# same split rings, ours with packed rings.
# Usage: tools/vm.sh tools/vm/sim-net-speed.sh [SECONDS [ROUNDS]]

seconds=${1:-5} rounds=${2:-3}
MODULES=c load_sim_net
MODULES=rust load_sim_net
modprobe -a virtio_net virtio_vdpa pktgen || exit 4

pg() { echo "$2" >"/proc/net/pktgen/$1" || vm_die "pktgen: $2"; }
one() { # one MGMTDEV SIZE [RINGS FEATURES]: make a device, flood it, say how many frames came back
	local iface rx tx
	vdpa dev add name speed mgmtdev "$1" mac 52:54:00:11:22:33 ${4:+device_features $4} ||
		vm_die "no device of $1"
	for _ in $(seq 50); do
		iface=$(ls /sys/bus/vdpa/devices/speed/virtio*/net 2>/dev/null) && break
		sleep 0.2
	done
	sysctl -eqw "net.ipv6.conf.$iface.disable_ipv6=1"
	ip link set "$iface" up
	pg kpktgend_0 rem_device_all
	pg kpktgend_0 "add_device $iface"
	pg "$iface" 'count 0'
	pg "$iface" "pkt_size $2"
	pg "$iface" 'dst_mac 52:54:00:11:22:33'
	pg "$iface" 'dst 192.0.2.9'
	rx=$(cat /sys/class/net/$iface/statistics/rx_packets)
	tx=$(cat /sys/class/net/$iface/statistics/tx_packets)
	echo start >/proc/net/pktgen/pgctrl &
	sleep "$seconds"
	rx=$((($(cat /sys/class/net/$iface/statistics/rx_packets) - rx) / seconds))
	tx=$((($(cat /sys/class/net/$iface/statistics/tx_packets) - tx) / seconds))
	echo stop >/proc/net/pktgen/pgctrl
	wait
	printf '%-18s %-6s %5d bytes  sent %7d/s  received %7d/s\n' "$1" "${3:-split}" "$2" $tx $rx
	pg kpktgend_0 rem_device_all
	vdpa dev del speed
}
for size in 60 1514; do
	for _ in $(seq "$rounds"); do
		one vdpasim_net $size
		one rust_vdpasim_net $size split 0x338010028
		one rust_vdpasim_net $size packed 0x738010028
	done
done
