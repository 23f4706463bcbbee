# SPDX-License-Identifier: GPL-2.0
"""All scenarios of real clients, or those that the command line names."""

import os
import sys

import qemu
import vdpa_tool
from blocks import Simulator, Vduse, libblkio
from lib import Tap, Trace, pins, pins_settle, run, vdpa

NICS = {"c": "vdpasim_net", "rust": "rust_vdpasim_net"}
DISKS = {"c": ("vdpasim_blk", "cblk0"), "rust": ("rust_vdpasim_blk", "rblk0")}


def main(names):
    tap = Tap()
    before = pins()
    trace = Trace()
    there = vdpa("mgmtdev", "show")["mgmtdev"]
    nics = {k: m for k, m in NICS.items() if m in there}
    disks = {k: (m, n) for k, (m, n) in DISKS.items() if m in there}
    requests, seed = int(os.environ.get("REQUESTS", "4000")), int(os.environ.get("SEED", "2"))

    def parents():
        return [Vduse(), *(Simulator(m, n) for m, n in disks.values())]

    def tool():
        for mgmtdev in nics.values():
            vdpa_tool.nic(tap, mgmtdev)
        for parent in parents():
            tap.after.append(parent.kill)
            vdpa_tool.disk(tap, parent.device, parent.mgmtdev, parent.sectors)
            tap.equal(parent.end(), 0, f"vdpa tool, {parent.mgmtdev}: dev del")

    def blkio():
        for parent in parents():
            tap.after.append(parent.kill)
            libblkio(tap, parent, requests, seed)
            tap.equal(parent.end(), 0, f"libblkio, {parent.mgmtdev}: deleted, and its daemon, if any, is well")

    scenarios = {
        "tool": tool,
        "libblkio": blkio,
        "devices": lambda: qemu.devices(tap, trace, nics, parents),
        "svq": lambda: qemu.svq(tap, trace, nics),
        **{f"migration-{k}": lambda m=m: qemu.migration(tap, trace, m) for k, m in nics.items()},
    }
    for kind in ("c", "rust"):
        for what, have in (("NIC", nics), ("disk", disks)):
            if kind not in have:
                tap.skip(f"the {kind} simulator's {what}", "it was not built")
    for name in names or scenarios:
        if name not in scenarios:
            tap.ok(False, f"there is a scenario {name}")
            continue
        tap.run(name, scenarios[name])
        for left in vdpa("dev", "show")["dev"]:
            tap.ok(False, f"{name}: {left} is left")
            run("vdpa", "dev", "del", left, check=False)
        tap.ok(pins_settle(before), f"{name}: nothing is left pinned", f"{before} pages before, {pins()} now")
    tap.unload()
    return tap.totals()


sys.exit(main(sys.argv[1:]))
