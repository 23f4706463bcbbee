# SPDX-License-Identifier: GPL-2.0
# The demo inside the VM: a nested guest's disk and NIC through the driver.
# Run by tools/suites/demo/demo.sh; needs the guest's initramfs, and for NESTED=tcg its kernel, in /cache.

. /src/tools/vm/nested-vm.sh
choose_nested
frames=${FRAMES:-200}
image=$WORK/disk.img
serial=$WORK/serial
began=$SECONDS
timing=()

# at STEP...: one line when a step is done, with the time it took.
last=$SECONDS
at() {
	printf '  ok  %s (%d s)\n' "$*" $((SECONDS - last))
	timing+=("$(printf '%4d s  %s' $((SECONDS - last)) "$1")")
	last=$SECONDS
}
fail() {
	printf 'FAIL: %s\n' "$*"
	[ ! -s "$serial" ] || { echo '--- end of the guest console'; tail -n 15 "$serial" | sed 's/^/  | /'; }
	[ ! -s "$WORK/qemu.log" ] || { echo '--- QEMU said'; tail -n 5 "$WORK/qemu.log" | sed 's/^/  | /'; }
	for s in "$WORK"/state.*; do
		[ -s "$s" ] && { echo "--- ${s##*/state.} when it last ran"; sed 's/^/  | /' "$s"; }
	done
	cp "$serial" "$WORK/qemu.log" "$OUT" 2>/dev/null
	exit 1
}
vmpin() { awk '/^VmPin/ { print $2 }' "/proc/$1/status" 2>/dev/null; }
memlock_back() { # pins return, if not at once then within a few seconds
	local i
	for i in $(seq 50); do [ "$(pins)" -eq "$pins_before" ] && return; sleep 0.1; done
	return 1
}
huge_pages=208 # two guests': QEMU's storage daemon may keep the first one's
free_pages() { awk '/^HugePages_Free/ { print $2 }' /proc/meminfo; }
holders() { # the processes that have maps of a guest's memory; none means that the kernel has
	grep -l memfd:memory-backend /proc/[0-9]*/maps 2>/dev/null |
		while IFS=/ read -r _ _ pid _; do echo "$(cat "/proc/$pid/comm") ($pid)"; done | tr '\n' ' '
}
# memory_back [held]: the guest's memory is free, or, with "held", nobody but the daemon has it: its
# munmap() of a piece of a huge page fails, for want of a length of whole pages.
memory_back() {
	local i
	for i in $(seq 100); do
		[ "$(free_pages)" -ne $huge_pages ] || return 0
		[ "${1:-}" != held ] || [ "$(holders)" != "$(cat "/proc/$daemon/comm") ($daemon) " ] || return 0
		sleep 0.1
	done
	return 1
}
state_of() { echo "/sys/kernel/debug/rust_vhost_vdpa/${1##*/}/state"; }
value() { awk -v k="$2" '$1 == k { print $2 }' "$1" 2>/dev/null; } # value FILE KEY
result() { sed -n "s/^RESULT $1 *//p" "$serial" | tr -d '\r' | tail -n 1; }

lsmod | awk '{ print $1 }' | sort >"$WORK/lsmod.before"
pins_before=$(pins_at_rest)

# --- the driver
load_driver || fail "the driver does not load: $(dmesg | tail -n 2)"
module=$(driver_module)
at "driver loaded: $module; guests will run under $(nested_summary)"

# --- the disk: a real ext4 image with real files behind a VDUSE daemon
files=$WORK/files
mkdir -p "$files/licenses"
cp /usr/bin/busybox "$files/"
cp -L /usr/share/common-licenses/GPL-2 /usr/share/common-licenses/LGPL-2.1 "$files/licenses/"
head -c 300000 /dev/urandom >"$files/random"
( cd "$files" && find . -type f ! -name SHA256SUMS -print0 | xargs -0 sha256sum >SHA256SUMS )
n_files=$(wc -l <"$files/SHA256SUMS")
truncate -s 32M "$image"
mke2fs -q -t ext4 -d "$files" "$image" || fail "mke2fs"
modprobe vduse || fail "vduse does not load"
start_daemon() {
	qemu-storage-daemon \
		--blockdev driver=file,node-name=file,filename="$image" \
		--blockdev driver=raw,node-name=disk,file=file \
		--export type=vduse-blk,id=export,node-name=disk,name=vduse0,writable=on >"$WORK/daemon.log" 2>&1 &
	daemon=$!
	for i in $(seq 100); do [ -e /dev/vduse/vduse0 ] && break; sleep 0.1; done
	# The device accepts being added only once the daemon has set up its queues.
	for i in $(seq 50); do
		err=$(vdpa dev add name vduse0 mgmtdev vduse 2>&1) && break
		sleep 0.2
	done
	disk=$(vhost_node vduse0) || fail "the VDUSE disk has no /dev/vhost-vdpa-N: $err $(cat "$WORK/daemon.log")"
}
stop_daemon() {
	vdpa dev del vduse0 || fail "the VDUSE device cannot be deleted"
	kill "$daemon"
	wait "$daemon" || fail "the storage daemon ended with $?: $(cat "$WORK/daemon.log")"
}
start_daemon
at "disk: ext4 image with $n_files files, VDUSE device vduse0 is $disk"

# --- the NIC: the simulator, which reaches the guest's memory by physical address
load_sim_net || fail "the simulator does not load: $(dmesg | tail -n 2)"
vdpa dev add name sim0 mgmtdev "$(sim_net_mgmtdev)" || fail "the simulator NIC cannot be added"
nic=$(vhost_node sim0) || fail "the simulator NIC has no /dev/vhost-vdpa-N"
at "NIC: simulator sim0 is $nic"

for d in vduse0 sim0; do
	drv=$(readlink "/sys/bus/vdpa/devices/$d/driver/module")
	[ "${drv##*/}" = "$module" ] || fail "$d is bound to ${drv##*/}, not to $module"
done

# --- the guest
ulimit -l unlimited # the driver charges what it pins to this limit
echo $huge_pages >/proc/sys/vm/nr_hugepages
[ "$(cat /proc/sys/vm/nr_hugepages)" -eq $huge_pages ] || fail "not enough huge pages"
start_guest() { # start_guest KERNEL-PARAMETERS
	: >"$serial"
	# shellcheck disable=SC2086
	qemu-system-x86_64 -nodefaults -no-reboot -display none $NESTED_MACHINE \
		-M q35,memory-backend=mem -smp 1 -m 192 \
		-object memory-backend-memfd,id=mem,size=192M,hugetlb=on,hugetlbsize=2M,share=on \
		-append "$NESTED_APPEND $1" \
		-chardev file,id=serial,path="$serial" -serial chardev:serial \
		-device vhost-vdpa-device-pci,vhostdev="$disk" \
		-netdev vhost-vdpa,id=n0,vhostdev="$nic" \
		-device virtio-net-pci,netdev=n0,mac=52:54:00:76:64:61,romfile= \
		>"$WORK/qemu.log" 2>&1 </dev/null &
	guest=$!
}

# watch_guest SECONDS PATTERN: wait for a line or the end, and keep the peaks. Looking takes a tenth of the
# time at most, but where that takes 2 s: the VM may have one CPU, which is the guest's.
peak_pin=0 peak_pages=0
watch_guest() {
	local end=$((SECONDS + $1)) p next=$((SECONDS + 20)) began pause
	while kill -0 "$guest" 2>/dev/null; do
		began=${EPOCHREALTIME/[.,]/}
		p=$(vmpin "$guest"); [ "${p:-0}" -le "$peak_pin" ] || peak_pin=$p
		p=$(($(pins) - pins_before)); [ "$p" -le "$peak_pages" ] || peak_pages=$p
		for d in "$disk" "$nic"; do
			# Only while queues run: after a reset there is nothing left to see.
			p=$(value "$(state_of "$d")" status)
			[ $((${p:-0} & 4)) -eq 0 ] || cp "$(state_of "$d")" "$WORK/state.${d##*/}"
		done
		! grep -q "^RESULT $2" "$serial" || return 0
		[ "$SECONDS" -lt "$end" ] || return 1
		if [ "$SECONDS" -ge "$next" ]; then
			printf '      guest: %d s, %s\n' $((SECONDS - last)) "$(tail -n 1 "$serial" | tr -d '\r' | cut -c1-70)"
			next=$((SECONDS + 20))
		fi
		pause=$(((${EPOCHREALTIME/[.,]/} - began) * 9 / 1000)) # milliseconds
		pause=$((pause < 300 ? 300 : pause > 2000 ? 2000 : pause))
		sleep $((pause / 1000)).$(printf %03d $((pause % 1000)))
	done
}

start_guest "job=all count=$frames"
watch_guest 1500 up || fail "the guest did not boot in 1500 s"
[ -n "$(result up)" ] || fail "the guest ended before it was up"
at "guest booted (its own clock says $(result up) s)"
watch_guest 1500 end || fail "the guest did not finish in 1500 s"
for i in $(seq 100); do kill -0 "$guest" 2>/dev/null || break; sleep 0.1; done
wait "$guest" || fail "QEMU ended with $?"
cp "$serial" "$OUT/serial"
mkdir "$WORK/states"; mv "$WORK"/state.* "$WORK/states" 2>/dev/null
[ -z "$(result fail)" ] || fail "in the guest: $(result fail)"
grep -q "^RESULT end" "$serial" || fail "the guest ended early"
[ "$(result checksums)" = "$n_files" ] || fail "the guest checked '$(result checksums)' files of $n_files"
[ "$(result frames)" = "sent=$frames returned=$frames bad=0" ] || fail "frames: $(result frames)"
wrote=$(result wrote) wrote=${wrote%% *}
at "guest: $n_files files verified, one written, $frames frames sent and received back"
[ "$peak_pages" -ge 40000 ] || fail "only $peak_pages pages were pinned at peak: the guest's memory was not"
memlock_back || fail "pinned pages: $pins_before before, $(pins) after the guest's exit"
memory_back held || fail "of $huge_pages huge pages, $(free_pages) are free after the guest's exit; mapped by: $(holders)"
at "pinned pages are back at $pins_before after the guest's exit"

# --- the same guest once more, killed in the middle of its frames
start_guest job=frames
watch_guest 1500 frames-begin || fail "the second guest did not boot"
sleep 3
killed_pin=$(($(pins) - pins_before))
[ "$killed_pin" -ge 40000 ] || fail "only $killed_pin pages were pinned before the kill"
kill -9 "$guest"; wait "$guest" 2>/dev/null
memlock_back || fail "pinned pages: $pins_before before, $(pins) after kill -9"
memory_back held || fail "of $huge_pages huge pages, $(free_pages) are free after kill -9; mapped by: $(holders)"
at "QEMU killed (-9) with $killed_pin pages pinned; back at $pins_before"

# --- what the guest wrote, read from the image by the host
vdpa dev del sim0 || fail "the simulator NIC cannot be deleted"
stop_daemon
memory_back || fail "of $huge_pages huge pages, $(free_pages) are free after the daemon's end; mapped by: $(holders)"
at "the devices are deleted and the daemon has ended; the guests' memory is free"
debugfs -R 'dump /from-guest '"$WORK/from-guest" "$image" >/dev/null 2>&1
sum=$(sha256sum <"$WORK/from-guest") || fail "the guest's file is not in the image"
[ "${sum%% *}" = "$wrote" ] ||
	fail "the guest's file differs: $sum"
e2fsck -fn "$image" >"$WORK/fsck" 2>&1 || fail "the file system is not clean: $(cat "$WORK/fsck")"
at "host read the guest's file back from the image ($(stat -c %s "$WORK/from-guest") bytes), file system clean"

# --- all goes away
rmmod "$(sim_net_module)" || fail "the simulator does not unload"
[ "$MODULES" != c ] || rmmod vdpa_sim vringh
unload_driver || fail "the driver does not unload"
lsmod | awk '{ print $1 }' | sort >"$WORK/lsmod.after"
left=$(comm -13 "$WORK/lsmod.before" "$WORK/lsmod.after" | tr '\n' ' ')
! grep -qE "^($module|$(sim_net_module))$" "$WORK/lsmod.after" || fail "still loaded: $left"
at "modules unloaded (distribution modules still there: ${left:-none})"

echo
echo "Summary"
echo "  kernel          $(uname -r), unmodified"
echo "  nested guests   $(nested_summary)"
echo "  driver          $module${REVISION:+ of revision $REVISION}, bound to both devices"
for d in "disk:$disk:VDUSE, vhost-vdpa-device-pci" "NIC:$nic:$(sim_net_mgmtdev), -netdev vhost-vdpa"; do
	IFS=: read -r what node how <<<"$d"
	s=$WORK/states/state.${node##*/}
	echo "  $what at $node ($how)"
	[ -s "$s" ] || { echo "    (this driver has no debugfs)"; continue; }
	echo "    features $(value "$s" features), backend features $(value "$s" backend_features)"
	echo "    at peak: $(value "$s" iotlb_entries_peak) IOTLB entries, $(value "$s" pinned_pages_peak) pinned pages"
done
echo "  pinned pages    $peak_pages at peak by the kernel's count, VmPin of QEMU $peak_pin kB"
echo "  guest verified  $n_files files by SHA-256, wrote one (read back by the host), $frames frames returned unchanged"
echo "  time per step"
printf '    %s\n' "${timing[@]}"
printf '    %4d s  in all, inside the VM\n' $((SECONDS - began))
