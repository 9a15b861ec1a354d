# -*- test-case-name: tests.registry.transport.test_response_body -*-
"""
Bodies of responses: delivered as they arrive, with limits on silence and rate,
and dropped when they are not needed.

A body is dropped by C{transport.stopProducing()}.  C{loseConnection()} over TLS
waits for the peer, which first sends the whole body, or for ever while paused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from xferd.errors import RegistryError, TimedOut, Truncated
from xferd.interfaces.registry import IBlobBody
from xferd.registry.transport.errors import body_error, header
from xferd.registry.transport.timeouts import Timeouts, within
from xferd.registry.transport.watchdog import Watchdog

EXCERPT = 16 * 1024
"""Bytes of the body of an error or a redirect that are read at most, in order to
reuse its connection."""


def length_of(response: IResponse) -> int | None:
    """
    The length of a body in bytes by its framing, or L{None} if that has none.
    """
    return None if response.length is UNKNOWN_LENGTH else int(response.length)


def promised_length(headers: Headers) -> int | None:
    """
    The C{Content-Length} in the response to a HEAD request, which has no body, or
    L{None} where it has none.
    """
    text = header(headers, "Content-Length").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


class _Drop(Protocol):
    """
    Drops a body.
    """

    def connectionMade(self) -> None:
        cast(IPushProducer, self.transport).stopProducing()


def discard(response: IResponse) -> None:
    """
    Drop a response whose body is not needed, with its connection.
    """
    response.deliverBody(_Drop())


class _Pump(Protocol):
    """
    Passes each piece of one body to a sink.

    States: made; connected; watched, when its watchdog runs; over, when later pieces
    are ignored.

    @ivar finished: fires after the last piece.
    """

    def __init__(
        self,
        sink: Callable[[bytes], Deferred[None] | None],
        *,
        host: str,
        expected: int | None,
        clock: IReactorTime,
        timeouts: Timeouts,
    ) -> None:
        self._sink = sink
        self._holds: set[Deferred[None]] = set()
        self._host = host
        self._expected = expected
        self._received = 0
        self._watchdog = Watchdog(self._fail, host=host, verb="sent", clock=clock, timeouts=timeouts)
        self._watched = False
        self._over = False
        self.finished: Deferred[None] = Deferred(lambda _: self._drop())

    def watch(self) -> None:
        """
        Start the watchdog, unless all of the body was here already.
        """
        if not self._over:
            self._watched = True
            self._watchdog.start()
            if not self._holds:
                self._watchdog.arm()

    def dataReceived(self, data: bytes) -> None:
        """
        Pass a piece to the sink.
        """
        if self._over:
            return
        self._received += len(data)
        if self._expected is not None and self._received > self._expected:
            self._fail(
                RegistryError(
                    f"{self._host} sent more than the {self._expected} bytes it promised", host=self._host
                )
            )
            return
        self._watchdog.count(len(data))
        if self._watched and not self._holds:
            self._watchdog.arm()
        try:
            hold = self._sink(data)
        except Exception as e:
            self._fail(e)
        else:
            if hold is not None and not self._over:
                self._hold(hold)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Report the end of the body, and whether it is complete.
        """
        if self._over:
            return
        self._stop_watching()
        if not reason.check(ResponseDone, PotentialDataLoss):
            error = body_error(reason.value, self._host, self._received, self._expected)
            self.finished.errback(Failure(error))
        elif self._expected is not None and self._received < self._expected:
            self.finished.errback(
                Failure(
                    Truncated(
                        f"{self._host} ended a body after {self._received} of {self._expected} bytes",
                        host=self._host,
                    )
                )
            )
        else:
            self.finished.callback(None)

    def _hold(self, hold: Deferred[None]) -> None:
        """
        Pause the body until C{hold} fires.
        """
        if not self._holds:
            self._watchdog.disarm()
            self._watchdog.suspend()
            cast(IPushProducer, self.transport).pauseProducing()
        self._holds.add(hold)
        _ = hold.addCallbacks(lambda _: self._release(hold), lambda _: None)

    def _release(self, hold: Deferred[None]) -> None:
        """
        Resume the body, unless another hold remains.
        """
        self._holds.discard(hold)
        if self._over or self._holds:
            return
        self._watchdog.resume()
        if self._watched:
            self._watchdog.arm()
        cast(IPushProducer, self.transport).resumeProducing()

    def _fail(self, error: Exception) -> None:
        if self._over:
            # The sink ended the body, and raised as well.
            return
        self._drop()
        self.finished.errback(Failure(error))

    def _drop(self) -> None:
        self._stop_watching()
        cast(IPushProducer, self.transport).stopProducing()

    def _stop_watching(self) -> None:
        self._over = True
        self._watchdog.stop()
        holds, self._holds = self._holds, set()
        for hold in holds:
            hold.cancel()


def pump(
    response: IResponse,
    sink: Callable[[bytes], Deferred[None] | None],
    *,
    host: str,
    expected: int | None,
    clock: IReactorTime,
    timeouts: Timeouts,
) -> Deferred[None]:
    """
    Pass a body to C{sink}, piece by piece, with the contract of
    L{IBlobBody.deliver}.

    @param expected: the length in bytes that the body must have, if it is known.
    """
    protocol = _Pump(sink, host=host, expected=expected, clock=clock, timeouts=timeouts)
    response.deliverBody(protocol)
    protocol.watch()
    return protocol.finished


async def read_whole(
    response: IResponse,
    limit: int,
    too_long: Callable[[], Exception],
    *,
    host: str,
    clock: IReactorTime,
    timeouts: Timeouts,
) -> bytes:
    """
    Read a small body into memory.

    @param limit: bytes at most; one more ends the body at once.
    @param too_long: makes the error for that.
    """
    length = length_of(response)
    if length is not None and length > limit:
        discard(response)
        raise too_long()
    data = bytearray()

    def collect(piece: bytes) -> None:
        if len(data) + len(piece) > limit:
            raise too_long()
        data.extend(piece)

    await pump(response, collect, host=host, expected=length, clock=clock, timeouts=timeouts)
    return bytes(data)


async def read_excerpt(response: IResponse, *, host: str, clock: IReactorTime, timeouts: Timeouts) -> bytes:
    """
    Read the body of an error or a redirect, if it is small and arrives soon: it
    may have an error message, and its connection can be reused.  Otherwise drop
    it.

    @return: the body, or no bytes.
    """
    if length_of(response) == 0:
        # Its connection is in the pool again already.
        return b""
    reading = Deferred.fromCoroutine(
        read_whole(
            response,
            EXCERPT,
            lambda: RegistryError("an error response without an end", host=host),
            host=host,
            clock=clock,
            timeouts=timeouts,
        )
    )
    try:
        return await within(
            clock,
            timeouts.excerpt,
            reading,
            lambda: TimedOut("an error response without an end", phase="silence", host=host),
        )
    except CancelledError:
        raise
    except Exception:
        # The status alone is reported.
        return b""


@implementer(IBlobBody)
class BlobBody:
    """
    The body of one response to a GET of a blob.

    States: opened, with the transport paused; then delivered or abandoned.
    """

    def __init__(
        self,
        response: IResponse,
        start: int,
        total: int | None,
        *,
        length: int | None = None,
        host: str,
        clock: IReactorTime,
        timeouts: Timeouts,
    ) -> None:
        """
        @param length: the length in bytes, if it does not reach up to C{total}.
        """
        self._response = response
        self.start = start
        self.total = total
        self._length = length
        self._host = host
        self._clock = clock
        self._timeouts = timeouts
        self._taken = False
        self._delivery: Deferred[None] | None = None

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        if self._taken:
            raise RuntimeError("a body is delivered once")
        self._taken = True
        expected = length_of(self._response)
        if expected is None:
            expected = self._length
        if expected is None and self.total is not None:
            expected = self.total - self.start
        self._delivery = pump(
            self._response,
            sink,
            host=self._host,
            expected=expected,
            clock=self._clock,
            timeouts=self._timeouts,
        )
        return self._delivery

    def abandon(self) -> None:
        if self._delivery is not None:
            self._delivery.cancel()
        elif not self._taken:
            self._taken = True
            discard(self._response)
