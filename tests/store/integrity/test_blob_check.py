"""
Tests for L{xferd.store.integrity.blob_check}.
"""

from __future__ import annotations

import os
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import StoreError
from xferd.names import Digest
from xferd.store.integrity.blob_check import check_blob
from xferd.store.integrity.pace import PIECE, Pace

DATA = os.urandom(PIECE + 100)
DIGEST = Digest.of(DATA)


class BlobCheckTests(SynchronousTestCase):
    """
    One blob, whole or damaged.
    """

    def setUp(self) -> None:
        """
        Write it.
        """
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(DATA)

    def check(self, digest: Digest = DIGEST, size: int | None = len(DATA)) -> str:
        """
        Check it.
        """
        return check_blob(self.path, digest, size, Pace(), Event())

    def test_whole(self) -> None:
        """
        A whole blob is found whole, by any digest, with and without its size.
        """
        self.assertEqual(self.check(), "")
        self.assertEqual(self.check(Digest.of(DATA, "sha512"), None), "")

    def test_flipped_bit(self) -> None:
        """
        Each flipped bit changes the digest, which is named.
        """
        for at in (0, PIECE - 1, PIECE, len(DATA) - 1):
            flipped = bytearray(DATA)
            flipped[at] ^= 4
            with open(self.path, "wb") as file:
                file.write(flipped)
            self.assertEqual(self.check(), f"has the digest {Digest.of(bytes(flipped))}")

    def test_size(self) -> None:
        """
        A truncated blob, and one with more bytes, is named with both sizes.
        """
        for size in (0, 10, len(DATA) + 1):
            os.truncate(self.path, size)
            self.assertEqual(self.check(), f"has {size} bytes; it should have {len(DATA)}")
        os.truncate(self.path, 10)
        self.assertIn("has the digest", self.check(size=None))

    def test_no_file(self) -> None:
        """
        A missing blob, a link and a directory in its place are named; a FIFO blocks
        nothing.
        """
        os.unlink(self.path)
        self.assertEqual(self.check(), "is missing")
        os.symlink("/etc/passwd", self.path)
        self.assertEqual(self.check(), "is a symbolic link")
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertEqual(self.check(), "is not a regular file")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertEqual(self.check(), "is not a regular file")

    def test_cancelled(self) -> None:
        """
        A check that is cancelled ends after one piece.
        """
        stop = Event()
        stop.set()
        with self.assertRaises(StoreError):
            check_blob(self.path, DIGEST, None, Pace(), stop)
