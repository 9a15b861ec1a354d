# -*- test-case-name: tests.web.test_event_response,tests.web.test_archives -*-
"""
The pace of a response's body that is written bit by bit: no faster than the
client reads, and not for ever where it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.server import Request


@implementer(IPushProducer)
class Backpressure:
    """
    What the transport of one response says of its client.

    Life cycle: made; C{begin}; C{end}.

    @ivar gone: whether the client has gone.
    @ivar paused: whether it does not keep up.
    """

    _log = Logger()

    def __init__(self, request: Request, clock: IReactorTime, *, stall: float, noun: str) -> None:
        """
        @param stall: seconds after which a client that takes nothing is
            dropped.
        @param noun: what it takes nothing of, for the log.
        """
        self._request = request
        self._clock = clock
        self._limit = stall
        self._noun = noun
        self.gone = False
        self.paused = False
        self._resumed: Deferred[None] | None = None
        self._stall: IDelayedCall | None = None

    def begin(self) -> None:
        """
        Listen to the transport.
        """
        self._request.registerProducer(self, True)

    def end(self) -> None:
        """
        Listen no more; all is written, or the client has gone.
        """
        self._attend()
        if not self.gone:
            self._request.unregisterProducer()

    def write(self, data: bytes) -> None:
        """
        Write to a client that is still there.
        """
        if not self.gone:
            self._request.write(data)

    async def writable(self) -> None:
        """
        Wait until the transport can take more.
        """
        if self.paused:
            self._resumed = Deferred(self._forget)
            await self._resumed

    def abort(self) -> None:
        """
        Cut the connection: the status line has gone out, and this is the only
        way left to say that something is missing.
        """
        cast(ITCPTransport, self._request.transport).abortConnection()

    def pauseProducing(self) -> None:
        """
        The client does not keep up.
        """
        self.paused = True
        if self._stall is None:
            self._stall = self._clock.callLater(self._limit, self._stalled)

    def resumeProducing(self) -> None:
        """
        The client can take more.
        """
        self.paused = False
        self._attend()
        if self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            resumed.callback(None)

    def stopProducing(self) -> None:
        """
        The client has gone; the cancellation of who writes follows.
        """
        self.gone = True

    def _attend(self) -> None:
        stall, self._stall = self._stall, None
        if stall is not None:
            stall.cancel()

    def _forget(self, _: Deferred[None]) -> None:
        self._resumed = None

    def _stalled(self) -> None:
        """
        Drop a client that reads nothing.
        """
        self._stall = None
        self._log.warn(
            "dropped {peer}, who read no {noun} for {seconds} s",
            peer=self._request.getClientAddress(),
            noun=self._noun,
            seconds=self._limit,
        )
        self.abort()
