# -*- test-case-name: tests.registry.transport.test_client_protocol -*-
"""
HTTP/1.1 on one connection: L{twisted.web}'s protocol, with a short way for ordinary
requests and responses.

L{twisted.web} reads each line of a head by itself, pauses the transport before a
body, and writes a request in many pieces, which small blobs pay for.  A response
that arrives whole, in one piece, is read here in one step.  All others are left to
L{twisted.web}: those without a length, those in chunks, those that are malformed,
and the bodies of large blobs.
"""

# twisted.web has no other way to deliver a response.
# ruff: noqa: SLF001

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.tcp import Client
from twisted.python.failure import Failure
from twisted.web._newclient import BadHeaders, HTTP11ClientProtocol, HTTPParser, Request
from twisted.web.http_headers import Headers, _nameEncoder
from twisted.web.iweb import IBodyProducer, IResponse

from xferd.registry.transport.response_head import MAX_LINE

_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_ADDRESS: Final = "_xferd_address"
"""The attribute of a response with the IP address that it came from, if that is known."""

_WITHOUT_BODY: Final = frozenset({204, 304})
_CONTROL: Final = frozenset(HTTPParser.CONNECTION_CONTROL_HEADERS)


def address_of(response: IResponse) -> str | None:
    """
    The IP address that a response came from, or L{None} behind a proxy.
    """
    return getattr(response, _ADDRESS, None)


@frozen
class WholeResponse:
    """
    A response that arrived whole.

    @ivar status: its first line.
    @ivar fields: its header fields, each with a name in lower case and a value.
    @ivar body: its body.
    """

    status: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes


def parse_whole(data: bytes, method: bytes) -> WholeResponse | None:
    """
    Read a response that arrived whole, with nothing behind it.

    @param data: the first bytes of the response.
    @param method: the method of its request.
    @return: L{None} for all responses that are not ordinary, or not whole, which
        includes all that are malformed.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_LINE)
    if end < 0:
        return None
    head = data[:end]
    status, *lines = head.split(b"\r\n")
    match = _STATUS.fullmatch(status)
    # A line feed alone ends a line, too, and a carriage return alone is no character of a value.
    if match is None or not head.count(b"\n") == head.count(b"\r") == len(lines):
        return None
    length: bytes | None = None
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        # What begins with a space continues the line before it.
        if not colon or name[:1] in b" \t":
            return None
        name, value = name.lower(), value.strip()
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            if length is not None or _LENGTH.fullmatch(value) is None:
                return None
            length = value
        fields.append((name, value))
    body = data[end + 4 :]
    expected = 0
    if method != b"HEAD" and int(match[1]) not in _WITHOUT_BODY:
        if length is None:
            return None
        expected = int(length)
    return WholeResponse(status, fields, body) if len(body) == expected else None


class ClientRequest(Request):
    """
    A request whose head is written in one piece.
    """

    def __init__(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers,
        bodyProducer: IBodyProducer | None,
        persistent: bool,
        host: bytes,
    ) -> None:
        """
        @param host: the C{Host} header, unless C{headers} have one.
        """
        super().__init__(method, uri, headers, bodyProducer, persistent)
        self._host = host

    def _writeHeaders(self, transport: ITransport, TEorCL: bytes | None) -> None:
        # The method and the URI were checked when the request was made.
        lines = [b"%b %b HTTP/1.1" % (self.method, self.uri)]
        if not self.persistent:
            lines.append(b"Connection: close")
        if TEorCL is not None:
            lines.append(TEorCL.rstrip(b"\r\n"))
        hosts = len(self.headers.getRawHeaders(b"Host", ()))
        if hosts > 1:
            raise BadHeaders("Exactly one Host header required")
        if not hosts:
            lines.append(b"Host: " + self._host)
        for name, values in self.headers.getAllRawHeaders():
            lines += [b"%b: %b" % (name, value) for value in values]
        lines.append(b"\r\n")
        transport.write(b"\r\n".join(lines))


class ClientProtocol(HTTP11ClientProtocol):
    """
    The protocol of a connection, which notes the IP address of each response.
    """

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], address: str | None) -> None:
        """
        @param quiescent: called with the protocol when it is free for another
            request.
        @param address: the server's address, if it is known.
        """
        super().__init__(quiescent)
        self._address = address
        self._socket: Client | None = None

    def connectionMade(self) -> None:
        """
        Note whether the transport is a plain socket.
        """
        super().connectionMade()
        self._socket = self.transport if isinstance(self.transport, Client) else None

    def request(self, request: Request) -> Deferred[IResponse]:
        """
        See L{HTTP11ClientProtocol.request}.
        """
        asking: Deferred[IResponse] = super().request(request)
        transport = self._socket
        if transport is not None and transport.connected and not transport.disconnecting:
            # Without a turn of the reactor.  What the kernel does not take, and errors, are
            # left to the reactor.
            transport.doWrite()
        return asking if self._address is None else asking.addCallback(self._note)

    def dataReceived(self, data: bytes) -> None:
        """
        Read a whole response at once, or have L{twisted.web} read the bytes.
        """
        parser: Any = self._parser
        begins = parser is not None and not parser._everReceivedData
        whole = parse_whole(data, parser.request.method) if begins else None
        if whole is None:
            super().dataReceived(data)
            return
        try:
            self._receive(parser, whole)
        except BaseException:
            # As twisted.web does with what it cannot read.
            self._giveUp(Failure())

    def _receive(self, parser: Any, whole: WholeResponse) -> None:
        """
        Deliver a response, as the parser does with one that has no body: the
        connection is free for another request before the response is delivered.
        """
        parser._everReceivedData = True
        parser.statusReceived(whole.status)
        # Of Content-Length, the response to a HEAD says nothing about the connection.
        control = _CONTROL - {b"content-length"} if parser.request.method == b"HEAD" else _CONTROL
        for name, value in whole.fields:
            headers = parser.connHeaders if name in control else parser.headers
            headers._rawHeaders.setdefault(_nameEncoder.encode(name), []).append(value)
        response: Any = parser.response
        response.length = len(whole.body)
        if whole.body:
            response._bodyDataReceived(whole.body)
        waiting = parser._responseDeferred
        del parser._responseDeferred
        parser._finished(b"")
        response._bodyDataFinished()
        waiting.callback(response)

    def _note(self, response: IResponse) -> IResponse:
        setattr(response, _ADDRESS, self._address)
        return response
