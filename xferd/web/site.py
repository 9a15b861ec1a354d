# -*- test-case-name: tests.web.test_site -*-
"""
The HTTP server below the routes: twisted.web's, with limits on bodies and on
the time in which a request has to arrive.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, AnyStr, Final, cast

from attrs import evolve
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HTTPRequest
from twisted.web.server import Request, Site

from xferd.web.archive_request import is_piece
from xferd.web.audit import AuditTrail, Route
from xferd.web.client_limits import UNKNOWN_USER, Client, ClientLimits, Kind, client_of
from xferd.web.peer_trust import Trust, trusts, user_of
from xferd.web.responses import error_json, respond
from xferd.web.security_headers import SECURITY_LINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
    from twisted.python.failure import Failure
    from twisted.web.http_headers import Headers
    from twisted.web.resource import IResource

MAX_BODY: Final = 16 * 1024
"""The largest body of a request, in bytes, where nothing else is said."""

LINGER: Final = 1024 * 1024
"""
How many bytes of a refused body are dropped before the connection is cut.  A
client that is cut off in the middle of sending may never read the answer.
"""


ARRIVAL: Final = 300.0
"""
Seconds from the first byte of a request to its last.  The idle timeout alone
would let a client send one byte a minute.
"""


FIRST: Final = 10.0
"""Seconds in which the head of a connection's first request must arrive."""

QUIET: Final = 60.0
"""Seconds between two warnings of connections that are refused."""


class BoundedChannel(HTTPChannel):
    """
    A connection, closed at once if its client has too many, or if a request
    takes too long to arrive.

    @ivar trusted: whether the client may act because of its connection.
    @ivar uid: the user of the connection, where that counts and is known.
    @ivar client: the client of the connection.
    """

    uid: int | None = None
    trusted = False
    client: Client
    _admitted = False
    _first: IDelayedCall | None = None
    _arrival: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        Count the connection for its client.
        """
        site = cast("WebSite", self.factory)
        if site.trust is Trust.OWNER:
            self.uid = user_of(self.transport)
        self.trusted = trusts(site.trust, self.uid)
        self.client = client_of(self.transport, self.trusted, self.uid)
        self._admitted = site.admit(self.client)
        if self._admitted:
            self._first = self.callLater(FIRST, self._late_first)
            super().connectionMade()
        else:
            cast("ITCPTransport", self.transport).abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """
        Start the clock with the first byte of a request.
        """
        if self._arrival is None and not self._handlingRequest:
            self._arrival = self.callLater(ARRIVAL, self._late)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """
        Stop the clock of the first request: its head is here.
        """
        self._stop_first()
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """
        Stop the clock: the request is whole.
        """
        self._stop_clock()
        super().allContentReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """
        Write the head of a response, with the security headers: at once, as twisted.web
        passes each part of each header to the transport.

        They keep a browser from running a response as a page, which could then act by the
        trust in its connection: an upstream or a client chooses the type of a manifest.
        """
        lines = [
            b"%s: %s\r\n" % (name, value)
            for name, values in headers.getAllRawHeaders()
            if name != b"Server"
            for value in values
        ]
        self.write(b"%s %s %s\r\n%s%s\r\n" % (version, code, reason, SECURITY_LINES, b"".join(lines)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Stop the clocks.
        """
        if self._admitted:
            self._admitted = False
            cast("WebSite", self.factory).places.leave(self.client)
        self._stop_first()
        self._stop_clock()
        super().connectionLost(reason)

    def _late(self) -> None:
        self._arrival = None
        self.timeoutConnection()

    def _late_first(self) -> None:
        self._first = None
        self.setTimeout(None)
        self.timeoutConnection()

    def _stop_first(self) -> None:
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def _stop_clock(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None


class BoundedRequest(Request):
    """
    A request whose body is refused if it is too large: by its announced length,
    before it is read, or else as soon as it exceeds the limit.

    The site chooses the limit by the headers: a request does not know its path
    before its body is here.
    """

    _lines: dict[bytes, bytes] | None = None
    _most = MAX_BODY
    _received = 0
    _refused = False

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """
        The last value of a header.  A dozen are looked for in each request.
        """
        if not isinstance(key, bytes):
            return super().getHeader(key)
        if self._lines is None:
            headers = self.requestHeaders.getAllRawHeaders()
            self._lines = {name.lower(): values[-1] for name, values in headers}
        return self._lines.get(key.lower())

    def gotLength(self, length: int | None) -> None:
        """
        Check the announced length; L{None} if there is none.
        """
        self.content = self._body = BytesIO()
        self._most = cast("WebSite", self.channel.site).largest(self)  # type: ignore[attr-defined]
        if length is not None and length > self._most:
            self.refuse(self.refusal(self._most))

    def handleContentChunk(self, data: bytes) -> None:
        """
        Keep a piece of the body, or drop it.
        """
        self._received += len(data)
        if not self._refused and self._received > self._most:
            self.refuse(self.refusal(self._most))
        if not self._refused:
            self._body.write(data)
        elif self._received > LINGER:
            self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """
        Route a complete request, unless it was refused.
        """
        if self._refused:
            self.channel.loseConnection()
        else:
            super().requestReceived(command, path, version)

    def process(self) -> None:
        """
        Find the resource.  twisted.web would answer C{OPTIONS *} itself
        (RFC 9110, section 9.3.7), before the guard has read C{Host}.
        """
        if self.path == b"*":
            self.path = b"/*"
        super().process()

    def getRequestHostname(self) -> bytes:
        """
        The routes are the same under every name; the guard has read C{Host}.
        """
        return b"localhost"

    def refusal(self, most: int) -> bytes:
        """
        Set the status and the headers of the answer to a body that is too large.

        @param most: the limit in bytes.
        @return: the body of the answer.
        """
        message = f"a body of more than {most} bytes is refused"
        return respond(self, error_json("REQUEST_ENTITY_TOO_LARGE", message), 413)

    def refuse(self, body: bytes) -> None:
        """
        Respond while the client still sends; the router never sees the request.

        @param body: the body of the answer; its status and headers are set.
        """
        self._refused = True
        self._received = 0
        # Else the channel would invite the client to go on.
        self.requestHeaders.removeHeader(b"expect")
        self.setHeader(b"connection", b"close")
        status, reason = b"%d" % self.code, self.code_message
        self.channel.writeHeaders(b"HTTP/1.1", status, reason, self.responseHeaders)
        self.channel.write(body)


class WebSite(Site):
    """
    The factory of HTTP connections.

    @ivar places: for the connections that are open.
    """

    protocol = BoundedChannel  # type: ignore[assignment]
    requestFactory = BoundedRequest
    is_registry = False
    _log = Logger()
    _quiet_until = 0.0

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        largest: Callable[[HTTPRequest], int] = lambda _: MAX_BODY,
        *,
        places: ClientLimits,
        trust: Trust = Trust.NONE,
        route: Route = lambda _: ("", {}),
    ) -> None:
        """
        @param clock: measures how long a connection may be idle.
        @param largest: how many bytes a request with these headers may have
            for its body.
        @param places: for connections, of this listener and others.
        @param trust: which clients may act because of their connection.
        @param route: names the operations of requests, for the audit trail.
        """
        self.places = places
        self.trust = trust
        self._clock = clock
        self._audit = AuditTrail(clock, route, registry=self.is_registry)
        super().__init__(root, reactor=clock, parsePOSTFormSubmission=False)
        self.largest = largest

    def acceptableProtocols(self) -> list[bytes]:
        """
        The protocols that TLS may negotiate.  Twisted also offers HTTP/2 where its packages
        are installed, which the channel here does not speak.
        """
        return [b"http/1.1"]

    def admit(self, client: Client) -> bool:
        """
        Count a new connection, if the limits of its client allow it.
        """
        if self.places.enter(client):
            return True
        now = self._clock.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            self._log.warn(
                "{count} connections are open, and one more of {name} ({kind}) is refused",
                count=self.places.taken,
                name=client.name,
                kind=client.kind.value,
            )
        return False

    def log(self, request: HTTPRequest) -> None:
        """
        Write the line of a request that changed something, or was refused, in the audit
        trail.

        Requests that only read, and the pieces of an archive, are too many; twistd writes
        every line whatever its level.
        """
        reads = request.method in (b"GET", b"HEAD") and request.code != 303
        if request.code >= 400 or not (reads or is_piece(request)):
            self._audit.write(request, cast("BoundedChannel", request.channel).client)


def admitted(request: HTTPRequest) -> Client:
    """
    The client of a request that was admitted: over TCP that is a trusted client,
    or one with a token.
    """
    client = cast("BoundedChannel", request.channel).client
    return evolve(client, kind=Kind.TRUSTED) if client.kind is Kind.STRANGER else client


def owner_of(request: HTTPRequest) -> str:
    """
    The user or the machine to which the jobs of a request belong; empty where the
    connection does not show it.
    """
    name = admitted(request).name
    return "" if name == UNKNOWN_USER else name
