# SPDX-License-Identifier: GPL-2.0
"""The vdpa tool and libblkio with the driver: no guest, so it takes a minute or two."""

import os
import sys

import vdpa_tool
from blocks import Simulator, Vduse, libblkio
from lib import RUST, Tap, Trace, pins, pins_settle, vdpa


def main():
    tap = Tap()
    before = pins()
    trace = Trace()
    there = vdpa("mgmtdev", "show")["mgmtdev"]
    requests = int(os.environ.get("REQUESTS", "1500"))
    seed = int(os.environ.get("SEED", "1"))
    for mgmtdev in ("rust_vdpasim_net", "vdpasim_net"):
        if mgmtdev in there:
            tap.run(f"vdpa tool, {mgmtdev}", vdpa_tool.nic, tap, mgmtdev)
        else:
            tap.skip(f"vdpa tool, {mgmtdev}", "the simulator is not loaded")

    def disk(make):
        parent = make()
        tap.after.append(parent.kill)
        vdpa_tool.disk(tap, parent.device, parent.mgmtdev, parent.sectors)
        trace.clear()
        libblkio(tap, parent, requests, seed)
        if RUST:
            tables = [e for name, e in trace.events(parent.device) if name == "set_map"]
            tap.ok(any(e["entries"] > 0 for e in tables), f"{parent.mgmtdev}: set_map events name the device", tables[-5:])
        tap.equal(parent.end(), 0, f"{parent.mgmtdev}: deleted, and its daemon, if any, is well")
    tap.run("libblkio, vduse", disk, Vduse)
    for mgmtdev, name in (("vdpasim_blk", "cblk0"), ("rust_vdpasim_blk", "rblk0")):
        if mgmtdev in there:
            tap.run(f"libblkio, {mgmtdev}", disk, lambda: Simulator(mgmtdev, name))
        else:
            tap.skip(f"libblkio, {mgmtdev}", "the simulator is not loaded")
    tap.ok(pins_settle(before), "nothing is left pinned", f"{before} before, {pins()} now")
    tap.unload()
    return tap.totals()


sys.exit(main())
