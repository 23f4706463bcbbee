# SPDX-License-Identifier: GPL-2.0
# Run in the VM by tools/bench.sh: the C driver and ours in turn, on C's simulator.
# One line a measurement: DRIVER PARENT CASE WHAT NANOSECONDS.

bench=/cache/bench/mapbench
rounds=${ROUNDS:-5}
read -r -a cases <<<"${CASES:-4k:256:batch 4k:64:single thp:1024:batch thp:1024:single hugetlb:1024:batch hugetlb:1024:single small ioctl}"
ulimit -l unlimited
echo 640 >/proc/sys/vm/nr_hugepages

one() { # one DRIVER PARENT batch_mapping
	MODULES=$1
	load_driver max_iotlb_entries=4194304
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=0 batch_mapping="$3" max_iotlb_entries=4194304
	insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_net.ko"
	vdpa dev add name bench0 mgmtdev vdpasim_net
	local node
	node=$(vhost_node bench0) || vm_die "no device node"
	"$bench" "$node" "${cases[@]}" | sed "s/^/$1 $2 /" || vm_die "mapbench failed"
	vdpa dev del bench0
	rmmod vdpa_sim_net vdpa_sim
	unload_driver
}

for ((round = 1; round <= rounds; round++)); do
	for parent in set_map:1 dma_map:0; do
		# Who goes first alternates.
		order='c rust'
		[ $((round % 2)) -eq 1 ] || order='rust c'
		for driver in $order; do
			one "$driver" "${parent%:*}" "${parent#*:}"
		done
	done
	echo "# round $round of $rounds done"
done
