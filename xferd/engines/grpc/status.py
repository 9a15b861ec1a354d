# -*- test-case-name: tests.engines.grpc.test_status -*-
"""
The status of a gRPC call, and its form in HTTP/2 headers: "gRPC over HTTP2",
U{https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final
from urllib.parse import unquote

from h2.errors import ErrorCodes

MAX_MESSAGE_LENGTH: Final = 1024
"""Characters of the text of an error that are sent.  The peer's limit of header bytes
counts three bytes for each character outside of printable ASCII."""

_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")

_UNSAFE: Final = re.compile(rb"[^ -$&-~]")
"""All bytes but the printable characters of ASCII, and the percent sign."""


class Status(IntEnum):
    """
    The codes of gRPC.
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class GrpcError(Exception):
    """
    A call failed, with a code that its peer acts on.

    @ivar code: a L{Status}; never C{OK}.
    @ivar message: one sentence for people; it may reach another process's log.
    """

    def __init__(self, code: Status, message: str) -> None:
        super().__init__(f"{message} ({code.name})")
        self.code = code
        self.message = message


_OF_RESET: Final[Mapping[int, Status]] = {
    ErrorCodes.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCodes.CANCEL: Status.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}

_OF_HTTP: Final[Mapping[int, Status]] = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}


def status_of_reset(code: int) -> Status:
    """
    The status of a call whose stream the peer has reset, without a status.
    """
    return _OF_RESET.get(code, Status.INTERNAL)


def error_of_trailers(trailers: Mapping[str, str]) -> GrpcError | None:
    """
    The outcome of a call.

    @param trailers: the headers of its end, names in lower case.
    @return: its error, or L{None} if it succeeded.
    """
    text = trailers.get("grpc-status", "")
    if not (text.isascii() and text.isdecimal()):
        http = trailers.get(":status", "")
        code = _OF_HTTP.get(int(http), Status.UNKNOWN) if http.isdecimal() else Status.UNKNOWN
        return GrpcError(code, f"the peer sent no gRPC status (HTTP {http or 'status missing'})")
    number = int(text[:4])
    if number == Status.OK:
        return None
    try:
        code = Status(number)
    except ValueError:
        code = Status.UNKNOWN
    message = unquote(trailers.get("grpc-message", ""), errors="replace")
    return GrpcError(code, message or "the peer gave no reason")


def quote_message(message: str) -> str:
    """
    The value of C{grpc-message}: UTF-8, bytes that are not printable ASCII
    percent-encoded, cut to L{MAX_MESSAGE_LENGTH} characters.
    """
    data = message[:MAX_MESSAGE_LENGTH].encode("utf-8", "replace")
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], data).decode("ascii")


def parse_timeout(text: str) -> float:
    """
    Seconds of a C{grpc-timeout}: at most eight digits and a unit.

    @raise GrpcError: it is malformed.
    """
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise GrpcError(Status.INVALID_ARGUMENT, f"grpc-timeout {text[:20]!r} is not a time")
    return int(found[1]) * _UNITS[found[2]]


def format_timeout(seconds: float) -> str:
    """
    The C{grpc-timeout} of a time, rounded up to milliseconds.

    @param seconds: from 0 to about a day; a longer time becomes that.
    """
    milliseconds = -int(-seconds * 1000 // 1)
    return f"{min(max(milliseconds, 0), 99_999_999)}m"
