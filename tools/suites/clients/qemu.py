# SPDX-License-Identifier: GPL-2.0
"""QEMU's ways to a vDPA device: nested guests, shadow virtqueues and live migration."""

import hashlib
import os

from blkio import Disk
from lib import (ASID, BATCH, MODERN, MSG_V2, NET_BITS, RUST, SUSPEND, WORK, Device, Guest, bits, generic, net, offered,
                 wait_for)

MAC, MAC2 = "52:54:00:76:64:61", "52:54:00:76:64:62"
MEMORY = 192 # MiB of each guest
FRAMES = 120
REPORT = 40 # frames, likewise
BLOCK = 64 << 10
BLOCKS = 64
# The bits that QEMU 11 knows of: what it acks is what is offered of them.
QEMU_BACKEND = {MSG_V2, BATCH, ASID, SUSPEND}
RUNNING = 8 | 4 # FEATURES_OK and DRIVER_OK: with shadow queues QEMU leaves the others out
# What QEMU maps for the shadow of a queue of 256 and for that of a control queue, which
# has bounce buffers beside its ring: (bytes, may the device write).
SHADOW_QUEUE = [(4096, True), (8192, False)]
SHADOW_CVQ = [(4096, False), (4096, False), (4096, True), (4096, True)]


class Nic:
    """A NIC of a guest: its device, how QEMU is told of it, and what it offered before."""

    calls = True

    def __init__(self, tap, name, mgmtdev, how="netdev", attributes=()):
        self.name, self.mgmtdev, self.how = name, mgmtdev, how
        self.title = f"{how}, {mgmtdev}"
        self.device = Device(name, mgmtdev, "mac", MAC, *attributes)
        tap.after.append(lambda: self.device.delete())
        self.offer = offered(self.device)
        self.cvq = NET_BITS["CTRL_VQ"] in bits(self.offer["features"])
        self.isolated = self.cvq and self.offer["address_spaces"] > 1

    def arguments(self, index, *options):
        return generic(self.device) if self.how == "generic" else net(self.device, MAC, *options, index=index)

    def packets(self):
        """What the device says that it has sent and received."""
        return self.device.stats(1)["tx packets"], self.device.stats(0)["rx packets"]

    def report(self, tap, trace, guest, eth):
        """What a guest did with the NIC, and what was negotiated for that."""
        t = self.title
        got = guest.wait_result("frames", of=eth)
        counters = f"{self.device.stats(0)}\n{self.device.stats(1)}\n{' '.join(guest.wait_result('counters', of=eth)[1:])}"
        tap.ok(got[1:4] == [f"sent={FRAMES}", f"returned={FRAMES}", "bad=0"], f"{t}: the guest's frames come back unchanged",
               f"{' '.join(got)}\n{counters}")
        # A device without a receive buffer may drop what it is sent first, and says so.
        missed = [int(word[7:]) - 1 for word in got if word.startswith("probes=")]
        tap.ok(missed and missed[0] <= self.device.stats(0)["rx overruns"], f"{t}: none was lost before, except for want of a buffer",
               f"{' '.join(got)}\n{counters}")
        sent, received = self.packets()
        tap.ok(sent >= FRAMES and received >= FRAMES, f"{t}: the device has counted them", (sent, received))
        features = guest.features(eth)
        negotiated(tap, t, self, features)
        config = self.device.config()
        tap.ok({"STATUS", "VERSION_1", "ACCESS_PLATFORM"} <= set(config["negotiated_features"]),
               f"{t}: the vdpa tool shows what was negotiated", config)
        mac = guest.wait_result("mac", of=eth)[1]
        tap.equal(config["mac"], mac, f"{t}: the guest's address is the device's")
        if self.cvq and NET_BITS["CTRL_MAC_ADDR"] in features:
            tap.equal(mac, MAC2, f"{t}: the guest has changed it through the control queue")
            self.control(tap, f"{t}: the device has counted that")

    def control(self, tap, name):
        counted = self.device.stats(self.offer["queues"] - 1)
        tap.ok(counted["cvq requests"] > 0 and counted["cvq errors"] == 0, name, counted)

    def data_queues(self):
        return self.offer["queues"] - (1 if self.cvq else 0)


def negotiated(tap, t, it, guest):
    """What a client has negotiated through the driver, once its guest runs."""
    if not RUST:
        return
    state = it.device.state()
    acked, wanted = bits(state["features"]), bits(it.offer["features"])
    tap.ok(MODERN <= acked <= wanted and state["features"] == state["driver_features"],
           f"{t}: features that are offered were agreed upon, and the parent has the same", state)
    # Address translation is between QEMU and the device. Of a NIC's features, QEMU keeps some to itself.
    if it.how == "generic":
        tap.equal(acked - {33}, guest & wanted - {33}, f"{t}: they are those of the guest's driver")
    else:
        tap.ok(acked - {33} <= guest, f"{t}: the guest's driver has them, too", (acked, guest))
    tap.equal(bits(state["backend_features"]), bits(it.offer["backend_features"]) & QEMU_BACKEND,
              f"{t}: QEMU acked the backend features that it knows")
    tap.ok(state["status"] & RUNNING == RUNNING and state["opened"] == 1 and state["failed_messages"] == 0,
           f"{t}: DRIVER_OK, and no message was refused", state)
    tap.ok(state["kicks"] > 0 and (state["queue_calls"] > 0 or not it.calls), f"{t}: kicks went out and calls came back", state)
    # All of it but the hole below 1 MiB.
    tap.ok(state["as0_entries"] > 0 and (state["use_va"] or state["as0_pinned_pages"] >= (MEMORY - 1) << 8),
           f"{t}: the guest's memory is mapped{'' if state['use_va'] else ' and pinned'}", state)


class GuestDisk:
    """A disk of a guest: a parent, and how QEMU is told of it."""

    def __init__(self, parent, how):
        self.parent, self.device, self.how = parent, parent.device, how
        self.title, self.calls = f"{how}, {parent.mgmtdev}", parent.calls
        self.offer = offered(parent.device)
        self.content = os.urandom(BLOCK * BLOCKS)
        with Disk(parent.device.node) as disk:
            disk.store(0, self.content)

    def arguments(self, index):
        if self.how == "generic":
            return generic(self.device)
        return ["-blockdev", f"driver=virtio-blk-vhost-vdpa,node-name=b{index},path={self.device.node},cache.direct=on",
                "-device", f"virtio-blk-pci,drive=b{index}"]

    def report(self, tap, guest, name):
        """What a guest did with the disk."""
        t = self.title
        tap.equal(guest.wait_result("sectors", of=name)[1], str(self.parent.sectors), f"{t}: the guest sees the capacity")
        tap.equal(guest.wait_result("read", of=name)[1], hashlib.sha256(self.content).hexdigest(),
                  f"{t}: the guest reads what libblkio wrote")
        self.wrote = guest.wait_result("wrote", of=name)[1]
        if self.how == "generic":
            negotiated(tap, t, self, guest.features(name))
        elif RUST:
            state = self.device.state()
            tap.ok(MODERN <= bits(state["features"]) and state["features"] == state["driver_features"],
                   f"{t}: libblkio's own features were agreed upon", state)
            tap.ok(state["status"] & RUNNING == RUNNING and state["kicks"] > 0 and state["failed_messages"] == 0 and
                   (state["queue_calls"] > 0 or not self.calls), f"{t}: the driver ran the queues", state)

    def read_back(self, tap):
        """What the guest wrote, when the guest has gone."""
        with Disk(self.device.node) as disk:
            got = disk.load(BLOCK * BLOCKS, BLOCK * BLOCKS)
        tap.equal(hashlib.sha256(got).hexdigest(), self.wrote, f"{self.title}: libblkio reads what the guest wrote")


def idle(tap, each):
    """A device after its client has gone."""
    if RUST:
        after = each.device.state()
        tap.equal((after["opened"], after["status"], after["iotlb_entries"], after["pinned_pages"]), (0, 0, 0, 0),
                  f"{each.title}: nothing is left when QEMU has gone")


def isolation(tap, trace, nic):
    """Where QEMU has the control queue, while the guest's data queues are the device's."""
    if not RUST or nic.how == "generic":
        return
    tap.equal(trace.small(nic.device, 0), [], f"{nic.title}: no queue is shadowed in address space 0")
    if nic.isolated:
        tap.equal(trace.small(nic.device, 1), SHADOW_CVQ,
                  f"{nic.title}: the control queue's shadow is in address space 1, by itself")


def shadowed(tap, trace, nic, when):
    """QEMU's own rings in front of a device's."""
    if not RUST:
        return
    # With everything shadowed the control queue has no need of an address space of its own.
    want = sorted(SHADOW_QUEUE * nic.data_queues() + (SHADOW_CVQ if nic.cvq else []))
    got = trace.small(nic.device, 0) + (trace.small(nic.device, 1) if nic.cvq else [])
    tap.equal(sorted(got), want, f"{nic.title}: {when}, every queue has its shadow")
    state = nic.device.state()
    tap.note(f"{nic.title}: {when}: features {state['features']:#x}, backend features {state['backend_features']:#x}, " +
             ", ".join(f"address space {i}: {state[f'as{i}_entries']} ranges" for i in range(8) if f"as{i}_entries" in state))


def append(nics, **more):
    """The nested kernel's parameters for NICs eth0 and so on."""
    words = {"job": "devices", "nics": ",".join(f"eth{i}" for i in range(len(nics))), "count": FRAMES, "flow": REPORT,
             "newmac": MAC2, **more}
    return " ".join(f"{k}={v}" for k, v in words.items())


def devices(tap, trace, mgmtdevs, parents):
    """One guest with a device in every way that QEMU has, except shadow virtqueues."""
    trace.clear()
    nics = [Nic(tap, f"{kind}{how[0]}0", m, how) for how in ("netdev", "generic") for kind, m in mgmtdevs.items()]
    disks = []
    for parent in parents():
        tap.after.append(parent.kill)
        # VDUSE by the generic device, as in the demo; simulators by both, one after the other.
        disks.append(GuestDisk(parent, "generic" if parent.mgmtdev == "vduse" else "blkio"))
    names = [f"vd{chr(97 + i)}" for i in range(len(disks))]
    arguments = [a for i, d in enumerate(nics + disks) for a in d.arguments(i)]
    with Guest("devices", arguments, append(nics, disks=",".join(names), blocks=BLOCKS), memory=MEMORY) as guest:
        guest.wait_result("up", 600)
        guest.wait_result("flow", 600)
        for i, nic in enumerate(nics):
            nic.report(tap, trace, guest, f"eth{i}")
            isolation(tap, trace, nic)
        for name, disk in zip(names, disks):
            disk.report(tap, guest, name)
        tap.equal(guest.quit(), 0, "devices: QEMU ends well")
    for each in nics + disks:
        idle(tap, each)
    for disk in disks:
        disk.read_back(tap)
        tap.equal(disk.parent.end(), 0, f"{disk.title}: deleted, and its daemon, if any, is well")


def svq(tap, trace, mgmtdevs):
    """Shadow virtqueues from the start."""
    trace.clear()
    nics = [Nic(tap, f"{kind}s0", m) for kind, m in mgmtdevs.items()]
    for nic in nics:
        nic.title = f"x-svq=on, {nic.mgmtdev}"
    arguments = [a for i, nic in enumerate(nics) for a in nic.arguments(i, "x-svq=on")]
    with Guest("svq", arguments, append(nics), memory=MEMORY) as guest:
        guest.wait_result("up", 600)
        guest.wait_result("flow", 600)
        for i, nic in enumerate(nics):
            nic.report(tap, trace, guest, f"eth{i}")
            shadowed(tap, trace, nic, "from the start")
            flow = guest.flow(f"eth{i}", 10 * REPORT)
            tap.ok(flow["lost"] == flow["bad"] == 0, f"{nic.title}: no frame is lost or changed",
                   (flow, guest.results("bad")))
        tap.equal(guest.quit(), 0, "x-svq=on: QEMU ends well")
    for nic in nics:
        idle(tap, nic)


def migration(tap, trace, mgmtdev):
    """A guest that sends frames moves from one QEMU and device to another of each."""
    t = f"migration, {mgmtdev}"
    trace.clear()
    source, target = (Nic(tap, name, mgmtdev) for name in ("from0", "to0"))
    source.title, target.title = f"{t}, source", f"{t}, target"
    channel = f"unix:{WORK}/migration"
    with Guest("source", source.arguments(0), append([source]), memory=MEMORY) as a:
        a.wait_result("up", 600)
        source.report(tap, trace, a, "eth0")
        isolation(tap, trace, source)
        with Guest("target", target.arguments(0), append([target]), "-incoming", channel, memory=MEMORY) as b:
            # So slow that it goes on until it is told to hurry.
            a.qmp("migrate-set-parameters", max_bandwidth=256 << 10)
            a.qmp("migrate", uri=channel)
            wait_for(f"{t}: begin", 60, lambda: a.qmp("query-migrate")["status"] == "active")
            flow = a.flow("eth0", 2 * REPORT)
            tap.equal(a.qmp("query-migrate")["status"], "active", f"{t}: it is under way while frames flow")
            shadowed(tap, trace, source, "while memory is copied")
            suspends = trace.suspends()
            a.qmp("migrate-set-parameters", max_bandwidth=1 << 34)

            def done():
                now = a.qmp("query-migrate")
                return now if now["status"] in ("completed", "failed", "cancelled") else None
            got = wait_for(f"{t}: end", 300, done)
            tap.equal(got["status"], "completed", f"{t}: completed")
            tap.note(f"{t}: {got.get('total-time')} ms in all, downtime {got.get('downtime')} ms, "
                     f"{got.get('ram', {}).get('transferred')} bytes of memory")
            wait_for(f"{t}: target runs", 60, lambda: b.qmp("query-status")["status"] == "running")
            tap.equal(a.qmp("query-status")["status"], "postmigrate", f"{t}: the source has stopped")
            if trace.ioctls:
                tap.ok(trace.suspends() > suspends, f"{t}: the source's device was suspended", trace.suspends())
            else:
                tap.skip(f"{t}: the source's device was suspended", "this kernel does not trace system calls")
            before, last = target.packets(), a.results("flow")[-1]
            stopped = source.device.state() if RUST else None
            b.flow("eth0", 1)
            after = b.flow("eth0", 4 * REPORT)
            tap.note(f"{t}: before {' '.join(last)}, after {after}")
            tap.ok(after["sent"] > flow["sent"] and after["bad"] == 0, f"{t}: the guest goes on where it was",
                   (flow, after, a.results("bad"), b.results("bad")))
            tap.equal(after["lost"], 0, f"{t}: and has lost no frame")
            moved = target.packets()
            tap.ok(all(y - x >= 4 * REPORT for x, y in zip(before, moved)), f"{t}: they pass the second device",
                   (before, moved))
            if RUST:
                now = source.device.state()
                tap.equal((now["kicks"], now["queue_calls"]), (stopped["kicks"], stopped["queue_calls"]),
                          f"{t}: the first device is idle")
                tap.equal(now["status"] & 4, 0, f"{t}: and has no driver any more")
            negotiated(tap, target.title, target, a.features("eth0"))
            isolation(tap, trace, target)
            if target.cvq:
                tap.equal(target.device.config()["mac"], MAC2, f"{t}: the second device was told the guest's address")
                target.control(tap, f"{t}: through its control queue")
            tap.equal(a.quit(), 0, f"{t}: the source's QEMU ends well")
            idle(tap, source)
            b.flow("eth0", REPORT)
            tap.equal(b.quit(), 0, f"{t}: the target's QEMU ends well")
            idle(tap, target)
