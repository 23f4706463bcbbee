# SPDX-License-Identifier: GPL-2.0
# Run in the VM by tools/suites/fuzz/fuzz.sh: the same seeds on the C driver and on ours, on
# C's simulator. Prints what compare.py prints, for each round.
#
#   SECONDS_MAX, SEED, SEEDS, OPS, PARENTS	fresh seeds until the time is over
#   CORPUS=FILE		seeds from a file: PARENT SEED OPERATIONS, # comments
# A parent is set_map, dma_map or vduse, and what follows: use_va; gone, for devices that are
# removed (which fresh seeds of the others are, too) and daemons that die.
#   THREADS=SECONDS	two threads on one file, on our driver only, for each parent

fuzz=/cache/fuzz/fuzz
compare=/src/selftests/fuzz/compare.py
seeds=${SEEDS:-50} ops=${OPS:-300}
read -r -a parents <<<"${PARENTS:-set_map dma_map set_map,use_va dma_map,use_va vduse}"
# Few entries, so that a table is full now and then.
entries=${ENTRIES:-20}
status=0
dmesg -n 1
# One huge page for each process that may be alive at a time.
echo 4 >/proc/sys/vm/nr_hugepages

# The command that kills the daemon of vduse, and waits for the next.
export FUZZ_KILL=
kill_daemon() {
	cat >$WORK/kill-daemon <<-'EOF'
		read -r old <"$1"; kill -9 "$old"
		for i in $(seq 3000); do
			read -r new <"$1"; [ "$new" = "$old" ] || exit 0
			sleep 0.01
		done
		exit 1
	EOF
	echo "bash $WORK/kill-daemon $WORK/vdused.pid"
}

load() { # load DRIVER PARENT
	local batch=1 va=0
	MODULES=$1
	[[ $2 != dma_map* ]] || batch=0
	[[ $2 != *use_va* ]] || va=1
	load_driver max_iotlb_entries="$entries"
	export FUZZ_KILL= FUZZ_ADD='vdpa dev add name fuzz0 mac 02:00:00:00:00:01 mgmtdev vdpasim_net'
	if [[ $2 = vduse* ]]; then
		FUZZ_ADD='vdpa dev add name fuzz0 mgmtdev vduse' FUZZ_KILL=$(kill_daemon)
		modprobe vduse || vm_die "no vduse"
		rm -f $WORK/vdused.pid
		/cache/fuzz/vdused fuzz0 1 $WORK/vdused.pid &
		vdused=$!
		node=$(vhost_node fuzz0) || vm_die "no device node"
		while [ ! -s $WORK/vdused.pid ]; do sleep 0.1; done
		return
	fi
	if [ "${VM_KERNEL:-stock}" = debug ]; then
		modprobe vdpa_sim use_va=$va batch_mapping=$batch && modprobe vdpa_sim_net
	else
		insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim.ko" use_va=$va batch_mapping=$batch
		insmod_file "${C_SIM_DIR:-/cache/csim}/vdpa_sim_net.ko"
	fi
	$FUZZ_ADD || vm_die "vdpa dev add"
	node=$(vhost_node fuzz0) || vm_die "no device node"
}

unload() {
	vdpa dev del fuzz0
	if [[ $1 = vduse* ]]; then
		kill -9 $vdused
		wait $vdused 2>/dev/null
		kill -9 "$(cat $WORK/vdused.pid)" 2>/dev/null
		for _ in $(seq 100); do rmmod vduse 2>/dev/null && break; sleep 0.1; done
	else
		rmmod vdpa_sim_net vdpa_sim
	fi
	unload_driver
}

options() { # options PARENT
	echo "-m arena"
	[[ $1 != dma_map* ]] || echo -d
	[[ $1 != *use_va* && $1 != vduse* ]] || echo -v
	[[ $1 != *gone* && -n ${CORPUS:-} ]] || echo -r fuzz0
}

# compare_logs PARENT: what diverged is kept.
compare_logs() {
	local n
	[ -z "${KEEP:-}" ] || { cp c.log "$OUT/$1.c"; cp rust.log "$OUT/$1.rust"; }
	if ! python3 $compare c.log rust.log >result; then
		status=1
		n=$(find "$OUT" -name 'diverged.*' | wc -l)
		[ "$n" -ge 5 ] || { cp c.log "$OUT/diverged.$n.c"; cp rust.log "$OUT/diverged.$n.rust"; }
	fi
	cat result
}

both() { # both PARENT FUNCTION: FUNCTION runs with $node, on each driver
	local driver
	for driver in c rust; do
		load $driver "$1"
		"$2" "$1" >$driver.log || { vm_die "fuzz ended with status $? on $driver"; }
		unload "$1"
	done
	compare_logs "$1"
}

fresh() { $fuzz $(options "$1") "$node" "$seed" "$seeds" "$ops"; }

from_corpus() {
	local parent first n
	while read -r parent first n _; do
		[ "$parent" = "$1" ] || continue
		$fuzz $(options "$1") "$node" "$first" 1 "$n" || return
	done <"$CORPUS"
}

if [ -n "${CORPUS:-}" ]; then
	for parent in $(grep -v '^#' "$CORPUS" | cut -d' ' -f1 | sort -u); do
		both "$parent" from_corpus
	done
	exit $status
fi

seed=${SEED:-1}
start=$SECONDS
if [ -z "${THREADS:-}" ]; then
	echo "FIRST $seed"
	while :; do
		for parent in "${parents[@]}"; do
			both "$parent" fresh
			seed=$((seed + seeds))
			echo "# $((SECONDS - start)) s, $parent, up to seed $((seed - 1))"
			[ $((SECONDS - start)) -lt "${SECONDS_MAX:-300}" ] || break 2
		done
	done
	echo "LAST $((seed - 1))"
	exit $status
fi

for parent in "${parents[@]}"; do
	load rust "$parent"
	echo "# $parent"
	$fuzz $(options "$parent") -t "$THREADS" "$node" "$seed" 1 1 || status=1
	unload "$parent"
	seed=$((seed + 1))
done
exit $status
