# SPDX-License-Identifier: GPL-2.0
# rust_mlx5_compat: provisioning, the key at rest under virtio_vdpa, and its selftests
# under our driver and under C's vhost_vdpa.
# Usage: tools/vm.sh -t 1800 tools/suites/mlx5-compat/mlx5-compat-vm.sh [kunit|provision|virtio|rust|c]...
# On the debug kernel the module's KUnit suites run when it is loaded; "kunit" looks at
# what they said.

[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
[ $# -gt 0 ] || set -- kunit provision virtio rust c
fail=0
refused() { # refused WORDS COMMAND...: fails, and says so
	local words=$1
	shift
	if "$@" >$WORK/out 2>&1; then cat $WORK/out; return 1; fi
	cat $WORK/out
	grep -q "$words" $WORK/out
}
add() { vdpa dev add mgmtdev rust_mlx5_compat name "$@"; }
debug=/sys/kernel/debug/rust_mlx5_compat

modprobe vhost_iotlb; modprobe vdpa
insmod_file "$KO_DIR/rust_mlx5_compat.ko"

kunit() {
	local said
	if [ "$VM_KERNEL" != debug ]; then
		echo '# this kernel has no KUnit'
		return
	fi
	said=$(dmesg | sed -n '/# Subtest: rust_mlx5/,$p' | grep -oE '(not )?ok [0-9]+ .*')
	echo "$said" | sed 's/^/| /'
	check 'every suite of rust_mlx5_compat passes' \
		test "$(grep -cE '^ok [0-9]+ rust_mlx5_(keys|index|command)$' <<<"$said")" -eq 3
	check 'no KUnit case fails' no grep '^not ok' <<<"$said"
}

provision() {
	local mgmt config
	mgmt=$(vdpa -j mgmtdev show rust_mlx5_compat)
	echo "$mgmt"
	check 'queues of 16 pairs and one' grep -q '"max_supported_vqs":33' <<<"$mgmt"
	check 'VERSION_1 is demanded' refused 'not supported' add m0 device_features 0x200000020
	check 'ACCESS_PLATFORM is demanded' refused 'not supported' add m0 device_features 0x100000020
	check 'unknown features are refused' refused 'Invalid' add m0 device_features 0x8000000300000000
	check 'too many pairs are refused' refused 'Invalid' add m0 max_vqp 17
	check 'add' add m0 mac 52:54:00:12:34:56 mtu 4000 max_vqp 4
	config=$(vdpa -j dev config show m0)
	echo "$config"
	check 'its mac' grep -q '"mac":"52:54:00:12:34:56"' <<<"$config"
	check 'its mtu' grep -q '"mtu":4000' <<<"$config"
	check 'its pairs' grep -q '"max_vq_pairs":4' <<<"$config"
	check 'nine queues' grep -q '"max_vqs":9' <<<"$(vdpa -j dev show m0)"
	check 'another mac at rest' vdpa dev set name m0 mac 52:54:00:12:34:57
	check 'it took it' grep -q 52:54:00:12:34:57 <<<"$(vdpa -j dev config show m0)"
	check 'a second device' add m1 device_features 0x300000000
	config=$(vdpa -j dev config show m1)
	check 'without the features, the config space is empty' \
		no grep -qE '"mtu":|"link":|max_vq_pairs":[^1]' <<<"$config"
	check 'at rest address space 0 has the physical key, 1 has none' \
		test "$(cat $debug/m0/maps)" = '0 0x0 0xffffffffffffffff 0x0 3'
	check 'delete' vdpa dev del m0
	check 'delete the other' vdpa dev del m1
}

frames() { # frames IFACE COUNT SIZE: send to everybody, and count what comes back whole
	python3 - "$@" <<'PY'
import socket, sys
name, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kind = 0x88b5
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)
s.bind((name, kind)); s.settimeout(10)
mac = s.getsockname()[4]
for i in range(count):
    dest = b'\xff' * 6 if i % 2 else mac
    body = dest + mac + kind.to_bytes(2, 'big') + i.to_bytes(4, 'big')
    body += bytes((i + k) & 255 for k in range(size - len(body)))
    s.send(body)
    while True:
        got, where = s.recvfrom(65536)
        if where[2] != 4: break  # not our own outgoing copy
    assert got == body, (i, got[:32], body[:32])
PY
}

virtio() {
	local iface
	modprobe virtio_net
	modprobe virtio_vdpa
	check 'add under virtio_vdpa' add v0 max_vqp 2
	iface=$(iface_of v0)
	check 'a network interface' test -n "$iface"
	sysctl -eqw net.ipv6.conf.$iface.disable_ipv6=1
	ip link set $iface up
	check 'frames come back through the physical key' frames $iface 200 1514
	check 'two pairs, by the control queue' ethtool -L $iface combined 2
	check 'frames come back with two pairs' frames $iface 200 60
	check 'one pair again' ethtool -L $iface combined 1
	check 'another mac, by the control queue' ip link set $iface address 52:54:00:77:77:77
	check 'the config space has it' grep -q 52:54:00:77:77:77 <<<"$(vdpa -j dev config show v0)"
	check 'set is refused while it runs' refused 'busy' vdpa dev set name v0 mac 52:54:00:12:34:57
	check 'frames come back to it' frames $iface 50 60
	check 'a VLAN, by the control queue' ip link add link $iface name vlan7 type vlan id 7
	check 'the key is still the one at rest' \
		test "$(cat $debug/v0/maps)" = '0 0x0 0xffffffffffffffff 0x0 3'
	vdpa dev vstats show v0 qidx 0
	vdpa dev vstats show v0 qidx 4
	check 'delete' vdpa dev del v0
	rmmod virtio_vdpa
}

# The selftests, with the driver of MODULES.
selftests() {
	export MODULES=$1 DRIVER=$1
	shift
	load_driver
	if MGMTDEV=rust_mlx5_compat bash -c '. /src/selftests/run.sh "$@"' selftests "$@"; then
		echo "ok - selftests under $MODULES"
	else
		echo "not ok - selftests under $MODULES"; fail=1
	fi
	unload_driver
}
rust() { selftests rust mlx5 datapath multi_device; }
c() { selftests c mlx5 datapath; }

for part; do
	echo "== $part"
	"$part"
done
check 'unload' rmmod rust_mlx5_compat
exit $fail
