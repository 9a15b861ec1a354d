# -*- test-case-name: tests.testing.test_simulated_time -*-
"""
The time of several hosts in one simulation.

It jumps from one delayed call to the next, and its calls belong to hosts, which can be
stopped, as by SIGSTOP, and continued.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer


def _ignore(_: DelayedCall) -> None:
    """
    A cancelled call stays in the queue.
    """


class SimulatedTime:
    """
    The time of all hosts.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._numbers = count()
        self._queue: list[tuple[float, int, str, DelayedCall]] = []
        self._held: dict[str, list[DelayedCall]] = {}

    def seconds(self) -> float:
        """
        Seconds since the simulation began.
        """
        return self._now

    def host(self, name: str) -> HostTime:
        """
        The time of a host.
        """
        return HostTime(self, name)

    def stop(self, name: str) -> None:
        """
        Stop a host: its calls wait until L{resume}.
        """
        self._held.setdefault(name, [])

    def resume(self, name: str) -> None:
        """
        Continue a host: its overdue calls are next, in their order.
        """
        for call in self._held.pop(name, []):
            if not call.cancelled:
                call.time = self._now
                self._push(name, call)

    def pending(self, name: str) -> list[DelayedCall]:
        """
        The delayed calls of a host that is not stopped.
        """
        return [call for _, _, host, call in self._queue if host == name and call.active()]

    def advance(self, seconds: float) -> None:
        """
        Make all calls that are due within some seconds, in the order of their times.
        """
        until = self._now + seconds
        while self._queue and self._queue[0][0] <= until:
            time, _, host, call = heappop(self._queue)
            if call.cancelled or call.called or time != call.time:
                continue
            if call.delayed_time > 0:
                call.activate_delay()
                self._push(host, call)
                continue
            self._now = max(self._now, time)
            if host in self._held:
                self._held[host].append(call)
                continue
            call.called = 1
            call.func(*call.args, **call.kw)
        self._now = until

    def later(
        self, name: str, delay: float, function: Callable[..., object], args: Any, kwargs: Any
    ) -> DelayedCall:
        """
        Make a call of a host later.
        """
        if delay < 0:
            raise ValueError(f"a call cannot be {-delay:g} s ago")

        call = DelayedCall(
            self._now + delay,
            function,
            args,
            kwargs,
            _ignore,
            partial(self._push, name),
            seconds=self.seconds,
        )
        self._push(name, call)
        return call

    def _push(self, name: str, call: DelayedCall) -> None:
        heappush(self._queue, (call.time, next(self._numbers), name, call))


@implementer(IReactorTime)
class HostTime:
    """
    The time of one host.
    """

    def __init__(self, time: SimulatedTime, name: str) -> None:
        self._time = time
        self._name = name

    def seconds(self) -> float:
        return self._time._now  # noqa: SLF001 - called at every step

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - as IReactorTime names it
        *args: Any,
        **kw: Any,
    ) -> DelayedCall:
        return self._time.later(self._name, delay, callable, args, kw)

    def getDelayedCalls(self) -> list[DelayedCall]:
        return self._time.pending(self._name)
