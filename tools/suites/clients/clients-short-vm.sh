# SPDX-License-Identifier: GPL-2.0
# Clients that need no guest: iproute2's vdpa tool, its JSON checked field by field, and
# libblkio with every byte verified, on VDUSE and on each simulator that was built.
# Usage: tools/vm.sh tools/suites/clients/clients-short-vm.sh
# REQUESTS (1500) and SEED (1) are of the load that libblkio runs on each disk.

. /src/tools/suites/clients/load.sh
load_parents
ulimit -l unlimited # the driver charges what it pins to this limit
python3 -Bu /src/tools/suites/clients/short.py
exit
