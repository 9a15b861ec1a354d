# -*- test-case-name: tests.hosts.test_known -*-
"""
What is known of one host and of one account there, and the facts that the
journal has of them.

In memory, times are the reactor's; in the journal, they are seconds since the
epoch.  L{Now} converts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final

from attrs import asdict, define, field, frozen

from xferd.hosts.circuit_breaker import CircuitBreaker
from xferd.interfaces.hosts import Quota

HALF_LIFE: Final = 300.0
"""Seconds after which a transfer counts half in the throughput of its host."""

DAY: Final = 86400.0
"""Seconds for which features are believed, and the longest time that is restored: the wall clock may jump."""


@frozen
class Now:
    """
    The present time by both clocks.

    @ivar clock: the reactor's.
    @ivar wall: seconds since the epoch.
    """

    clock: float
    wall: float

    def to_wall(self, time: float) -> float:
        """
        A time of the reactor as seconds since the epoch.
        """
        return self.wall + time - self.clock

    def from_wall(self, time: float) -> float:
        """
        Seconds since the epoch as a time of the reactor, a day from now at most.
        """
        return self.clock + min(max(time - self.wall, -DAY), DAY)


@define
class Throughput:
    """
    The bytes per second of one transfer, on average, recent ones first.
    """

    _bytes: float = 0.0
    _seconds: float = 0.0
    _at: float = 0.0

    def add(self, size: int, seconds: float, now: float) -> None:
        """
        Add a transfer.
        """
        kept = 0.5 ** ((now - self._at) / HALF_LIFE)
        self._bytes = self._bytes * kept + size
        self._seconds = self._seconds * kept + seconds
        self._at = now

    @property
    def rate(self) -> float | None:
        """
        The rate, or L{None} if there was no transfer.
        """
        return self._bytes / self._seconds if self._seconds else None


@define(eq=False)
class Account:
    """
    One account at a host.

    @ivar used: when it last got a response, in seconds since the epoch.
    @ivar quota: the newest quota.
    @ivar noted: when its response came.
    @ivar until: when the quota is no longer believed, as another node reported it.
    @ivar checked: when a request that its caller can do without was last
        admitted, though the quota was low.
    @ivar spaced: whether its requests start at intervals.
    """

    used: float
    quota: Quota | None = None
    noted: float = 0.0
    until: float = inf
    checked: float = 0.0
    spaced: bool = False

    def believed(self, now: float) -> Quota | None:
        """
        The quota, unless it is known only from another node, and for too long.
        """
        return self.quota if now < self.until else None

    def facts(self, now: Now) -> dict[str, Any]:
        """
        The facts for the journal.
        """
        if self.quota is None or self.until != inf:
            return {}
        return {"quota": asdict(self.quota), "noted": now.to_wall(self.noted)}

    def restore(self, facts: Mapping[str, Any], now: Now) -> None:
        """
        Take the facts of an earlier daemon.

        @raise Exception: they are not as L{facts} makes them.
        """
        if "quota" in facts:
            self.quota = Quota(**facts["quota"])
            self.noted = min(now.from_wall(facts["noted"]), now.clock)


@define(eq=False)
class Host:
    """
    A host.

    @ivar used: when it was last used, in seconds since the epoch.
    @ivar error: the newest failure, for people.
    @ivar capabilities: the features that were found by use.
    @ivar learned: when they were, in seconds since the epoch.
    @ivar accounts: by the names that the journal has for them.
    """

    used: float
    breaker: CircuitBreaker = field(factory=CircuitBreaker)
    error: str = ""
    throughput: Throughput = field(factory=Throughput)
    capabilities: Mapping[str, Any] = field(factory=dict)
    learned: float = 0.0
    accounts: dict[str, Account] = field(factory=dict)

    def facts(self, now: Now) -> dict[str, Any]:
        """
        The facts for the journal, without those of the accounts.
        """
        return {
            "failures": self.breaker.failures,
            "until": now.to_wall(self.breaker.until),
            "error": self.error,
            "rate": self.throughput.rate,
            "capabilities": dict(self.capabilities),
            "learned": self.learned,
        }

    def restore(self, facts: Mapping[str, Any], now: Now) -> None:
        """
        Take the facts of an earlier daemon.

        @raise Exception: they are not as L{facts} makes them.
        """
        self.breaker = CircuitBreaker(int(facts["failures"]), now.from_wall(facts["until"]))
        self.error = str(facts["error"])
        if facts["rate"] is not None:
            self.throughput = Throughput(float(facts["rate"]), 1.0, now.clock)
        self.capabilities, self.learned = dict(facts["capabilities"]), float(facts["learned"])
