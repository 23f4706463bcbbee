#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build C's simulators and vp_vdpa, which Debian's kernel leaves out, from the same
# source: the other side of every comparison. Runs inside the build root.
# Usage: mkcsim.sh TREE DIR  (DIR appears complete or not at all)
set -euo pipefail

tree=$1 dir=$2
rm -rf "$dir.part"
mkdir -p "$dir.part"
cd "$dir.part"
cp "$tree"/drivers/vdpa/vdpa_sim/*.[ch] "$tree"/drivers/vdpa/virtio_pci/vp_vdpa.c \
	"$tree"/drivers/vhost/vringh.c .
printf '%s\n' 'obj-m := vringh.o vdpa_sim.o vdpa_sim_net.o vdpa_sim_blk.o vp_vdpa.o' >Kbuild
cc=$(sed -nE 's/^CONFIG_CC_VERSION_TEXT="([^ ]+) .*/\1/p' "$tree/.config")
make -C "$tree" M="$PWD" CC="$cc" CROSS_COMPILE=x86_64-linux-gnu- modules
mv -T "$dir.part" "$dir"
