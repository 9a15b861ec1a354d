# -*- test-case-name: tests.v2.test_streamed -*-
"""
The HTTP server of the registry: bodies of uploads are passed on as they arrive.

twisted.web routes a request after its body is here, in memory or in a temporary
file.  Here the site decides by the headers whether a body is accepted, before it is
read, and what receives it; the request is routed after its last byte, as any other.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest

from xferd.v2.responses import respond_errors, respond_failure
from xferd.web.site import ARRIVAL, LINGER, BoundedChannel, BoundedRequest, WebSite

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IPushProducer, IReactorTime
    from twisted.web.resource import IResource

    from xferd.web.audit import Route
    from xferd.web.client_limits import ClientLimits
    from xferd.web.peer_trust import Trust

LEAST: Final = 64 * 1024
"""The bytes of a streamed body that must arrive within L{ARRIVAL} seconds."""

FLEET_BLOBS: Final = b"/v2/_xferd/blobs/"
"""The beginning of the paths of blobs for other nodes."""

_HANDSHAKE: Final = b"\x16\x03"
"""The first bytes of a TLS handshake (RFC 8446, section 5.1)."""

UNBOUNDED: Final = 1 << 63
"""The limit, in bytes, of a body that is streamed: disk space ends it."""


class Receiver(Protocol):
    """
    What receives the body of a request.
    """

    def write(self, data: bytes) -> None:
        """
        Receive some bytes, synchronously.

        @raise XferdError: they cannot be kept; the request is refused.
        """

    def release(self) -> None:
        """
        The request is over, or its connection is lost.  Idempotent.
        """


class StreamingChannel(BoundedChannel):
    """
    A connection whose requests know their path when their headers are here, and
    that can hold a body back.
    """

    _held = False
    _idle: float | None = None
    _progress = 0

    def dataReceived(self, data: bytes) -> None:
        """
        Refuse TLS at once, so that a client that tries it first goes on to plain
        HTTP: its first message has no end of a line.
        """
        if self._first is not None and data.startswith(_HANDSHAKE):
            self.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.loseConnection()
            return
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """
        Show the path to the request.
        """
        request = self.requests[-1]
        request.method, request.uri = self._command, self._path
        request.path = request.uri.partition(b"?")[0]
        self._progress = 0
        super().allHeadersReceived()

    def hold(self) -> None:
        """
        Read nothing further from the client, and expect nothing of it.
        """
        self._held = True
        self._idle = self.setTimeout(None)
        cast("IPushProducer", self.transport).pauseProducing()

    def resume(self) -> None:
        """
        Read again.
        """
        if self._held:
            self._held = False
            if self._handlingRequest:
                # The timeout is for the next request.
                self._savedTimeOut = self._idle
            else:
                self.setTimeout(self._idle)
            cast("IPushProducer", self.transport).resumeProducing()

    def resumeProducing(self) -> None:
        """
        The client has read our output.  That alone resumes no body.
        """
        super().resumeProducing()
        if self._held:
            cast("IPushProducer", self.transport).pauseProducing()

    def progressed(self, size: int) -> None:
        """
        Count bytes of a streamed body.
        """
        self._progress += size

    def _late(self) -> None:
        """
        A streamed body may take longer than others, while it makes progress.
        """
        if self._held or self._progress >= LEAST:
            self._progress = 0
            self._arrival = self.callLater(ARRIVAL, self._late)
        else:
            super()._late()


class StreamingRequest(BoundedRequest):
    """
    A request whose body the site accepts or refuses by the headers.

    States: I{held}, until the site has decided; I{receiving}; I{dropping}, after an
    error: the rest of a short body is read, and the route reports the error, but a
    long one is refused at once; I{routed}, when the body and the decision are here;
    I{over}.
    """

    _receiver: Receiver | None = None
    _error: Failure | None = None
    _decision: Deferred[Receiver] | None = None
    _whole: tuple[bytes, bytes, bytes] | None = None
    _over = False
    _invited = False
    _remaining = 0

    def accepted(self) -> Receiver:
        """
        What received the body, for the route.

        @raise Exception: why the body was refused.
        """
        if self._error is not None:
            self._error.raiseException()
        assert self._receiver is not None, "the site decides about the bodies of this route"
        return self._receiver

    def gotLength(self, length: int | None) -> None:
        """
        Let the site decide about the body; L{None} is an unknown length.
        """
        decision = cast("RegistrySite", cast("StreamingChannel", self.channel).factory).admit_body(self)
        if decision is None:
            super().gotLength(length)
            return
        self.content = BytesIO()
        self._remaining = UNBOUNDED if length is None else length
        self._early: list[bytes] = []
        self._decision = decision
        self._invited = self.requestHeaders.hasHeader(b"expect")
        self.requestHeaders.removeHeader(b"expect")
        cast("StreamingChannel", self.channel).hold()
        _ = self.notifyFinish().addBoth(self._end)
        _ = decision.addCallbacks(self._accept, self._deny)

    def handleContentChunk(self, data: bytes) -> None:
        """
        Pass a piece of the body on.
        """
        self._remaining -= len(data)
        if self._decision is not None:
            self._early.append(data)
        elif self._receiver is not None or (self._error is not None and not self._refused):
            self._receive(data)
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        Route the request when the site has decided.
        """
        if self._decision is not None:
            self._whole = command, path, version
        else:
            super().requestReceived(command, path, version)

    def refusal(self, most: int) -> bytes:
        """
        See L{BoundedRequest.refusal}.
        """
        return respond_errors(self, 413, "SIZE_INVALID", f"a body of more than {most} bytes is refused")

    def _accept(self, receiver: Receiver) -> None:
        """
        The site has decided: read the body.
        """
        self._decision = None
        if self._over:
            receiver.release()
            return
        self._receiver = receiver
        early, self._early = self._early, []
        for data in early:
            self._receive(data)
        if self._refused:
            return
        if self._invited and self._whole is None and self._error is None:
            self._invited = False
            self.channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._go_on()

    def _deny(self, reason: Failure) -> None:
        """
        The site refuses the body.
        """
        self._decision = None
        self._early = []
        if not self._over:
            self._break(reason)
            if not self._refused:
                self._go_on()

    def _receive(self, data: bytes) -> None:
        cast("StreamingChannel", self.channel).progressed(len(data))
        if self._receiver is not None and self._error is None:
            try:
                self._receiver.write(data)
            except Exception:
                self._break(Failure())

    def _break(self, reason: Failure) -> None:
        """
        Drop the rest of the body; a long one is not read.
        """
        self._error = reason
        self._release()
        # A client that waits for an invitation sends nothing without one.
        if self._whole is None and (self._remaining > LINGER or self._invited):
            self.refuse(respond_failure(self, reason))
            cast("StreamingChannel", self.channel).resume()

    def _go_on(self) -> None:
        """
        Read further, and route a request that is whole.
        """
        cast("StreamingChannel", self.channel).resume()
        if self._whole is not None:
            super().requestReceived(*self._whole)

    def _end(self, _: object) -> None:
        """
        The request is over, or its connection is lost.
        """
        self._over = True
        if self._decision is not None:
            self._decision.cancel()
        self._release()

    def _release(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.release()


class RegistrySite(WebSite):
    """
    The factory of connections to the registry.
    """

    protocol = StreamingChannel
    requestFactory = StreamingRequest
    is_registry = True

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        *,
        admit_body: Callable[[StreamingRequest], Deferred[Receiver] | None],
        places: ClientLimits,
        trust: Trust,
        route: Route,
    ) -> None:
        """
        @param admit_body: decides by the headers about the body of a request; L{None}
            leaves the decision to its route, with at most
            L{xferd.web.site.MAX_BODY} bytes.
        @param route: see L{WebSite}.
        """
        super().__init__(root, clock, places=places, trust=trust, route=route)
        self.admit_body = admit_body

    def log(self, request: HTTPRequest) -> None:
        """
        Write one line for a request that changed something, or was refused, but not
        for pieces of an upload, for reads of missing content or ranges, for a challenge to
        log in, and for peers that fetch blobs.
        """
        reads = request.method in (b"GET", b"HEAD") and request.code in (404, 416)
        challenge = request.code == 401 and not request.requestHeaders.hasHeader(b"authorization")
        piece = b"/blobs/uploads/" in request.path and request.code < 400
        peer = request.path.startswith(FLEET_BLOBS) and request.code < 400
        if not (reads or challenge or piece or peer):
            super().log(request)


def accepted(request: HTTPRequest) -> Receiver:
    """
    What received the body of a request: see L{StreamingRequest.accepted}.
    """
    return cast("StreamingRequest", request).accepted()
