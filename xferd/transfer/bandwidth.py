# -*- test-case-name: tests.transfer.test_bandwidth -*-
"""
Bandwidth: the bytes per second of all transfers in one direction together.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

BURST: Final = 0.1
"""
Seconds whose bytes may move at once after a pause.  They make up for timers,
all of which are a little late.
"""


class Bandwidth:
    """
    A token bucket whose rate may change at any time.

    Bytes are counted when they have moved; the transfer then waits until they
    are paid for.  The waiting transfers are served in the order of their
    arrival, each for one piece at a time, so that all get the same share.
    """

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        """
        @param rate: bytes per second; 0 for no limit.
        """
        self._rate = rate
        self._clock = clock
        self._taken = 0
        self._paid = 0.0
        self._counted = clock.seconds()
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self._waking: IDelayedCall | None = None
        self._held = float("-inf")

    @property
    def binding(self) -> bool:
        """
        Whether a transfer waits, or waited within the last second.
        """
        return bool(self._rate and (self._waiting or self._clock.seconds() - self._held <= 1.0))

    @property
    def rate(self) -> int:
        """
        Bytes per second; 0 for no limit.  A change takes effect at once, also
        for the transfers that wait.
        """
        return self._rate

    @rate.setter
    def rate(self, rate: int) -> None:
        if rate < 0:
            raise ValueError(f"nothing moves at {rate} bytes a second")
        self._pay()
        self._rate = rate
        self._wake_later()

    def take(self, size: int) -> Deferred[None] | None:
        """
        Count bytes that have moved.

        @return: L{None} if more may move at once; else fires, from a clean turn,
            when they may.  Cancelling ends the wait; the bytes stay counted.
        """
        if not self._rate:
            return None
        self._pay()
        self._taken += size
        if self._paid >= self._taken and not self._waiting:
            return None
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting.append((self._taken, waiting))
        self._wake_later()
        return waiting

    def _pay(self) -> None:
        """
        Add the bytes that the time since the last call has paid for.
        """
        now = self._clock.seconds()
        paid = self._paid + (now - self._counted) * self._rate
        self._paid = min(paid, self._taken + self._rate * BURST) if self._rate else float(self._taken)
        self._counted = now

    def _wake_later(self) -> None:
        """
        Wake the first waiter when its bytes are paid for.
        """
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        if self._waiting:
            missing = self._waiting[0][0] - self._paid
            seconds = missing / self._rate if self._rate else 0.0
            self._waking = self._clock.callLater(max(0.0, seconds), self._wake)

    def _wake(self) -> None:
        """
        Wake all waiters whose bytes are paid for.
        """
        self._waking = None
        self._pay()
        self._held = self._clock.seconds()
        ready = []
        # Sums of floats may lack half a byte.
        while self._waiting and (not self._rate or self._waiting[0][0] <= self._paid + 0.5):
            ready.append(self._waiting.popleft()[1])
        self._wake_later()
        for waiting in ready:
            if not waiting.called:
                waiting.callback(None)

    def _forget(self, waiting: Deferred[None]) -> None:
        """
        Remove a cancelled waiter.
        """
        left = deque(item for item in self._waiting if item[1] is not waiting)
        if len(left) < len(self._waiting):
            self._waiting = left
            self._wake_later()
