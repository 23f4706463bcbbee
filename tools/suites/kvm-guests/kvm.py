# SPDX-License-Identifier: GPL-2.0
"""What only KVM shows: eventfds between a guest and a device, and doorbells in the guest itself."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import qemu
from lib import NET_BITS, RUST, SLOW, WORK, Device, Guest, Tap, Trace, bits, net, pins, pins_settle, run, vdpa, wait_for
from qemu import FRAMES, MAC, REPORT, Nic, append, idle

NICS = {"c": "vdpasim_net", "rust": "rust_vdpasim_net"}
# Where tools/vm/iommu-machine.sh puts its PCI devices.
VP_NIC, VP_PEER = "0000:00:11.0", "0000:00:12.0"
SIGNAL_MSI = 0x4020aea5 # an interrupt that QEMU sends itself
DRIVER_OK = 4
MANY = 40 * REPORT # frames
# The transmit queue of a NIC's first pair.
TX = 1


class KvmTrace:
    """KVM's own account of a guest's exits and interrupts."""

    EVENTS = ("kvm_userspace_exit", "kvm_fast_mmio", "kvm_mmio", "kvm_msi_set_irq")

    def __init__(self, trace):
        self.trace = trace

    def __enter__(self):
        self.trace._write("buffer_size_kb", "16384")
        self.trace._write("events/syscalls/sys_enter_ioctl/filter", f"cmd == {SIGNAL_MSI} || cmd == 0xaf7d")
        for event in self.EVENTS:
            self.trace._write(f"events/kvm/{event}/enable", "1")
        self.trace.clear()
        return self

    def __exit__(self, *_):
        for event in self.EVENTS:
            self.trace._write(f"events/kvm/{event}/enable", "0")
        self.trace._write("events/syscalls/sys_enter_ioctl/filter", "cmd == 0xaf7d")

    def clear(self):
        self.trace.clear()

    def count(self, guest):
        """How often what happened since clear(), with QEMU and without."""
        threads = set(os.listdir(f"/proc/{guest.process.pid}/task"))
        bars = [(r["address"], r["address"] + r["size"]) for bus in guest.qmp("query-pci") for d in bus["devices"]
                if d["qdev_id"] == "nic0" for r in d["regions"] if r["type"] == "memory"]
        seen = dict.fromkeys(("exits", "mmio_exits", "doorbells", "interrupts", "by_qemu", "signal_msi"), 0)
        with open(f"{self.trace.TOP}/trace") as f:
            for line in f:
                found = re.match(r"\s*.*-(\d+)\s+\[\d+\]\s+(\S+)\s+[\d.]+: (\w+)(?::|\()(.*)", line)
                if not found:
                    continue
                thread, context, event, words = found.groups()
                if event == "kvm_userspace_exit":
                    seen["exits"] += 1
                    seen["mmio_exits"] += "KVM_EXIT_MMIO" in words
                elif event == "kvm_fast_mmio" or (event == "kvm_mmio" and "write" in words):
                    gpa = int(re.search(r"gpa (0x[0-9a-f]+)", words)[1], 0)
                    seen["doorbells"] += any(first <= gpa < last for first, last in bars)
                elif event == "kvm_msi_set_irq":
                    seen["interrupts"] += 1
                    # An interrupt of the device's may find the CPU in anybody's hands.
                    seen["by_qemu"] += thread in threads and context[2] == "."
                elif event == "sys_ioctl":
                    seen["signal_msi"] += f"{SIGNAL_MSI:x}" in words
        return seen


class Echo:
    """Sends every frame of the test's protocol that comes in at an interface back to where it came from."""

    def __init__(self, interface):
        run("ip", "link", "set", "dev", interface, "up", "promisc", "on")
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
        self.socket.bind((interface, 0x88b5))
        self.socket.settimeout(0.5)
        self.count, self.ended = 0, False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.ended:
            with contextlib.suppress(TimeoutError, OSError):
                self.socket.send(self.socket.recv(4096))
                self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.thread.join()
        self.socket.close()


def bind(pci, driver):
    """Gives a PCI device to a driver, if another has it."""
    top = f"/sys/bus/pci/devices/{pci}"
    if os.path.basename(os.path.realpath(f"{top}/driver")) == driver:
        return
    for path, text in ((f"{top}/driver_override", driver), (f"{top}/driver/unbind", pci), ("/sys/bus/pci/drivers_probe", pci)):
        if os.path.exists(path):
            with open(path, "w") as f:
                f.write(text)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def between(tap, name, inner, count, outer):
    """A count that began after the first look and ended before the last."""
    # What is on its way when counting begins or ends may be on either side.
    tap.ok(inner - 4 <= count <= outer + 4 and count > 0, name, f"{inner} <= {count} <= {outer}")


def notify(tap, trace, mgmtdev):
    """Kicks by ioeventfd, interrupts by irqfd, QEMU in none of them; with shadow queues it is in all."""
    t = f"notify, {mgmtdev}"
    nic = Nic(tap, "notify0", mgmtdev)
    nic.title = t
    with KvmTrace(trace) as kvm:
        with Guest("notify", nic.arguments(0), append([nic])) as guest:
            guest.wait_result("up")
            boot = kvm.count(guest)
            tap.ok(boot["mmio_exits"] > 0, f"{t}: the trace has the exits to QEMU of a guest that boots", boot)
            guest.flow("eth0", REPORT)
            first = nic.device.state() if RUST else None
            kvm.clear()
            second = nic.device.state() if RUST else None
            flow = guest.flow("eth0", MANY)
            third = nic.device.state() if RUST else None
            seen = kvm.count(guest)
            last = nic.device.state() if RUST else None
            tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: no frame is lost or changed", flow)
            tap.equal(seen["mmio_exits"], 0, f"{t}: no doorbell is an exit to QEMU")
            tap.equal((seen["by_qemu"], seen["signal_msi"]), (0, 0), f"{t}: no interrupt comes from QEMU")
            if RUST:
                between(tap, f"{t}: each doorbell that KVM handles is a kick of the device",
                        third["kicks"] - second["kicks"], seen["doorbells"], last["kicks"] - first["kicks"])
                between(tap, f"{t}: each call of the device is an interrupt of KVM's",
                        third["queue_calls"] - second["queue_calls"], seen["interrupts"],
                        last["queue_calls"] - first["queue_calls"])
            else:
                tap.ok(seen["doorbells"] > 0 and seen["interrupts"] > 0, f"{t}: KVM handles doorbells and interrupts", seen)
            tap.note(f"{t}: {seen}")
            tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
        idle(tap, nic)
        kvm.clear()
        with Guest("notify-svq", nic.arguments(0, "x-svq=on"), append([nic])) as guest:
            guest.wait_result("up")
            guest.flow("eth0", REPORT)
            kvm.clear()
            guest.flow("eth0", REPORT)
            seen = kvm.count(guest)
            tap.ok(seen["by_qemu"] > 0, f"{t}: with x-svq=on they do come from QEMU", seen)
            guest.kill()
        nic.title = f"{t}, x-svq=on, kill -9"
        idle(tap, nic)


# --- doorbells in the guest


class VpNic:
    """A NIC of the outer machine's behind vp_vdpa, and the echo at the other end of its cable."""

    calls = True

    def __init__(self, tap, name="vp0"):
        self.name, self.title = name, f"{name}, vp_vdpa"
        bind(VP_NIC, "vp-vdpa")
        self.device = Device(name, f"pci/{VP_NIC}")

    def arguments(self, *options):
        return net(self.device, MAC, index=0)[:-1] + [",".join([net(self.device, MAC, index=0)[-1], *options])]


def peer():
    """The interface at the other end."""
    bind(VP_PEER, "virtio-pci")
    run("modprobe", "virtio_net")
    return wait_for("the peer's interface", 30, lambda: next(
        (n for d in os.listdir(f"/sys/bus/pci/devices/{VP_PEER}") if d.startswith("virtio")
         for n in os.listdir(f"/sys/bus/pci/devices/{VP_PEER}/{d}/net")), None))


def doorbells_of(guest, node):
    """How many maps of a device's file QEMU has."""
    with open(f"/proc/{guest.process.pid}/maps") as f:
        return sum(line.rstrip().endswith(node) for line in f)


def ringing(guest, reports=3):
    """The words of the last report of the program that rings, after that many more."""
    before = len(guest.results("ring"))
    guest.wait_result("ring", 120, count=before + reports)
    words = guest.results("ring")[-1]
    return {k: int(v) for k, v in (w.split("=") for w in words[1:])}


def doorbell(tap, trace):
    """vp_vdpa's doorbells are pages of the guest: its kicks pass by KVM, QEMU and the driver."""
    t = "doorbell, vp_vdpa"
    before = pins()
    nic = VpNic(tap)
    with KvmTrace(trace) as kvm, Echo(peer()) as echo:
        for mapped, options in ((False, ()), (True, ("page-per-vq=on",))):
            how = f"{t}, {' '.join(options) or 'page-per-vq=off'}"
            with Guest(f"doorbell-{int(mapped)}", nic.arguments(*options), append([nic])) as guest:
                guest.wait_result("up")
                guest.wait_result("flow")
                maps = doorbells_of(guest, nic.device.node)
                # The data queues have one each.
                tap.ok(maps >= 2 if mapped else maps == 0, f"{how}: QEMU has {'mapped' if mapped else 'no map of'} the doorbells",
                       maps)
                flow = guest.flow("eth0", REPORT)
                first = nic.device.state() if RUST else None
                kvm.clear()
                count = echo.count
                flow = guest.flow("eth0", MANY)
                seen = kvm.count(guest)
                tap.ok(flow["lost"] == flow["bad"] == 0 and echo.count - count >= MANY,
                       f"{how}: frames go out and come back unchanged", (flow, echo.count - count))
                tap.ok((seen["doorbells"] == 0) == mapped, f"{how}: kicks {'do not ' if mapped else ''}pass by KVM", seen)
                tap.equal(seen["mmio_exits"], 0, f"{how}: nor is any an exit to QEMU" if mapped else f"{how}: none is an exit to QEMU")
                tap.ok(seen["interrupts"] > 0 and seen["by_qemu"] == 0, f"{how}: interrupts come by irqfd", seen)
                if RUST:
                    last = nic.device.state()
                    kicks, calls = (last[k] - first[k] for k in ("kicks", "queue_calls"))
                    tap.ok((kicks == 0) == mapped, f"{how}: the driver counts {'no kick' if mapped else 'kicks'}", kicks)
                    tap.ok(calls > 0, f"{how}: and the device's interrupts", calls)
                    tap.note(f"{how}: {kicks} kicks, {calls} calls, {seen}")
                # With interrupts attached to KVM and, at last, with doorbells mapped.
                guest.kill()
            nic.title = f"{how}, kill -9"
            tap.ok(pins_settle(before), f"{nic.title}: nothing is left pinned", (before, pins()))
            idle(tap, nic)
    nic.device.delete()


WAYS = {
    "vdpa dev del": lambda nic: run("vdpa", "dev", "del", nic.name),
    "unbind": lambda nic: write("/sys/bus/vdpa/drivers/vhost_vdpa/unbind", nic.name),
    "PCI unbind": lambda nic: write(f"/sys/bus/pci/devices/{VP_NIC}/driver/unbind", VP_NIC),
    "PCI unplug": lambda nic: write(f"/sys/bus/pci/devices/{VP_NIC}/remove", "1"),
}


def rescan():
    """Finds the NIC again, for nobody before vp_vdpa gets it."""
    write("/sys/bus/pci/drivers_autoprobe", "0")
    write("/sys/bus/pci/rescan", "1")
    write("/sys/bus/pci/drivers_autoprobe", "1")


def gone(tap, trace):
    """The device goes while its guest rings the doorbell: the guest lives on and rings a dummy."""
    before = pins()
    with Echo(peer()):
        for way, take in WAYS.items():
            t = f"{way} under a guest that rings"
            nic = VpNic(tap)
            node = nic.device.node
            with Guest(f"gone-{way.replace(' ', '-')}", nic.arguments("page-per-vq=on"), append([nic], ring=TX)) as guest:
                guest.wait_result("flow")
                rung = ringing(guest)
                tap.ok(rung["memory"] == 0 and doorbells_of(guest, node) > 0, f"{t}: it rings the device", rung)
                tap.ok(pins() > before, f"{t}: and its memory is pinned", (before, pins()))
                began = time.monotonic()
                take(nic)
                took = time.monotonic() - began
                tap.ok(took < 20 * SLOW, f"{t}: it does not wait for the guest", took)
                tap.ok(not os.path.exists(node), f"{t}: the node is gone")
                more = ringing(guest)
                tap.ok(more["rings"] > rung["rings"] and more["memory"] == 1, f"{t}: the guest goes on, and rings a page of memory", more)
                tap.equal(guest.qmp("query-status")["status"], "running", f"{t}: it runs")
                tap.ok(pins_settle(before), f"{t}: nothing is pinned while QEMU has the file", (before, pins()))
                if way == "PCI unplug":
                    rescan()
                elif way == "unbind":
                    run("vdpa", "dev", "del", nic.name)
                if way == "PCI unplug":
                    successor(tap, t, guest)
                    tap.ok(ringing(guest)["memory"] == 1, f"{t}: and the old guest still rings the page of memory")
                tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
            tap.ok(pins_settle(before), f"{t}: nothing is pinned when it has gone", (before, pins()))


def successor(tap, t, old):
    """Another device in the place of the one that went, with a guest of its own, while the old one rings."""
    nic = VpNic(tap, "vp1")
    # Two guests that run share a CPU: the old one waits while the new one boots. QMP's stop would end its mapping.
    old.process.send_signal(signal.SIGSTOP)
    with Guest("successor", nic.arguments("page-per-vq=on"), append([nic])) as guest:
        guest.wait_result("flow")
        old.process.send_signal(signal.SIGCONT)
        flow = guest.flow("eth0", REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: a successor works", flow)
        guest.quit()
    nic.device.delete()


# --- a guest's life on the simulators


def running(device):
    """Whether the guest's driver has said DRIVER_OK."""
    return RUST and device.state()["status"] & DRIVER_OK


def killed(tap, trace, mgmtdev):
    """kill -9 of QEMU at every moment at which KVM has eventfds of the device's, and between."""
    before = pins()
    nic = Nic(tap, "killed0", mgmtdev)

    def flows(guest):
        guest.flow("eth0", REPORT)

    def ask(guest, command):
        # Nobody waits for the answer: QEMU is in the middle of it when it dies.
        flows(guest)
        guest.qmp.file.write('{"execute": "%s"}\n' % command)
        guest.qmp.file.flush()

    moments = {
        "as the device starts": lambda guest: wait_for("DRIVER_OK", 120, lambda: running(nic.device) or guest.results("up"), 0.01),
        "under traffic": flows,
        "while it stops": lambda guest: ask(guest, "stop"),
        "while it is reset": lambda guest: ask(guest, "system_reset"),
        "while it quits": lambda guest: ask(guest, "quit"),
    }
    for moment, reach in moments.items():
        t = f"kill -9 {moment}, {mgmtdev}"
        with Guest("killed", nic.arguments(0), append([nic], count=1), reboots=True) as guest:
            reach(guest)
            if moment == "under traffic":
                tap.ok(pins() > before or USE_VA, f"{t}: memory is pinned before", (before, pins()))
            guest.kill()
        nic.title = t
        tap.ok(pins_settle(before), f"{t}: nothing is left pinned", (before, pins()))
        idle(tap, nic)
    # The deletion beside the death.
    for first in ("the device", "QEMU"):
        t = f"kill -9 and vdpa dev del, {first} first, {mgmtdev}"
        with Guest("killed", nic.arguments(0), append([nic], count=1)) as guest:
            flows(guest)
            deletion = ["vdpa", "dev", "del", nic.name]
            if first == "QEMU":
                guest.process.kill()
                deleted = subprocess.Popen(deletion)
            else:
                deleted = subprocess.Popen(deletion)
                guest.process.kill()
            guest.process.wait()
            tap.equal(deleted.wait(30 * SLOW), 0, f"{t}: the device is deleted")
        tap.ok(pins_settle(before), f"{t}: nothing is left pinned", (before, pins()))
        nic.device = Device(nic.name, mgmtdev, "mac", MAC)
    with Guest("survivor", nic.arguments(0), append([nic])) as guest:
        guest.wait_result("flow")
        flow = guest.flow("eth0", REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"kill -9, {mgmtdev}: another guest works after all of it", flow)
        guest.quit()


def restarts(tap, trace, mgmtdev):
    """system_reset, and stop and cont, under traffic."""
    t = f"restarts, {mgmtdev}"
    nic = Nic(tap, "restart0", mgmtdev)
    nic.title = t
    with Guest("restarts", nic.arguments(0), append([nic]), reboots=True) as guest:
        guest.wait_result("flow")
        for _ in range(STOPS):
            guest.qmp("stop")
            guest.qmp("cont")
        flow = guest.flow("eth0", 2 * REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: {STOPS} times stop and cont, and no frame is lost or changed",
               (flow, guest.results("bad")))
        guest.qmp("stop")
        if RUST:
            first = nic.device.state()
            time.sleep(1)
            second = nic.device.state()
            tap.equal(*((s["kicks"], s["queue_calls"]) for s in (first, second)), f"{t}: a stopped guest's device is still")
        guest.qmp("cont")
        for n in range(1, RESETS + 1):
            guest.flow("eth0", REPORT)
            guest.qmp("system_reset")
            guest.wait_result("up", count=n + 1)
            guest.wait_result("frames", of="eth0", count=n + 1)
            got = guest.results("frames")[-1]
            tap.ok(got[1:4] == [f"sent={FRAMES}", f"returned={FRAMES}", "bad=0"], f"{t}: reset {n}: the guest's frames come back", got)
        if RUST:
            tap.ok(nic.device.state()["failed_messages"] == 0, f"{t}: no message was refused", nic.device.state())
        tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
    idle(tap, nic)


def life(tap, trace, mgmtdev):
    """One guest's life under load: stop and cont, migration, reset, and kill -9 as it is reset."""
    t = f"life, {mgmtdev}"
    before = pins()
    first, second = (Nic(tap, name, mgmtdev) for name in ("first0", "second0"))
    first.title, second.title = f"{t}, migrated", f"{t}, killed"
    channel = f"unix:{WORK}/life"
    # It keeps its address: after a reset QEMU gives the device the one of the command line again, when the guest
    # has read the one that it had set and does not set it once more.
    with Guest("born", first.arguments(0), append([first], newmac=""), reboots=True) as a:
        a.wait_result("flow")
        for _ in range(STOPS):
            a.qmp("stop")
            a.qmp("cont")
        flow = a.flow("eth0", REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: {STOPS} times stop and cont, and no frame is lost or changed",
               (flow, a.results("bad")))
        with Guest("moved", second.arguments(0), append([second], newmac=""), "-incoming", channel, reboots=True) as b:
            # So slow that it goes on until it is told to hurry.
            a.qmp("migrate-set-parameters", max_bandwidth=256 << 10)
            a.qmp("migrate", uri=channel)
            wait_for(f"{t}: begin", 60, lambda: a.qmp("query-migrate")["status"] != "setup")
            a.flow("eth0")
            tap.equal(a.qmp("query-migrate")["status"], "active", f"{t}: frames flow while memory is copied")
            a.qmp("migrate-set-parameters", max_bandwidth=1 << 34)
            wait_for(f"{t}: end", 300, lambda: a.qmp("query-migrate")["status"] in ("completed", "failed"))
            tap.equal(a.qmp("query-migrate")["status"], "completed", f"{t}: the guest has moved")
            wait_for(f"{t}: the target runs", 60, lambda: b.qmp("query-status")["status"] == "running")
            tap.equal(a.quit(), 0, f"{t}: the source's QEMU ends well")
            idle(tap, first)
            b.flow("eth0")
            flow = b.flow("eth0", REPORT)
            tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: it goes on with another device, and no frame is lost or changed",
                   (flow, b.results("bad")))
            b.qmp("system_reset")
            b.wait_result("up")
            got = b.wait_result("frames", of="eth0")
            tap.ok(got[1:4] == [f"sent={FRAMES}", f"returned={FRAMES}", "bad=0"], f"{t}: after a reset its frames come back",
                   (got, b.results("mac"), second.device.config(), second.device.stats(0)))
            b.flow("eth0")
            if RUST:
                state = second.device.state()
                tap.equal(state["failed_messages"], 0, f"{t}: no message was refused")
            b.qmp.file.write('{"execute": "system_reset"}\n')
            b.qmp.file.flush()
            b.kill()
    tap.ok(pins_settle(before), f"{t}, kill -9 while it is reset: nothing is left pinned", (before, pins()))
    idle(tap, second)


# --- what users report of guests


def pairs(tap, trace, mgmtdev):
    """A NIC with several queue pairs, of which the guest uses all or, without MQ, one."""
    for multi in (True, False):
        t = f"pairs, {mgmtdev}, {'mq=on' if multi else 'mq=off'}"
        nic = Nic(tap, f"pairs{int(multi)}", mgmtdev, attributes=("max_vqp", str(PAIRS)))
        nic.title = t
        options = ["-smp", str(PAIRS)]
        arguments = nic.arguments(0, f"queues={PAIRS}" if multi else "queues=1")
        arguments[-1] += f",mq={'on' if multi else 'off'},vectors={2 * PAIRS + 2}"
        with Guest("pairs", arguments, append([nic]), *options) as guest:
            guest.wait_result("flow")
            flow = guest.flow("eth0", MANY)
            tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: no frame is lost or changed", flow)
            counted = [nic.device.stats(2 * pair + 1)["tx packets"] for pair in range(PAIRS)]
            tap.ok(sum(counted) >= MANY and (multi or not any(counted[1:])), f"{t}: they left by {'the pairs' if multi else 'the first pair'}", counted)
            tap.note(f"{t}: frames by pair: {counted}")
            tap.equal(NET_BITS["MQ"] in guest.features("eth0"), multi, f"{t}: the guest has {'' if multi else 'no '}MQ")
            tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
        idle(tap, nic)
        nic.device.delete()


def hotplug(tap, trace, mgmtdev):
    """A NIC comes and goes under a guest that has another under traffic, with shadow queues and without."""
    t = f"hotplug, {mgmtdev}"
    stays, comes = Nic(tap, "stays0", mgmtdev), Nic(tap, "comes0", mgmtdev)
    stays.title, comes.title = f"{t}, the NIC that stays", f"{t}, the one that comes and goes"
    arguments = [*stays.arguments(0), "-device", "pcie-root-port,id=port,chassis=1,slot=1"]
    with Guest("hotplug", arguments, append([stays])) as guest:
        guest.wait_result("flow")
        for n in range(PLUGS):
            shadow = n % 2 == 1
            guest.qmp("netdev_add", type="vhost-vdpa", id="n1", vhostdev=comes.device.node, x_svq=shadow)
            guest.qmp("device_add", driver="virtio-net-pci", netdev="n1", id="nic1", bus="port", mac=MAC, romfile="")
            if RUST:
                wait_for(f"{t}: DRIVER_OK", 60, lambda: comes.device.state()["status"] & DRIVER_OK)
            else:
                time.sleep(3)
            guest.flow("eth0", 1)
            guest.qmp("device_del", id="nic1")
            guest.qmp.wait_event("DEVICE_DELETED", device="nic1")
            guest.qmp("netdev_del", id="n1")
            if RUST:
                after = wait_for(f"{t}: closed", 30, lambda: [s for s in [comes.device.state()] if s["opened"] == 0])[0]
                tap.equal((after["status"], after["iotlb_entries"], after["pinned_pages"]), (0, 0, 0),
                          f"{t}: round {n + 1}, x-svq={'on' if shadow else 'off'}: nothing is left of it")
        flow = guest.flow("eth0", REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: {PLUGS} rounds, and the other NIC lost no frame", flow)
        tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
    idle(tap, stays)


def dimm(tap, trace, mgmtdev):
    """Memory is plugged under traffic."""
    t = f"pc-dimm, {mgmtdev}"
    nic = Nic(tap, "dimm0", mgmtdev)
    nic.title = t
    with Guest("dimm", nic.arguments(0), append([nic], memhp_default_state="online_movable"), slots=True) as guest:
        guest.wait_result("flow")
        before = nic.device.state() if RUST else None
        size = 128 << 20
        guest.qmp("object-add", qom_type="memory-backend-memfd", id="more", size=size, share=True,
                  hugetlb=True, hugetlbsize=2 << 20)
        guest.qmp("device_add", driver="pc-dimm", id="dimm", memdev="more")
        if RUST:
            after = nic.device.state()
            tap.ok(after["maps"] > before["maps"] and (after["use_va"] or after["pinned_pages"] - before["pinned_pages"] == size >> 12),
                   f"{t}: the device has it", (before["pinned_pages"], after["pinned_pages"]))
            tap.equal(after["failed_messages"], 0, f"{t}: no message was refused")
        flow = guest.flow("eth0", 4 * REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: no frame is lost or changed", flow)
        tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
    idle(tap, nic)


def macs(tap, trace, mgmtdev):
    """The guest changes its NIC's address many times under traffic."""
    t = f"addresses, {mgmtdev}"
    nic = Nic(tap, "macs0", mgmtdev)
    nic.title = t
    if NET_BITS["CTRL_MAC_ADDR"] not in bits(nic.offer["features"]):
        tap.skip(t, "the device takes no address from the guest")
        return
    with Guest("macs", nic.arguments(0), append([nic], macs=MACS)) as guest:
        last = guest.wait_result("changed")[1]
        flow = guest.flow("eth0", REPORT)
        tap.ok(flow["lost"] == flow["bad"] == 0, f"{t}: {MACS} changes, and no frame is lost or changed", flow)
        tap.equal(nic.device.config()["mac"], last, f"{t}: the device has the last")
        nic.control(tap, f"{t}: and no request of its control queue failed")
        tap.equal(guest.quit(), 0, f"{t}: QEMU ends well")
    idle(tap, nic)


USE_VA = os.environ.get("USE_VA") == "1"
STOPS = int(os.environ.get("STOPS", "10"))
RESETS = int(os.environ.get("RESETS", "2"))
PLUGS = int(os.environ.get("PLUGS", "4"))
PAIRS = 4
MACS = 500


def main(names):
    tap = Tap()
    before = pins()
    trace = Trace()
    there = vdpa("mgmtdev", "show")["mgmtdev"]
    nics = {k: m for k, m in NICS.items() if m in there}
    iommu = bool(os.listdir("/sys/class/iommu")) if os.path.isdir("/sys/class/iommu") else False
    scenarios = {
        **{f"notify-{k}": lambda m=m: notify(tap, trace, m) for k, m in nics.items()},
        **{f"killed-{k}": lambda m=m: killed(tap, trace, m) for k, m in nics.items() if k == "rust"},
        **{f"restarts-{k}": lambda m=m: restarts(tap, trace, m) for k, m in nics.items()},
        **{f"life-{k}": lambda m=m: life(tap, trace, m) for k, m in nics.items()},
        **{f"pairs-{k}": lambda m=m: pairs(tap, trace, m) for k, m in nics.items() if k == "rust"},
        **{f"hotplug-{k}": lambda m=m: hotplug(tap, trace, m) for k, m in nics.items()},
        **{f"dimm-{k}": lambda m=m: dimm(tap, trace, m) for k, m in nics.items()},
        **{f"macs-{k}": lambda m=m: macs(tap, trace, m) for k, m in nics.items()},
        **{f"migration-{k}": lambda m=m: qemu.migration(tap, trace, m) for k, m in nics.items()},
    }
    if iommu:
        scenarios["doorbell"] = lambda: doorbell(tap, trace)
        scenarios["gone"] = lambda: gone(tap, trace)
    for name in names or scenarios:
        if name not in scenarios:
            tap.ok(False, f"there is a scenario {name}")
            continue
        if name == "gone" and not RUST:
            tap.skip(name, "C's removal waits for the guest")
            continue
        tap.run(name, scenarios[name])
        for left in vdpa("dev", "show")["dev"]:
            tap.ok(False, f"{name}: {left} is left")
            run("vdpa", "dev", "del", left, check=False)
        tap.ok(pins_settle(before), f"{name}: nothing is left pinned", f"{before} pages before, {pins()} now")
    tap.unload()
    return tap.totals()


sys.exit(main(sys.argv[1:]))
