#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Pack the nested guest's initramfs: busybox, our init and our frame sender.
# Runs inside the build root. Usage: mkinitramfs.sh FILE
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,dev,proc,sys,mnt}
cp /usr/bin/busybox "$work/bin/busybox"
ln -s busybox "$work/bin/sh"
gcc -Wall -Wextra -Werror -O2 -static -s -o "$work/bin/frames" "$here/guest/frames.c"
install -m 755 "$here/guest/init" "$work/init"
# /init's output needs a console before anything is mounted.
mknod "$work/dev/console" c 5 1
( cd "$work" && find . | cpio --quiet -o -H newc -R 0:0 ) >"$1.part"
mv "$1.part" "$1"
