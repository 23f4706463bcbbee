# SPDX-License-Identifier: GPL-2.0
# The block simulator: what `vdpa` makes of it, file systems and verified data on it under
# virtio_vdpa, and requests of every shape from userspace, the same as to C's simulator.
# Usage: tools/vm.sh -t 2400 tools/suites/sim-blk/sim-blk-vm.sh [management] [disks] [sizes] [requests] [clients]

# Sourced without arguments, as tools/vm.sh does, a script sees its caller's.
[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
[ $# -gt 0 ] || set -- management disks sizes requests clients

n=0 failed=0 skipped=0
ok() { # ok STATUS NAME
	n=$((n + 1))
	[ "$1" -eq 0 ] && { echo "ok $n - $2"; return; }
	failed=$((failed + 1))
	echo "not ok $n - $2"
	tail -n 12 $WORK/log 2>/dev/null | sed 's/^/# | /'
}
try() { # try NAME COMMAND...
	local name=$1
	shift
	"$@" >$WORK/log 2>&1
	ok $? "$name"
}
skip() { n=$((n + 1)) skipped=$((skipped + 1)); echo "ok $n - $1 # SKIP $2"; }

mgmt=rust_vdpasim_blk
load() { insmod_file "$KO_DIR/rust_vdpa_sim_blk.ko" "$@"; }
unload() { rmmod rust_vdpa_sim_blk; }
add() { vdpa dev add name "$1" mgmtdev $mgmt "${@:2}"; }
del() { vdpa dev del "$1"; }
modprobe vhost_iotlb; modprobe vdpa
# What C's disk offers; with indirect descriptors and event indices; and in packed rings.
basic=0x308007646 split=0x338007646 packed=0x738007646

management() {
	echo "# == management"
	load
	ok $? 'the module loads'
	try 'a management device' vdpa mgmtdev show $mgmt
	vdpa mgmtdev show $mgmt
	try 'unknown features are refused' no add bad device_features 0x8000000300000000
	add sim0
	ok $? 'a disk'
	try 'a second one of that name is refused' no add sim0
	try '... before anything is made that has the name' no grep -q 'already exists' <<<"$(dmesg)"
	try 'the first one has its files still' test -e /sys/kernel/debug/rust_vdpa_sim_blk/sim0/maps
	del sim0
	unload
	load num_queues=4
	ok $? 'four queues'
	add sim0
	try 'rmmod deletes it' unload
	try 'none is left' test -z "$(ls /sys/bus/vdpa/devices)"
	try 'no capacity' no load capacity=0
	try 'too many queues' no load num_queues=65
	try 'no queue' no load num_queues=0
	try 'a queue without room for a request' no load queue_size=2
	load capacity=$((1 << 50))
	try 'more than there is memory for' no add sim0
	unload
}

# Data that fio writes in blocks of many sizes, and reads back and compares, each job in its own part.
verified() { # verified DISK JOBS
	fio --name=verify --filename="$1" --ioengine=io_uring --direct=1 --rw=randwrite --bsrange=512-64k \
		--blockalign=512 --iodepth=16 --numjobs="$2" --size=4M --offset_increment=4M \
		--verify=crc32c --do_verify=1 --verify_fatal=1 --group_reporting
}
build_disk() {
	[ -x $WORK/disk ] || gcc -O2 -Wall -pthread -o $WORK/disk /src/tools/suites/sim-blk/disk.c || vm_die "no program"
}
# within SECONDS COMMAND...: a command that hangs in the kernel cannot be killed.
within() {
	local left=$((10 * $1)) pid
	shift
	"$@" &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		[ $((left -= 1)) -gt 0 ] || { echo "no end"; ps -o pid,stat,wchan:30,cmd -p $pid; return 1; }
		sleep 0.1
	done
	wait $pid
}
# Pages that do not lie behind each other, as many as a request can have, there and back.
scattered() { # scattered DISK
	python3 - "$1" <<'PY'
import mmap, os, sys
PAGES = 200
memory = memoryview(mmap.mmap(-1, 2 * PAGES * 4096))
pages = [memory[2 * i * 4096:(2 * i + 1) * 4096] for i in range(PAGES)]
disk = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
for count in (1, 2, 3, 62, 63, 64, 126, 127, PAGES):
    for i in range(count):
        pages[i][:] = bytes([count + i & 255]) * 4096
    assert os.pwritev(disk, pages[:count], 0) == count * 4096
    for i in range(count):
        pages[i][:] = bytes(4096)
    assert os.preadv(disk, pages[:count], 0) == count * 4096
    for i in range(count):
        assert pages[i] == bytes([count + i & 255]) * 4096, (count, i)
PY
}
# Reads until the disk goes away.
reads() { # reads DISK
	fio --name=reads --filename="$1" --ioengine=io_uring --direct=1 --rw=randread --bs=4k \
		--iodepth=32 --time_based --runtime=60
}

# A file system that is made, filled, checked, and found again with all that was in it.
filesystem() { # filesystem WHAT DISK
	mkdir -p $WORK/mnt
	try "$1: mkfs.ext4" mkfs.ext4 -q -F "$2"
	try "$1: fsck of the new file system" fsck.ext4 -f -n "$2"
	mount "$2" $WORK/mnt
	ok $? "$1: mount"
	cp -a /usr/lib/python3*/encodings /usr/lib/python3*/json $WORK/mnt/
	head -c 8M /dev/urandom >$WORK/random
	cp $WORK/random $WORK/mnt/random
	rm -r $WORK/mnt/json
	fstrim $WORK/mnt
	ok $? "$1: fstrim"
	umount $WORK/mnt
	ok $? "$1: umount"
	try "$1: fsck" fsck.ext4 -f -n "$2"
	echo 3 >/proc/sys/vm/drop_caches
	mount -o ro "$2" $WORK/mnt
	try "$1: the files are the same" diff -r /usr/lib/python3*/encodings $WORK/mnt/encodings
	try "$1: the large one too" cmp $WORK/random $WORK/mnt/random
	umount $WORK/mnt
}

disks() {
	local queues ring what disk have
	echo "# == disks"
	modprobe -a virtio_blk virtio_vdpa ext4
	build_disk
	for queues in 1 4; do
		load num_queues=$queues
		for ring in split packed; do
			what="$ring ring, $queues queue(s)"
			try "$what: a disk" add sim0 device_features ${!ring}
			disk=$(disk_of sim0) || { ok 1 "$what: a block device"; del sim0; continue; }
			have=$(cat /sys/bus/vdpa/devices/sim0/virtio*/features)
			try "$what: 128 MiB" test "$(blockdev --getsize64 "$disk")" = 134217728
			try "$what: negotiated" test "${have:34:1}" = $([ $ring = packed ] && echo 1 || echo 0)
			try "$what: hardware queues" test "$(ls /sys/block/${disk##*/}/mq | wc -l)" -eq \
				$((queues < $(nproc) ? queues : $(nproc)))
			try "$what: its name" test "$(cat /sys/block/${disk##*/}/serial)" = vdpa_blk_sim
			# On a disk of zeroes.
			try "$what: data is verified" $WORK/disk verify "$disk" 7 4 150
			cat $WORK/log
			try "$what: fio verifies its data" verified "$disk" 4
			# Each kind of ring, and each number of queues, has one.
			case $queues$ring in 1split | 4packed) filesystem "$what" "$disk" ;; esac
			reads "$disk" >/dev/null 2>&1 &
			sleep 0.5
			try "$what: delete under load" del sim0
			wait
		done
		unload
	done

	# C's features, none of the new ones.
	load capacity=20001
	try 'with C'\''s features' add sim0 device_features $basic
	disk=$(disk_of sim0)
	try 'another capacity' test "$(blockdev --getsz "$disk")" = 20001
	try 'with C'\''s features: data is verified' $WORK/disk verify "$disk" 8 2 100
	try 'with C'\''s features: fio verifies its data' verified "$disk" 1
	del sim0
	add sim0 device_features $(printf %#x $((basic | 1 << 5)))
	disk=$(disk_of sim0)
	try 'read-only: the disk says so' test "$(blockdev --getro "$disk")" = 1
	try 'read-only: it reads' dd if="$disk" of=/dev/null bs=64k count=4 iflag=direct
	try 'read-only: it does not write' no dd if=/dev/zero of="$disk" bs=64k count=1 oflag=direct
	del sim0
	add sim0; add sim1
	disk=$(disk_of sim0)
	echo mine | dd of="$disk" bs=512 count=1 conv=sync oflag=direct status=none
	try 'disks of their own' no grep -q mine <(head -c 512 "$(disk_of sim1)")
	unload
	load shared_backend=1
	add sim0; add sim1
	disk=$(disk_of sim0)
	echo shared | dd of="$disk" bs=512 count=1 conv=sync oflag=direct status=none
	try 'a shared backend' grep -q shared <(dd if="$(disk_of sim1)" bs=512 count=1 iflag=direct status=none)
	del sim0
	try 'it stays when one goes' grep -q shared <(dd if="$(disk_of sim1)" bs=512 count=1 iflag=direct status=none)
	del sim1
	add sim0
	try 'and when all go' grep -q shared <(dd if="$(disk_of sim0)" bs=512 count=1 iflag=direct status=none)
	unload
	rmmod virtio_vdpa
}

sizes() {
	local size disk
	echo "# == sizes"
	modprobe -a virtio_blk virtio_vdpa
	build_disk
	# A request has room in the queue with all its segments: else it waits for ever.
	for size in 64 128 4; do
		load queue_size=$size
		add sim0
		disk=$(disk_of sim0)
		try "queue_size $size: segments of a request" test \
			"$(cat /sys/block/${disk##*/}/queue/max_segments)" = $((size - 2))
		# On a disk of zeroes.
		try "queue_size $size: data is verified" within 120 $WORK/disk verify "$disk" 9 2 20
		try "queue_size $size: requests of scattered pages" within 60 scattered "$disk"
		del sim0
		unload
	done
	rmmod virtio_vdpa
}

requests() {
	local params tests
	echo "# == requests"
	load_driver
	for params in num_queues=4 use_va=0 "batch_mapping=0 num_queues=2" "use_va=0 batch_mapping=0" \
		"shared_backend=1 num_queues=4"; do
		case $params in
		num_queues=4) tests='blk disk_migration sim_faults' ;;
		shared*) tests='blk disk_migration' ;;
		# Like the first in neither way of mapping.
		"use_va=0 batch"*) tests='blk sim_faults' ;;
		*) tests=blk ;;
		esac
		load $params
		try "ours, $params: requests" env MGMTDEV=$mgmt bash /src/selftests/run.sh $tests
		grep -E '^(not )?ok|^# .*(Expected|blk)' $WORK/log
		unload
	done
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_blk.ko"
	try 'C'\''s: the same requests' env MGMTDEV=vdpasim_blk bash /src/selftests/run.sh blk
	grep -E '^(not )?ok|^# .*(Expected|blk)' $WORK/log
	load use_va=0
	try 'a guest moves between C'\''s and ours' env MGMTDEV=vdpasim_blk MGMTDEV_B=$mgmt \
		TEST_ARGS="-V packed -f disk_migration" bash /src/selftests/run.sh disk_migration
	unload
	rmmod vdpa_sim_blk vdpa_sim
	unload_driver
}

clients() {
	local node
	echo "# == clients"
	load_driver
	load num_queues=2
	ulimit -l unlimited
	add sim0
	node=$(vhost_node sim0)
	ok $? 'a node'
	opts="driver=virtio-blk-vhost-vdpa,path=$node,cache.direct=on"
	try 'libblkio writes, zeroes and reads' timeout 120 qemu-io --image-opts -c 'write -P 0x5a 0 64k' \
		-c 'write -z 4k 4k' -c 'discard 1M 1M' -c flush -c 'read -P 0x5a 0 4k' -c 'read -P 0 4k 4k' \
		-c 'read -P 0x5a 8k 56k' "$opts"
	try 'and found no other pattern' no grep -iE 'failed|error|mismatch' $WORK/log
	head -c 8M /dev/urandom >$WORK/random
	try 'libblkio: an image is copied to the disk' timeout 240 qemu-img convert -n --image-opts \
		--target-image-opts "driver=raw,file.driver=file,file.filename=$WORK/random" "$opts"
	try 'libblkio: and back' timeout 240 qemu-img dd --image-opts -O raw bs=64k count=128 "if=$opts" of=$WORK/back
	try 'libblkio: it is the same' cmp $WORK/random $WORK/back
	del sim0
	unload
	unload_driver
}

for part; do $part; done
echo "1..$n"
echo "$((n - failed - skipped)) passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
