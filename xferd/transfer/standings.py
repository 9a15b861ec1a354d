# -*- test-case-name: tests.transfer.test_standings -*-
"""
Standings: what each request waits for, and calls when that changes.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.transfer.host_limits import HostLimits
from xferd.transfer.lent_slot import LentSlot
from xferd.transfer.reason import NO_REASON, PLACES, Obstacle, Reason
from xferd.transfer.request_queue import RequestQueue
from xferd.transfer.slot_request import SlotRequest, Standing
from xferd.transfer.slow_transfers import SlowHolders

INTERVAL: Final = 1.0
"""Seconds between two calls of C{reason_changed} of one request, at least."""

_QUEUED: Final = tuple(Reason(Obstacle.QUEUE, place) for place in range(PLACES + 2))
"""The reasons of requests in the queue, by place: thousands of them are listed at once."""


class Standings:
    """
    The standings of the requests of some slots, whether they wait or hold one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        hosts: HostLimits,
        queue: RequestQueue,
        lent: LentSlot,
        slow: SlowHolders,
    ) -> None:
        self._clock = clock
        self._hosts = hosts
        self._queue = queue
        self._lent = lent
        self._slow = slow
        self._reporting: IDelayedCall | None = None

    def reason(self, request: SlotRequest) -> Reason:
        """
        What a request waits for, or what slows its holder.
        """
        if not request.waiting:
            return self._reason_held(request)
        obstacle, number = self._standing(request)
        if obstacle is Obstacle.DISK:
            return Reason(obstacle, detail=self._hosts.hold)
        if obstacle in (Obstacle.PAUSE, Obstacle.INTERVAL):
            seconds = self._hosts.before_start(request.host, request.account)
            return Reason(obstacle, ceil(seconds), request.host, self._clock.seconds() + seconds)
        return _QUEUED[number] if obstacle is Obstacle.QUEUE else Reason(obstacle, number, request.host)

    def changed(self) -> None:
        """
        The queue has changed: call C{reason_changed} of those of the first
        L{PLACES} requests whose standing is another one now, within L{INTERVAL}.
        """
        if self._queue:
            if self._reporting is None:
                self._reporting = self._clock.callLater(INTERVAL, self._report)
        elif self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None

    def _report(self) -> None:
        self._reporting = None
        for request in list(self._queue.places()):
            standing = self._standing(request)
            if standing != request.reported:
                request.reported = standing
                request.reason_changed()

    def _standing(self, request: SlotRequest) -> Standing:
        hosts = self._hosts
        if hosts.hold:
            return Obstacle.DISK, 0
        if hosts.paused(request.host, request.account):
            return Obstacle.PAUSE, 0
        if hosts.before_start(request.host, request.account):
            return Obstacle.INTERVAL, 0
        if not hosts.is_open(request.host):
            most = hosts.most(request.host)
            limit = hosts.limit_of(request.host)
            return (Obstacle.HOST_LIMIT if most == limit else Obstacle.THIN_LINE), most
        return Obstacle.QUEUE, self._queue.places().get(request, PLACES + 1)

    def _reason_held(self, request: SlotRequest) -> Reason:
        if request is self._lent.holder:
            return Reason(Obstacle.LENT, self._hosts.limit)
        if request in self._slow.slow and self._queue:
            return Reason(Obstacle.SLOW)
        return NO_REASON
