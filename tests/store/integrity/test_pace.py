"""
Tests for L{xferd.store.integrity.pace}.
"""

from __future__ import annotations

import mmap
import os
from ctypes import CDLL, c_size_t, c_void_p, create_string_buffer
from threading import Event
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import StoreError
from xferd.store.integrity.pace import PIECE, Pace, UncachedReader


class CountingEvent:
    """
    An event that counts the seconds for which it is waited for, and does not wait.

    @ivar seconds: their sum.
    @ivar waited: called at each wait.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.over = False
        self.waited = lambda: None

    def is_set(self) -> bool:
        """
        What the test has set.
        """
        return self.over

    def wait(self, seconds: float) -> bool:
        """
        Count.
        """
        self.seconds += seconds
        self.waited()
        return self.over


class PaceTests(SynchronousTestCase):
    """
    How long reads wait.
    """

    def setUp(self) -> None:
        """
        Make a pace.
        """
        self.pace = Pace()
        self.event = CountingEvent()
        self.stop = cast(Event, self.event)

    def test_rate(self) -> None:
        """
        Bytes take the time that the rate gives them; without a rate they take none.
        """
        self.pace.take(PIECE, self.stop)
        self.assertEqual(self.event.seconds, 0)
        self.pace.rate = 1000.0
        self.pace.take(2500, self.stop)
        self.assertAlmostEqual(self.event.seconds, 2.5)

    def test_changed(self) -> None:
        """
        A change of the rate counts within a tenth of a second.
        """

        def hurry() -> None:
            self.pace.rate = 0.0

        self.pace.rate = 1.0
        self.event.waited = hurry
        self.pace.take(PIECE, self.stop)
        self.assertLess(self.event.seconds, 0.11)

    def test_stopped(self) -> None:
        """
        A wait ends when the work is cancelled.
        """

        def end() -> None:
            self.event.over = True

        self.pace.rate = 1.0
        self.event.waited = end
        with self.assertRaises(StoreError):
            self.pace.take(PIECE, self.stop)
        self.assertLess(self.event.seconds, 0.11)


class UncachedReaderTests(SynchronousTestCase):
    """
    What reading leaves in memory.
    """

    def resident(self, path: str) -> list[bool]:
        """
        Which pages of a file the kernel has in memory.
        """
        libc, size = CDLL(None, use_errno=True), os.stat(path).st_size
        libc.mmap.restype = c_void_p
        found = create_string_buffer((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE)
        fd = os.open(path, os.O_RDONLY)
        try:
            mapped = c_void_p(
                libc.mmap(None, c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, fd, c_size_t(0))
            )
            self.assertEqual(libc.mincore(mapped, c_size_t(size), found), 0)
            libc.munmap(mapped, c_size_t(size))
        finally:
            os.close(fd)
        return [bool(page & 1) for page in found.raw]

    def read_all(self, path: str) -> bytes:
        """
        Read a file.
        """
        buffer, data = memoryview(bytearray(PIECE)), b""
        fd = os.open(path, os.O_RDONLY)
        try:
            reader = UncachedReader(fd, buffer)
            while count := reader.read():
                data += buffer[:count]
        finally:
            os.close(fd)
        return data

    def test_cache(self) -> None:
        """
        The pages of a file that were in memory stay there, and no others come.
        """
        path, data = self.mktemp(), os.urandom(4 * PIECE + 100)
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if any(self.resident(path)):
            # A file system in memory drops nothing.
            self.assertEqual(self.read_all(path), data)
            return
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(file.fileno(), PIECE, PIECE)
        before = self.resident(path)
        self.assertEqual(sum(before), PIECE // mmap.PAGESIZE)
        self.assertEqual(self.read_all(path), data)
        self.assertEqual(self.resident(path), before)
