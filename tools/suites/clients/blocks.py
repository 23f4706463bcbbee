# SPDX-License-Identifier: GPL-2.0
"""Disks, and libblkio on them: parents come as objects with a device and what is behind it."""

import os
import subprocess

from blkio import Disk, Error, Load
from lib import MODERN, RUST, WORK, Device, bits, run, wait_for


class Vduse:
    """A disk that the storage daemon exports as a VDUSE device."""

    mgmtdev, name = "vduse", "vduse0"
    # VDUSE signals a queue's eventfd itself, which the driver does not see.
    calls = False

    def __init__(self, size=32 << 20):
        self.sectors = size // 512
        self.image = f"{WORK}/{self.name}.img"
        with open(self.image, "wb") as f:
            f.truncate(size)
        run("modprobe", "vduse")
        with open(f"{WORK}/{self.name}.log", "w") as log:
            self.daemon = subprocess.Popen(
                ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=file,filename={self.image},discard=unmap",
                 "--blockdev", "driver=raw,node-name=disk,file=file,discard=unmap", "--export",
                 f"type=vduse-blk,id=export,node-name=disk,name={self.name},writable=on,num-queues=2"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the VDUSE device", 60, lambda: os.path.exists(f"/dev/vduse/{self.name}"))

        def add():
            # It accepts being added only once the daemon has set up its queues.
            try:
                return Device(self.name, self.mgmtdev)
            except RuntimeError:
                return None
        self.device = wait_for("vdpa dev add", 60, add)

    def end(self):
        """Deletes the device; the daemon's exit status."""
        run("vdpa", "dev", "del", self.name)
        self.daemon.terminate()
        return self.daemon.wait(60)

    def kill(self):
        """Ends the daemon however the test ended."""
        self.daemon.kill()
        self.daemon.wait()


class Simulator:
    """A disk of a simulator's, in memory of the kernel."""

    calls = True

    def __init__(self, mgmtdev, name):
        self.mgmtdev, self.name = mgmtdev, name
        self.device = Device(name, mgmtdev)
        with Disk(self.device.node) as disk:
            self.sectors = disk.capacity() // 512

    def end(self):
        run("vdpa", "dev", "del", self.name)
        return 0

    def kill(self):
        pass


def libblkio(tap, parent, requests, seed):
    """A load by libblkio whose every byte is verified, and what the driver saw of it."""
    device, t = parent.device, f"libblkio, {parent.mgmtdev}"
    with Disk(device.node, queues=2) as disk:
        tap.equal(disk.capacity(), parent.sectors * 512, f"{t}: the capacity")
        load = Load(disk, seed)
        load.run(requests)
        state = device.state() if RUST else None
        load.verify()
        model, known = bytes(load.model), bytes(load.known)
    done = sum(load.counts.values())
    tap.ok(done >= requests and load.highest > disk.depth // 2 and all(load.counts.values()),
           f"{t}: requests of every kind, many at once", load.counts)
    tap.ok(load.compared >= load.size, f"{t}: what was read is what was written", load.compared)
    tap.note(f"{t}: {len(disk.queues)} queues, {done} requests, {load.compared >> 20} MiB compared, seed {seed}")
    if state:
        tap.ok(state["features"] == state["driver_features"] and MODERN <= bits(state["features"]),
               f"{t}: features are negotiated", state)
        tap.ok(state["status"] == 0xf and state["kicks"] > 0 and state["failed_messages"] == 0 and
               (state["queue_calls"] > 0 or not parent.calls), f"{t}: the driver ran the queues", state)
        tap.ok(state["as0_entries"] > 0 and (state["use_va"] or state["pinned_pages"] >= disk.region.len >> 12),
               f"{t}: the driver mapped the client's memory", state)
        after = device.state()
        tap.equal((after["opened"], after["status"], after["iotlb_entries"], after["pinned_pages"]), (0, 0, 0, 0),
                  f"{t}: nothing is left when it has gone")
    with Disk(device.node) as disk:
        again = Load(disk, seed + 1)
        again.model[:], again.known[:] = model, known
        again.verify()
    tap.ok(again.compared >= sum(known) * 512 // 2, f"{t}: another client finds it")
    if hasattr(parent, "image"):
        with open(parent.image, "rb") as f:
            content = f.read(len(model))
        wrong = [i for i in range(len(known)) if known[i] and content[i * 512:i * 512 + 512] != model[i * 512:i * 512 + 512]]
        tap.equal(wrong, [], f"{t}: and so does who reads the image")
    # The comparison itself: a changed byte is noticed.
    sector = known.index(1)
    changed = bytearray(model[sector * 512:sector * 512 + 512])
    changed[-1] ^= 1
    with Disk(device.node) as disk:
        disk.store(sector * 512, bytes(changed))
        noticed = Load(disk, seed)
        noticed.model[:], noticed.known[:] = model, known
        try:
            noticed.verify()
            said = "nothing"
        except Error as e:
            said = str(e)
    tap.equal(said, f"sector {sector} is not what was written", f"{t}: a byte that somebody changes is noticed")
