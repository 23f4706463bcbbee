#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The life of an installation of the Debian package, as TAP: a minimal machine with systemd, whose
# packages are in the cache, gets it, is refused what it must be refused, builds for two kernels and not
# for one without Rust, boots in a VM, loads, upgrades, and loses the package again.
# Usage: package-check.sh [--keep]
#
# Everything but loading happens in a chroot of the machine without a network: DKMS takes a minute there,
# and an hour under emulation. PACKAGE_VMS=no leaves the VMs out; a run without them is no whole run and
# says so. With --keep the machine stays in the cache.
. "$(dirname "$0")/../lib.sh"
kernel=${KERNEL:-}
need_root
[ "${1:-}" != --keep ] || keep=1

prepare
QEMU_ROOT=$(root_dir)
. "$PROJECT/tools/image/pack-root.sh"
machine_key() {
	{ recipe "$PROJECT/tools/image/mkmachine.sh"; sed -n '/^Package:/,/^Description:/p' "$PROJECT/debian/control"; } | sha256sum | cut -c1-12
}
base=$BASE/machine-$(machine_key)
[ -d "$base" ] || step "a Debian machine (about 5 minutes)" "$PROJECT/tools/image/mkmachine.sh" "$base"
step "package" "$PROJECT/tools/package/deb.sh"
version=$(package_version)
deb=rust-vhost-vdpa-dkms_${version}_all.deb

dir=$BASE/package-check
m=$dir/machine
as_root rm -rf --one-file-system "$dir"
mkdir -p "$dir"
step "a copy of the machine" as_root cp -a --reflink=auto "$base" "$m"
as_root cp "$PROJECT/$deb" "$m/root/"

field() { awk -v role="$1" -v n="$2" '$1 == role { print $n }' "$base/kernels"; }
release() { printf '%s-%s\n' "$(field "$1" 3)" "$(field "$1" 4)"; }
first=$(release first) second=$(release second) norust=$(release norust)
first_series=$(field first 5) second_series=$(field second 5)

# in_machine COMMAND...: in a chroot without a network; /sys is the host's and read-only.
in_machine() {
	as_root unshare --net --mount --pid --fork --kill-child --propagation private -- bash -c '
		set -e
		m=$1
		shift
		mount --bind "$m" "$m"
		mount -t proc proc "$m/proc"
		mount -t sysfs -o ro sysfs "$m/sys"
		mount --rbind /dev "$m/dev"
		cd /
		exec chroot "$m" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			HOME=/root TERM=dumb LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"' sh "$m" "$@"
}
# Everything that is to be installed is in the machine's cache, and the machine has no network.
apt_get() { in_machine apt-get -qy -o APT::Keep-Downloaded-Packages=true "$@"; }

failed=0 count=0
try() { count=$((count + 1)); tap "$@" || failed=1; }
prints() { # prints TEXT COMMAND...: it succeeds, and prints a line with TEXT
	local text=$1 out
	shift
	out=$("$@" 2>&1) || { printf '%s\n' "$out"; echo "it failed"; return 1; }
	printf '%s\n' "$out"
	grep -qF -- "$text" <<<"$out"
}
status_is() { # status_is RELEASE installed|nothing
	local out
	out=$(in_machine dkms status -m rust-vhost-vdpa -v "$version" -k "$1")
	echo "$out"
	if [ "$2" = installed ]; then [[ $out == *installed* ]]; else [[ $out != *installed* ]]; fi
}
module_of() { # module_of RELEASE: the file that modprobe would take
	in_machine modinfo -k "$1" -n rust_vhost_vdpa
}
wins() { # wins RELEASE: modprobe's own answer
	local out
	out=$(module_of "$1")
	echo "$out"
	[[ $out == */updates/dkms/rust_vhost_vdpa.ko* ]]
}

# --- what is refused, sentence by sentence
# refuses WHAT SENTENCE [SETUP]: the build script is asked about a copy of the headers that SETUP, which
# is shell text in the machine, has spoilt.
refuses() {
	local what=$1 sentence=$2 setup=${3:-:}
	try "refused: $what" refusal "$sentence" "$setup"
}
refusal() {
	local rc=0 out
	# In a namespace of its own: what SETUP mounts over a file is gone afterwards.
	out=$(in_machine bash -c '
		set -eu
		release='"$first"'
		headers=$(readlink -f /lib/modules/$release/build)
		h=$headers
		config() { mkdir -p /tmp/h; cp "$headers/.config" /tmp/h/; h=/tmp/h; sed -i "$1" /tmp/h/.config; }
		over() { printf "%s\n" "#!/bin/sh" "$2" >/tmp/over; chmod +x /tmp/over; mount --bind /tmp/over "$(readlink -f "$1")"; }
		env=()
		'"$2"'
		set +e
		env "${env[@]}" /usr/src/rust-vhost-vdpa-'"$version"'/dkms/build --check "$release" "$h"
		rc=$?
		rm -rf /tmp/h /tmp/over /tmp/db
		exit $rc' 2>&1) || rc=$?
	printf '%s\n' "$out"
	echo "exit status $rc"
	[ "$rc" -eq 77 ] && grep -qxF -- "rust-vhost-vdpa: $1" <<<"$out"
}

echo TAP version 13
echo "# $deb on Debian with $first; then $second; beside them $norust"
try "apt installs the package and all that its build needs" apt_get -o APT::Install-Recommends=true install "/root/$deb"
rustc=$(in_machine rustc --version)
try "DKMS installed the modules for $first" status_is "$first" installed
try "the driver is where modprobe finds it" wins "$first"
try "a module tells its version" prints "$version" in_machine modinfo -k "$first" -F version rust_vhost_vdpa

headers_version=$(field first 2)
headers_package=linux-headers-$first
refuses "a kernel without Rust" \
	"Linux $first is configured without Rust (CONFIG_RUST), so there are no modules for it." 'config "/^CONFIG_RUST=/d"'
refuses "a kernel of another series" \
	"Linux 9.1.0-amd64 is of the series 9.1, and this version is written for $(supported_series | paste -sd ' ' | sed 's/ / and /g')." 'release=9.1.0-amd64'
refuses "a kernel without vDPA" "Linux $first is configured without CONFIG_VDPA, which the modules need." 'config "/^CONFIG_VDPA=/d"'
refuses "another rustc" \
	"Linux $first was built with '$rustc', and the installed rustc is 'rustc 1.97.1': Rust metadata is bound to the exact compiler, so install the package rustc of that version." \
	'over /usr/bin/rustc "echo rustc 1.97.1"'
refuses "no rustc" "Linux $first was built with '$rustc', and no rustc is installed: install that version's package rustc." \
	'over /usr/bin/rustc "exit 127"'
refuses "no rust-src" "The Rust standard library's source is missing: install the package rust-src of the version of rustc." \
	'mkdir -p /tmp/h; mount --bind /tmp/h "$(readlink -f "$(rustc --print sysroot)/lib/rustlib/src/rust/library")"'
refuses "no bindgen" "bindgen is missing: install the package bindgen." 'mount --bind /dev/null "$(readlink -f /usr/bin/bindgen)"'
refuses "no pahole" "pahole is missing, which the type information of modules needs: install the package pahole." \
	'mount --bind /dev/null "$(readlink -f /usr/bin/pahole)"'
refuses "a bindgen that does not work" "bindgen does not work, as without Clang's library: install the package libclang-dev." 'over /usr/bin/bindgen "exit 1"'
refuses "no C compiler of the kernel's" \
	"Linux $first was built with 'x86_64-linux-gnu-gcc-99 (none) 99', and x86_64-linux-gnu-gcc-99 is not installed: install the package gcc-99." \
	'config "s/^CONFIG_CC_VERSION_TEXT=.*/CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-99 (none) 99\"/; s/^CONFIG_GCC_VERSION=.*/CONFIG_GCC_VERSION=990000/"'
refuses "headers of no package" "The headers of Linux $first do not belong to a Debian package, so the source that they were made from is not known." 'config ""'
refuses "no source" "The source of Linux $first is missing: install the package linux-source-$first_series of version $headers_version." \
	'env=(VHOST_VDPA_SOURCES=/nowhere)'
refuses "source of another version" \
	"The package linux-source-$first_series is of version 0.1 and $headers_package of version $headers_version: install both at one version." \
	'cp -a /var/lib/dpkg /tmp/db; sed -i "/^Package: linux-source-/,/^$/s/^Version:.*/Version: 0.1/" /tmp/db/status; env=(DPKG_ADMINDIR=/tmp/db)'

no_space() {
	local rc=0 out
	out=$(in_machine bash -c 'mkdir -p /tmp/small && mount -t tmpfs -o size=10m none /tmp/small &&
		VHOST_VDPA_METADATA=/tmp/small /usr/src/rust-vhost-vdpa-'"$version"'/dkms/build '"$first"' /lib/modules/'"$first"'/build' 2>&1) || rc=$?
	printf '%s\n' "$out"
	echo "exit status $rc"
	[ "$rc" -eq 77 ] && grep -qxF "rust-vhost-vdpa: There is less than 600 MB of space below /tmp/small, which the build needs for the time being." <<<"$out"
}
try "refused: no space" no_space
# A build that fails is an error of whoever asked for it, and not of a kernel package.
broken() { # broken STATUS VARIABLE=VALUE...
	local want=$1 rc=0 out
	shift
	out=$(in_machine bash -c '
		mkdir /tmp/s
		echo none >/tmp/s/linux-source-'"$first_series"'.tar.xz
		env VHOST_VDPA_SOURCES=/tmp/s VHOST_VDPA_METADATA=/tmp/s/metadata "$@" /usr/src/rust-vhost-vdpa-'"$version"'/dkms/build \
			'"$first"' /lib/modules/'"$first"'/build
		rc=$?
		rm -rf /tmp/s
		exit $rc' sh "$@" 2>&1) || rc=$?
	printf '%s\n' "$out"
	echo "exit status $rc"
	[ "$rc" -eq "$want" ] && grep -qxF "rust-vhost-vdpa: /tmp/s/linux-source-$first_series.tar.xz cannot be unpacked." <<<"$out"
}
try "a build that fails is an error" broken 1
try "it is none while a kernel is being installed" broken 77 "DPKG_MAINTSCRIPT_PACKAGE=linux-headers-$first"

# --- other kernels come
try "a kernel without Rust installs beside it, and the reason is on the terminal" \
	prints "rust-vhost-vdpa: Linux $norust is configured without Rust (CONFIG_RUST), so there are no modules for it." \
	apt_get install --no-install-recommends "linux-image-$norust" "linux-headers-$norust"
try "it has no modules of ours" status_is "$norust" nothing
if [ "$first_series" != "$second_series" ]; then
	try "another kernel installs without its source, and the reason is on the terminal" \
		prints "rust-vhost-vdpa: The source of Linux $second is missing: install the package linux-source-$second_series of version $(field second 2)." \
		apt_get -t "$(. "$m/etc/os-release"; echo "$VERSION_CODENAME")-backports" install --no-install-recommends "linux-image-$second" "linux-headers-$second"
	try "it has no modules of ours yet" status_is "$second" nothing
	try "when its source is installed, they are built" apt_get install --no-install-recommends "linux-source-$second_series"
else
	try "another kernel installs" apt_get install --no-install-recommends "linux-image-$second" "linux-headers-$second"
fi
try "DKMS installed the modules for $second" status_is "$second" installed
try "those for $first are still there" status_is "$first" installed

# --- in the VM
as_root cp "$PROJECT/tools/package/in-machine.sh" "$m/root/"
as_root sh -c 'cat >"$1/etc/systemd/system/package-check.service"' sh "$m" <<-'EOF'
	[Unit]
	After=multi-user.target
	[Service]
	Type=oneshot
	ExecStart=/bin/bash -c '/bin/bash /root/in-machine.sh $(cat /root/what) >/dev/ttyS1 2>&1; systemctl --no-block poweroff'
	[Install]
	WantedBy=multi-user.target
EOF
in_machine systemctl enable package-check.service >/dev/null 2>&1
vm() { # vm WHAT RELEASE: boot it and take its TAP lines
	local what=$1 release=$2 size line seen=0
	if [ "${PACKAGE_VMS:-}" = no ]; then
		echo "ok - $what on $release # SKIP PACKAGE_VMS=no"
		return
	fi
	as_root sh -c 'echo "$2 $3" >"$1/root/what"' sh "$m" "$what" "$version"
	size=$(as_root du -sm --exclude=var/cache/apt/archives "$m" | cut -f1)
	as_root rm -f "$dir/disk" "$dir/tap" "$dir/console"
	(
		export OTHER_ROOT=$QEMU_ROOT
		step "a disk image" in_root sh -c 'mkdir -p /cache/package-check/empty && mount --bind /cache/package-check/empty "/cache/package-check/machine/var/cache/apt/archives" &&
			mke2fs -q -t ext4 -d /cache/package-check/machine /cache/package-check/disk "$1"' sh $((size + 700))M
		step "$what on $release, in a VM" in_root timeout 1500 qemu-system-x86_64 -accel tcg -cpu max,la57=off,-erms,-fsrm -smp 2 -m 2G \
			-kernel "/cache/package-check/machine/boot/vmlinuz-$release" \
			-initrd "/cache/package-check/machine/boot/initrd.img-$release" \
			-append "root=/dev/vda rw console=ttyS0 vhost_vdpa.max_iotlb_entries=456 rcupdate.rcu_cpu_stall_timeout=120 mitigations=off systemd.default_device_timeout_sec=300" \
			-drive file=/cache/package-check/disk,if=virtio,format=raw,cache=unsafe \
			-display none -nodefaults -no-reboot \
			-serial file:/cache/package-check/console -serial file:/cache/package-check/tap
	) | sed 's/^/# /'
	while IFS= read -r line; do
		case $line in
		ok*|'not ok'*) seen=$((seen + 1)); count=$((count + 1)); [[ $line == ok* ]] || failed=1
			printf '%s\n' "$line" | sed -E "s/^((not )?ok - )/\1$release: /" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done < <(tr -d '\r' <"$dir/tap" 2>/dev/null)
	try "$release: the machine booted, and its test ran to the end" grep -q '^# done' "$dir/tap"
}
try "the machine gets driverctl" apt_get install --no-install-recommends driverctl
vm installed "$second"
vm installed "$first"
vm norust "$norust"

# --- it leaves
as_root sh -c 'xz -dc <"$1" >"$2"' sh \
	"$(ls "$m/usr/lib/modules/$second/updates/dkms/"rust_vdpa_sim_net.ko*)" "$m/root/rust_vdpa_sim_net.ko"
left() { # no file in the machine names us
	local found
	found=$(as_root find "$m" -xdev \( -path "$m/root" -o -path "$m/var/lib/dpkg" -o -path "$m/var/log" -o -path "$m/var/cache/apt" -o -path "$m/tmp" \) -prune -o \
		\( -name '*rust*vhost*vdpa*' -o -name '*rust_vdpa*' -o -name '*rust_mlx5*' \) -print)
	[ -z "$found" ] || { printf '%s\n' "$found"; return 1; }
	! as_root grep -rls 'rust_vhost_vdpa' "$m/etc" "$m"/usr/lib/modules/*/modules.dep "$m"/usr/lib/modprobe.d "$m"/usr/lib/udev/rules.d
}
# What an upgrade beside a loaded driver says: /sys of such a machine is put in the place of the host's.
loaded_before() {
	in_machine bash -c 'mount -t tmpfs none /sys && mkdir -p /sys/module/rust_vhost_vdpa && echo 0.0.9 >/sys/module/rust_vhost_vdpa/version &&
		apt-get -qy install --reinstall "/root/$1"' sh "$deb"
}
try "the package is installed again while another version is loaded, and says which one is in use" \
	prints "rust-vhost-vdpa: version 0.0.9 of the driver is loaded and stays; with no device open, 'modprobe -r vhost_vdpa && modprobe vhost_vdpa' changes to the installed one." \
	loaded_before
try "the modules are there again" status_is "$second" installed
try "the package is removed" apt_get remove rust-vhost-vdpa-dkms
try "it left no file, no module and no rule" left
try "the package is purged" in_machine dpkg --purge rust-vhost-vdpa-dkms
try "dpkg does not know it any more" bash -c '! grep -q "^Package: rust-vhost-vdpa-dkms" "$1"' sh "$m/var/lib/dpkg/status"
try "it left no file, no module and no rule after that" left
vm removed "$second"

echo "1..$count"
[ -n "${keep:-}" ] || as_root rm -rf --one-file-system "$dir"
exit $failed
