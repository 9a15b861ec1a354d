"""
Tests for L{xferd.hosts.quota_policy}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.hosts.quota_policy import QuotaPolicy
from xferd.interfaces.hosts import Quota

POLICY = QuotaPolicy()
HUB = Quota(76, 100, 21600.0)
"""What Docker Hub sends to anonymous clients."""

AGES = st.floats(0, 1e6)
SECONDS = st.none() | st.floats(0, 1e6)
QUOTAS = st.builds(Quota, st.integers(0, 5000), st.none() | st.integers(1, 5000), SECONDS, SECONDS)


class QuotaPolicyTests(SynchronousTestCase):
    """
    L{QuotaPolicy}.
    """

    def test_above_the_floor(self) -> None:
        """
        Above a tenth of the limit, every request is made at once.
        """
        for remaining in (100, 76, 11):
            quota = Quota(remaining, 100, 21600.0)
            self.assertFalse(POLICY.is_low(quota, 0), remaining)
            self.assertEqual(POLICY.interval(quota, 0), 0, remaining)

    def test_at_the_floor(self) -> None:
        """
        From a tenth of the limit down, the quota is low.
        """
        for remaining in (10, 1, 0):
            self.assertTrue(POLICY.is_low(Quota(remaining, 100, 21600.0), 0), remaining)

    def test_limit_unknown(self) -> None:
        """
        Where the limit is not known, the floor is a number of requests.
        """
        self.assertFalse(POLICY.is_low(Quota(6), 0))
        self.assertTrue(POLICY.is_low(Quota(5), 0))

    def test_spread(self) -> None:
        """
        What is left is spread over the rest of the window.
        """
        quota = Quota(5, 100, 60.0, 20.0)
        self.assertEqual(POLICY.interval(quota, 0), 4)
        self.assertEqual(POLICY.interval(quota, 10), 2)

    def test_interval_has_a_limit(self) -> None:
        """
        A person waits for ten seconds at most, though the window has hours.
        """
        self.assertEqual(POLICY.interval(Quota(3, 100, 21600.0), 0), 10)

    def test_used_up(self) -> None:
        """
        A request waits for the reset of a used-up quota if that is near.
        """
        self.assertEqual(POLICY.interval(Quota(0, 100, 60.0, 45.0), 0), 45)
        self.assertEqual(POLICY.interval(Quota(0, 100, 3600.0, 1800.0), 0), 10)
        self.assertEqual(POLICY.interval(Quota(0, 100, 45.0), 0), 10)

    def test_whole_again(self) -> None:
        """
        After its reset, after its window, or after a minute, a quota is whole.
        """
        for quota, end in (
            (Quota(0, 100, 60.0, 45.0), 45),
            (Quota(0, 100, 60.0), 60),
            (Quota(0), 60),
        ):
            self.assertTrue(POLICY.is_low(quota, end - 1))
            self.assertFalse(POLICY.is_low(quota, end))
            self.assertEqual(POLICY.interval(quota, end), 0)
            self.assertIsNone(POLICY.at(quota, end))

    def test_as_it_is_now(self) -> None:
        """
        The reset comes nearer as the response grows old.
        """
        self.assertEqual(POLICY.at(Quota(3, 10, 60.0, 45.0), 5), Quota(3, 10, 60.0, 40.0))
        self.assertEqual(POLICY.at(HUB, 5), HUB)

    def test_recheck(self) -> None:
        """
        While a quota is low, one check in a quarter of an hour is admitted,
        unless nothing is left.
        """
        low = Quota(3, 100, 21600.0)
        self.assertFalse(POLICY.rechecks(low, 899))
        self.assertTrue(POLICY.rechecks(low, 900))
        self.assertFalse(POLICY.rechecks(Quota(0, 100, 21600.0), 900))

    def test_refused(self) -> None:
        """
        Numbers that make no sense are no quota.
        """
        for numbers in ((-1, 10), (1, 0), (1, 10, -1.0), (1, 10, 1.0, -1.0)):
            self.assertRaises(ValueError, Quota, *numbers)

    @given(QUOTAS, AGES)
    def test_any(self, quota: Quota, age: float) -> None:
        """
        There is an interval exactly while the quota is low, and it is never
        longer than a person waits, nor than the quota is low.
        """
        interval = POLICY.interval(quota, age)
        self.assertEqual(interval > 0, POLICY.is_low(quota, age))
        self.assertLessEqual(interval, min(POLICY.patience, POLICY.left(quota, age)))
