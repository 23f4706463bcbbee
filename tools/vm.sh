#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Boot the root's own, unmodified distribution kernel in a VM and run a script in it.
#
#   tools/vm.sh [-n NAME] [-t SECONDS] [-m MEM] [-e VAR=VALUE]... SCRIPT [ARG...]
#   tools/vm.sh --shell
#
# SCRIPT is a path inside the checkout and is run by bash as root. In the VM:
#   /src     the checkout, read-only
#   /cache   the cache, read-only
#   $OUT     a small directory that the host sees as $CACHE/runs/NAME
#   $WORK    a tmpfs, also the working directory: images belong here
# tools/vm/guest.sh is sourced first: load_driver, unload_driver and friends.
# MODULES=rust (default) or c says which driver load_driver loads.
#
# SCRIPT's output is streamed; its exit status is ours, except that a run with a
# kernel splat, a taint for one, or no status at all fails (status 70), as does
# one that takes longer than -t (default 900 s, status 124). What is left behind in
# $CACHE/runs/NAME: output, times (the same with seconds), console, dmesg, tainted, status.
#
# VM_KERNEL=debug boots the debug kernel (tools/setup.sh debug) with the modules
# that tools/build/build.sh debug built for it, instead of the distribution's kernel.
# VM_ACCEL=kvm|tcg overrides the choice of accelerator, VM_CPUS (2) and
# VM_QEMU_OPTS and VM_APPEND add to the machine and the kernel's command line. With VM_SPARE_CPU=1 the
# second CPU is not online when the script starts: selftests/run.sh brings it up where threads run beside
# each other.
. "$(dirname "$0")/lib.sh"

name='' timeout=900 mem=2G shell='' vars=()
while [ $# -gt 0 ]; do
	case $1 in
	-n) name=$2; shift 2 ;;
	-t) timeout=$2; shift 2 ;;
	-m) mem=$2; shift 2 ;;
	-e) vars+=("$2"); shift 2 ;;
	--shell) shell=1; shift ;;
	-*) die "vm.sh: no such option: $1" ;;
	*) break ;;
	esac
done
[ -n "$shell" ] || [ $# -gt 0 ] || die "usage: tools/vm.sh [options] SCRIPT [ARG...]"
need_root

script=${1:-shell}
[ -n "$shell" ] || shift
script=${script#"$PROJECT/"}
[ -n "$name" ] || name=$(basename "${script%-vm.sh}" .sh)-$$
run=$CACHE/runs/$name
as_root rm -rf "$run"
mkdir -p "$run"

# /dev/kvm alone proves nothing: it may exist where no guest can run.
accel=${VM_ACCEL:-}
if [ -z "$accel" ]; then
	accel=tcg
	! grep -qwE 'vmx|svm' /proc/cpuinfo || [ ! -w /dev/kvm ] || accel=kvm
fi
# Emulation does each step of rep movsb by itself: the kernel then takes rep movsq.
cpu='-cpu max,la57=off,-erms,-fsrm'
[ "$accel" = tcg ] || cpu='-cpu host'

if [ "${VM_KERNEL:-stock}" = debug ]; then
	release=debug kernel=/cache/debug/arch/x86/boot/bzImage
	[ -e "$CACHE/debug/arch/x86/boot/bzImage" ] || die "no debug kernel: run tools/setup.sh debug"
else
	release=$(kernel_release) kernel=/boot/vmlinuz-$(kernel_release)
	[ "${MODULES:-rust}" != rust ] || "$PROJECT/tools/build/check-layout.sh" --cached
fi
# Emulation stretches time: what fires here without a reason must wait longer.
append="rcupdate.rcu_cpu_stall_timeout=120 workqueue.watchdog_thresh=120 watchdog_thresh=60 log_buf_len=4M mitigations=off ${VM_SPARE_CPU:+maxcpus=1} ${VM_APPEND:-}"
vng=(vng -v --run "$kernel" --cpus "${VM_CPUS:-2}" --memory "$mem" --user root --cwd /)
out=/cache/runs/$name
if [ "$release" = debug ] || ls "$CACHE"/kernel/usr/lib/modules/*/kernel/fs/9p >/dev/null 2>&1; then
	vng+=(--force-9p --rwdir="/cache/runs/$name")
else
	# The cloud kernels have no 9p: vng shares the root over virtiofs, and what the VM leaves behind
	# comes through a port.
	out=/run/out
	VM_QEMU_OPTS="${VM_QEMU_OPTS:-} -chardev file,id=left,path=/cache/runs/$name/left.tar -device virtio-serial -device virtserialport,chardev=left,name=vhost-vdpa-left"
fi
vng+=(--qemu-opts="$cpu ${VM_QEMU_OPTS:-}")
[ "$accel" = kvm ] || vng+=(--disable-kvm)

if [ -n "$shell" ]; then
	say "Booting $release ($accel); leave with Ctrl-D."
	# The VM's shell reads root's .bashrc; the root itself stays as it is.
	in_root bash -c 'mount --bind /src/tools/vm/shellrc /root/.bashrc && exec "$@"' vm \
		"${vng[@]}" -q --append "$append vmshell=/cache/runs/$name modules=${MODULES:-rust}"
	exit
fi
[ -e "$PROJECT/$script" ] || die "vm.sh: $script is not in the checkout"

# What the VM runs: written where it can read it, so that nothing is quoted twice.
{
	printf 'export OUT=%q MODULES=%q VM_KERNEL=%q\n' "$out" "${MODULES:-rust}" "${VM_KERNEL:-stock}"
	[ -z "${VM_SPARE_CPU:-}" ] || printf 'export VM_SPARE_CPU=1\n'
	for v in "${vars[@]}"; do printf 'export %q\n' "$v"; done
	printf '. /src/tools/vm/guest.sh\n'
	printf 'run_script /src/%q' "$script"
	[ $# -eq 0 ] || printf ' %q' "$@"
	printf '\n'
} >"$run/start"

# vng's own init takes minutes under emulation: see tools/vm/init. Nor does it let the VM cache files of
# the root, which nobody changes meanwhile.
guest_init=/usr/lib/python3/dist-packages/virtme/guest/virtme-init

# timed FILE: pass lines on, and keep in FILE how many seconds after the start each one came.
timed() {
	local line start=$SECONDS
	while IFS= read -r line || [ -n "$line" ]; do
		printf '%s\n' "$line"
		printf '%d %s\n' $((SECONDS - start)) "$line" >&5
	done 5>"$1"
}

# QEMU opens its output anew: it gets pipes, never files.
rc=0
in_root bash -c '
	t=$1 run=$2 init=$3; shift 3
	mount --bind /src/tools/vm/init "$init"
	for f in mkinitramfs.py commands/run.py; do
		sed s/version=9p2000.L,trans=virtio,access=any/\&,cache=loose/ "${init%/guest/*}/$f" >"$run/${f##*/}"
		mount --bind "$run/${f##*/}" "${init%/guest/*}/$f"
	done
	timeout -k 10 "$t" "$@" --exec "bash $run/start" \
		> >(cat) 2> >(cat >"$run/console")' \
	vm "$timeout" "/cache/runs/$name" "$guest_init" "${vng[@]}" --append "$append" </dev/null |
	sed -u 's/\r//g' | tee "$run/output" | timed "$run/times" || rc=$?

fail() { printf 'vm: %s (see %s)\n' "$1" "$run" >&2; rc=$2; }

[ ! -s "$run/left.tar" ] || tar -C "$run" --no-same-owner -xf "$run/left.tar" || true
status=$(cat "$run/status" 2>/dev/null || true)
if [ -n "$status" ]; then
	rc=$status
elif [ "${rc:-0}" -eq 124 ] || [ "$rc" -eq 137 ]; then
	fail "no end after $timeout s" 124
else
	fail "the VM ended without a status" 70
fi

# dmesg counts from the moment the script starts; a VM that died has only its console.
log=$run/dmesg
[ -s "$log" ] || log=$run/console
"$PROJECT/tools/vm/splats.sh" "$log" >"$run/splats" || true
if [ -s "$run/splats" ]; then
	head -n 40 "$run/splats" | sed 's/^/vm: | /' >&2
	fail "the kernel complained" 70
fi
# W (512): a warning; D (128): an oops; L (16384): a soft lockup; B (32): a bad page.
tainted=$(cat "$run/tainted" 2>/dev/null || echo 0)
[ $((tainted & (512 | 128 | 16384 | 32))) -eq 0 ] || fail "the kernel is tainted ($tainted)" 70
exit "$rc"
