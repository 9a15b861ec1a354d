# -*- test-case-name: tests.testing.test_answers -*-
"""
The answers of a server for tests, and their delivery: complete, or with a fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import BytesIO
from typing import BinaryIO, Final, cast

from attrs import Factory, define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.web.server import Request
from zope.interface import implementer

from xferd.testing.layers import Blob

BEFORE_HEADERS: Final = -1
"""In place of a number of body bytes: not even the headers go out."""

_PIECE = 64 * 1024
_TICK = 0.05
"""Seconds between two pieces of an answer with a rate."""

_FLUSH = 0.05
"""Seconds that the kernel gets to send what was written before a reset."""


@frozen
class Answer:
    """
    One answer.

    @ivar status: the HTTP status.
    @ivar headers: header values by name; Content-Length is added.
    @ivar body: the bytes, or the blob that has them.
    @ivar start: the first byte of C{body} to send.
    @ivar stop: the byte behind the last, or L{None} for the end of C{body}.
    @ivar drop_after: how many bytes to send before the connection is closed,
        or L{BEFORE_HEADERS}.
    @ivar reset: whether it is closed by RST instead of FIN.
    @ivar stall_after: how many bytes to send before silence, or
        L{BEFORE_HEADERS}.
    @ivar flip_at: the byte of C{body} to corrupt.
    @ivar rate: bytes a second.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | Blob = b""
    start: int = 0
    stop: int | None = None
    drop_after: int | None = None
    reset: bool = False
    stall_after: int | None = None
    flip_at: int | None = None
    rate: float | None = None

    @property
    def total(self) -> int:
        """
        The bytes of the whole body.
        """
        return len(self.body) if isinstance(self.body, bytes) else self.body.descriptor.size

    @property
    def length(self) -> int:
        """
        The value of Content-Length.
        """
        return (self.total if self.stop is None else self.stop) - self.start

    def open(self) -> BinaryIO:
        """
        Open the body at its first byte to send.
        """
        opened = BytesIO(self.body) if isinstance(self.body, bytes) else self.body.open()
        opened.seek(self.start)
        return opened


class Problem(Exception):
    """
    A request cannot be served.

    @ivar answer: the answer to send.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def problem(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, detail: object = None
) -> Problem:
    """
    An error answer (OCI distribution-spec, "Error Codes").
    """
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()
    return Problem(Answer(status, {"Content-Type": "application/json", **(headers or {})}, body))


def as_json(value: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Answer:
    """
    An answer in JSON.
    """
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """
    Read a Range header (RFC 9110, 14.1.2).

    @param size: the bytes of the content.
    @return: the first byte, and the one behind the last; or L{None} for a header
        that may be ignored: another unit, several ranges, invalid syntax.
    @raise Problem: the range is outside of the content: 416.
    """
    matched = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", header.strip())
    if matched is None or matched.group(0) == "bytes=-":
        return None
    first, last = matched.groups()
    if first == "":
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= stop:
        told = {"Content-Range": f"bytes */{size}"}
        raise problem(416, "RANGE_INVALID", f"{header} of {size} bytes", told)
    return start, stop


@define(eq=False)
class Exchange:
    """
    One request, and the progress of its answer.

    @ivar method: the request's method.
    @ivar path: its path, without the query.
    @ivar range: its Range header, or L{None}.
    @ivar authorization: its Authorization header, or L{None}.
    @ivar traceparent: its C{traceparent} header, or L{None}.
    @ivar status: the answer's status, or L{None} before there is one.
    @ivar bytes_sent: the bytes of the body that were sent.
    @ivar bytes_received: the received bytes of the request's body.
    @ivar state: C{open}, C{done} or C{broken}.
    """

    method: str
    path: str
    range: str | None = None
    authorization: str | None = field(default=None, repr=False)
    status: int | None = None
    bytes_sent: int = 0
    state: str = "open"
    bytes_received: int = 0
    traceparent: str | None = None


@implementer(IPushProducer)
@define(eq=False)
class Delivery:
    """
    The delivery of one answer, at the client's pace.

    Life cycle: started; then it sends, waits (for the client, its rate or a
    C{resume}) or is dropped; it ends when all bytes are sent or the client has
    disconnected.
    """

    _request: Request
    _answer: Answer
    _exchange: Exchange
    _clock: IReactorTime
    _body: BinaryIO = field(init=False)
    _done: Deferred[None] = field(
        init=False, default=Factory(lambda self: Deferred(self._cancelled), takes_self=True)
    )
    _began: float = 0.0
    _sent: int = 0
    _paused: bool = False
    _writing: bool = False
    _stalls_after: int | None = None
    _later: IDelayedCall | None = None

    def start(self) -> Deferred[None]:
        """
        Begin to send.

        @return: fires when all bytes are sent; cancelled when the client
            disconnects.
        """
        self._body = self._answer.open()
        self._stalls_after = self._answer.stall_after
        if self._answer.drop_after == BEFORE_HEADERS:
            self._drop()
        elif self._stalls_after != BEFORE_HEADERS:
            self._begin()
        return self._done

    @property
    def stalled(self) -> bool:
        """
        Whether it waits for C{resume}.
        """
        return not self._done.called and self._stalls_after == (
            BEFORE_HEADERS if self._exchange.status is None else self._sent
        )

    def resume(self) -> None:
        """
        End the stall.
        """
        before_headers = self._exchange.status is None
        self._stalls_after = None
        if before_headers:
            self._begin()
        else:
            self._flow()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._flow()

    def stopProducing(self) -> None:
        self._paused = True

    def _begin(self) -> None:
        """
        Send the headers.
        """
        self._exchange.status = self._answer.status
        self._began = self._clock.seconds()
        self._request.setResponseCode(self._answer.status)
        for name, value in self._answer.headers.items():
            self._request.setHeader(name, value)
        self._request.setHeader("Content-Length", str(self._answer.length))
        if self._request.method == b"HEAD" or self._answer.status in (204, 304):
            self._finish()
            return
        self._request.write(b"")  # The headers are out, whatever comes of the body.
        self._request.registerProducer(self, True)
        self._flow()

    def _flow(self) -> None:
        """
        Send as much as may go now.
        """
        if self._writing:
            return  # The transport asks for more from within a write.
        self._writing = True
        try:
            while not (self._paused or self._done.called or self._waiting()):
                if self._sent == self._answer.drop_after:
                    self._drop()
                    return
                piece = self._read()
                if not piece:
                    self._finish()
                    return
                self._sent += len(piece)
                self._exchange.bytes_sent += len(piece)
                self._request.write(piece)
        finally:
            self._writing = False

    def _waiting(self) -> bool:
        """
        Whether there is a reason not to send now; a rate's passes by itself.
        """
        if self._stalls_after == self._sent:
            return True
        # Not for each byte that the passing time allows.
        if self._allowance() >= min(_PIECE, max(1, int((self._answer.rate or 0) * _TICK / 2))):
            return False
        if self._later is None or not self._later.active():
            self._later = self._clock.callLater(_TICK, self._flow)
        return True

    def _allowance(self) -> int:
        """
        How many bytes may go now.
        """
        rate = self._answer.rate
        if rate is None or self._sent == self._answer.length:
            return _PIECE
        return int((self._clock.seconds() - self._began + _TICK) * rate) - self._sent

    def _read(self) -> bytes:
        """
        Take the next piece, which ends where something is to happen.
        """
        size = min(_PIECE, self._allowance())
        for end in (self._answer.length, self._stalls_after, self._answer.drop_after):
            if end is not None:
                size = min(size, end - self._sent)
        piece = self._body.read(size)
        flip = self._answer.flip_at
        if flip is not None:
            flip -= self._answer.start + self._sent
            if 0 <= flip < len(piece):
                piece = piece[:flip] + bytes([piece[flip] ^ 0xFF]) + piece[flip + 1 :]
        return piece

    def _finish(self) -> None:
        self._request.unregisterProducer()
        self._end("done")
        self._done.callback(None)

    def _drop(self) -> None:
        """
        Close the connection; that cancels this.
        """
        self._paused = True
        if self._answer.reset:
            transport = cast(ITCPTransport, self._request.transport)
            self._later = self._clock.callLater(_FLUSH, transport.abortConnection)
        else:
            self._request.loseConnection()

    def _cancelled(self, _: Deferred[None]) -> None:
        self._end("broken")

    def _end(self, state: str) -> None:
        self._exchange.state = state
        self._body.close()
        if self._later is not None and self._later.active():
            self._later.cancel()
