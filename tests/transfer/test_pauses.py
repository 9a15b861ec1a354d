"""
Tests for L{xferd.transfer.pauses}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.transfer import HostAccount
from xferd.transfer.pauses import Pauses

HOST = "one.example"
ALICE, BOB = HostAccount(HOST, "alice"), HostAccount(HOST, "bob")


class PausesTests(SynchronousTestCase):
    """
    The pauses of hosts and accounts.
    """

    def setUp(self) -> None:
        """
        Begin at time 0.
        """
        self.clock = Clock()
        self.pauses = Pauses(self.clock)

    def test_separate(self) -> None:
        """
        A host and its accounts have separate pauses.
        """
        self.pauses.pause(ALICE, 5)
        self.pauses.pause(HOST, 2)
        self.assertEqual([self.pauses.left(whom) for whom in (ALICE, BOB, HOST)], [5, 0, 2])
        self.clock.advance(2)
        self.assertEqual([self.pauses.left(whom) for whom in (ALICE, BOB, HOST)], [3, 0, 0])

    def test_never_shortened(self) -> None:
        """
        The longest pause counts.
        """
        for seconds in (5, 9, 1):
            self.pauses.pause(ALICE, seconds)
        self.assertEqual(self.pauses.left(ALICE), 9)

    def test_observed(self) -> None:
        """
        Observers are called with each pause.
        """
        seen: list[object] = []
        self.pauses.observe(seen.append)
        self.pauses.pause(ALICE, 5)
        self.pauses.pause(HOST, 5)
        self.assertEqual(seen, [ALICE, HOST])

    def test_cleared(self) -> None:
        """
        A host is cleared with all its accounts, and no other host.  Observers
        are called with what was cleared.
        """
        other = HostAccount("two.example", "alice")
        for whom in (ALICE, BOB, HOST, other):
            self.pauses.pause(whom, 5)
        self.pauses.space(BOB, 5)
        self.pauses.started(BOB)
        seen: list[object] = []
        self.pauses.observe(seen.append)
        self.pauses.clear(HOST)
        self.assertEqual([self.pauses.left(whom) for whom in (ALICE, BOB, HOST, other)], [0, 0, 0, 5])
        self.assertEqual(self.pauses.before_start(BOB), 0)
        self.assertEqual(set(seen), {ALICE, BOB, HOST})

    def test_interval(self) -> None:
        """
        Starts at an account are so many seconds apart, from now on; it is not
        paused.
        """
        self.pauses.space(ALICE, 4)
        self.assertEqual([self.pauses.before_start(who) for who in (ALICE, BOB)], [4, 0])
        self.clock.advance(9)
        self.assertEqual(self.pauses.before_start(ALICE), 0)
        self.pauses.started(ALICE)
        self.pauses.started(BOB)
        self.assertEqual([self.pauses.before_start(who) for who in (ALICE, BOB)], [4, 0])
        self.assertEqual(self.pauses.left(ALICE), 0)
        self.clock.advance(4)
        self.assertEqual(self.pauses.before_start(ALICE), 0)

    def test_interval_and_pause(self) -> None:
        """
        The longer of pause and interval counts.
        """
        self.pauses.space(ALICE, 4)
        self.pauses.started(ALICE)
        self.pauses.pause(ALICE, 3)
        self.assertEqual((self.pauses.left(ALICE), self.pauses.before_start(ALICE)), (3, 4))
        self.pauses.pause(ALICE, 9)
        self.assertEqual(self.pauses.before_start(ALICE), 9)

    def test_interval_changed(self) -> None:
        """
        A longer interval counts from the next start on, a shorter one from now
        on; without one, the next start is at once.
        """
        self.pauses.space(ALICE, 4)
        self.pauses.space(ALICE, 9)
        self.assertEqual(self.pauses.before_start(ALICE), 4)
        self.pauses.space(ALICE, 3)
        self.assertEqual(self.pauses.before_start(ALICE), 3)
        self.pauses.space(ALICE, 0)
        self.assertEqual(self.pauses.before_start(ALICE), 0)
        self.pauses.started(ALICE)
        self.assertEqual(self.pauses.before_start(ALICE), 0)

    def test_intervals_bounded(self) -> None:
        """
        Intervals of accounts that are not used are removed.
        """
        for n in range(10_000):
            self.pauses.space(HostAccount(HOST, n), 1)
            self.pauses.started(HostAccount(HOST, n))
            self.clock.advance(10)
        self.assertLess(len(self.pauses), 400)

    def test_bounded(self) -> None:
        """
        Expired pauses are removed, though none is asked for.
        """
        for n in range(10_000):
            self.pauses.pause(HostAccount(HOST, n), 1)
            self.clock.advance(0.1)
        self.assertLess(len(self.pauses), 200)
