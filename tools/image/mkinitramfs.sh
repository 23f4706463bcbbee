#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Pack the nested guest's initramfs: busybox, our init and programs, and the modules that the
# stock kernel RELEASE needs for virtio devices and ext4; another kernel has no use for those.
# Beside FILE it leaves vmlinux, the stock kernel unpacked: under emulation a guest unpacks it in 10 s.
# Runs inside the build root. Usage: mkinitramfs.sh FILE RELEASE
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
file=$1 release=$2 modules=$work/lib/modules/$2
mkdir -p "$work"/{bin,dev,proc,sys,mnt} "$modules"
cp /usr/bin/busybox "$work/bin/busybox"
ln -s busybox "$work/bin/sh"
for program in frames ring; do
	gcc -Wall -Wextra -Werror -O2 -static -s -o "$work/bin/$program" "$here/guest/$program.c"
done
install -m 755 "$here/guest/init" "$work/init"
# What is loaded, in the order in which it is loaded; what is built in has no file.
for module in virtio_pci virtio_net virtio_blk ext4 af_packet; do
	modprobe -S "$release" --show-depends "$module" >"$work/depends"
	while read -r kind ko _; do
		name=$(basename "${ko%%.ko*}").ko
		[ "$kind" = insmod ] && [ ! -e "$modules/$name" ] || continue
		case $ko in
		*.xz) xz -dc "$ko" ;;
		*.zst) zstd -dcq "$ko" ;;
		*) cat "$ko" ;;
		esac >"$modules/$name"
		echo "$name" >>"$modules/order"
	done <"$work/depends"
done
rm "$work/depends"
# /init's output needs a console before anything is mounted.
mknod "$work/dev/console" c 5 1
( cd "$work" && find . | cpio --quiet -o -H newc -R 0:0 ) >"$file.part"
mv "$file.part" "$file"

vmlinux=$(dirname "$file")/vmlinux
/cache/tree/scripts/extract-vmlinux "/boot/vmlinuz-$release" >"$vmlinux.part"
mv "$vmlinux.part" "$vmlinux"
