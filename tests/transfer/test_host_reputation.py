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
    The ranks of hosts.
    """

    def setUp(self) -> None:
        """
        Begin without records.
        """
        self.clock = Clock()
        self.reputation = HostReputation(self.clock)

    def test_good(self) -> None:
        """
        A host that transferred something goes before an unknown host, for ten
        minutes.
        """
        self.assertEqual(self.reputation.rank(HOST), 1)
        self.reputation.record(HOST, True)
        self.clock.advance(599)
        self.assertEqual(self.reputation.rank(HOST), 0)
        self.clock.advance(1)
        self.assertEqual(self.reputation.rank(HOST), 1)

    def test_bad(self) -> None:
        """
        A host where an attempt transferred nothing has no rank for a minute,
        then the last one, and is forgotten after ten.
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
        Expired records are removed.
        """
        for n in range(10_000):
            self.reputation.record(str(n), n % 2 == 0)
            self.clock.advance(10)
        self.assertLess(len(self.reputation), 300)
