#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# In the place of udevd and its like on the debug kernel, where they take minutes: all
# that vng's init waits for are the names of its serial ports.
case $0 in */systemd-udevd) ;; *) exit 0 ;; esac
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
	read -r name <"$port/name" && ln -sf "../${port##*/}" "/dev/virtio-ports/$name"
done 2>/dev/null
exit 0
