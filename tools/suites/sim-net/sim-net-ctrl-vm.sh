# SPDX-License-Identifier: GPL-2.0
# The net simulator's control queue, queue pairs, links and faults: two NICs under
# virtio_vdpa that ping each other, then one under the driver that MODULES names.
# Usage: tools/vm.sh tools/suites/sim-net/sim-net-ctrl-vm.sh

fail=0
D=/sys/kernel/debug/rust_vdpa_sim_net
add() { vdpa dev add mgmtdev rust_vdpasim_net name "$@"; }
# count DEVICE QUEUE WHAT: one number of its statistics.
count() { vdpa dev vstats show $1 qidx $2 | sed -n "s/.*$3 \([0-9]*\).*/\1/p" | head -n 1; }
# send IFACE DEST [VLAN]: ten frames.
send() {
	python3 - "$@" <<'PY'
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind((sys.argv[1], 0x88b5))
tag = b'\x81\0' + int(sys.argv[3]).to_bytes(2, 'big') if len(sys.argv) > 3 else b''
f = bytes.fromhex(sys.argv[2]) + b'\2' * 6 + tag + b'\x88\xb5' + bytes(50)
for _ in range(10): s.send(f)
PY
}
# more THAN COMMAND...: waits until COMMAND prints a number of at least THAN.
more() {
	local than=$1 i
	shift
	for i in $(seq 50); do [ "$("$@")" -ge "$than" ] && return; sleep 0.1; done
	echo "$* prints $("$@"), not $than"
	return 1
}

# The debug kernel has neither namespaces nor VLANs: what needs them is left out there.
ns='' vlan=''
ip netns add probe 2>/dev/null && ns=1 && ip netns del probe
modprobe 8021q 2>/dev/null && vlan=1
[ "${VM_KERNEL:-stock}" = debug ] || { [ -n "$ns" ] && [ -n "$vlan" ]; } || vm_die 'no namespaces or no VLANs'
there() { if [ -n "$ns" ]; then ip netns exec other "$@"; else "$@"; fi; } # where the peer is
pings() { # pings WHAT ARG...
	local what=$1
	shift
	[ -z "$ns" ] || check "$what" ping -W 5 "$@" 192.0.2.2
}

# answer: waits for one from the peer, whose address may have to be asked for again.
answer() {
	local i
	for i in $(seq 30); do ping -c 1 -W 2 192.0.2.2 && return; sleep 0.5; done
	return 1
}

modprobe vhost_iotlb; modprobe vdpa; modprobe virtio_net
check 'no queues of 100' no insmod_file $KO_DIR/rust_vdpa_sim_net.ko queue_size=100
check 'nor of a single IOTLB entry' no insmod_file $KO_DIR/rust_vdpa_sim_net.ko max_iotlb_entries=1
check 'queues of 64' insmod_file $KO_DIR/rust_vdpa_sim_net.ko queue_size=64
modprobe virtio_vdpa

for features in '' 0x738df0028 0x300c30028; do
	# Without the feature, the control queue does not say what is received.
	rx=1
	[ "$features" != 0x300c30028 ] || rx=
	echo "== a pair of NICs, ${features:-default features}"
	check 'one' add a mac 02:00:00:00:00:0a max_vqp 4 ${features:+device_features $features}
	check 'another' add b mac 02:00:00:00:00:0b max_vqp 2 ${features:+device_features $features}
	check 'their size' has 'max_vq_size 64' "$(vdpa dev show a)"
	check 'their number' has 'max_vqs 9' "$(vdpa dev show a)"
	check 'their threads' test $(pgrep -c '^vdpa-[ab]/') = 8
	A=$(iface_of a) B=$(iface_of b)
	check 'interfaces' test -n "$A" -a -n "$B"
	[ -z "$ns" ] || { ip netns add other; ip link set $B netns other; }
	sysctl -eqw net.ipv6.conf.$A.disable_ipv6=1
	there sysctl -eqw net.ipv6.conf.$B.disable_ipv6=1
	ip addr add 192.0.2.1/24 dev $A; ip link set $A up
	there ip addr add 192.0.2.2/24 dev $B; there ip link set $B up
	[ -z "$ns" ] || check 'no answer without a link' no ping -c 1 -W 1 192.0.2.2
	check 'no link to nobody' no sh -c "echo nobody >$D/a/peer"
	check 'nor to itself' no sh -c "echo a >$D/a/peer"
	check 'a link' sh -c "echo b >$D/a/peer"
	check 'with two ends' test "$(cat $D/a/peer) $(cat $D/b/peer)" = 'b a'
	[ -z "$ns" ] || check 'an answer with one' answer
	pings 'ping' -c 3 -i 0.1
	pings 'large packets' -c 3 -i 0.1 -s 20000
	pings 'flood' -f -c 500
	check 'commands' test "$(count a 8 requests)" -gt 0
	check 'none failed' test "$(count a 8 errors)" = 0
	check 'pairs' ethtool -L $A combined 4
	check 'all of them' has 'Combined:.*4' "$(ethtool -l $A | sed '1,/Current/d')"
	pings 'ping over them' -c 3 -i 0.1
	check 'another address' ip link set dev $A address 02:00:00:00:00:0c
	check 'in its config' has 02:00:00:00:00:0c "$(vdpa dev config show a)"
	pings 'ping with it' -c 3 -i 0.1
	for who in 02:00:00:00:00:0c:to-it 02:00:00:00:00:77:to-another 33:33:00:00:00:77:to-a-group; do
		dest=${who:0:17} before=$(($(count a 0 'rx drops') + $(count a 2 'rx drops') + 10))
		received=$(($(cat /sys/class/net/$A/statistics/rx_packets) + 10))
		there bash -c "$(declare -f send); send $B ${dest//:/}"
		drops() { echo $(($(count a 0 'rx drops') + $(count a 2 'rx drops'))); }
		case $who in
		*to-it) check 'frames to it arrive' more $received cat /sys/class/net/$A/statistics/rx_packets ;;
		*group)	if [ -z "$rx" ]; then
				check 'frames to a group arrive' more $received cat /sys/class/net/$A/statistics/rx_packets
			else
				check 'frames to a group do not' more $before drops
			fi ;;
		*)	check 'frames to another do not' more $before drops ;;
		esac
	done
	if [ -n "$rx" ]; then
		check 'promiscuous' ip link set $A promisc on
		received=$(($(cat /sys/class/net/$A/statistics/rx_packets) + 10))
		there bash -c "$(declare -f send); send $B 020000000077"
		check 'now they arrive' more $received cat /sys/class/net/$A/statistics/rx_packets
		ip link set $A promisc off
	fi
	if [ -n "$rx" ] && [ -n "$vlan" ]; then
		check 'a VLAN' ip link add link $A name vlan5 type vlan id 5
		ip link set vlan5 up
		received=$(($(cat /sys/class/net/vlan5/statistics/rx_packets) + 10))
		there bash -c "$(declare -f send); send $B 02000000000c 5"
		check 'its frames arrive' more $received cat /sys/class/net/vlan5/statistics/rx_packets
		before=$(($(drops) + 10))
		there bash -c "$(declare -f send); send $B 02000000000c 6"
		check 'those of another do not' more $before drops
		ip link del vlan5
	fi
	if [ -n "$ns" ]; then
		echo 200000 >$D/b/delay_completions_us
		pings 'delayed' -c 1 -W 20
		rtt=$(sed -n 's,^rtt.*= \([0-9]*\)\..*,\1,p' $WORK/log)
		check 'by that much at least' test "${rtt:-0}" -ge 200
		echo 0 >$D/b/delay_completions_us
	fi
	check 'the peer goes away under traffic' bash -c "$(declare -f send)
		while send $A 02000000000b; do :; done 2>/dev/null & sleep 1; vdpa dev del b; kill %1; wait; true"
	check 'and its link' test -z "$(cat $D/a/peer)"
	check 'and its files' no test -e $D/b
	[ -z "$ns" ] || ip netns del other
	received=$(($(cat /sys/class/net/$A/statistics/rx_packets) + 10))
	send $A ffffffffffff
	check 'frames come back now' more $received cat /sys/class/net/$A/statistics/rx_packets
	check 'delete the other' vdpa dev del a
done
rmmod virtio_vdpa; rmmod rust_vdpa_sim_net

echo '== faults'
load_driver
for mode in 'batch_mapping=1 set_map' 'batch_mapping=0 dma_map'; do
	insmod_file $KO_DIR/rust_vdpa_sim_net.ko use_va=0 ${mode% *}
	add f && node=$(vhost_node f) || vm_die 'no device'
	check 'at rest' test "$(cat $D/f/maps)" = "$(printf '%d 0x0 0xffffffffffffffff 0x0 3\n' 0 1)"
	check "faults with ${mode#* }" python3 - $node $D/f ${mode#* } <<'PY'
import errno, fcntl, mmap, os, struct, sys
node, dir, way = sys.argv[1:]

def knob(name, value=None):
    with open(f'{dir}/{name}', 'r' if value is None else 'w') as f:
        return int(f.read()) if value is None else f.write(str(value))

def call(fd, nr, fmt, *args):
    data = struct.pack(fmt, *args)
    return fcntl.ioctl(fd, 1 << 30 | len(data) << 16 | 0xaf << 8 | nr, data)

def fails(error, what, *args):
    try: what(*args)
    except OSError as e:
        assert e.errno == error, e
        return
    assert False, f'{what} did not fail'

knob('fail_reset', 1)
fails(errno.EIO, os.open, node, os.O_RDWR)
assert knob('fail_reset') == 0
fd = os.open(node, os.O_RDWR)
fcntl.ioctl(fd, 0xaf01)
# SET_BACKEND_FEATURES: IOTLB_MSG_V2, IOTLB_BATCH
call(fd, 0x25, '<Q', 2 | (4 if way == 'set_map' else 0))
page = mmap.mmap(-1, 8192)
import ctypes
where = ctypes.addressof(ctypes.c_char.from_buffer(page))
def message(kind, iova, size, uaddr=0):
    # struct vhost_msg_v2: IOTLB_MSG_V2; iova, size, uaddr, perm, type
    os.write(fd, struct.pack('<IIQQQBB38x', 2, 0, iova, size, uaddr, 3, kind))
update = lambda iova: message(2, iova, 4096, where)
mapped = lambda: [l.split()[1] for l in open(f'{dir}/maps') if l.startswith('0 ')]
knob(f'fail_{way}', 2)
update(0x10000)
assert knob(f'fail_{way}') == 1
fails(errno.EFAULT, update, 0x20000)
assert knob(f'fail_{way}') == 0
assert mapped() == ['0x10000'], mapped()
update(0x20000)
assert mapped() == ['0x10000', '0x20000'], mapped()
call(fd, 0x72, 'B', 1); call(fd, 0x72, 'B', 3)
call(fd, 0x00, '<Q', 1 << 32 | 1 << 33)
call(fd, 0x72, 'B', 11); call(fd, 0x72, 'B', 15)
knob('fail_suspend', 1)
fails(errno.EIO, fcntl.ioctl, fd, 0xaf7d)
fcntl.ioctl(fd, 0xaf7d)
knob('fail_resume', 1)
fails(errno.EIO, fcntl.ioctl, fd, 0xaf7e)
fcntl.ioctl(fd, 0xaf7e)
PY
	check 'at rest again' test "$(cat $D/f/maps)" = "$(printf '%d 0x0 0xffffffffffffffff 0x0 3\n' 0 1)"
	vdpa dev del f
	check 'unload' rmmod rust_vdpa_sim_net
done
exit $fail
