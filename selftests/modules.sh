#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The modules as such: loading, refusing to load, unloading, in and out of use.
#
#   tools/vm.sh selftests/modules.sh		(MODULES=c for the C driver)
#
# Needs tools/vm/guest.sh, which tools/vm.sh sources first.

n=0 passed=0 failed=0 skipped=0

ok() {
	n=$((n + 1)) passed=$((passed + 1))
	echo "ok $n modules.$1"
}
not_ok() {
	n=$((n + 1)) failed=$((failed + 1))
	echo "not ok $n modules.$1${2:+: $2}"
}
skip() {
	n=$((n + 1)) skipped=$((skipped + 1))
	echo "ok $n modules.$1 # SKIP $2"
}
# try NAME COMMAND...
try() {
	local name=$1
	shift
	if "$@"; then ok "$name"; else not_ok "$name" "$*"; fi
}
fails() { ! "$@" 2>/dev/null; }
vdpa_shows() { vdpa dev show "$1" >/dev/null; }
add() { vdpa dev add name "$1" mgmtdev "$(sim_net_mgmtdev)"; }
opens() { (: 8<>"$1") 2>/dev/null; }
loaded() { [ -d "/sys/module/$1" ]; }

# hold NODE: a process that keeps it open; its id is in $holder.
hold() {
	sleep 1000 9<>"$1" &
	holder=$!
	sleep 0.3
}
let_go() {
	kill "$holder"
	wait "$holder" 2>/dev/null
}

echo 'TAP version 13'
driver=$(driver_module) sim=$(sim_net_module)

try loads load_driver
try simulator_loads load_sim_net
try device_is_made add m0
node=$(vhost_node m0)
try node_appears test -c "$node"

hold "$node"
try driver_in_use_stays fails rmmod "$driver"
try second_open_fails fails opens "$node"
let_go
try node_opens_again opens "$node"

# One driver of that name: the other is refused, and nothing breaks.
case $MODULES in
rust)	other='modprobe vhost_vdpa' ;;
c)	other="insmod $KO_DIR/rust_vhost_vdpa.ko" ;;
esac
if [ "$MODULES" = c ] && [ ! -e "$KO_DIR/rust_vhost_vdpa.ko" ]; then
	skip other_driver_is_refused "there is no other driver"
else
	try other_driver_is_refused fails $other
	try node_works_still opens "$node"
fi

try device_is_removed vdpa dev del m0
try node_disappears test ! -e "$node"

# The parent goes while one of its devices is open.
if [ "$MODULES" = c ]; then
	skip simulator_unloads_in_use "C waits for the close"
else
	add m1
	hold "$(vhost_node m1)"
	try simulator_unloads_in_use timeout 10 rmmod "$sim"
	try simulator_is_gone test ! -d "/sys/module/$sim"
	let_go
	try simulator_loads_again load_sim_net
fi

for i in 1 2 3; do
	add "m2$i" && opens "$(vhost_node "m2$i")" || not_ok "device_$i"
done
try simulator_unloads rmmod "$sim"
try driver_unloads unload_driver
try driver_is_gone test ! -d "/sys/module/$driver"
try no_node_is_left test -z "$(ls /dev/vhost-vdpa-* 2>/dev/null)"
try loads_again load_driver
try unloads_again unload_driver

# What a device that is there already gets, when the driver comes later.
load_sim_net && add m3
try device_before_driver load_driver
try device_is_bound test -c "$(vhost_node m3)"
try driver_unloads_with_devices unload_driver
try device_outlives_driver vdpa_shows m3
try simulator_goes_last rmmod "$sim"
try nothing_is_left fails loaded "$driver"

echo "1..$n"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
exit
