"""
Tests for L{xferd.store.disk.usage}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.store.disk.usage import files_of, size_below
from xferd.store.paths import Paths


class UsageTests(SynchronousTestCase):
    """
    The bytes of a data directory.
    """

    def test_none(self) -> None:
        """
        Missing files and directories count 0 bytes.
        """
        self.assertEqual(files_of(Paths("/nowhere")), {"blobs": 0, "arriving": 0})

    def test_some(self) -> None:
        """
        Blobs and partial files are counted by their space on the disk; a hole
        takes none, and the target of a link is not counted.
        """
        paths = Paths(os.path.abspath(self.mktemp()))
        for directory in (f"{paths.blobs}/sha256", f"{paths.blobs}/sha512", paths.ingest):
            os.makedirs(directory)
        Path(f"{paths.blobs}/sha256/a").write_bytes(b"x" * 8192)
        Path(f"{paths.blobs}/sha512/b").write_bytes(b"x" * 4096)
        os.symlink("/etc/passwd", f"{paths.blobs}/sha512/c")
        Path(f"{paths.ingest}/d").write_bytes(b"x" * 4096)
        with open(f"{paths.ingest}/e", "wb") as file:
            file.truncate(10**9)
        usage = files_of(paths)
        self.assertEqual(usage, {"blobs": 8192 + 4096, "arriving": 4096})

    def test_below(self) -> None:
        """
        All files below a directory count, however deep; links are not
        followed.
        """
        top = self.mktemp()
        os.makedirs(f"{top}/a/b")
        Path(f"{top}/a/b/one").write_bytes(b"x" * 8192)
        Path(f"{top}/two").write_bytes(b"x" * 4096)
        os.symlink("/etc", f"{top}/a/etc")
        self.assertEqual(size_below(top), 8192 + 4096)
        self.assertEqual(size_below(f"{top}/gone"), 0)
