"""
Tests for L{xferd.store.blobs.partials} on a full disk.
"""

from __future__ import annotations

import errno
import os
import subprocess

from twisted.trial.unittest import SkipTest

from tests.store.support import StoreTestCase
from xferd.errors import DiskFull
from xferd.names import Digest


class FullDiskTests(StoreTestCase):
    """
    A disk that is full indeed.
    """

    def setUp(self) -> None:
        """
        Make a small file system and a store on it.
        """
        self.mounted = self.mktemp()
        os.mkdir(self.mounted)
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", os.path.abspath(self.mounted)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            raise SkipTest("mounting a small file system takes the rights of root")
        self.addCleanup(subprocess.run, ["umount", "-l", os.path.abspath(self.mounted)], check=True)
        super().setUp()

    def mktemp(self) -> str:
        """
        A directory on the small file system, once there is one.
        """
        if hasattr(self, "mounted"):
            return os.path.join(self.mounted, "store")
        path: str = super().mktemp()
        return path

    def test_write(self) -> None:
        """
        Bytes that do not fit are refused with the reason; earlier bytes stay,
        and the blob resumes when there is free space.
        """
        data = os.urandom(1024 * 1024)
        ballast = os.path.join(self.mounted, "ballast")
        with open(ballast, "wb") as file:
            file.write(bytes(1024 * 1024))
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(data), len(data)))
        with self.assertRaises(DiskFull) as caught:
            while partial.offset < len(data):
                partial.write(data[partial.offset : partial.offset + 65536])
        self.assertIn("no space is left", str(caught.exception))
        kept = partial.offset
        self.assertGreater(kept, 0)
        os.unlink(ballast)
        partial.close()
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(data), len(data)))
        self.assertEqual(partial.offset, kept)
        partial.write(data[kept:])
        self.successResultOf(partial.commit())

    def test_documents_and_journal(self) -> None:
        """
        Nothing else is half-written on a full disk either.
        """
        with open(os.path.join(self.mounted, "ballast"), "wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(4096))
            except OSError as e:
                self.assertEqual(e.errno, errno.ENOSPC)
        data = b"{}" * 50_000
        self.failureResultOf(self.store.blobs.put(Digest.of(data), data), DiskFull)
        self.assertFalse(self.store.blobs.has(Digest.of(data)))
        self.failureResultOf(
            self.store.journal.record_job({"id": "1", "created": "", "state": "", "more": "x" * 500_000}),
            DiskFull,
        )
        self.assertEqual(self.successResultOf(self.store.journal.jobs(1)), [])
