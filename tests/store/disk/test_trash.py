"""
Tests for L{xferd.store.disk.trash}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError

from tests.store.support import StoreTestCase
from xferd.errors import StoreError
from xferd.store.disk import trash


class TrashTests(StoreTestCase):
    """
    Out of the way at once, removed in time.
    """

    def setUp(self) -> None:
        """
        Take the trash of a store.
        """
        super().setUp()
        self.trash = self.store._trash
        self.pools.disk.held = True

    def litter(self, name: str) -> str:
        """
        Make files to delete.
        """
        path = os.path.join(self.path, "ingest", name)
        os.makedirs(os.path.join(path, "inner"))
        return path

    def staged(self) -> list[str]:
        """
        The content of C{staging/}.
        """
        return os.listdir(os.path.join(self.path, "staging"))

    def test_throw(self) -> None:
        """
        Its name is free at once, and one thread at a time removes it.
        """
        paths = [self.litter("a"), self.litter("b")]
        for path in paths:
            self.trash.throw(path)
            self.assertFalse(os.path.exists(path))
        self.assertEqual((len(self.staged()), len(self.pools.disk.waiting)), (2, 1))
        self.pools.disk.step()
        self.assertEqual((len(self.staged()), len(self.pools.disk.waiting)), (1, 1))
        self.pools.disk.step()
        self.assertEqual(self.staged(), [])

    def test_emptied(self) -> None:
        """
        A wait for all removals ends with the last one, and can be cancelled.
        """
        self.successResultOf(self.trash.emptied())
        self.trash.throw(self.litter("a"))
        waiting, leaving = self.trash.emptied(), self.trash.emptied()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.trash.throw(self.litter("b"))
        self.pools.disk.step()
        self.assertNoResult(waiting)
        self.pools.disk.step()
        self.successResultOf(waiting)

    def test_emptied_by_a_stop(self) -> None:
        """
        A wait ends when the remaining removals are left to the next start.
        """
        self.trash.throw(self.litter("a"))
        waiting = self.trash.emptied()
        self.trash.stop()
        self.pools.disk.step()
        self.successResultOf(waiting)

    def test_descriptor(self) -> None:
        """
        A descriptor is closed behind the removal.
        """
        path = self.litter("a")
        fd = os.open(path, os.O_RDONLY)
        self.trash.throw(path, fd)
        os.fstat(fd)
        self.pools.disk.step()
        self.assertRaises(OSError, os.fstat, fd)

    def test_refused(self) -> None:
        """
        A path that cannot be renamed is an error.
        """
        self.assertRaises(StoreError, self.trash.throw, os.path.join(self.path, "absent"))

    def test_removal_fails(self) -> None:
        """
        A removal that fails is left to the next start, and does not keep the
        others.
        """

        def refuse(*args: object) -> None:
            raise OSError("no")

        self.trash.throw(self.litter("a"))
        self.trash.throw(self.litter("b"))
        patched = self.patch(trash, "remove", refuse)
        self.pools.disk.step()
        patched.restore()
        self.pools.disk.step()
        self.assertEqual(len(self.staged()), 1)
        self.reopen()
        self.assertEqual(self.staged(), [])

    def test_stop(self) -> None:
        """
        Removals that are left when the daemon stops are left to the next
        start; descriptors are closed all the same.
        """
        paths = [self.litter("a"), self.litter("b")]
        fds = [os.open(path, os.O_RDONLY) for path in paths]
        for path, fd in zip(paths, fds, strict=True):
            self.trash.throw(path, fd)
        self.trash.stop()
        self.pools.disk.step()
        self.assertEqual(len(self.staged()), 2)
        for fd in fds:
            self.assertRaises(OSError, os.fstat, fd)
        self.reopen()
        self.assertEqual(self.staged(), [])
