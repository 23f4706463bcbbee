#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make the root file system of a minimal Debian machine with systemd, for tools/package/package-check.sh: the
# stable suite with backports, one stock kernel with its headers, and, not yet installed, the archives
# of everything that the check installs, so that it needs no network.
# Usage: mkmachine.sh DIR  (DIR appears complete or not at all)
#
# DIR/kernels has a line for each kernel: "ROLE VERSION ABI FLAVOUR SERIES". ROLE is first (installed
# here), second (another release, to update to) or norust (one without Rust).
. "$(dirname "$0")/../lib.sh"

# prepare_machine ROOT: the second call, by mmdebstrap's hook.
prepare_machine() {
	local root=$1 suite=$2 lists series found n=0 role version abi flavour
	export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
	lists=$(mktemp -d)
	# apt-helper reads the lists in any compression.
	cat_list() { chroot "$root" sh -c "for f in /var/lib/apt/lists/*dists_$1_main_binary-amd64_Packages*; do /usr/lib/apt/apt-helper cat-file \"\$f\"; done"; }
	cat_list "$suite-backports" >"$lists/backports"
	cat_list "$suite" >"$lists/stable"
	cat_list "$suite-security" >>"$lists/stable"
	{
		# The newest complete kernel of the two newest series; one alone is taken in two flavours.
		for series in $(supported_series); do
			found=$(complete_kernels "$lists/backports" cloud-amd64 "$series" | tail -n 1)
			[ -z "$found" ] || echo "$found" | awk '{ print $1, $2, "cloud-amd64", $3 }'
		done | head -n 2 | awk '{ print (NR == 1 ? "first" : "second"), $0; last = $0 }
			END { if (NR == 1) { sub("cloud-amd64", "amd64", last); print "second", last } }'
		complete_kernels "$lists/stable" cloud-amd64 | tail -n 1 | awk '{ print "norust", $1, $2, "cloud-amd64", $3 }'
	} >"$root/kernels"
	rm -rf "$lists"
	[ "$(wc -l <"$root/kernels")" -eq 3 ] || die "the archive does not have the kernels that are needed: $(tr '\n' ';' <"$root/kernels")"
	cat "$root/kernels"

	# What the package wants, by a package that wants the same.
	mkdir -p "$root/tmp/wants/DEBIAN"
	{
		printf 'Package: wants\nVersion: 1\nArchitecture: all\nMaintainer: none <none@localhost>\nDescription: none\n'
		awk '/^Package:/ { on = 1 } on && /^(Depends|Recommends):/ { p = 1; print; next } /^[^ ]/ { p = 0 } on && p' \
			"$PROJECT/debian/control" | sed 's/\${misc:Depends}/dkms/' |
			tr '\n' ' ' | sed -E 's/, *(Depends:|Recommends:|$)/\n\1/g; s/([^\n]) *(Recommends:)/\1\n\2/'
	} >"$root/tmp/wants/DEBIAN/control"
	dpkg-deb -Zgzip -b "$root/tmp/wants" "$root/tmp/wants.deb"

	# As a user installs a kernel of backports: by name and with -t.
	apt() { chroot "$root" apt-get -qy -o Acquire::Retries=3 -o APT::Keep-Downloaded-Packages=true "$@"; }
	while read -r role version abi flavour series; do
		case $role in
		first) apt install -t "$suite-backports" --no-install-recommends "linux-image-$abi-$flavour" "linux-headers-$abi-$flavour" ;;
		second) apt install -t "$suite-backports" --download-only --no-install-recommends "linux-image-$abi-$flavour" "linux-headers-$abi-$flavour" "linux-source-$series" ;;
		norust) apt install --download-only --no-install-recommends "linux-image-$abi-$flavour" "linux-headers-$abi-$flavour" ;;
		esac
	done <"$root/kernels"
	# With what it recommends, as apt does by default.
	apt install --download-only -o APT::Install-Recommends=true /tmp/wants.deb
	apt install --download-only --no-install-recommends driverctl
	rm -rf "$root/tmp/wants" "$root/tmp/wants.deb"
	# For the machine in the VM: no password, no wait for a network.
	chroot "$root" passwd -d root
	echo machine >"$root/etc/hostname"
	chroot "$root" systemctl mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer
}

if [ "$1" = --prepare ]; then
	prepare_machine "$2" "$3"
	exit
fi
dir=$1
. "$PROJECT/tools/image/mirror.sh"
need_root
suite=$(root_field "$(kernel_field "$(kernel_names default | head -n 1)" root)" suite)
as_root rm -rf --one-file-system "$dir.part"
as_root mmdebstrap --variant=minbase --mode=root --skip=cleanup/apt \
	--aptopt='Acquire::Retries "3"' \
	--include=systemd-sysv,udev,kmod,iproute2,initramfs-tools,zstd,procps \
	--customize-hook="'$PROJECT/tools/image/mkmachine.sh' --prepare \"\$1\" $suite" \
	"$suite" "$dir.part" "deb $MIRROR $suite main" "deb $MIRROR $suite-updates main" \
	"deb $MIRROR $suite-backports main" "deb $MIRROR_SECURITY $suite-security main"
as_root rm -f "$dir.part/etc/apt/apt.conf.d/99mmdebstrap"
as_root mv -T "$dir.part" "$dir"
