# -*- test-case-name: tests.ctl.image.test_rootfs -*-
"""
Tests for L{xferd.ctl.image.rootfs}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.image.rootfs import RootFS


class RootFSTests(SynchronousTestCase):
    """
    A root file system with links that lead out of it.
    """

    def setUp(self) -> None:
        """
        Make the root file system, and a file outside.
        """
        place = Path(self.mktemp()).absolute()
        self.root = place / "root"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "real").mkdir(mode=0o751)
        (self.root / "etc/passwd").write_bytes(b"inside")
        (place / "outside").write_bytes(b"outside")
        for name, target in {
            "up": "../../outside",
            "absolute": str(place / "outside"),
            "inside": "/etc/passwd",
            "etc/back": "../../../../etc/./passwd",
            "loop": "loop",
            "folder": "/real/",
        }.items():
            (self.root / name).symlink_to(target)
        os.mkfifo(self.root / "fifo")
        self.open = len(os.listdir("/proc/self/fd"))

    def test_read(self) -> None:
        """
        Links resolve as from inside. A path that is not a regular file is empty. No descriptor
        stays open.
        """
        with RootFS(str(self.root)) as files:
            for path, data in {
                "/etc/passwd": b"inside",
                "inside": b"inside",
                "/etc/back": b"inside",
                "/../../etc/passwd": b"inside",
                "/up": b"",
                "/absolute": b"",
                "/loop": b"",
                "/fifo": b"",
                "/etc": b"",
                "/absent/file": b"",
                "/etc/passwd/below": b"",
                "/" + "n" * 300: b"",
            }.items():
                self.assertEqual(files.read(path), data, path)
        self.assertEqual(len(os.listdir("/proc/self/fd")), self.open)

    def test_directory(self) -> None:
        """
        A directory's status, through links too; L{None} if it is not a directory.
        """
        with RootFS(str(self.root)) as files:
            for path in ("/real", "/folder", "/folder/../real"):
                found = files.directory(path)
                assert found is not None
                self.assertEqual(found.st_ino, os.stat(self.root / "real").st_ino)
            self.assertIsNone(files.directory("/etc/passwd"))
            self.assertIsNone(files.directory("/absent"))
