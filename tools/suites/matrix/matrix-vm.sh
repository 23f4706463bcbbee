# SPDX-License-Identifier: GPL-2.0
# Reset and persistence, for every kind of parent that this VM has: selftests/matrix.
# Usage: tools/vm.sh tools/suites/matrix/matrix-vm.sh [PARENT...]	(MODULES=c for the C driver)
#
# Parents: c-set_map c-dma_map c-va c-va_dma_map (C's simulator NIC), rust-... (ours), blk-...
# (our disk), vduse, sample; and vp_vdpa on the disk VP_BLK in a machine of its own:
# TESTS=matrix tools/suites/vp-vdpa/vp-vdpa.sh. TEST_ARGS is passed to the test.

[ "${1:-}" != "${BASH_SOURCE[0]}" ] || shift
[ $# -gt 0 ] || set -- c-set_map c-dma_map c-va c-va_dma_map \
	rust-set_map rust-dma_map rust-va rust-va_dma_map vduse sample

csim=${C_SIM_DIR:-/cache/csim}
bin=${BIN:-/cache/selftests}
n=0 pass=0 fail=0 skip=0
ulimit -l unlimited
# Huge pages for the tests that need neighbouring ones.
echo 1 >/proc/sys/vm/compact_memory
[ -d "/sys/module/$(driver_module)" ] && loaded=1 || { loaded=''; load_driver; }

line() { # line 'ok'|'not ok' NAME
	n=$((n + 1))
	echo "$1 $n - $2"
	case $1$2 in ok*'# SKIP'*) skip=$((skip + 1)) ;; ok*) pass=$((pass + 1)) ;; *) fail=$((fail + 1)) ;; esac
}

# run PARENT MGMTDEV MAPS RESET: the whole table on one parent.
run() {
	local dev=matrix0 node rest tests=0 rc verdict
	for _ in $(seq 50); do vdpa dev add name $dev mgmtdev "$2" && break; sleep 0.2; done
	node=$(vhost_node $dev) || { line 'not ok' "matrix.$1: no device"; return; }
	MATRIX_DEV=$dev MATRIX_MAPS=$3 MATRIX_RESET=$4 MGMTDEV=$2 VHOST_VDPA_DEV=$node DRIVER=$MODULES \
		"$bin/matrix" ${TEST_ARGS:-} >$WORK/matrix 2>&1
	rc=$?
	while read -r verdict rest; do
		case $verdict in
		ok) ;;
		not) verdict='not ok' rest=${rest#ok } ;;
		'#') [[ $rest =~ ^(RUN|OK|SKIP|XFAIL|Totals|[0-9]+ skipped) ]] || echo "# $rest"; continue ;;
		*) continue ;;
		esac
		tests=$((tests + 1))
		# What does not exist with this parent is neither passed nor skipped.
		[[ $rest != *'# SKIP n/a'* ]] || continue
		rest=${rest#* }
		line "$verdict" "matrix.$1.${rest#matrix.}"
	done <$WORK/matrix
	[ $tests -gt 0 ] || { tail -n 5 $WORK/matrix | sed 's/^/# /'; line 'not ok' "matrix.$1: no result, status $rc"; }
	vdpa dev del $dev || line 'not ok' "matrix.$1: the device is not deleted"
}

for parent; do
	case $parent in
	c-*|rust-*|blk-*) [ "${parent#*-}" = set_map ] && va=0 batch=1
		[ "${parent#*-}" = dma_map ] && va=0 batch=0
		[ "${parent#*-}" = va ] && va=1 batch=1
		[ "${parent#*-}" = va_dma_map ] && va=1 batch=0 ;;
	esac
	case $parent in
	c-*)	if [ "${VM_KERNEL:-stock}" = debug ]; then
			modprobe vdpa_sim use_va=$va batch_mapping=$batch && modprobe vdpa_sim_net
		elif [ -e "$csim/vdpa_sim.ko" ]; then
			insmod_file "$csim/vdpa_sim.ko" use_va=$va batch_mapping=$batch &&
				insmod_file "$csim/vdpa_sim_net.ko"
		else
			line ok "matrix.$parent # SKIP C's simulators were not built: tools/setup.sh csim"
			continue
		fi
		run $parent vdpasim_net ${parent#*-} legacy
		rmmod vdpa_sim_net && rmmod vdpa_sim ;;
	rust-*)	parameters="use_va=$va batch_mapping=$batch"
		insmod_file "$KO_DIR/rust_vdpa_sim_net.ko" $parameters
		run $parent rust_vdpasim_net ${parent#*-} legacy
		rmmod rust_vdpa_sim_net ;;
	blk-*)	insmod_file "$KO_DIR/rust_vdpa_sim_blk.ko" use_va=$va batch_mapping=$batch
		run $parent rust_vdpasim_blk ${parent#*-} legacy
		rmmod rust_vdpa_sim_blk ;;
	sample)	insmod_file "$KO_DIR/rust_vdpa_sample.ko"
		run $parent rust_vdpa_sample set_map persistent
		rmmod rust_vdpa_sample ;;
	vp_vdpa) run $parent pci/$VP_BLK platform platform ;;
	vduse)	modprobe vduse || { line 'not ok' "matrix.vduse: vduse does not load"; continue; }
		truncate -s 16M $WORK/disk.img
		qemu-storage-daemon \
			--blockdev driver=file,node-name=file,filename=$WORK/disk.img \
			--blockdev driver=raw,node-name=disk,file=file \
			--export type=vduse-blk,id=export,node-name=disk,name=matrix0,writable=on >$WORK/daemon.log 2>&1 &
		daemon=$!
		for _ in $(seq 100); do [ -e /dev/vduse/matrix0 ] && break; sleep 0.1; done
		run $parent vduse va private
		kill -0 $daemon && line ok 'matrix.vduse: the daemon is alive' || {
			tail -n 5 $WORK/daemon.log | sed 's/^/# /'
			line 'not ok' 'matrix.vduse: the daemon is alive'
		}
		kill $daemon
		wait $daemon ;;
	*)	vm_die "matrix-vm.sh: $parent?" ;;
	esac
done
[ -n "$loaded" ] || unload_driver || line 'not ok' 'matrix: the driver unloads'
echo "1..$n"
echo "$pass passed, $fail failed, $skip skipped"
[ $fail -eq 0 ] && [ $pass -gt 0 ]
exit
