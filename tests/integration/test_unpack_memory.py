"""
The maximum memory of a process that unpacks a layer, for every kind of tar:
real processes with the default configuration, measured by the kernel.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import asdict
from twisted.trial.unittest import SynchronousTestCase
from zstandard import ZstdCompressionParameters, ZstdCompressor

import xferd
from tests.unpack.tars import (
    END,
    IS_ROOT,
    LIMITS,
    NOBODY,
    file,
    folder,
    hard_link,
    header,
    padded,
    pax,
    record,
    resum,
)
from xferd.unpack import directories, protocol
from xferd.unpack.pax import MAX_XATTR
from xferd.unpack.unpacker import _START

MOST = 256 * 1000 * 1000
"""Bytes of resident memory of a layer's process."""

NOISE = 1 << 20
"""Bytes by which C{VmHWM} may differ from one process to the next: the kernel counts pages on each
processor, and adds them now and then ("inaccurate" in proc(5))."""

SPARSE = {b"GNU.sparse.major": b"0", b"GNU.sparse.minor": b"1", b"GNU.sparse.size": b"0"}


def deep(count: int, first: int = 0) -> Iterator[bytes]:
    """
    Files that imply 254 directories with long paths each.
    """
    for number in range(first, first + count):
        path = b"%05d/" % number + b"/".join([b"x" * 14] * 254)
        yield pax({b"path": path + b"/f"}) + file(b"f")


def noise(size: int) -> bytes:
    """
    Bytes that compress well, but not so well that the ratio is refused.
    """
    return os.urandom(2048) + bytes(size - 2048)


def laden(count: int, first: int = 0, **more: Any) -> Iterator[bytes]:
    """
    Directories with nearly a mebibyte of extended attributes each, which no
    file system accepts, so that they are left out.
    """
    for number in range(first, first + count):
        records = {b"SCHILY.xattr.none.%02d" % n: noise(MAX_XATTR) for n in range(15)}
        yield pax(records) + folder(b"d%05d/" % number, **more)


def extended(data: bytes, name: bytes = b"f") -> bytes:
    """
    A file with an extended header of these bytes.
    """
    return header(b"p", b"x", len(data)) + padded(data) + file(name)


class MemoryTests(SynchronousTestCase):
    """
    The maximum resident memory of a process, C{VmHWM}.
    """

    def setUp(self) -> None:
        """
        Make a scratch directory.
        """
        # Tens of thousands of directories are created fastest in memory.
        place = "/dev/shm" if IS_ROOT and os.path.isdir("/dev/shm") else None
        self.folder = tempfile.mkdtemp(prefix="xferd-memory-", dir=place)
        self.addCleanup(shutil.rmtree, self.folder)
        self.number = 0

    def unpack(self, *parts: Iterable[bytes], window: int = 20) -> tuple[str, dict[str, Any], int]:
        """
        Unpack a layer as the daemon does it.

        @param window: the logarithm of the zstd frame's window.
        @return: what its process reported last, and the most memory that it
            had, in bytes.
        """
        self.number += 1
        blob, staged = (os.path.join(self.folder, f"{name}{self.number}") for name in ("blob", "staged"))
        os.mkdir(staged)
        how = ZstdCompressionParameters.from_level(1, window_log=window)
        with open(blob, "wb") as out, ZstdCompressor(compression_params=how).stream_writer(out) as packed:
            for part in (piece for pieces in (*parts, (END,)) for piece in pieces):
                packed.write(part)
        root = os.path.dirname(os.path.dirname(os.path.abspath(xferd.__file__)))
        worker = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", _START, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
            cwd="/",
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            task = {"staged": staged, "compression": "zstd", "algorithm": "sha256", "limits": asdict(LIMITS)}
            grown = protocol.encode("grown", path=blob, size=os.path.getsize(blob), sealed=True)
            worker.stdin.write(
                protocol.address(1, protocol.encode("begin", **task)) + protocol.address(1, grown)
            )
            worker.stdin.flush()
            return self.follow(worker.pid, worker.stdout.fileno())
        finally:
            worker.stdin.close()
            worker.wait()
            worker.stdout.close()
            os.unlink(blob)

    def follow(self, worker: int, reports: int) -> tuple[str, dict[str, Any], int]:
        """
        Measure the layer's process until it has ended.
        """
        peak, pid, lines = 0, 0, protocol.Lines()
        last: tuple[str, dict[str, Any]] = ("", {})
        while True:
            ready, _, _ = select.select([reports], [], [], 0.002)
            try:
                if not pid:
                    with open(f"/proc/{worker}/task/{worker}/children") as children:
                        pid = int((children.read().split() or ["0"])[0])
                if pid:
                    with open(f"/proc/{pid}/status") as status:
                        found = next((line for line in status if line.startswith("VmHWM:")), "VmHWM: 0 kB")
                    peak = max(peak, int(found.split()[1]) * 1024)
            except (FileNotFoundError, ProcessLookupError):
                pass  # The process has ended.
            if not ready:
                continue
            for line in lines.feed(os.read(reports, 1 << 16)):
                verb, body = protocol.decode(protocol.split(line)[1])
                if verb == "ended":
                    self.assertEqual(body, {"status": 0})
                    return *last, peak
                last = verb, body

    def refused(self, *parts: Iterable[bytes], window: int = 20) -> str:
        """
        The message of a layer that is refused because it needs too much memory.
        """
        verb, body, peak = self.unpack(*parts, window=window)
        self.assertEqual((verb, body.get("code")), ("error", "LAYER_INVALID"), body)
        self.assertLess(peak, MOST)
        message: str = body["message"]
        self.assertLessEqual(len(message), 500)
        return message

    def taken(self, *parts: Iterable[bytes], window: int = 20) -> int:
        """
        The memory of a layer that is unpacked.
        """
        verb, body, peak = self.unpack(*parts, window=window)
        self.assertEqual(verb, "result", body)
        self.assertLess(peak, MOST)
        return peak

    def test_xattrs_of_directories(self) -> None:
        """
        Directories whose extended attributes would accumulate are refused, at
        the first one that exceeds the limit.
        """
        each = len(b"d00000") + directories._DIRECTORY + directories._XATTRS
        each += 15 * (len(b"none.00") + MAX_XATTR + directories._XATTR)
        most = (directories.MOST_MEMORY - (2 << 20)) // each
        self.taken(laden(most))
        self.assertIn("bytes of memory", self.refused(laden(most + 3)))

    def test_later_xattrs(self) -> None:
        """
        Entries that list the same directory again do not accumulate.
        """
        self.assertLess(self.taken(*(laden(1, mtime=n) for n in range(300))), 64 << 20)

    def test_implied_directories(self) -> None:
        """
        Directories with long paths, which no entry lists, are refused as well,
        together with other uses of memory.
        """
        numbers = b",".join([b"0,0"] * 260_000)
        sparse = extended(b"".join(record(*item) for item in {**SPARSE, b"GNU.sparse.map": numbers}.items()))
        parts = (part + (sparse if n > 290 else b"") for n, part in enumerate(deep(360)))
        self.assertIn("bytes of memory", self.refused(parts))

    def test_window(self) -> None:
        """
        A zstd window counts: one of 128 MiB is accepted, with as many
        directories as fit beside it.
        """
        bulk = [file(b"bulk%d" % n, os.urandom(1 << 20)) for n in range(134)]
        self.taken(bulk, laden(24), window=27)
        self.assertIn("bytes of memory", self.refused(bulk, deep(140), window=27))
        self.assertIn("bytes of memory", self.refused(deep(140), bulk, window=27))

    def test_headers(self) -> None:
        """
        The largest extended headers of one entry need little memory, for any
        number of records, parts of a file or bytes of a name, and nothing of
        them is kept for the next entry.
        """
        records = b"".join(record(b"%x" % n, b"") for n in range(110_000))
        xattrs = b"".join(record(b"LIBARCHIVE.xattr.%x" % n, b"") for n in range(35_000))
        numbers = b",".join([b"0,0"] * 260_000)
        listed = b"".join(record(*item) for item in {**SPARSE, b"GNU.sparse.map": numbers}.items())
        single = record(b"GNU.sparse.offset", b"0") + record(b"GNU.sparse.numbytes", b"0")
        leading = padded(b"%d\n" % 260_000 + b"0\n0\n" * 260_000)
        new = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"0"}
        names = [header(b"n", kind, 1 << 20) + b"n" * (1 << 20) for kind in (b"L", b"K")]
        start = bytearray(header(b"old", b"S", magic=b"ustar  \0"))
        start[482] = 1
        old = resum(bytes(start)) + (bytes([48]) * 11 + b"\0") * 42 + bytes([0] * 8)
        parts = [
            extended(records),
            extended(xattrs),
            extended(listed),
            extended(single * 15_000),
            pax(new) + header(b"s", b"0", len(leading)) + leading,
            old,
        ]
        for part in parts:
            self.assertLess(self.taken([part] * 4), 96 << 20)
        for name in names:
            verb, _, peak = self.unpack([name + file(b"f")])
            self.assertEqual(verb, "error" if name[156:157] == b"L" else "result")
            self.assertLess(peak, 96 << 20)

    def test_globals(self) -> None:
        """
        Global headers with different records do not accumulate.
        """
        large = [pax({b"key%d" % n: noise(1_000_000)}, b"g") for n in range(300)]
        self.assertLess(self.taken(large, [file(b"f")]), 64 << 20)

    def test_links(self) -> None:
        """
        Hard links, symbolic links and files do not accumulate.
        """
        count = 10_000
        parts = [file(b"f")]
        parts += [hard_link(b"l%d" % n, b"f") for n in range(count)]
        parts += [header(b"s%d" % n, b"2", link=b"f" * 100) for n in range(count)]
        self.assertLess(self.taken(parts), 64 << 20)

    def test_removed_directory(self) -> None:
        """
        A directory of many files with long names that a file replaces is
        emptied without a list of them.
        """
        count, name = 60_000, b"n" * 80
        parts = [file(b"d/%s%05d" % (name, n)) for n in range(count)]
        peak = self.taken(parts, [file(b"d", b"instead")])
        # A list would have more than 120 bytes for each.
        self.assertLess(peak - self.taken(parts), count * 20 + NOISE)

    def test_long_names(self) -> None:
        """
        A name of a mebibyte is refused before it is split.
        """
        name = b"nn/" * (1 << 18)
        long = header(b"n", b"L", len(name)) + padded(name)
        verb, body, peak = self.unpack([long + file(b"f")])
        self.assertEqual(verb, "error")
        self.assertIn("longer than 4095 bytes", body["message"])
        self.assertLess(peak, 32 << 20)

    def test_estimates(self) -> None:
        """
        The estimates for directories and whiteouts are not below their real
        use.
        """
        count = 10_000
        # A process that ends at once may be seen before it has all of its memory.
        empty = max(self.taken([file(b"f")]) for _ in range(5))
        for each, parts in (
            (
                directories._DIRECTORY + 6,
                [folder(b"d%05d/" % n, uid=NOBODY, mtime=n + 10**9) for n in range(count)],
            ),
            (directories._WHITEOUT + 6, [file(b".wh.d%05d" % n) for n in range(count)]),
            (
                directories._DIRECTORY + 6 + directories._WHITEOUTS + 6 + directories._WHITEOUT + 1,
                [folder(b"d%05d/" % n) + file(b"d%05d/.wh.x" % n) for n in range(count)],
            ),
        ):
            # The buffers of the tar are touched for the first time as well.
            self.assertLess(self.taken(parts) - empty, count * each + (4 << 20) + NOISE)
