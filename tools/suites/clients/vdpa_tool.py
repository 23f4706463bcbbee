# SPDX-License-Identifier: GPL-2.0
"""iproute2's vdpa tool: what it shows of a device, field by field, beside what the driver says."""

import os
import struct
import subprocess

from lib import MODERN, NET_BITS, RUST, VIRTIO_BITS, Device, Raw, bits, run, vdpa

MAC, MAC2 = "52:54:00:76:64:71", "52:54:00:76:64:72"
NAMES = {**{n: b for n, b in VIRTIO_BITS.items()}, **NET_BITS}


def refused(*args):
    """The tool's complaint, or nothing if it had none."""
    done = subprocess.run(["vdpa", *args], capture_output=True, text=True, timeout=120)
    return done.stderr + done.stdout if done.returncode else ""


def bound(tap, device):
    driver = os.path.basename(os.readlink(f"/sys/bus/vdpa/devices/{device.name}/driver"))
    module = os.path.basename(os.readlink(f"/sys/bus/vdpa/devices/{device.name}/driver/module"))
    tap.equal((driver, module), ("vhost_vdpa", "rust_vhost_vdpa" if RUST else "vhost_vdpa"),
              f"vdpa tool, {device.name}: bound to the driver")


def nic(tap, mgmtdev):
    """A NIC of a simulator from add to del."""
    t = f"vdpa tool, {mgmtdev}"
    shown = vdpa("mgmtdev", "show", mgmtdev)["mgmtdev"][mgmtdev]
    tap.equal(shown["supported_classes"], ["net"], f"{t}: mgmtdev show, supported_classes")
    tap.ok({"MAC", "MTU", "STATUS", "VERSION_1", "ACCESS_PLATFORM"} <= set(shown["dev_features"]),
           f"{t}: mgmtdev show, dev_features", shown)
    name = "tool0"
    with Device(name, mgmtdev, "mac", MAC, "mtu", "1400") as device:
        bound(tap, device)
        tap.ok("File exists" in refused("dev", "add", "name", name, "mgmtdev", mgmtdev), f"{t}: a name is taken once")
        dev = vdpa("dev", "show", name)["dev"][name]
        tap.equal((dev["type"], dev["mgmtdev"], dev["vendor_id"]), ("network", mgmtdev, 0),
                  f"{t}: dev show, type, mgmtdev and vendor_id")
        tap.ok(name in vdpa("dev", "show")["dev"], f"{t}: dev show lists it")
        config = device.config()
        tap.equal((config["mac"], config["mtu"], config["link "]), (MAC, 1400, "up"), f"{t}: config show, mac, mtu and link")
        tap.ok("negotiated_features" not in config, f"{t}: nothing is negotiated without a client", config)
        tap.ok("not complete" in refused("-j", "dev", "vstats", "show", name, "qidx", "0"),
               f"{t}: vstats want a client that has negotiated")
        with Raw(device) as raw:
            tap.equal((raw.queues(), raw.queue_size(), raw.device_id()), (dev["max_vqs"], dev["max_vq_size"], 1),
                      f"{t}: dev show, max_vqs and max_vq_size are the driver's")
            tap.ok(dev["max_vqs"] <= shown["max_supported_vqs"], f"{t}: no more queues than mgmtdev show says", shown)
            want = sum(1 << b for b in MODERN | {NET_BITS["MAC"], NET_BITS["MTU"], NET_BITS["STATUS"]})
            raw.negotiate(want)
            config = device.config()
            known = {NAMES[f] for f in config["negotiated_features"]}
            tap.equal(known, bits(want), f"{t}: config show, negotiated_features are the client's")
            space = raw.config(12)
            tap.equal((space[:6].hex(":"), struct.unpack("<H", space[10:12])[0]), (config["mac"], config["mtu"]),
                      f"{t}: config show is what the driver reads, too")
            for queue, prefix in ((0, "rx"), (1, "tx")):
                stats = device.stats(queue)
                tap.ok(stats[f"{prefix} packets"] == 0 and stats[f"{prefix} bytes"] == 0, f"{t}: vstats of queue {queue}", stats)
            tap.ok(refused("-j", "dev", "vstats", "show", name, "qidx", "999"), f"{t}: vstats of no queue are refused")
        run("vdpa", "dev", "set", "name", name, "mac", MAC2)
        tap.equal(device.config()["mac"], MAC2, f"{t}: dev set, mac")
    tap.ok("No such device" in refused("dev", "del", name), f"{t}: a deleted device cannot be deleted")
    tap.ok(name not in vdpa("dev", "show")["dev"] and not os.path.exists(device.node), f"{t}: dev del, it is gone")
    if not RUST:
        tap.skip(f"{t}: dev del under a client", "C waits for ever")
        return
    device = Device(name, mgmtdev, "mac", MAC)
    with Raw(device) as raw:
        run("vdpa", "dev", "del", name)
        try:
            raw.features()
            error = 0
        except OSError as e:
            error = e.errno
        tap.equal(error, 19, f"{t}: dev del under a client, which has ENODEV from then on")


def disk(tap, device, mgmtdev, sectors):
    """What is shown of a disk that is there."""
    t = f"vdpa tool, {mgmtdev}"
    bound(tap, device)
    dev = vdpa("dev", "show", device.name)["dev"][device.name]
    tap.equal((dev["type"], dev["mgmtdev"]), ("block", mgmtdev), f"{t}: dev show, type and mgmtdev")
    with Raw(device) as raw:
        tap.equal((raw.queues(), raw.queue_size(), raw.device_id()), (dev["max_vqs"], dev["max_vq_size"], 2),
                  f"{t}: dev show, max_vqs and max_vq_size are the driver's")
        offer = raw.features()
        raw.negotiate(sum(1 << b for b in MODERN) & offer)
        # Of a disk's configuration iproute2 6.15 prints nothing but the name.
        tap.ok(device.config() is not None, f"{t}: config show knows it while a client has negotiated")
        tap.equal(struct.unpack("<Q", raw.config(8))[0], sectors, f"{t}: the driver reads the capacity")
    # The bus answers that for network devices alone.
    tap.ok(refused("-j", "dev", "vstats", "show", device.name, "qidx", "0"), f"{t}: it has no vstats")
