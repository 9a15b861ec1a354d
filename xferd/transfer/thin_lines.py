# -*- test-case-name: tests.transfer.test_thin_lines -*-
"""
Thin lines: the streams of hosts that starve one another, in the slots of one kind.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import ConnectionFailed, TimedOut, Truncated
from xferd.transfer.host_limits import HostLimits
from xferd.transfer.request_queue import RequestQueue
from xferd.transfer.slow_transfers import SlowHolders
from xferd.transfer.standings import Standings

STARVED: Final = (ConnectionFailed, TimedOut, Truncated)
"""Errors of streams that a peer, or a time limit, closes early."""


class ThinLines:
    """
    Limits the slots of hosts by the fate of their streams: see L{HostStreams
    <xferd.transfer.host_streams.HostStreams>}.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        hosts: HostLimits,
        queue: RequestQueue,
        slow: SlowHolders,
        standings: Standings,
    ) -> None:
        self._clock = clock
        self._hosts = hosts
        self._queue = queue
        self._slow = slow
        self._standings = standings

    def failed(self, host: str, error: Exception, began: float, moved: int) -> None:
        """
        An attempt at a host failed; it still holds its slot.

        @param began: when it began.
        @param moved: the bytes that it moved.
        """
        streams, now = self._hosts.held[host], self._clock.seconds()
        if isinstance(error, STARVED) and self._hosts.streams.failed(host, streams, began, now, moved):
            self._log.warn(
                "{streams} streams are too slow at {host}, which has {most} from now on",
                streams=streams,
                host=host,
                most=self._hosts.most(host),
            )
            self._standings.changed()

    def look(self) -> None:
        """
        Try one more stream where a host may have few, and requests wait for it; give it up
        where it gained nothing.
        """
        streams, now = self._hosts.streams, self._clock.seconds()
        for host in self._queue.hosts if streams else ():
            limit, before = self._hosts.limit_of(host) or self._hosts.limit, streams.most(host)
            if not before:
                continue
            streams.look(host, now, self._hosts.held[host], self._slow.rate(host), limit)
            most = streams.most(host)
            if most != before:
                self._log.info("{host} has {most} streams from now on", host=host, most=most or limit)
