"""
Tests for L{xferd.transfer.histogram}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.histogram import BOUNDS, Histogram


class HistogramTests(SynchronousTestCase):
    """
    A histogram of durations.
    """

    def test_none(self) -> None:
        """
        There is a bucket for each bound, and one for all.
        """
        waits = Histogram()
        self.assertEqual(waits.buckets(), [*((str(bound), 0) for bound in BOUNDS), ("+Inf", 0)])

    def test_some(self) -> None:
        """
        Each duration counts in all buckets that are long enough, its own bound
        included.
        """
        waits = Histogram()
        for seconds in (0.0, 0.1, 0.2, 10_000.0):
            waits.add(seconds)
        buckets = dict(waits.buckets())
        self.assertEqual([buckets[key] for key in ("0.01", "0.1", "1.0", "1800.0", "+Inf")], [1, 2, 3, 3, 4])
        self.assertAlmostEqual(waits.total, 10_000.3)
