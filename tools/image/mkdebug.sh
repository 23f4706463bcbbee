#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the debug kernel of tools/image/debug.config with LLVM, and a tree that modules
# can be built against. Runs inside the build root.
# Usage: mkdebug.sh DIR CONFIG LLVM  (DIR appears complete or not at all)
#
# In DIR afterwards: the configured and built tree, arch/x86/boot/bzImage, and
# mods/lib/modules with the parents.
set -euo pipefail

dir=$1 config=$2 llvm=$3
tarball=$(ls /cache/kernel/usr/src/linux-source-*.tar.*)

# An interrupted build goes on where it was.
if [ ! -e "$dir.part/.unpacked" ]; then
	rm -rf "$dir.part"
	mkdir -p "$dir.part"
	tar -C "$dir.part" --strip-components=1 -xf "$tarball"
	touch "$dir.part/.unpacked"
fi
cd "$dir.part"
make=(make -j"$(nproc)" LLVM=-"$llvm")
if [ ! -e .config ]; then
	"${make[@]}" tinyconfig
	scripts/kconfig/merge_config.sh -m .config "$config"
	"${make[@]}" olddefconfig
fi
for want in RUST KASAN PROVE_LOCKING KUNIT FAULT_INJECTION_USERCOPY HW_RANDOM_VIRTIO VHOST_VDPA VDPA_SIM VP_VDPA; do
	grep -qE "^CONFIG_$want=[ym]" .config ||
		{ echo "CONFIG_$want was lost: the toolchain or the fragment does not fit"; exit 1; }
done
"${make[@]}" bzImage modules
"${make[@]}" modules_install INSTALL_MOD_PATH="$PWD/mods" DEPMOD=/sbin/depmod
rm .unpacked
mv -T "$dir.part" "$dir"
