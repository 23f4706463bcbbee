# SPDX-License-Identifier: GPL-2.0
# Rings where no memory is: the simulator still has its 1:1 map when C's vhost_vdpa
# opens it, so every address is a physical one. None of these may be touched.
# Usage: tools/vm.sh tools/suites/sim-net/sim-net-hostile-vm.sh

fail=0
MODULES=c load_driver || exit 4
MODULES=rust load_sim_net
vdpa dev add name bad mgmtdev rust_vdpasim_net || exit 1
node=$(vhost_node bad) || exit 1
text=$(awk '/Kernel code/ { sub(/-.*/, "", $1); print $1 }' /proc/iomem)
python3 - "$node" "$text" <<'PY'
import fcntl, os, struct, sys, time

def iow(nr, size):
    return 1 << 30 | size << 16 | 0xaf << 8 | nr

def call(fd, nr, fmt, *args):
    data = struct.pack(fmt, *args)
    return fcntl.ioctl(fd, iow(nr, len(data)), data)

TOP = 1 << 64
holes = [0xa0000, 0xf0000, 0xfee00000, 0xfec00000, 0xfd000000, 0xffff0000, 1 << 40, 1 << 46,
         1 << 51, 1 << 52, 1 << 62, TOP - 8192, int(sys.argv[2], 16) + 0x1000,
         int(sys.argv[2], 16) + 0xff0]
runs = 0
for desc in holes:
    for avail in holes:
        used = holes[runs % len(holes)]
        fd = os.open(sys.argv[1], os.O_RDWR)
        fcntl.ioctl(fd, 0xaf01)                                   # SET_OWNER
        call(fd, 0x72, 'B', 1); call(fd, 0x72, 'B', 3)            # VDPA_SET_STATUS
        call(fd, 0x00, '<Q', 1 << 32 | 1 << 33 | 1 << 28)         # SET_FEATURES
        call(fd, 0x72, 'B', 11)
        kicks = []
        for queue in 0, 1:
            call(fd, 0x10, '<II', queue, 256)                     # SET_VRING_NUM
            call(fd, 0x12, '<II', queue, runs * 37 & 0xffff)      # SET_VRING_BASE
            call(fd, 0x11, '<IIQQQQ', queue, 0, desc, used, avail, 0)
            kicks.append(os.eventfd(0))
            call(fd, 0x20, '<Ii', queue, kicks[-1])               # SET_VRING_KICK
            call(fd, 0x75, '<II', queue, 1)                       # VDPA_SET_VRING_ENABLE
        call(fd, 0x72, 'B', 15)
        for kick in kicks:
            os.eventfd_write(kick, 1)
        time.sleep(0.005)
        os.close(fd)
        for kick in kicks:
            os.close(kick)
        runs += 1
print(f'{runs} hostile layouts')
PY
rc=$?
check 'no ring where no memory is was touched' test $rc -eq 0
check 'the NIC can be deleted' vdpa dev del bad
exit $fail
