#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the nested guest's kernel from Debian's linux-source with our own tiny
# configuration. Runs inside the build root.
# Usage: mkguest.sh DIR CC  (DIR, with vmlinux in it, appears complete or not at all)
set -euo pipefail

dir=$1 cc=$2
here=$(cd "$(dirname "$0")" && pwd)
tarball=$(ls /cache/kernel/usr/src/linux-source-*.tar.*)

rm -rf "$dir.part" "$dir.build"
mkdir -p "$dir.part" "$dir.build"
tar -C "$dir.build" --strip-components=1 -xf "$tarball"
make=(make -C "$dir.build" -j"$(nproc)" CC="$cc" LOCALVERSION=)
"${make[@]}" tinyconfig
"$dir.build/scripts/kconfig/merge_config.sh" -m -O "$dir.build" "$dir.build/.config" "$here/guest/guest.config"
"${make[@]}" olddefconfig

# An option that Kconfig dropped would only show as a guest that does not boot.
while read -r line; do
	case $line in CONFIG_*=y)
		grep -qx "$line" "$dir.build/.config" || { echo "Kconfig dropped $line"; exit 1; } ;;
	esac
done <"$here/guest/guest.config"

"${make[@]}" vmlinux
strip -o "$dir.part/vmlinux" "$dir.build/vmlinux"
cp "$dir.build/.config" "$dir.part/config"
rm -rf "$dir.build"
mv -T "$dir.part" "$dir"
