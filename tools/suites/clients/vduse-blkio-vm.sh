# SPDX-License-Identifier: GPL-2.0
# libblkio, through QEMU's tools, as the client of a VDUSE disk that the storage daemon
# exports, and of C's block simulator: written data is read back and found in the image, fio
# verifies its own, clients come and go, are killed, and lose their device.
# Usage: tools/vm.sh tools/suites/clients/vduse-blkio-vm.sh	(MODULES=c for the C driver)

n=0 failed=0 skipped=0
ok() { # ok STATUS NAME
	n=$((n + 1))
	[ "$1" -eq 0 ] && { echo "ok $n - $2"; return; }
	failed=$((failed + 1))
	echo "not ok $n - $2"
	tail -n 8 $WORK/log 2>/dev/null | sed 's/^/# | /'
}
skip() { n=$((n + 1)) skipped=$((skipped + 1)); echo "ok $n - $1 # SKIP $2"; }
try() { # try NAME COMMAND...
	local name=$1
	shift
	timeout 120 "$@" >$WORK/log 2>&1
	ok $? "$name"
}
opts() { echo "driver=virtio-blk-vhost-vdpa,path=$1,cache.direct=on"; }
# io NODE COMMAND...: qemu-io says of a wrong pattern only in its output.
io() {
	local node=$1 c args=() out
	shift
	for c; do args+=(-c "$c"); done
	out=$(qemu-io --image-opts "${args[@]}" "$(opts "$node")" 2>&1) || { echo "$out"; return 1; }
	echo "$out"
	! grep -qiE 'failed|error|mismatch' <<<"$out"
}
export -f io opts

# gone PID: a process ends within ten seconds.
gone() {
	local i
	for i in $(seq 100); do
		# What has ended waits for its parent, us.
		[[ $(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null) =~ ^(Z|)$ ]] && return 0
		sleep 0.1
	done
	return 1
}

load_driver
before=$(pins_at_rest)
# libblkio locks nothing by itself, but what it maps on the simulator is charged.
ulimit -l unlimited

add_vduse() { vdpa dev add name vduse0 mgmtdev vduse; }
modprobe vduse || vm_die "vduse does not load"
truncate -s 16M $WORK/disk.img
qemu-storage-daemon \
	--blockdev driver=file,node-name=file,filename=$WORK/disk.img \
	--blockdev driver=raw,node-name=disk,file=file \
	--export type=vduse-blk,id=export,node-name=disk,name=vduse0,writable=on >$WORK/daemon.log 2>&1 &
daemon=$!
for _ in $(seq 100); do [ -e /dev/vduse/vduse0 ] && break; sleep 0.1; done
for _ in $(seq 50); do add_vduse 2>/dev/null && break; sleep 0.2; done

clients() { # clients PARENT NODE
	local p=$1 node=$2
	try "$p: a pattern is written and read back" bash -c 'io "$@"' io "$node" \
		'write -P 0x5a 0 64k' 'write -P 0xa5 64k 1M' 'flush' 'read -P 0x5a 0 64k' 'read -P 0xa5 64k 1M'
	try "$p: another client finds it" bash -c 'io "$@"' io "$node" \
		'read -P 0x5a 4k 4k' 'read -P 0xa5 1M 64k'
	local i write=() read=()
	for i in $(seq 0 31); do
		write+=("aio_write -q -P $((i + 1)) $((2048 + i * 8))k 8k")
		read+=("read -q -P $((i + 1)) $((2048 + i * 8))k 8k")
	done
	try "$p: many requests at once" bash -c 'io "$@"' io "$node" "${write[@]}" aio_flush "${read[@]}"
	head -c 4M /dev/urandom >$WORK/random
	try "$p: an image is copied to the disk" qemu-img convert -n --image-opts --target-image-opts \
		"driver=raw,file.driver=file,file.filename=$WORK/random" "$(opts "$node")"
	try "$p: it is the same there" python3 - "$node" <<'PY'
import subprocess, sys, os
w = os.environ['WORK']
subprocess.run(['qemu-img', 'dd', '--image-opts', '-O', 'raw', 'bs=64k', 'count=64',
    'if=driver=virtio-blk-vhost-vdpa,path=%s,cache.direct=on' % sys.argv[1], 'of=%s/back' % w], check=True)
assert open(w + '/back', 'rb').read() == open(w + '/random', 'rb').read()
PY
	try "$p: fio verifies its data" bash -c 'fio_on "$@"' fio "$node"
	# What it verified is on the disk, and not only in between: damage is found.
	try "$p: another fio finds it" bash -c 'fio_on "$@"' fio "$node" --verify_only=1
	io "$node" 'write -P 1 10M 64k' >$WORK/log 2>&1
	try "$p: fio finds what does not belong there" bash -c 'fio_on "$@" 2>&1 | tee $WORK/said
		grep -qE "bad magic header|verify failed" $WORK/said' fio "$node" --verify_only=1
}

# fio on libblkio. Debian's has no engine for it, but one for NBD: the storage daemon stands between.
fio_on() { # fio_on NODE [OPTION...]
	local node=$1 server i rc
	shift
	rm -f "$WORK/nbd"
	qemu-storage-daemon \
		--blockdev "driver=virtio-blk-vhost-vdpa,node-name=disk,path=$node,cache.direct=on" \
		--nbd-server "addr.type=unix,addr.path=$WORK/nbd" \
		--export type=nbd,id=export,node-name=disk,name=disk,writable=on &
	server=$!
	for i in $(seq 100); do [ -S "$WORK/nbd" ] && break; sleep 0.1; done
	fio --name=verify --ioengine=nbd --uri="nbd+unix:///disk?socket=$WORK/nbd" --rw=randwrite \
		--bsrange=512-64k --blockalign=512 --iodepth=16 --offset=8M --size=4M \
		--verify=crc32c --do_verify=1 --verify_fatal=1 "$@"
	rc=$?
	kill "$server" && wait "$server" && return $rc
}
export -f fio_on

# hold NODE: a client that has the device open and waits on file descriptor 8.
hold() {
	rm -f $WORK/commands
	mkfifo $WORK/commands
	qemu-io --image-opts "$(opts "$1")" <$WORK/commands >$WORK/held 2>&1 &
	held=$!
	exec 8>$WORK/commands
	echo 'read -P 0 15M 4k' >&8
	local i
	for i in $(seq 100); do grep -q 'read 4096/4096' $WORK/held && return; sleep 0.1; done
	cat $WORK/held >$WORK/log
	return 1
}

# lifetimes PARENT DEVICE COMMAND...: COMMAND adds the device again.
lifetimes() {
	local p=$1 dev=$2 node start
	shift 2
	node=$(vhost_node $dev) || { ok 1 "$p: a node"; return; }
	hold "$node"
	ok $? "$p: a client holds the device"
	kill -9 $held; exec 8>&-
	disown $held
	gone $held
	ok $? "$p: killed, it is gone at once"
	try "$p: the next one works" bash -c 'io "$@"' io "$node" 'write -P 7 0 4k' 'read -P 7 0 4k'
	if [ "$MODULES" = c ]; then
		skip "$p: removal while a client holds the device" "C waits for ever"
		return
	fi
	hold "$node"
	ok $? "$p: a client holds the device again"
	start=$SECONDS
	try "$p: the device is deleted under it" timeout 10 vdpa dev del $dev
	[ $((SECONDS - start)) -lt 10 ]
	ok $? "$p: that takes no time"
	[ ! -e "/sys/bus/vdpa/devices/$dev" ]
	ok $? "$p: it is gone"
	[ "$(pins_at_rest)" -eq "$before" ]
	ok $? "$p: so are the pins"
	"$@"
	ok $? "$p: a successor is added while the old file is open"
	node=$(vhost_node $dev)
	try "$p: the successor works" bash -c 'io "$@"' io "$node" 'write -P 8 0 4k' 'read -P 8 0 4k'
	echo quit >&8; exec 8>&-
	gone $held
	ok $? "$p: the old client can close"
	kill -9 $held 2>/dev/null
	try "$p: the successor still works" bash -c 'io "$@"' io "$node" 'read -P 8 0 4k'
}

node=$(vhost_node vduse0) || vm_die "no VDUSE disk: $(cat $WORK/daemon.log)"
clients vduse "$node"
cmp -n $((4 << 20)) $WORK/random $WORK/disk.img >$WORK/log 2>&1
ok $? "vduse: the image file has it, too"
lifetimes vduse vduse0 add_vduse
kill -0 $daemon
ok $? "vduse: the daemon is alive"
try "vduse: the device is deleted" vdpa dev del vduse0
kill $daemon
wait $daemon
ok $? "vduse: the daemon ends"

if [ -e "${C_SIM_DIR:-/cache/csim}/vdpa_sim_blk.ko" ]; then
	add_sim() { vdpa dev add name simblk0 mgmtdev vdpasim_blk; }
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_blk.ko"
	add_sim || vm_die "no block simulator"
	node=$(vhost_node simblk0) || vm_die "no node for the block simulator"
	clients vdpa_sim_blk "$node"
	lifetimes vdpa_sim_blk simblk0 add_sim
	try "vdpa_sim_blk: the device is deleted" vdpa dev del simblk0
	# On C the count was once seen not to be back: say by how much.
	for _ in $(seq 50); do [ "$(pins_at_rest)" -ne "$before" ] || break; sleep 0.1; done
	echo "$before pages were pinned before, $(pins_at_rest) are now" >$WORK/log
	[ "$(pins_at_rest)" -eq "$before" ]
	ok $? "vdpa_sim_blk: nothing is left pinned"
else
	skip "vdpa_sim_blk" "it was not built: run tools/setup.sh csim"
fi
unload_driver
ok $? "the driver unloads"
echo "1..$n"
echo "$((n - failed - skipped)) passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
exit
