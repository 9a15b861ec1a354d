# -*- test-case-name: tests.web.test_event_response,tests.web.test_archives -*-
"""
Backpressure for a response whose body is written in pieces: it is written no
faster than the client reads, and a client that stops reading is dropped.
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
    The push producer of one response.

    Life cycle: made; C{begin}; C{end}.

    @ivar gone: whether the client has disconnected.
    @ivar paused: whether the transport's buffer is full.
    """

    _log = Logger()

    def __init__(self, request: Request, clock: IReactorTime, *, stall: float, noun: str) -> None:
        """
        @param stall: seconds after which a client that reads nothing is dropped.
        @param noun: what it does not read, for the log.
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
        Register with the transport.
        """
        self._request.registerProducer(self, True)

    def end(self) -> None:
        """
        Unregister: all is written, or the client has left.
        """
        self._attend()
        if not self.gone:
            self._request.unregisterProducer()

    def write(self, data: bytes) -> None:
        """
        Write, unless the client has left.
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
        Abort the connection.  The status line has been sent, so this is the only way
        to report that the body is incomplete.
        """
        cast(ITCPTransport, self._request.transport).abortConnection()

    def pauseProducing(self) -> None:
        """
        Pause: the transport's buffer is full.
        """
        self.paused = True
        if self._stall is None:
            self._stall = self._clock.callLater(self._limit, self._stalled)

    def resumeProducing(self) -> None:
        """
        Resume: the transport's buffer has drained.
        """
        self.paused = False
        self._attend()
        if self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            resumed.callback(None)

    def stopProducing(self) -> None:
        """
        Note that the client has disconnected; the writer is cancelled next.
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
            "dropped {peer}, which read no {noun} for {seconds} s",
            peer=self._request.getClientAddress(),
            noun=self._noun,
            seconds=self._limit,
        )
        self.abort()
