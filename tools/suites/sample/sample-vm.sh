# SPDX-License-Identifier: GPL-2.0
# The sample parent: the kernel's hwrng core reads from it through virtio_vdpa, with each
# kind of ring, and the selftests run on it through vhost_vdpa.
# Usage: tools/vm.sh tools/suites/sample/sample-vm.sh	(MODULES=c for the C driver)

n=0 pass=0 fail=0 skip=0
try() { # try NAME COMMAND...
	local name=$1 verdict='not ok'
	shift
	n=$((n + 1))
	if "$@" >$WORK/log 2>&1; then
		verdict=ok pass=$((pass + 1))
	else
		fail=$((fail + 1))
		tail -n 8 $WORK/log | sed 's/^/# /'
	fi
	echo "$verdict $n - sample: $name"
}
current() { cat /sys/class/misc/hw_random/rng_current; }
chosen() {
	local i
	for i in $(seq 100); do
		[[ $(cat /sys/class/misc/hw_random/rng_available) == *virtio_rng* ]] && break
		sleep 0.1
	done
	echo "$(tr ' ' '\n' </sys/class/misc/hw_random/rng_available | grep virtio_rng)" \
		>/sys/class/misc/hw_random/rng_current
	[[ $(current) == virtio_rng* ]]
}
# random FILE BYTES: reads them, and they look random: gzip finds nothing, and no two are alike.
random() {
	timeout 120 head -c "$2" /dev/hwrng >$WORK/$1 || return 1
	[ "$(stat -c %s $WORK/$1)" -eq "$2" ] || return 1
	[ "$(gzip -9 <$WORK/$1 | wc -c)" -ge "$2" ]
}
differ() { ! cmp -s $WORK/a $WORK/b; }

modprobe vdpa
try 'it loads' insmod_file "$KO_DIR/rust_vdpa_sample.ko"
modprobe virtio_vdpa && modprobe virtio-rng || vm_die "no virtio drivers"
try 'unknown features are refused' sh -c \
	'! vdpa dev add name rng0 mgmtdev rust_vdpa_sample device_features 0x1300000001'
# VERSION_1 and ACCESS_PLATFORM, with indirect descriptors and event indices, with packed rings.
for features in 0x300000000 0x330000000 0x700000000 0x730000000; do
	try "a device with features $features" \
		vdpa dev add name rng0 mgmtdev rust_vdpa_sample device_features $features
	try "$features: hwrng takes it" chosen
	try "$features: it gives random bytes" random a 8192
	try "$features: others the next time" random b 8192
	try "$features: they are not the same" differ
	try "$features: it is deleted" vdpa dev del rng0
done

rmmod virtio_vdpa
load_driver
try 'a device with all features' vdpa dev add name rng0 mgmtdev rust_vdpa_sample device_features 0x730000000
node=$(vhost_node rng0)
try 'it has a node' test -c "$node"
VHOST_VDPA_DEV=$node MGMTDEV=rust_vdpa_sample bash /src/selftests/run.sh \
	file device vring iotlb pin 2>&1 | tee $WORK/suite |
	sed -nE '/^(not )?ok/!s/^/# /; s/^((not )?ok) [0-9]+ /\1 - sample: /; /./p'
read -r p f s < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' $WORK/suite)
pass=$((pass + ${p:-0})) fail=$((fail + ${f:-1})) skip=$((skip + ${s:-0}))
try 'it is deleted' vdpa dev del rng0
try 'it unloads' rmmod rust_vdpa_sample
unload_driver
echo "$pass passed, $fail failed, $skip skipped"
[ $fail -eq 0 ]
exit
