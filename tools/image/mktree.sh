#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Regenerate, from Debian's linux-source, the build tree that Debian's headers
# package lacks the Rust half of, so that Rust modules build for the unmodified
# distribution kernel. Runs inside the build root.
# Usage: mktree.sh DIR  (DIR appears complete or not at all)
set -euo pipefail

dir=$1
release=$(cat /cache/kernel/release)
headers=/cache/kernel/usr/src/linux-headers-$release
tarball=$(ls /cache/kernel/usr/src/linux-source-*.tar.*)

[ -e "$headers/.config" ] || { echo "no headers for $release"; exit 1; }
rm -rf "$dir.part"
mkdir -p "$dir.part"
tar -C "$dir.part" --strip-components=1 -xf "$tarball"
cd "$dir.part"
cp "$headers/.config" .config

# The compiler that .config names: Debian calls it by its triplet.
cc=$(sed -nE 's/^CONFIG_CC_VERSION_TEXT="([^ ]+) .*/\1/p' .config)
make=(make -j"$(nproc)" CC="$cc" CROSS_COMPILE=x86_64-linux-gnu- LOCALVERSION=)
"${make[@]}" olddefconfig
grep -q '^CONFIG_RUST=y' .config || { echo "Rust was lost from .config: the toolchain does not fit"; exit 1; }
"${make[@]}" modules_prepare

cp "$headers/Module.symvers" .
cp "$headers/include/config/kernel.release" include/config/
cp "$headers/include/generated/utsrelease.h" include/generated/
[ -e "$headers/vmlinux" ] && cp "$headers/vmlinux" .
[ "$(cat include/config/kernel.release)" = "$release" ]
mv -T "$dir.part" "$dir"
