"""
Tests for L{xferd.transfer.pauses}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.pauses import HostAccount, Pauses

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

    def test_bounded(self) -> None:
        """
        Expired pauses are removed, though none is asked for.
        """
        for n in range(10_000):
            self.pauses.pause(HostAccount(HOST, n), 1)
            self.clock.advance(0.1)
        self.assertLess(len(self.pauses), 200)
