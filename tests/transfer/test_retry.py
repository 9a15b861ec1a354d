"""
Tests for L{xferd.transfer.retry}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis.strategies import floats, integers
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.retry import RetryPolicy


class RetryPolicyTests(SynchronousTestCase):
    """
    The delays of a policy.
    """

    def test_doubles_up_to_the_cap(self) -> None:
        """
        Without jitter, delays double from the base and stay at the cap.
        """
        policy = RetryPolicy(base=2, cap=10, jitter=0)
        self.assertEqual([policy.delay(n, Random(1)) for n in range(1, 6)], [2, 4, 8, 10, 10])

    @settings(max_examples=50, deadline=None)
    @given(integers(1, 10_000), floats(0, 1), integers())
    def test_jitter(self, attempt: int, jitter: float, seed: int) -> None:
        """
        Jitter shortens a delay by its part at most, and never prolongs it.
        """
        longest = RetryPolicy(jitter=0).delay(attempt, Random(seed))
        delay = RetryPolicy(jitter=jitter).delay(attempt, Random(seed))
        self.assertLessEqual(delay, longest)
        self.assertGreaterEqual(delay, longest * (1 - jitter) - 1e-9)

    def test_apart(self) -> None:
        """
        Many transfers that failed at once do not return at once, not even at
        the cap.
        """
        random = Random(1)
        self.assertEqual(len({RetryPolicy().delay(50, random) for _ in range(100)}), 100)

    def test_checked(self) -> None:
        """
        Senseless values are refused.
        """
        bad: list[dict[str, Any]] = [
            {"attempts": 0},
            {"attempts": 1.5},
            {"base": -1},
            {"cap": -1},
            {"jitter": -0.1},
            {"jitter": 1.1},
            {"patience": -1},
        ]
        for values in bad:
            with self.assertRaises((ValueError, TypeError), msg=str(values)):
                RetryPolicy(**values)
