# SPDX-License-Identifier: GPL-2.0
"""What the tests of real clients share: TAP, the driver's state, QMP and nested guests."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
import traceback

WORK = os.environ["WORK"]
OUT = os.environ["OUT"]
RUST = os.environ.get("MODULES", "rust") == "rust"
# How much longer than on an idle machine everything may take. Beside other VMs a nested guest is up
# after minutes instead of seconds; a debug kernel under emulation is slower by an order of magnitude.
SLOW = 10 if os.environ.get("VM_KERNEL") == "debug" else 4

VIRTIO_BITS = {
    "VERSION_1": 32, "ACCESS_PLATFORM": 33, "RING_PACKED": 34, "EVENT_IDX": 29, "INDIRECT_DESC": 28,
}
NET_BITS = {"MTU": 3, "MAC": 5, "STATUS": 16, "CTRL_VQ": 17, "MQ": 22, "CTRL_MAC_ADDR": 23}
MODERN = {32, 33}
# Backend features that QEMU asks for.
MSG_V2, BATCH, ASID, SUSPEND = 1, 2, 3, 4


def bits(number):
    """The bits that are set in a number."""
    return {i for i in range(64) if number >> i & 1}


class Tap:
    """Counts and prints one TAP line a check."""

    def __init__(self):
        self.n = self.failed = self.skipped = 0
        # What a scenario wants done after it, however it ended.
        self.after = []

    def ok(self, good, name, detail=None):
        self.n += 1
        if not good:
            self.failed += 1
        print(f"{'ok' if good else 'not ok'} {self.n} - {name}")
        if not good and detail is not None:
            for line in str(detail).splitlines()[-15:]:
                print(f"# | {line}")
        return good

    def equal(self, got, want, name):
        return self.ok(got == want, name, f"got {got!r}, want {want!r}")

    def skip(self, name, reason):
        self.n += 1
        self.skipped += 1
        print(f"ok {self.n} - {name} # SKIP {reason}")

    def note(self, text):
        for line in str(text).splitlines():
            print(f"# {line}")

    def run(self, name, function, *args):
        """Runs one scenario; whatever it raises is a failure of it."""
        began = time.monotonic()
        self.note(f"==== {name}")
        try:
            function(*args)
        except Exception:
            self.ok(False, f"{name}: ran to its end", traceback.format_exc())
        for function in reversed(self.after):
            with contextlib.suppress(Exception):
                function()
        self.after.clear()
        self.note(f"{name}: {time.monotonic() - began:.0f} s")

    def unload(self):
        """Everything that was loaded goes away again."""
        done = subprocess.run(["bash", "-c", ". /src/tools/vm/guest.sh; . /src/tools/suites/clients/load.sh; unload_parents"],
                              capture_output=True, text=True, timeout=120 * SLOW)
        self.ok(done.returncode == 0, "the driver and the simulators unload", done.stdout + done.stderr)

    def totals(self):
        print(f"1..{self.n}")
        print(f"{self.n - self.failed - self.skipped} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed or self.n == self.skipped else 0


def wait_for(what, seconds, condition, every=0.2):
    """The first true value of condition(); an error when there is none in time."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds * SLOW} s")
        time.sleep(every)


def run(*command, check=True, **more):
    """A command's standard output; what it says on failure is in the exception."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300 * SLOW, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def pins():
    """How many pages are pinned in the whole system."""
    with open("/proc/sys/vm/stat_refresh", "w") as f:
        f.write("1")
    with open("/proc/vmstat") as f:
        stat = dict(line.split() for line in f)
    return int(stat["nr_foll_pin_acquired"]) - int(stat["nr_foll_pin_released"])


def pins_settle(before):
    """Whether the count of pinned pages is back; a killed process may take a moment."""
    with contextlib.suppress(TimeoutError):
        wait_for("pins", 10, lambda: pins() == before)
    return pins() == before


# --- devices


def vdpa(*args):
    """What the vdpa tool prints as JSON."""
    text = run("vdpa", "-j", *args)
    return json.loads(text) if text.strip() else None


class Device:
    """A vDPA device that is added for a scenario and deleted after it."""

    def __init__(self, name, mgmtdev, *attributes):
        self.name = name
        run("vdpa", "dev", "add", "name", name, "mgmtdev", mgmtdev, *attributes)
        self.node = wait_for(f"{name}'s node", 30, self._node)

    def _node(self):
        top = f"/sys/bus/vdpa/devices/{self.name}"
        for entry in os.listdir(top):
            if entry.startswith("vhost-vdpa-") and os.path.exists(f"/dev/{entry}"):
                return f"/dev/{entry}"
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.delete()

    def delete(self):
        run("vdpa", "dev", "del", self.name)

    def state(self):
        """The driver's own account of the device, numbers as numbers."""
        path = f"/sys/kernel/debug/rust_vhost_vdpa/{os.path.basename(self.node)}/state"
        out = {}
        with open(path) as f:
            for line in f:
                key, value = line.split(None, 1)
                value = value.strip()
                out[key] = int(value, 0) if re.match(r"^(0x)?[0-9a-f]+$", value) else value
        return out

    def config(self):
        return vdpa("dev", "config", "show", self.name)["config"][self.name]

    def stats(self, queue):
        """A queue's vendor counters."""
        got = vdpa("dev", "vstats", "show", self.name, "qidx", str(queue))
        return got["vstats"][self.name]


class Raw:
    """The file of a device and the few ioctls that a test asks with."""

    def __init__(self, device):
        self.fd = os.open(device.node, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def _get(self, number, letters):
        buffer = bytearray(struct.calcsize(letters))
        fcntl.ioctl(self.fd, 2 << 30 | len(buffer) << 16 | 0xaf << 8 | number, buffer)
        return struct.unpack(letters, buffer)[0]

    def _set(self, number, letters, value):
        fcntl.ioctl(self.fd, 1 << 30 | struct.calcsize(letters) << 16 | 0xaf << 8 | number,
                    struct.pack(letters, value))

    def features(self):
        return self._get(0x00, "=Q")

    def backend_features(self):
        return self._get(0x26, "=Q")

    def device_id(self):
        return self._get(0x70, "=I")

    def queue_size(self):
        return self._get(0x76, "=H")

    def queues(self):
        return self._get(0x80, "=I")

    def address_spaces(self):
        return self._get(0x7a, "=I")

    def config(self, length):
        """The first bytes of the config space."""
        buffer = bytearray(struct.pack("=II", 0, length) + bytes(length))
        fcntl.ioctl(self.fd, 2 << 30 | 8 << 16 | 0xaf << 8 | 0x73, buffer)
        return bytes(buffer[8:])

    def negotiate(self, features):
        """Becomes the owner, and a driver whose features are agreed upon."""
        fcntl.ioctl(self.fd, 0xaf01)
        self._set(0x72, "=B", 0)
        self._set(0x72, "=B", 1 | 2)
        self._set(0x00, "=Q", features)
        self._set(0x72, "=B", 1 | 2 | 8)


class Trace:
    """The driver's trace events: which ranges a client has mapped, and what else it asked for."""

    TOP = "/sys/kernel/tracing"

    def __init__(self):
        run("sh", "-c", f"mountpoint -q {self.TOP} || mount -t tracefs tracefs {self.TOP}")
        self._write("buffer_size_kb", "4096")
        if RUST:
            self._write("events/rust_vhost_vdpa/enable", "1")
        self.ioctls = os.path.exists(f"{self.TOP}/events/syscalls/sys_enter_ioctl")
        if self.ioctls:
            self._write("events/syscalls/sys_enter_ioctl/filter", "cmd == 0xaf7d")
            self._write("events/syscalls/sys_enter_ioctl/enable", "1")

    def suspends(self):
        """How often VHOST_VDPA_SUSPEND was called."""
        with open(f"{self.TOP}/trace") as f:
            return sum("sys_ioctl(" in line for line in f)

    def clear(self):
        """Forgets everything: minors are used again."""
        self._write("trace", "")

    def _write(self, name, text):
        with open(f"{self.TOP}/{name}", "w") as f:
            f.write(text)

    def events(self, device):
        """All events of a device so far, as (name, fields)."""
        minor = int(device.node.rsplit("-", 1)[1])
        out = []
        with open(f"{self.TOP}/trace") as f:
            for line in f:
                found = re.search(r"vhost_vdpa_(\w+): (.*)", line)
                if not found:
                    continue
                fields = dict(re.findall(r"(\w+)=([^ ]+)", found[2]))
                name = fields.pop("device", None)
                fields = {k: int(v, 0) for k, v in fields.items()}
                if name == device.name or fields.get("minor") == minor:
                    out.append((found[1], fields))
        return out

    def maps(self, device):
        """What is mapped now: (asid, iova) -> (size, may be written)."""
        live = {}
        for name, e in self.events(device):
            if e.get("ret"):
                continue
            if name == "map":
                live[e["asid"], e["iova"]] = (e["size"], e["perm"] == 3)
            elif name == "unmap":
                last = e["iova"] + e["size"]
                gone = [k for k in live if k[0] == e["asid"] and e["iova"] <= k[1] < last]
                for k in gone:
                    del live[k]
        return live

    def small(self, device, asid):
        """The ranges of one or two pages in an address space, as (size, may be written). Rings and
        buffers of QEMU's own are that small; whatever there is of a guest's memory is larger."""
        return sorted((size, write) for (a, _), (size, write) in self.maps(device).items() if a == asid and size <= 8192)


def offered(device):
    """What a device offers to whoever opens it, before somebody does."""
    with Raw(device) as raw:
        return {"features": raw.features(), "backend_features": raw.backend_features(),
                "address_spaces": raw.address_spaces(), "queues": raw.queues()}


# --- QEMU


class Qmp:
    """A connection to a QEMU monitor."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120 * SLOW)
        self.sock.connect(path)
        self.events = []
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    @classmethod
    def at(cls, path):
        try:
            return cls(path)
        except (ConnectionError, json.JSONDecodeError):
            return None

    def __call__(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.file.write(json.dumps(request) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise RuntimeError(f"QMP {command}: the monitor is gone")
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QMP {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            if "event" in answer:
                self.events.append(answer)

    def wait_event(self, kind, seconds=60, **data):
        """Waits for an event with that data."""
        def there():
            self("query-status")
            return any(e["event"] == kind and data.items() <= e["data"].items() for e in self.events)
        wait_for(f"{kind} {data}", seconds, there)


class Guest:
    """A nested QEMU guest with the devices that its arguments name."""

    def __init__(self, name, devices, append, *more, memory=192, reboots=False, slots=False):
        self.name = name
        self.serial = f"{WORK}/{name}.serial"
        self.log = f"{WORK}/{name}.log"
        monitor = f"{WORK}/{name}.qmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(monitor)
        open(self.serial, "w").close()
        command = [
            "qemu-system-x86_64", "-nodefaults", "-display", "none", *os.environ["NESTED_MACHINE"].split(),
            *(() if reboots else ("-no-reboot",)), "-M", "q35,memory-backend=mem", "-smp", "1", "-m",
            f"{memory},slots=2,maxmem=1G" if slots else str(memory),
            "-object", f"memory-backend-memfd,id=mem,size={memory}M,hugetlb=on,hugetlbsize=2M,share=on",
            "-append", f"{os.environ['NESTED_APPEND']} {append}",
            "-chardev", f"file,id=serial,path={self.serial}", "-serial", "chardev:serial",
            "-qmp", f"unix:{monitor},server=on,wait=off", *devices, *more,
        ]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(f"{name}'s monitor", 60, lambda: os.path.exists(monitor) or self.ended())
        # The socket is bound before it listens.
        self.qmp = wait_for(f"{name}'s monitor", 60, lambda: Qmp.at(monitor) or self.ended())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for path in (self.serial, self.log):
            shutil.copy(path, OUT)

    def ended(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name}: QEMU ended with {self.process.returncode}: {self.said()}")
        return False

    def said(self):
        """The last words of QEMU and of the guest."""
        with open(self.log) as log, open(self.serial, errors="replace") as serial:
            return (log.read() + "\n" + serial.read().replace("\r", ""))[-1500:]

    def results(self, kind):
        """The words of each RESULT line of a kind."""
        # A reset may end a line in its middle: the next one then goes on in it.
        with open(self.serial, errors="replace") as f:
            lines = [line[max(line.rfind("RESULT "), 0):].split() for line in f if line.endswith("\n")]
        return [line[2:] for line in lines if line[:2] == ["RESULT", kind]]

    def wait_result(self, kind, seconds=300, count=1, of=None):
        """The words of the count-th line of a kind (about one device of the guest's)."""
        def there():
            failed = self.results("fail")
            if failed:
                raise RuntimeError(f"{self.name}: the guest says {' '.join(failed[0])}")
            found = [r for r in self.results(kind) if of is None or r[0] == of]
            if len(found) >= count:
                return [found[count - 1]]
            self.ended()
            return None
        try:
            return wait_for(f"{self.name}: {kind}", seconds, there)[0]
        except TimeoutError as e:
            raise TimeoutError(f"{e}\n{self.said()}") from None

    def features(self, device):
        """The virtio features that the guest's driver has, as a set of bits."""
        string = self.wait_result("features", of=device)[1]
        return {i for i, c in enumerate(string) if c == "1"}

    def flow(self, nic, frames=1):
        """The last report about a NIC's frames, once that many more have been returned."""
        def last():
            found = [r for r in self.results("flow") if r[0] == nic]
            return {k: int(v) for k, v in (w.split("=") for w in found[-1][1:])} if found else None
        before = (last() or {"returned": 0})["returned"]

        def more():
            self.ended()
            now = last()
            return now if now and now["returned"] >= before + frames else None
        try:
            return wait_for(f"{self.name}: frames on {nic}", 180, more)
        except TimeoutError as e:
            raise TimeoutError(f"{e}\n{self.said()}") from None

    def finish(self, seconds=120):
        """Waits for the guest to power off; QEMU's exit status."""
        return self.process.wait(seconds * SLOW)

    def kill(self):
        """kill -9 of QEMU."""
        self.process.kill()
        self.process.wait()

    def quit(self):
        """Ends QEMU; its exit status."""
        with contextlib.suppress(RuntimeError, OSError):
            self.qmp("quit")
        return self.process.wait(60 * SLOW)


def net(device, mac, *options, index=0):
    """QEMU's arguments for a virtio NIC on a vhost-vdpa device."""
    netdev = ",".join(["vhost-vdpa", f"id=n{index}", f"vhostdev={device.node}", *options])
    return ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=n{index},id=nic{index},mac={mac},romfile="]


def generic(device):
    """QEMU's arguments for a vhost-vdpa device of whatever kind."""
    return ["-device", f"vhost-vdpa-device-pci,vhostdev={device.node},id={device.name}"]
