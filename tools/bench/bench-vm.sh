# SPDX-License-Identifier: GPL-2.0
# Run in the VM by tools/bench/bench.sh: the C driver and ours in turn, on C's simulator or
# on vp_vdpa. One line a measurement: DRIVER PARENT CASE WHAT NANOSECONDS.

rounds=${ROUNDS:-5}
read -r -a parents <<<"$PARENTS"
disk=0000:00:10.0
ulimit -l unlimited
pages=640
[ -z "${FULL:-}" ] || pages=2100
echo $pages >/proc/sys/vm/nr_hugepages

cases_of() { # cases_of PARENT
	case $1 in
	use_va) echo shm:1024:batch shm:1024:single small-shm ioctl kick ;;
	# One by one, scattered pages take C's driver a set_map each: 64 MiB are five minutes.
	*)	echo 4k:256:batch 4k:8:single thp:1024:batch thp:1024:single \
			hugetlb:1024:batch hugetlb:1024:single \
			memfd:256:batch memfd-2m:1024:batch memfd-2m:1024:single ${FULL:+4k:1024:batch thp:4096:batch hugetlb:4096:batch} small ioctl
		[ "$1" = platform ] || echo kick ;;
	esac
}

add_device() { # add_device PARENT
	local sim=(use_va=0 batch_mapping=1)
	case $1 in
	dma_map) sim=(use_va=0 batch_mapping=0) ;;
	use_va)	sim=(use_va=1 batch_mapping=1) ;;
	platform)
		insmod_file "${C_SIM_DIR:-/cache/csim}/vp_vdpa.ko"
		echo vp-vdpa >/sys/bus/pci/devices/$disk/driver_override
		[ ! -e /sys/bus/pci/devices/$disk/driver ] || echo $disk >/sys/bus/pci/devices/$disk/driver/unbind
		echo $disk >/sys/bus/pci/drivers_probe
		vdpa dev add name bench0 mgmtdev pci/$disk
		return ;;
	esac
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" "${sim[@]}" max_iotlb_entries=4194304
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_net.ko"
	vdpa dev add name bench0 mgmtdev vdpasim_net
}

one() { # one DRIVER PARENT
	local node cases maps=() c
	MODULES=$1
	load_driver max_iotlb_entries=4194304
	add_device "$2" || vm_die "no device on $2"
	node=$(vhost_node bench0) || vm_die "no device node"
	read -r -a cases <<<"${CASES:-$(cases_of "$2" | tr '\n' ' ')}"
	for c in "${cases[@]}"; do
		[ "$c" = kick ] || maps+=("$c")
	done
	set -o pipefail
	if [ ${#maps[@]} -gt 0 ]; then
		/cache/bench/mapbench "$node" "${maps[@]}" | sed "s/^/$1 $2 /" || vm_die "mapbench failed"
	fi
	if [[ " ${cases[*]} " == *' kick '* ]]; then
		VHOST_VDPA_DEV=$node /cache/bench/kickbench | sed "s/^/$1 $2 /" || vm_die "kickbench failed"
	fi
	vdpa dev del bench0
	if [ "$2" = platform ]; then rmmod vp_vdpa; else rmmod vdpa_sim_net vdpa_sim; fi
	unload_driver
}

for ((round = 1; round <= rounds; round++)); do
	for parent in "${parents[@]}"; do
		# Who goes first alternates.
		order='c rust'
		[ $((round % 2)) -eq 1 ] || order='rust c'
		for driver in $order; do
			one "$driver" "$parent"
		done
	done
	echo "# round $round of $rounds done"
done
