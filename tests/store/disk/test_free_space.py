"""
Tests of L{xferd.store.disk.free_space}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import DiskFull
from xferd.interfaces.store import IFreeSpace
from xferd.store.disk.free_space import LEAST, PATIENCE, FreeSpace


def full(need: int = 0) -> DiskFull:
    """
    The error of work that found the disk full.
    """
    error = DiskFull("no space is left")
    error.need = need
    return error


class RoomTests(SynchronousTestCase):
    """
    A disk whose free space the test decides.
    """

    def setUp(self) -> None:
        """
        Make a disk that is full.
        """
        self.clock = Clock()
        self.free = 0
        self.looks = 0
        self.room = FreeSpace("/data", self.clock, free=lambda: self.free, before=self.look)
        self.told: list[tuple[bool, bool]] = []
        self.room.follow(lambda: self.told.append((self.room.paused, self.room.given_up)))

    def look(self) -> Deferred[None]:
        """
        Count the looks.
        """
        self.looks += 1
        return succeed(None)

    def test_interface(self) -> None:
        """
        It provides its Interface.
        """
        verifyObject(IFreeSpace, self.room)

    def test_room(self) -> None:
        """
        With enough space, nothing is reported, and nothing is done.
        """
        self.free = LEAST
        self.assertEqual((self.room.why, self.room.paused, self.room.given_up), ("", False, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_why(self) -> None:
        """
        A full disk is named, whether anything waits for it or not.
        """
        self.assertEqual(self.room.why, "the disk of /data is full")
        self.room.ran_out()
        self.assertEqual(
            self.room.why, "the disk of /data is full; transfers continue when space is free again"
        )

    def test_unknown(self) -> None:
        """
        A disk whose free space cannot be read is not reported as full, and
        waiting work continues to wait.
        """

        def free() -> int:
            raise OSError

        room = FreeSpace("/data", self.clock, free=free)
        self.assertEqual(room.why, "")
        waiting = room.wait(full())
        self.clock.advance(1)
        self.assertNoResult(waiting)

    def test_wait(self) -> None:
        """
        Waiting work resumes when there is free space; followers are notified.
        """
        waiting = self.room.wait(full())
        self.assertTrue(self.room.paused)
        self.clock.advance(1)
        self.assertNoResult(waiting)
        self.free = LEAST
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(self.told, [(True, False), (False, False)])
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (2, []))

    def test_need(self) -> None:
        """
        Work that needs much space waits for it, while other work resumes;
        granted space counts as used for a while.
        """
        first, second = self.room.wait(full(3 * LEAST)), self.room.wait(full(3 * LEAST))
        little = self.room.wait(full())
        self.free = 2 * LEAST
        self.clock.advance(1)
        self.successResultOf(little)
        self.assertFalse(self.room.paused)
        self.assertIn("is full; transfers continue", self.room.why)
        self.assertNoResult(first)
        self.free = 4 * LEAST
        self.clock.advance(1)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.clock.pump([1] * 9)
        self.assertNoResult(second)
        self.clock.pump([1] * 2)
        self.successResultOf(second)

    def test_patience(self) -> None:
        """
        After ten minutes waiting work fails with its own error, and later work
        does not wait, until there is space.
        """
        error = full()
        waiting = self.room.wait(error)
        self.clock.pump([1] * int(PATIENCE - 1))
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.assertIs(self.failureResultOf(waiting, DiskFull).value, error)
        self.assertEqual(self.told, [(True, False), (False, True)])
        self.assertEqual(self.room.why, "the disk of /data is full")
        self.failureResultOf(self.room.wait(full()), DiskFull)
        self.free = LEAST
        self.clock.advance(1)
        self.assertEqual(self.told[2:], [(False, False)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_since(self) -> None:
        """
        Work that failed before waits for the rest of its ten minutes.
        """
        self.clock.advance(PATIENCE + 5)
        self.failureResultOf(self.room.wait(full(), since=5.0), DiskFull)
        waiting = self.room.wait(full(), since=6.0)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.failureResultOf(waiting, DiskFull)

    def test_cancel(self) -> None:
        """
        A wait can be cancelled.
        """
        waiting = self.room.wait(full())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.free = LEAST
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """
        At the end waiting work fails, and the disk is read no more.
        """
        waiting = self.room.wait(full())
        self.successResultOf(Deferred.fromCoroutine(self.room.stop()))
        self.failureResultOf(waiting, DiskFull)
        self.failureResultOf(self.room.wait(full()), DiskFull)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_looking(self) -> None:
        """
        The end waits for a look that is under way.
        """
        looking: Deferred[None] = Deferred()
        room = FreeSpace("/data", self.clock, free=lambda: 0, before=lambda: looking)
        room.ran_out()
        self.clock.advance(1)
        stopping = Deferred.fromCoroutine(room.stop())
        self.assertNoResult(stopping)
        looking.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_follower_breaks(self) -> None:
        """
        A follower that fails does not keep the others from hearing.
        """

        def broken() -> None:
            raise ZeroDivisionError

        room = FreeSpace("/data", self.clock, free=lambda: 0)
        told: list[bool] = []
        room.follow(broken)
        room.follow(lambda: told.append(room.paused))
        room.ran_out()
        self.assertEqual(told, [True])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
