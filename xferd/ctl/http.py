# -*- test-case-name: tests.ctl.test_http -*-
"""
HTTP/1.1 for one request on a connection (RFC 9112): what C{xferctl} needs of it.

Python's C{http.client} imports the parser of e-mail and TLS, which takes longer than most
commands do.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

_MAX_LINE: Final = 64 * 1024
_MAX_HEADERS: Final = 200


class BadResponse(Exception):
    """
    The peer's answer is not HTTP, or ends early.
    """


class Response:
    """
    The answer to a request, with its body still to be read.

    @ivar status: the status code.
    @ivar headers: the headers; their names are in lower case.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        """
        Read the head of an answer.

        @raise BadResponse: it is not HTTP/1.
        @raise OSError: the connection breaks.
        """
        self.status = 100
        while 100 <= self.status < 200:
            self.status, self.headers = _head(file)
        self._file = file
        self._body = io.BufferedReader(_Body(file, self.status, self.headers))

    def close(self) -> None:
        """
        Release the connection, which its owner closes.
        """
        self._file.close()

    def read(self, limit: int) -> bytes:
        """
        Read C{limit} bytes, or fewer at the end.

        @raise BadResponse: the body ends early.
        @raise OSError: the connection breaks.
        """
        return self._body.read(limit)

    def readline(self, limit: int) -> bytes:
        """
        Read a line of at most C{limit} bytes; without a newline if it is longer or the last.

        @raise BadResponse: the body ends early.
        @raise OSError: the connection breaks.
        """
        return self._body.readline(limit)


class _Body(io.RawIOBase):
    """
    A body: chunked, of a known length, or until the connection ends (RFC 9112, 6.3).
    """

    def __init__(self, file: io.BufferedReader, status: int, headers: Mapping[str, str]) -> None:
        self._file = file
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        # The bytes left, of the body or of the chunk; None until the connection ends.
        self._left: int | None = 0
        if not self._chunked and status not in (204, 304):
            length = headers.get("content-length")
            self._left = None if length is None else _number(length, 10)
        self._ended = False
        self._between = False

    def readable(self) -> bool:
        """
        Always.
        """
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """
        Read what has come, and at least a byte unless it ends.
        """
        if self._chunked and not self._left and not self._ended:
            self._next_chunk()
        if self._ended or self._left == 0 or not len(buffer):
            return 0
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        data = self._file.read1(wanted)
        if not data and self._left is not None:
            raise BadResponse("the answer ended early")
        buffer[: len(data)] = data
        if self._left is not None:
            self._left -= len(data)
        return len(data)

    def _next_chunk(self) -> None:
        if self._between and _line(self._file):
            raise BadResponse("the answer is not HTTP")
        self._between = True
        self._left = _number(_line(self._file).partition(";")[0], 16)
        if self._left == 0:
            self._ended = True
            while _line(self._file):
                pass


def send(
    connection: socket.socket, method: str, target: str, headers: Mapping[str, str], body: bytes | None
) -> Response:
    """
    Send a request, and read the head of its answer.

    @raise BadResponse: the answer is not HTTP/1.
    @raise OSError: the connection breaks.
    @raise ValueError: the request would not be HTTP.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None or method not in ("GET", "DELETE"):
        lines.append(f"Content-Length: {len(body or b'')}")
    if " " in target or not all(line.isprintable() for line in lines):
        raise ValueError("the request has control characters")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
    return Response(connection.makefile("rb"))


def _head(file: io.BufferedReader) -> tuple[int, dict[str, str]]:
    version, _, rest = _line(file).partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (len(status) == 3 and status.isascii() and status.isdigit()):
        raise BadResponse("the answer is not HTTP")
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = _line(file)
        if not line:
            return int(status), headers
        name, colon, value = line.partition(":")
        if not colon:
            raise BadResponse("the answer is not HTTP")
        headers[name.lower()] = value.strip()
    raise BadResponse("the answer has too many headers")


def _line(file: io.BufferedReader) -> str:
    line = file.readline(_MAX_LINE)
    if not line.endswith(b"\n"):
        raise BadResponse("the answer ended early" if len(line) < _MAX_LINE else "the answer is not HTTP")
    return line.rstrip(b"\r\n").decode("latin-1")


def _number(text: str, base: int) -> int:
    text = text.strip()
    digits = "0123456789abcdef"[:base]
    if not 0 < len(text) <= 19 or not set(text.lower()) <= set(digits):
        raise BadResponse("the answer is not HTTP")
    return int(text, base)
