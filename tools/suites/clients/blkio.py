# SPDX-License-Identifier: GPL-2.0
"""libblkio as the client of a disk: a random load whose every byte is compared with a model."""

import ctypes
import random
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

LIB = ctypes.CDLL("libblkio.so.1")
SECTOR = 512
LARGEST = 64 << 10


class MemRegion(ctypes.Structure):
    _fields_ = [("addr", c_void_p), ("len", c_size_t), ("iova", c_uint64), ("fd_offset", c_int64), ("fd", c_int),
                ("flags", c_uint32)]


class Completion(ctypes.Structure):
    _fields_ = [("user_data", c_void_p), ("error_msg", c_char_p), ("ret", c_int), ("reserved", ctypes.c_uint8 * 12)]


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


class Iovec(ctypes.Structure):
    _fields_ = [("base", c_void_p), ("len", c_size_t)]


LIB.blkio_get_error_msg.restype = c_char_p
LIB.blkio_get_queue.restype = c_void_p
LIB.blkio_get_queue.argtypes = [c_void_p, c_int]
for name in ("connect", "start"):
    getattr(LIB, f"blkio_{name}").argtypes = [c_void_p]
for name in ("read", "write"):
    getattr(LIB, f"blkioq_{name}").argtypes = [c_void_p, c_uint64, c_void_p, c_size_t, c_void_p, c_uint32]
    getattr(LIB, f"blkioq_{name}v").argtypes = [c_void_p, c_uint64, POINTER(Iovec), c_int, c_void_p, c_uint32]
for name in ("write_zeroes", "discard"):
    getattr(LIB, f"blkioq_{name}").argtypes = [c_void_p, c_uint64, c_uint64, c_void_p, c_uint32]
LIB.blkioq_flush.argtypes = [c_void_p, c_void_p, c_uint32]
LIB.blkioq_do_io.argtypes = [c_void_p, POINTER(Completion), c_int, c_int, POINTER(Timespec)]


class Error(Exception):
    """What libblkio or the device says."""


def _check(ret, what):
    if ret < 0:
        raise Error(f"{what}: {ret}: {LIB.blkio_get_error_msg().decode()}")


class Disk:
    """A started libblkio instance with one memory region for its buffers."""

    def __init__(self, node, queues=1, depth=16):
        self.b = c_void_p()
        _check(LIB.blkio_create(b"virtio-blk-vhost-vdpa", byref(self.b)), "create")
        try:
            _check(LIB.blkio_set_str(self.b, b"path", node.encode()), "path")
            _check(LIB.blkio_connect(self.b), "connect")
            self.max_queues = self.number("max-queues")
            queues = min(queues, self.max_queues)
            _check(LIB.blkio_set_int(self.b, b"num-queues", queues), "num-queues")
            _check(LIB.blkio_start(self.b), "start")
            self.depth = depth
            self.region = MemRegion()
            _check(LIB.blkio_alloc_mem_region(self.b, byref(self.region), c_size_t(depth * queues * LARGEST)), "memory")
            _check(LIB.blkio_map_mem_region(self.b, byref(self.region)), "map")
        except BaseException:
            self.close()
            raise
        self.queues = [c_void_p(LIB.blkio_get_queue(self.b, i)) for i in range(queues)]

    def number(self, name):
        value = c_int()
        _check(LIB.blkio_get_int(self.b, name.encode(), byref(value)), name)
        return value.value

    def capacity(self):
        value = c_uint64()
        _check(LIB.blkio_get_uint64(self.b, b"capacity", byref(value)), "capacity")
        return value.value

    def close(self):
        LIB.blkio_destroy(byref(self.b))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def wait(self, queue, least, most):
        """Completions of a queue as (cookie, return value)."""
        done = (Completion * most)()
        # The device is dead when it says nothing for so long.
        n = LIB.blkioq_do_io(self.queues[queue], done, least, most, byref(Timespec(300, 0)))
        _check(n, "do_io")
        return [((c.user_data or 0) - 1, c.ret, c.error_msg) for c in done[:n]]

    def store(self, start, content):
        """Writes a range, and flushes it."""
        for at in range(0, len(content), LARGEST):
            part = content[at:at + LARGEST]
            ctypes.memmove(self.region.addr, part, len(part))
            LIB.blkioq_write(self.queues[0], start + at, self.region.addr, len(part), 1, 0)
            self._one("write", start + at)
        LIB.blkioq_flush(self.queues[0], 1, 0)
        self._one("flush", start)

    def load(self, start, length):
        """Reads a range."""
        content = b""
        while len(content) < length:
            part = min(LARGEST, length - len(content))
            ctypes.memset(self.region.addr, 0xee, part)
            LIB.blkioq_read(self.queues[0], start + len(content), self.region.addr, part, 1, 0)
            self._one("read", start + len(content))
            content += ctypes.string_at(self.region.addr, part)
        return content

    def _one(self, kind, start):
        (_, ret, message), = self.wait(0, 1, 1)
        if ret:
            raise Error(f"{kind} at {start}: {ret} {message}")


class Load:
    """Random requests on the first bytes of a disk, and what must be read there."""

    def __init__(self, disk, seed, size=4 << 20, extras=("write_zeroes", "discard")):
        self.disk = disk
        self.random = random.Random(seed)
        self.size = size
        self.model = bytearray(size)
        # What a discard leaves is the device's business until it is written again.
        self.known = bytearray(size // SECTOR)
        self.extras = extras
        self.counts = dict.fromkeys(("read", "write", "readv", "writev", "flush", *extras), 0)
        self.compared = 0
        self.highest = 0
        slots = disk.depth * len(disk.queues)
        self.buffers = [disk.region.addr + i * LARGEST for i in range(slots)]
        self.free = list(range(slots))
        self.busy = {}

    def _place(self, reading):
        """A range that no request in flight conflicts with."""
        while True:
            sectors = self.random.choice((1, 8, self.random.randint(1, LARGEST // SECTOR)))
            start = self.random.randrange(self.size // SECTOR - sectors + 1) * SECTOR
            end = start + sectors * SECTOR
            if all(end <= s or start >= e or (reading and kind.startswith("read"))
                   for kind, s, e, _ in self.busy.values() if kind != "flush"):
                return start, end

    def _iovec(self, slot, length):
        """The buffer of a slot in three unequal parts."""
        cut = sorted(self.random.sample(range(1, length), 2))
        edges = [0, *cut, length]
        base = self.buffers[slot]
        return (Iovec * 3)(*(Iovec(base + a, b - a) for a, b in zip(edges, edges[1:])))

    def submit(self, kind, start, end):
        slot = self.free.pop()
        queue = slot % len(self.disk.queues)
        q, cookie, length = self.disk.queues[queue], slot + 1, end - start
        self.counts[kind] += 1
        keep = None
        if kind in ("write", "writev"):
            data = self.random.randbytes(length)
            ctypes.memmove(self.buffers[slot], data, length)
            self.model[start:end] = data
            self.known[start // SECTOR:end // SECTOR] = b"\1" * (length // SECTOR)
        elif kind in ("read", "readv"):
            ctypes.memset(self.buffers[slot], 0xee, length)
        elif kind == "write_zeroes":
            self.model[start:end] = bytes(length)
            self.known[start // SECTOR:end // SECTOR] = b"\1" * (length // SECTOR)
        elif kind == "discard":
            self.known[start // SECTOR:end // SECTOR] = bytes(length // SECTOR)
        if kind in ("read", "write"):
            getattr(LIB, f"blkioq_{kind}")(q, start, self.buffers[slot], length, cookie, 0)
        elif kind in ("readv", "writev"):
            keep = self._iovec(slot, length)
            getattr(LIB, f"blkioq_{kind}")(q, start, keep, 3, cookie, 0)
        elif kind == "flush":
            LIB.blkioq_flush(q, cookie, 0)
        else:
            getattr(LIB, f"blkioq_{kind}")(q, start, length, cookie, 0)
        self.busy[slot] = (kind, start, end, keep)
        self.highest = max(self.highest, len(self.busy))

    def reap(self, least):
        """Takes what is complete on every queue that has requests, and compares what was read."""
        for queue in range(len(self.disk.queues)):
            mine = [s for s in self.busy if s % len(self.disk.queues) == queue]
            if not mine:
                continue
            for slot, ret, message in self.disk.wait(queue, min(least, len(mine)), len(mine)):
                kind, start, end, _ = self.busy.pop(slot)
                self.free.append(slot)
                if ret != 0:
                    raise Error(f"{kind} of {start}..{end}: {ret} {message}")
                if kind.startswith("read"):
                    self.compare(ctypes.string_at(self.buffers[slot], end - start), start)

    def compare(self, got, start):
        """Fails if bytes from a place on the disk are not the model's."""
        for sector in range(start // SECTOR, (start + len(got)) // SECTOR):
            if not self.known[sector]:
                continue
            a = sector * SECTOR
            if got[a - start:a - start + SECTOR] != self.model[a:a + SECTOR]:
                raise Error(f"sector {sector} is not what was written")
            self.compared += SECTOR

    def run(self, requests):
        kinds = ["read"] * 4 + ["write"] * 4 + ["readv", "writev", "flush", *self.extras]
        for _ in range(requests):
            if not self.free:
                self.reap(1)
            kind = self.random.choice(kinds)
            start, end = (0, 0) if kind == "flush" else self._place(kind.startswith("read"))
            self.submit(kind, start, end)
        while self.busy:
            self.reap(len(self.busy))

    def verify(self):
        """Reads everything once and compares it."""
        for start in range(0, self.size, LARGEST):
            if not self.free:
                self.reap(1)
            self.submit("read", start, min(start + LARGEST, self.size))
        while self.busy:
            self.reap(len(self.busy))
