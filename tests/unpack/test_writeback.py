"""
Tests for L{xferd.unpack.writeback}.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
from mmap import PAGESIZE

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.layer_case import LayerCase
from tests.unpack.tars import END, LIMITS, file
from xferd.tree_record import RecordWriter
from xferd.unpack.layer_process import GrowingBlob
from xferd.unpack.metadata import metadata_writer
from xferd.unpack.rights import own_rights
from xferd.unpack.tar import TarReader
from xferd.unpack.tree_writer import TreeWriter
from xferd.unpack.writeback import PIECE, SMALLEST, Writeback, begin


class WritebackTests(SynchronousTestCase):
    """
    Parts of a file that the kernel begins to write.
    """

    def setUp(self) -> None:
        """
        Record the parts.
        """
        self.parts: list[tuple[int, int, int]] = []
        self.writeback = Writeback(7, lambda *part: self.parts.append(part))

    def test_grown(self) -> None:
        """
        A growing file is begun by pieces of whole pages, each byte once.
        """
        self.writeback.added(PIECE - 1)
        self.assertEqual(self.parts, [])
        self.writeback.added(PAGESIZE)
        self.assertEqual(self.parts, [(7, 0, PIECE)])
        self.writeback.added(PIECE - PAGESIZE)
        self.assertEqual(len(self.parts), 1)
        self.writeback.added(1)
        self.assertEqual(self.parts[1:], [(7, PIECE, PIECE)])

    def test_end(self) -> None:
        """
        At the end, the writing of the rest begins, if there is a rest.
        """
        self.writeback.end()
        self.assertEqual(self.parts, [])
        self.writeback.added(PIECE + 5)
        self.writeback.end()
        self.writeback.end()
        self.assertEqual(self.parts, [(7, 0, PIECE), (7, PIECE, 5)])

    def test_kernel(self) -> None:
        """
        The kernel accepts it for a file that is open for reading or for writing, and refuses it
        for what has no bytes on a disk, which is no error.
        """
        path = self.mktemp()
        with open(path, "wb") as written:
            written.write(b"x" * 5000)
            written.flush()
            with open(path, "rb") as file:
                for fd in (written.fileno(), file.fileno()):
                    self.assertEqual(self.errno_of(fd), 0)
        for fd in os.pipe():
            self.addCleanup(os.close, fd)
            self.assertEqual(self.errno_of(fd), errno.ESPIPE)

    def errno_of(self, fd: int) -> int:
        """
        The error of a call.
        """
        ctypes.set_errno(0)
        begin(fd, 0, 4096)
        return ctypes.get_errno()


class LayerTests(LayerCase):
    """
    What a layer's process begins to write.
    """

    def test_tree(self) -> None:
        """
        Files of the tree that are large enough, each as a whole.
        """
        tar = [file(b"small", b"x" * (SMALLEST - 1)), file(b"large", b"x" * SMALLEST)]
        tar += [file(b"empty", b""), file(b"huge", b"x" * (PIECE + 7)), END]
        root = os.open(self.staged, os.O_RDONLY)
        self.addCleanup(os.close, root)
        record = os.open(f"{self.folder}/record", os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, record)
        begun: dict[str, list[tuple[int, int]]] = {}

        def note(fd: int, offset: int, length: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            # They are there already.
            self.assertGreaterEqual(os.stat(path).st_size, offset + length)
            begun.setdefault(os.path.basename(path), []).append((offset, length))

        writer = RecordWriter(record)
        tree = TreeWriter(root, LIMITS, metadata_writer(own_rights()), writer, begin=note)
        reader = TarReader(iter([memoryview(b"".join(tar))]), LIMITS)
        for entry in reader:
            tree.add(entry, reader.read)
        self.assertEqual(set(begun), {"large", "huge"})
        for name, size in (("large", SMALLEST), ("huge", PIECE + 7)):
            at = 0
            for offset, length in begun[name]:
                self.assertEqual(offset, at)
                at += length
            self.assertEqual(at, size)

    def test_blob(self) -> None:
        """
        The blob that the layer comes from, as far as it has been read.
        """
        self.write(b"x" * (2 * PIECE))
        begun: list[tuple[int, int]] = []
        lines = io.BytesIO(self.grown(PIECE + 1, False) + self.grown(2 * PIECE, True))
        source = GrowingBlob(lines, lambda _: None, lambda _, offset, length: begun.append((offset, length)))
        source.open()
        room = memoryview(bytearray(3 * PIECE))
        self.assertEqual(source.readinto(room), PIECE + 1)
        self.assertEqual(begun, [(0, PIECE)])
        source.readinto(room)
        self.assertEqual(begun, [(0, PIECE), (PIECE, PIECE)])
