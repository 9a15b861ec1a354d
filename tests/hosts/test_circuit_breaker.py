"""
Tests for L{xferd.hosts.circuit_breaker}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.hosts.circuit_breaker import FIRST_PAUSE, LONGEST_PAUSE, PROBE, CircuitBreaker


class CircuitBreakerTests(SynchronousTestCase):
    """
    L{CircuitBreaker} decides whether requests go to a host.
    """

    def test_doubled(self) -> None:
        """
        The pause is doubled with each failure, to a limit.
        """
        breaker, now, pauses = CircuitBreaker(), 0.0, []
        for _ in range(7):
            self.assertTrue(breaker.allows(now))
            pause = breaker.record_failure(now)
            self.assertEqual(breaker.left(now), pause)
            self.assertFalse(breaker.allows(now + pause - 1))
            pauses.append(pause)
            now += pause
        self.assertEqual(pauses, [15, 30, 60, 120, 240, 300, 300])

    def test_together(self) -> None:
        """
        Failures of requests that were under way together count once.
        """
        breaker = CircuitBreaker()
        self.assertEqual([breaker.record_failure(1.0) for _ in range(3)], [FIRST_PAUSE, 0, 0])

    def test_asked_to_wait(self) -> None:
        """
        C{Retry-After} sets the pause, up to a limit.
        """
        for asked, pause in ((60.0, 60.0), (1.0, FIRST_PAUSE), (1e6, LONGEST_PAUSE), (0.0, FIRST_PAUSE)):
            self.assertEqual(CircuitBreaker().record_failure(0.0, asked), pause)

    def test_one_probe(self) -> None:
        """
        After the pause, one request may probe the host; without a result,
        another one after a while.
        """
        breaker = CircuitBreaker()
        breaker.record_failure(0.0)
        self.assertTrue(breaker.allows(FIRST_PAUSE))
        self.assertFalse(breaker.allows(FIRST_PAUSE))
        self.assertTrue(breaker.allows(FIRST_PAUSE + PROBE))
        breaker.record_success()
        self.assertTrue(breaker.allows(FIRST_PAUSE + PROBE))
        self.assertEqual(breaker.left(FIRST_PAUSE + PROBE), 0)

    def test_failed_probe(self) -> None:
        """
        A probe that fails opens the circuit again, for longer.
        """
        breaker = CircuitBreaker()
        breaker.record_failure(0.0)
        self.assertTrue(breaker.allows(FIRST_PAUSE))
        self.assertEqual(breaker.record_failure(FIRST_PAUSE + 1), 2 * FIRST_PAUSE)
        self.assertFalse(breaker.allows(FIRST_PAUSE + PROBE))
