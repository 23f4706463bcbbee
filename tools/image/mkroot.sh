#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make a root file system that serves as build environment and as the VM's root: the Debian of one
# "root" line of tools/kernels. The kernels themselves are no part of it: see mkkernel.sh.
# Usage: mkroot.sh DIR ROOT  (DIR appears complete or not at all)
. "$(dirname "$0")/../lib.sh"

dir=$1 root=$2
. "$PROJECT/tools/image/mirror.sh"
need_root

suite=$(root_field "$root" suite) llvm=$(root_field "$root" llvm)
packages=("$(root_field "$root" cc)" "clang-$llvm" "lld-$llvm" "llvm-$llvm")
while read -r name _; do
	case $name in ''|\#*) continue ;; esac
	packages+=("$name")
done <"$PROJECT/tools/image/root-packages"

sources=("deb $MIRROR $suite main") hooks=()
if [ "$(root_field "$root" backports)" = yes ]; then
	sources+=("deb $MIRROR $suite-updates main" "deb $MIRROR $suite-backports main"
		  "deb $MIRROR_SECURITY $suite-security main")
	# QEMU and the kernel's headers for userspace come from backports, everything else (the compilers
	# above all: Rust metadata is bound to the exact rustc) from the suite itself.
	preferences="Package: src:qemu src:seabios src:ipxe src:linux src:linux-base
Pin: release n=$suite-backports
Pin-Priority: 600"
	hooks=(--setup-hook='mkdir -p "$1/etc/apt/preferences.d"'
	       --setup-hook="printf '%s\n' '$preferences' >\"\$1/etc/apt/preferences.d/backports\"")
fi

as_root rm -rf --one-file-system "$dir.part"
include=$(IFS=,; printf '%s' "${packages[*]}")
as_root mmdebstrap --variant=minbase --mode=root \
	--aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Retries "3"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	"${hooks[@]}" --include="$include" "$suite" "$dir.part" "${sources[@]}"
# The package lists name the mirror and are of no further use.
as_root sh -c "rm -rf '$dir.part'/var/lib/apt/lists/* '$dir.part'/var/cache/apt/*.bin
	mkdir -p '$dir.part/src' '$dir.part/cache' '$dir.part/boot' '$dir.part/usr/lib/modules'
	mv -T '$dir.part' '$dir'"
