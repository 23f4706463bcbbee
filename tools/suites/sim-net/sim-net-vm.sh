# SPDX-License-Identifier: GPL-2.0
# The net simulator by itself, under C's vhost_vdpa and under virtio_vdpa: is it
# found, provisioned, bound, do frames come back, does everything go away again?
# Usage: tools/vm.sh tools/suites/sim-net/sim-net-vm.sh

fail=0

modprobe vhost_iotlb; modprobe vdpa
insmod_file "$KO_DIR/rust_vdpa_sim_net.ko" use_va=0
check 'management device' vdpa mgmtdev show rust_vdpasim_net
vdpa mgmtdev show
check 'packed rings can be asked for' has RING_PACKED "$(vdpa mgmtdev show rust_vdpasim_net)"

echo '== attributes'
check 'add with mac and mtu' vdpa dev add name sim0 mgmtdev rust_vdpasim_net \
	mac 52:54:00:12:34:56 mtu 4000
check 'the name is taken' no vdpa dev add name sim0 mgmtdev rust_vdpasim_net
check 'unknown features are refused' no vdpa dev add name sim1 mgmtdev rust_vdpasim_net \
	device_features 0x8000000300000000
vdpa dev show -jp
vdpa dev config show
config=$(vdpa -j dev config show sim0)
check 'its mac' has '"mac":"52:54:00:12:34:56"' "$config"
check 'its mtu' has '"mtu":4000' "$config"
check 'its link' has '"link *":"up"' "$config"
check 'another mac' vdpa dev set name sim0 mac 52:54:00:12:34:57
check 'it took it' has 52:54:00:12:34:57 "$(vdpa -j dev config show sim0)"

echo '== vhost_vdpa'
modprobe irqbypass; modprobe vhost_vdpa
echo sim0 >/sys/bus/vdpa/drivers_probe 2>/dev/null
check 'a character device' vhost_node sim0
check 'it is the vhost_vdpa driver' test -e /sys/bus/vdpa/drivers/vhost_vdpa/sim0
check 'it opens' python3 -c 'open("/dev/vhost-vdpa-0", "r+b", buffering=0)'
check 'delete' vdpa dev del sim0
check 'it is gone' no test -e /sys/bus/vdpa/devices/sim0
rmmod vhost_vdpa

frames() { # frames IFACE COUNT SIZE: send to everybody, and count what comes back whole
	python3 - "$@" <<'PY'
import socket, sys, time
name, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kind = 0x88b5
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)
s.bind((name, kind)); s.settimeout(5)
mac = s.getsockname()[4]
back = 0; began = time.time()
for i in range(count):
    dest = b'\xff' * 6 if i % 2 else mac
    body = dest + mac + kind.to_bytes(2, 'big') + i.to_bytes(4, 'big')
    body += bytes((i + k) & 255 for k in range(size - len(body)))
    s.send(body)
    while True:
        got, where = s.recvfrom(65536)
        if where[2] != 4: break  # not our own outgoing copy
    assert got == body, (i, got[:32], body[:32])
    back += 1
print(f'{back} of {count} frames of {size} bytes came back, {count / (time.time() - began):.0f}/s')
PY
}
stat() { cat /sys/class/net/$iface/statistics/$1; }

echo '== virtio_vdpa'
modprobe virtio_net
# Rings: packed with everything, and bare; split with everything, which is the default, and bare.
for features in 0x7389f0028 0x700010028 "" 0x300010028; do
	modprobe virtio_vdpa
	check "add ${features:-default features}" vdpa dev add name sim2 mgmtdev rust_vdpasim_net \
		${features:+device_features $features}
	iface=$(iface_of sim2)
	check 'a network interface' test -n "$iface"
	wanted=$((${features:-0} >> 34 & 1))
	check "packed rings: $wanted" test "$(cut -c 35 "/sys/bus/vdpa/devices/sim2/"virtio*/features)" = $wanted
	sysctl -eqw net.ipv6.conf.$iface.disable_ipv6=1
	ip link set $iface up
	ip addr add 192.0.2.1/24 dev $iface
	check 'frames come back' frames $iface 300 60; cat $WORK/log
	check 'larger ones too' frames $iface 300 1514; cat $WORK/log
	tx=$(stat tx_packets) rx=$(stat rx_packets)
	ping -c 3 -i 0.2 -W 1 192.0.2.2 >/dev/null
	echo "ping: tx $tx to $(stat tx_packets), rx $rx to $(stat rx_packets)"
	check 'pings went out and came in' test $(stat rx_packets) -gt $rx
	check 'flood' python3 - $iface <<'PY'
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind((sys.argv[1], 0x88b5))
f = b'\xff' * 6 + b'\2' * 6 + b'\x88\xb5' + bytes(100)
for i in range(20000):
    try: s.send(f)
    except OSError as e: assert e.errno == 105, e
PY
	check 'and frames still come back' frames $iface 100 60
	vdpa -jp dev vstats show sim2 qidx 0
	vdpa -jp dev vstats show sim2 qidx 1
	# What sends does not notice that its interface has gone.
	check 'delete under traffic' sh -c "ping -f -c 100000 -I $iface 192.0.2.2 >/dev/null 2>&1 & ping=\$!
		sleep 0.3; kill -0 \$ping && vdpa dev del sim2; rc=\$?; kill \$ping; wait; exit \$rc"
	rmmod virtio_vdpa
done

echo '== away'
modprobe virtio_vdpa
check 'add two' sh -c 'vdpa dev add name a mgmtdev rust_vdpasim_net && vdpa dev add name b mgmtdev rust_vdpasim_net'
check 'with a thread each' sh -c 'pgrep ^vdpa-a/ && pgrep ^vdpa-b/'
check 'rmmod deletes them' rmmod rust_vdpa_sim_net
check 'none is left' test -z "$(ls /sys/bus/vdpa/devices)"
check 'nor is its thread' no pgrep '^vdpa-[ab]/'
exit $fail
