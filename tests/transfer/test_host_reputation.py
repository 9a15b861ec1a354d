"""
Tests for L{xferd.transfer.host_reputation}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.host_reputation import HostReputation

HOST = "one.example"


class HostReputationTests(SynchronousTestCase):
    """
    Which hosts go first.
    """

    def setUp(self) -> None:
        """
        Know nothing.
        """
        self.clock = Clock()
        self.reputation = HostReputation(self.clock)

    def test_good(self) -> None:
        """
        A host that brought something goes before one of which nothing is
        known, for ten minutes.
        """
        self.assertEqual(self.reputation.rank(HOST), 1)
        self.reputation.record(HOST, True)
        self.clock.advance(599)
        self.assertEqual(self.reputation.rank(HOST), 0)
        self.clock.advance(1)
        self.assertEqual(self.reputation.rank(HOST), 1)

    def test_bad(self) -> None:
        """
        A host where an attempt came to nothing is not trusted for a minute,
        then comes last, and is forgotten after ten.
        """
        self.reputation.record(HOST, False)
        self.assertIsNone(self.reputation.rank(HOST))
        self.clock.advance(60)
        self.assertEqual(self.reputation.rank(HOST), 2)
        self.clock.advance(540)
        self.assertEqual(self.reputation.rank(HOST), 1)

    def test_last(self) -> None:
        """
        The last attempt counts.
        """
        for good, rank in ((False, None), (True, 0), (False, None)):
            self.reputation.record(HOST, good)
            self.assertEqual(self.reputation.rank(HOST), rank)

    def test_bounded(self) -> None:
        """
        What does not count any more is forgotten.
        """
        for n in range(10_000):
            self.reputation.record(str(n), n % 2 == 0)
            self.clock.advance(10)
        self.assertLess(len(self.reputation), 300)
