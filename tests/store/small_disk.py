"""
A real file system that is small, to be filled.
"""

from __future__ import annotations

import os
import subprocess
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase


class SmallDisk:
    """
    A file system in memory, mounted, with a file that fills it.

    @ivar path: where it is mounted.
    """

    def __init__(self, path: str, size: int) -> None:
        """
        @raise SkipTest: only root can mount.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can mount")
        self.path = os.path.abspath(path)
        os.mkdir(self.path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.path], check=True)

    def place(self, name: str) -> str:
        """
        The path of a file on it.
        """
        return os.path.join(self.path, name)

    @property
    def free(self) -> int:
        """
        The bytes that are free.
        """
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def fill(self, leaving: int = 0) -> None:
        """
        Fill it, but for some bytes.
        """
        fd = os.open(self.place("ballast"), os.O_WRONLY | os.O_CREAT)
        try:
            missing = self.free - leaving
            if missing > 0:
                os.posix_fallocate(fd, os.fstat(fd).st_size, missing)
        finally:
            os.close(fd)

    def drain(self, keeping: int = 0) -> None:
        """
        Remove what fills it, but for some bytes.
        """
        os.truncate(self.place("ballast"), keeping)

    def used(self, name: str) -> int:
        """
        The bytes of a file on it.
        """
        return os.path.getsize(self.place(name))

    def unmount(self) -> None:
        """
        Unmount it, also with open files.
        """
        subprocess.run(["umount", "--lazy", self.path], check=True)
        os.rmdir(self.path)


class SmallDiskTestCase(SynchronousTestCase):
    """
    Tests on a disk of C{SIZE} bytes.
    """

    SIZE = 12 * 1024 * 1024

    def setUp(self) -> None:
        """
        Mount it.
        """
        self.disk = SmallDisk(self.mktemp(), self.SIZE)
        self.addCleanup(self.disk.unmount)

    def place(self, name: str) -> str:
        """
        The path of a file on it.
        """
        return self.disk.place(name)

    def free(self) -> int:
        """
        The bytes that are free.
        """
        return self.disk.free

    def fill(self, leaving: int = 0) -> None:
        """
        Fill it, but for some bytes.
        """
        self.disk.fill(leaving)

    def drain(self, keeping: int = 0) -> None:
        """
        Remove what fills it, but for some bytes.
        """
        self.disk.drain(keeping)
