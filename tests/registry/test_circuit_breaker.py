"""
Tests for L{xferd.registry.mirrors.CircuitBreaker}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import (
    ConnectionFailed,
    Denied,
    TooManyRequests,
)
from xferd.registry.mirrors import FIRST_PAUSE, LONGEST_PAUSE, PROBE, CircuitBreaker


class CircuitBreakerTests(SynchronousTestCase):
    """
    L{CircuitBreaker} decides whether requests go to a mirror.
    """

    def test_doubled(self) -> None:
        """
        The rest is doubled with each failure, to a limit.
        """
        breaker, now, rests = CircuitBreaker(), 0.0, []
        for _ in range(7):
            self.assertTrue(breaker.allows(now))
            rest = breaker.record_failure(ConnectionFailed("x"), now)
            self.assertFalse(breaker.allows(now + rest - 1))
            rests.append(rest)
            now += rest
        self.assertEqual(rests, [15, 30, 60, 120, 240, 300, 300])

    def test_together(self) -> None:
        """
        Those that failed together count once.
        """
        breaker = CircuitBreaker()
        self.assertEqual(
            [breaker.record_failure(ConnectionFailed("x"), 1.0) for _ in range(3)], [FIRST_PAUSE, 0, 0]
        )

    def test_asked_to_wait(self) -> None:
        """
        C{Retry-After} sets the pause, up to a limit.
        """
        for asked, rest in ((60.0, 60.0), (1.0, FIRST_PAUSE), (1e6, LONGEST_PAUSE), (None, FIRST_PAUSE)):
            self.assertEqual(
                CircuitBreaker().record_failure(TooManyRequests("x", retry_after=asked), 0.0), rest
            )

    def test_one_probe(self) -> None:
        """
        After the pause, one request is permitted; without a result, another one
        after a while.
        """
        breaker = CircuitBreaker()
        breaker.record_failure(ConnectionFailed("x"), 0.0)
        self.assertTrue(breaker.allows(FIRST_PAUSE))
        self.assertFalse(breaker.allows(FIRST_PAUSE))
        self.assertTrue(breaker.allows(FIRST_PAUSE + PROBE))
        breaker.record_success()
        self.assertTrue(breaker.allows(FIRST_PAUSE + PROBE))

    def test_answers(self) -> None:
        """
        A refusal shows that the server is available.
        """
        breaker = CircuitBreaker()
        breaker.record_failure(ConnectionFailed("x"), 0.0)
        self.assertEqual(breaker.record_failure(Denied("x"), 1.0), 0)
        self.assertTrue(breaker.allows(1.0))
