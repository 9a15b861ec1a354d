"""
Tests for L{xferd.hosts.known}.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from xferd.hosts.circuit_breaker import CircuitBreaker
from xferd.hosts.known import DAY, HALF_LIFE, Account, Host, Now, Throughput
from xferd.interfaces.hosts import Quota

BEFORE = Now(100.0, 5_000.0)
LATER = Now(3.0, 5_060.0)
"""A minute later, in a daemon that has run for three seconds."""


class NowTests(SynchronousTestCase):
    """
    Times by two clocks.
    """

    def test_convert(self) -> None:
        """
        A time of one clock is a time of the other.
        """
        self.assertEqual(BEFORE.to_wall(110.0), 5_010.0)
        self.assertEqual(BEFORE.from_wall(5_010.0), 110.0)

    def test_jump(self) -> None:
        """
        A wall clock that was years wrong makes no pause of years.
        """
        self.assertEqual(BEFORE.from_wall(9e9), 100.0 + DAY)
        self.assertEqual(BEFORE.from_wall(0.0), 100.0 - 5_000.0)


class ThroughputTests(SynchronousTestCase):
    """
    L{Throughput}.
    """

    def test_average(self) -> None:
        """
        Transfers count by their length, and less as they grow old.
        """
        throughput = Throughput()
        self.assertIsNone(throughput.rate)
        throughput.add(1000, 1.0, 0.0)
        throughput.add(1000, 9.0, 0.0)
        self.assertEqual(throughput.rate, 200)
        throughput.add(1000, 5.0, HALF_LIFE)
        self.assertEqual(throughput.rate, 2000 / 10)
        throughput.add(10_000, 10.0, 100 * HALF_LIFE)
        self.assertAlmostEqual(throughput.rate or 0, 1000)


class HostTests(SynchronousTestCase):
    """
    Facts for the journal.
    """

    def test_host(self) -> None:
        """
        A host is the same for the next daemon, a while later.
        """
        host = Host(1.0, CircuitBreaker(3, 200.0), "no answer", capabilities={"chunks": False}, learned=4.0)
        host.throughput.add(500, 2.0, 100.0)
        again = Host(1.0)
        again.restore(json.loads(json.dumps(host.facts(BEFORE))), LATER)
        self.assertEqual((again.breaker.failures, again.breaker.left(LATER.clock)), (3, 40.0))
        self.assertEqual(again.throughput.rate, 250)
        self.assertEqual(
            (again.error, again.capabilities, again.learned), ("no answer", {"chunks": False}, 4.0)
        )

    def test_account(self) -> None:
        """
        A quota is as old as it is, also for the next daemon.
        """
        account = Account(1.0, Quota(5, 100, 60.0, 30.0), 90.0)
        again = Account(1.0)
        again.restore(json.loads(json.dumps(account.facts(BEFORE))), LATER)
        self.assertEqual(again.quota, account.quota)
        self.assertEqual(LATER.clock - again.noted, 70.0)

    def test_nothing_known(self) -> None:
        """
        An account without a quota has none afterwards.
        """
        again = Account(1.0)
        again.restore(Account(1.0).facts(BEFORE), LATER)
        self.assertIsNone(again.quota)

    def test_clock_set_back(self) -> None:
        """
        A quota is never from the future.
        """
        account = Account(1.0, Quota(5), 100.0)
        again = Account(1.0)
        again.restore(account.facts(BEFORE), Now(3.0, 10.0))
        self.assertEqual(again.noted, 3.0)

    def test_damaged(self) -> None:
        """
        Facts of another form are an error.
        """
        for facts in ({}, {"failures": "x"}):
            self.assertRaises((KeyError, ValueError), Host(1.0).restore, facts, LATER)
        for quota in ({"remaining": -1}, {"left": 1}, 3):
            self.assertRaises((TypeError, ValueError), Account(1.0).restore, {"quota": quota}, LATER)
