"""
Tests for L{xferd.transfer.throughput}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.throughput import ASSUMED, Throughput, fair_share


class ThroughputTests(SynchronousTestCase):
    """
    The rate over 30 seconds.
    """

    def test_window(self) -> None:
        """
        The last 30 s count, however long it has run and however often it is
        read.
        """
        pace = Throughput(0, 0)
        for now in range(1, 1_001):
            pace.sample(now / 10, 100 * now)
        self.assertApproximates(pace.rate(100, 100_000), 1_000, 1)
        self.assertApproximates(pace.rate(115, 100_000), 500, 60)
        self.assertLess(pace.rate(140, 100_000), 50)

    def test_few_samples(self) -> None:
        """
        Only a few samples are kept.
        """
        pace = Throughput(0, 0)
        for now in range(100_000):
            pace.sample(now / 100, now)
        self.assertLess(len(pace._samples), 15)

    def test_lasts(self) -> None:
        """
        Before 30 s have passed, there is no rate to judge by.
        """
        pace = Throughput(5, 0)
        self.assertFalse(pace.lasts(34))
        self.assertTrue(pace.lasts(35))
        self.assertEqual(pace.rate(5, 0), 0)

    def test_fair_share(self) -> None:
        """
        The share is that of the present rates or of an assumed line, bounded by
        the bandwidth limit.
        """
        self.assertEqual(fair_share([1, 1, 1], 4, 0), ASSUMED / 4)
        self.assertEqual(fair_share([10e6, 20e6], 3, 0), 10e6)
        self.assertEqual(fair_share([10e6, 20e6], 3, 300), 100)
