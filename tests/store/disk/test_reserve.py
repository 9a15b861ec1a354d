"""
Tests of L{xferd.store.disk.reserve}.
"""

from __future__ import annotations

import os
from errno import EIO, ENOSPC

from twisted.trial.unittest import SynchronousTestCase

from tests.store.small_disk import SmallDiskTestCase
from xferd.errors import DiskFull, StoreError
from xferd.store.disk.reserve import Reserve

MIB = 1024 * 1024


class ReserveTests(SynchronousTestCase):
    """
    A reserve on a disk with enough space.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.path = self.mktemp()
        self.reserve = Reserve(self.path, 8 * MIB)
        self.reserve.fill()

    def work(self, failures: int, error: Exception) -> str:
        """
        Fail for some calls, then return the number of calls.
        """
        calls = 0

        def call() -> str:
            nonlocal calls
            calls += 1
            if calls <= failures:
                raise error
            self.size = os.path.getsize(self.path)
            return f"call {calls}"

        return self.reserve.spend(call)

    def test_allocated(self) -> None:
        """
        It occupies as many bytes as it should.
        """
        self.assertEqual(os.stat(self.path).st_blocks * 512, 8 * MIB)
        self.assertEqual(self.reserve.missing(), 0)

    def test_no_trouble(self) -> None:
        """
        Work that does not fail leaves it alone.
        """
        self.assertEqual(self.work(0, OSError()), "call 1")
        self.assertEqual(self.size, 8 * MIB)

    def test_released_and_filled(self) -> None:
        """
        Work that finds the disk full is repeated with a part released, which
        is allocated again afterwards.
        """
        self.assertEqual(self.work(1, OSError(ENOSPC, "full")), "call 2")
        self.assertEqual(self.size, 4 * MIB)
        self.assertEqual(os.path.getsize(self.path), 8 * MIB)

    def test_wrapped(self) -> None:
        """
        An error of the store with the same meaning counts alike.
        """
        self.assertEqual(self.work(2, DiskFull("full")), "call 3")
        self.assertEqual(self.size, 0)

    def test_spent(self) -> None:
        """
        When all is released, the error is the caller's.
        """
        self.assertRaises(DiskFull, self.work, 3, DiskFull("full"))

    def test_other_trouble(self) -> None:
        """
        Other errors release nothing.
        """
        self.assertRaises(OSError, self.work, 1, OSError(EIO, "broken"))
        self.assertRaises(StoreError, self.work, 1, StoreError("broken"))
        self.assertEqual(os.path.getsize(self.path), 8 * MIB)

    def test_none(self) -> None:
        """
        Without a reserve, the error is the caller's, and all is missing.
        """
        os.unlink(self.path)
        self.assertEqual(self.reserve.missing(), 8 * MIB)
        self.assertRaises(DiskFull, self.work, 1, DiskFull("full"))

    def test_not_allowed(self) -> None:
        """
        If the reserve cannot be created, there is none.
        """
        reserve = Reserve(os.path.join(self.mktemp(), "reserve"), MIB)
        reserve.fill()
        self.assertEqual(reserve.missing(), MIB)

    def test_link(self) -> None:
        """
        A link in its place is not followed.
        """
        other = self.mktemp()
        os.symlink(os.path.abspath(other), os.path.abspath(f"{other}-link"))
        Reserve(f"{other}-link", MIB).fill()
        self.assertFalse(os.path.exists(other))


class SmallDiskTests(SmallDiskTestCase):
    """
    A reserve on a real disk that is small.
    """

    def test_smaller(self) -> None:
        """
        On a small disk it is smaller, a third at most.
        """
        reserve = Reserve(self.place("reserve"), 64 * MIB)
        reserve.fill()
        self.assertEqual(os.path.getsize(self.place("reserve")), self.SIZE // 3)
        self.assertEqual(reserve.missing(), 0)

    def test_little_room(self) -> None:
        """
        With less space, it allocates a part, and the rest later.
        """
        reserve = Reserve(self.place("reserve"), 2 * MIB)
        self.fill(leaving=MIB)
        reserve.fill()
        self.assertEqual(self.free(), 0)
        self.assertEqual(reserve.missing(), MIB)
        self.drain()
        reserve.fill()
        self.assertEqual(reserve.missing(), 0)

    def test_write(self) -> None:
        """
        A write succeeds on a full disk.
        """
        reserve = Reserve(self.place("reserve"), 2 * MIB)
        reserve.fill()
        self.fill()

        def write() -> None:
            with open(self.place("file"), "wb") as file:
                file.write(bytes(MIB))

        self.assertRaises(OSError, write)
        reserve.spend(write)
        self.assertEqual(os.path.getsize(self.place("file")), MIB)
        self.assertEqual(reserve.missing(), MIB)
