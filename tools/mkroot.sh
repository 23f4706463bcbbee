#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make the root file system that serves as build environment and as the VM's
# root: Debian trixie, with the newest backports kernel of our series.
# Usage: mkroot.sh DIR VERSION  (DIR appears complete or not at all)
. "$(dirname "$0")/lib.sh"

dir=$1 version=$2
. "$PROJECT/tools/mirror.sh"
need_root

abi=${version%%-*}+deb13
packages=()
while read -r name _; do
	case $name in ''|\#*) continue ;; esac
	packages+=("$name")
done <"$PROJECT/tools/root-packages"
for p in "linux-image-$abi-amd64" "linux-headers-$abi-amd64" "linux-headers-$abi-common" \
	 "linux-kbuild-$abi" "linux-source-$SERIES" linux-libc-dev; do
	packages+=("$p=$version")
done

as_root rm -rf --one-file-system "$dir.part"
include=$(IFS=,; printf '%s' "${packages[*]}")
# QEMU 11 and the kernel come from backports, everything else (the compilers
# above all: Rust metadata is bound to the exact rustc) from trixie itself.
preferences='Package: src:qemu src:seabios src:ipxe src:linux src:linux-base src:linux-signed-amd64
Pin: release n=trixie-backports
Pin-Priority: 600'
as_root mmdebstrap --variant=minbase --mode=root \
	--aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Retries "3"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--setup-hook='mkdir -p "$1/etc/apt/preferences.d"' \
	--setup-hook="printf '%s\n' '$preferences' >\"\$1/etc/apt/preferences.d/backports\"" \
	--include="$include" \
	trixie "$dir.part" \
	"deb $MIRROR trixie main" \
	"deb $MIRROR trixie-updates main" \
	"deb $MIRROR trixie-backports main" \
	"deb $MIRROR_SECURITY trixie-security main"
# The package lists name the mirror and are of no further use.
as_root sh -c "rm -rf '$dir.part'/var/lib/apt/lists/* '$dir.part'/var/cache/apt/*.bin
	mkdir -p '$dir.part/src' '$dir.part/cache'
	printf '%s\n' '$version' >'$dir.part/etc/vhost-vdpa-kernel'
	mv -T '$dir.part' '$dir'"
