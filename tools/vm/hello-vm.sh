# SPDX-License-Identifier: GPL-2.0
# The smallest run: does a VM come up here, and how fast?
uname -r
echo "booted in $(cut -d' ' -f1 /proc/uptime) s"
