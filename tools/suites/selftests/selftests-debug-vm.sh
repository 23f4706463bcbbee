# SPDX-License-Identifier: GPL-2.0
# The part of `make check` on the debug kernel: KASAN, lockdep and sleeping in atomic
# context are looked for while KUnit cases and the selftests run. TAP on standard output.

# KUnit runs a module's cases when it is loaded, and reports to the kernel's log.
dmesg -C
load_driver && load_sim_net || vm_die "the modules do not load"
insmod_file "$KO_DIR/rust_vdpa_sim_blk.ko" use_va=0
insmod_file "$KO_DIR/rust_mlx5_compat.ko"
dmesg | awk '
	{ sub(/^\[[^]]*\] /, "") }
	/^ *# Subtest: / { suite = $3; next }
	/^    (not )?ok [0-9]+ / {
		verdict = /^    ok/ ? "ok" : "not ok"
		sub(/^    (not )?ok [0-9]+ /, "")
		print verdict " - KUnit " suite "." $0
		# What modules share has its suites in one of them.
		if (seen[suite $0]++)
			print "not ok - KUnit " suite "." $0 " runs once"
		n++
	}
	END { if (!n) print "not ok - no KUnit case ran" }'
rc=0
run() { # run MGMTDEV [TEST...]
	MGMTDEV=$1 bash -c '. /src/tools/vm/guest.sh; shift; . /src/selftests/run.sh "$@"' selftests "$@" || rc=1
}
run rust_vdpasim_net
run rust_vdpasim_blk blk
run rust_mlx5_compat mlx5
# Each allocation and copy fails once; only the errors are of interest then. A probe that fails under an open
# file needs a thread that opens it meanwhile, and a CPU for that.
dmesg -n 4
second_cpu 1 || rc=1
/cache/selftests/faults || rc=1
rmmod vdpa_test_parent
unload_driver && rmmod "$(sim_net_module)" rust_vdpa_sim_blk rust_mlx5_compat ||
	{ echo "not ok - modules unload"; rc=1; }
exit $rc
