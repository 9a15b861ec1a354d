# -*- test-case-name: tests.hosts.test_circuit_breaker -*-
"""
A circuit breaker: whether requests go to a host that has failed.

Pure: it has no clock.
"""

from __future__ import annotations

from typing import Final

from attrs import define

FIRST_PAUSE: Final = 15.0
"""Seconds for which a circuit is open after the first failure; doubled by each
further one."""

LONGEST_PAUSE: Final = 300.0
"""The most seconds for which a circuit is open."""

PROBE: Final = 30.0
"""Seconds in which one request probes a host, while others skip it."""


@define(eq=False)
class CircuitBreaker:
    """
    The circuit of one host.

    States: closed; open, after a failure, when no request goes to the host;
    half-open, when the pause has ended and one request probes the host.

    @ivar failures: consecutive failures.
    @ivar until: the time at which the pause ends.
    @ivar probed: whether it is half-open.
    """

    failures: int = 0
    until: float = 0.0
    probed: bool = False

    def allows(self, now: float) -> bool:
        """
        Whether a request may go to the host now.  After the pause, the first
        caller may.
        """
        if not self.failures:
            return True
        if now < self.until:
            return False
        self.until, self.probed = now + PROBE, True
        return True

    def left(self, now: float) -> float:
        """
        The seconds until a request may go to the host; 0 if one may.
        """
        return max(self.until - now, 0.0) if self.failures else 0.0

    def record_success(self) -> None:
        """
        Record a success, which closes the circuit.
        """
        self.failures, self.probed = 0, False

    def record_failure(self, now: float, retry_after: float = 0.0) -> float:
        """
        Record a failure.

        @param retry_after: the pause that the host asks for, in seconds.
        @return: the seconds for which the circuit is open from now on; 0 if it
            was open.
        """
        if self.failures and now < self.until and not self.probed:
            # Several requests were under way when the first of them failed.
            return 0.0
        self.failures += 1
        self.probed = False
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
        pause = max(pause, min(retry_after, LONGEST_PAUSE))
        self.until = now + pause
        return pause
