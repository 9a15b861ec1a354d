# -*- test-case-name: tests.web.test_responses -*-
"""
JSON responses for values and errors, and the table of the HTTP status of each
error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchPage

from xferd.errors import (
    AmbiguousID,
    BadImage,
    BadInput,
    ConfigError,
    ConnectionFailed,
    CoordinationUnavailable,
    Denied,
    DiskFull,
    Draining,
    EngineFailed,
    Interrupted,
    InUse,
    JobEnded,
    JobRunning,
    KeyReused,
    ManifestUnknown,
    NotFound,
    PreconditionFailed,
    PushRefused,
    SourceError,
    StoreError,
    StoreLocked,
    TimedOut,
    TooManyJobs,
    TooManyRequests,
    TooManyUploads,
    UploadBusy,
    WorkerLost,
    WrongOffset,
    XferdError,
)
from xferd.json_encoding import encode, encode_list
from xferd.web.request import note, shown

if TYPE_CHECKING:
    from twisted.logger import Logger
    from twisted.python.failure import Failure
    from twisted.web.server import Request

STATUSES: Final[Mapping[type[XferdError], int]] = {
    XferdError: 500,
    BadInput: 400,
    KeyReused: 422,
    JobEnded: 409,
    JobRunning: 409,
    AmbiguousID: 409,
    TooManyJobs: 429,
    TooManyUploads: 429,
    NotFound: 404,
    PreconditionFailed: 412,
    PushRefused: 403,
    UploadBusy: 409,
    InUse: 409,
    WrongOffset: 416,
    SourceError: 502,
    Denied: 403,
    ManifestUnknown: 404,
    TooManyRequests: 429,
    ConnectionFailed: 502,
    TimedOut: 504,
    BadImage: 422,
    StoreError: 500,
    DiskFull: 507,
    StoreLocked: 503,
    WorkerLost: 503,
    EngineFailed: 502,
    CoordinationUnavailable: 503,
    Interrupted: 503,
    Draining: 503,
    ConfigError: 500,
}
"""
The HTTP status of each kind of error.  A class that is not named here has
its nearest ancestor's.
"""


def codes_of(kind: type[XferdError]) -> Iterator[str]:
    """
    The codes of a class of errors and of those below it.
    """
    yield kind.code
    for each in kind.__subclasses__():
        yield from codes_of(each)


CODES: Final = tuple(
    dict.fromkeys(
        (
            *codes_of(XferdError),
            # Of HTTP itself, by the names of the statuses.
            "BAD_REQUEST",
            "UNAUTHORIZED",
            "FORBIDDEN",
            "METHOD_NOT_ALLOWED",
            "REQUEST_ENTITY_TOO_LARGE",
            "UNSUPPORTED_MEDIA_TYPE",
            "MISDIRECTED_REQUEST",
            "SERVICE_UNAVAILABLE",
            # Of attempts.
            "CANCELLED",
        )
    )
)
"""The codes of errors that the API may show."""


def status_of(error: XferdError) -> int:
    """
    The HTTP status of an error.
    """
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def respond(request: Request, value: object, status: int = 200) -> bytes:
    """
    Set status and headers for a JSON answer.

    @param value: the answer; the objects of a list may be L{Encoded
        <xferd.json_encoding.Encoded>}.
    @return: the body, for the caller to write.
    """
    body = (encode_list(value) if isinstance(value, list) else encode(value)) + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"cache-control", b"no-store")
    return body


def error_json(code: str, message: str, detail: object = None) -> dict[str, Any]:
    """
    The JSON object of an error.
    """
    return {"error": {"code": code, "message": message, "detail": detail}}


def respond_error(request: Request, error: XferdError) -> bytes:
    """
    Respond with one of our own errors.
    """
    detail: dict[str, Any] = {"retryable": error.retryable}
    if isinstance(error, SourceError):
        detail |= {"host": error.host, "status": error.status}
        if error.retry_after is not None:
            request.setHeader(b"retry-after", b"%d" % max(1, round(error.retry_after)))
    if isinstance(error, Draining):
        request.setHeader(b"retry-after", b"%d" % error.retry_after)
    if isinstance(error, WrongOffset):
        detail["offset"] = error.offset
    note(request, "code", error.code)
    return respond(request, error_json(error.code, str(error), detail), status_of(error))


def respond_http_error(request: Request, refusal: HTTPException) -> bytes:
    """
    Respond with an error of HTTP itself: unknown path, wrong method, missing
    token.  The code is its name.
    """
    code = refusal.name.upper().replace(" ", "_")
    note(request, "code", code)
    return respond(request, error_json(code, explain(request, refusal)), refusal.code or 500)


def explain(request: Request, refusal: HTTPException) -> str:
    """
    The message of an error of HTTP itself.  Also sets the header C{Allow}, where it is about
    the method.
    """
    path = shown(request.path)
    if isinstance(refusal, MethodNotAllowed):
        allowed = ", ".join(sorted(refusal.valid_methods or ()))
        request.setHeader(b"allow", allowed.encode("ascii"))
        return f"{path} does not support {shown(request.method)}; it supports {allowed}"
    if isinstance(refusal, NoSuchPage):
        return f"{path} does not exist"
    return refusal.description or refusal.name


def respond_internal_error(request: Request) -> bytes:
    """
    Respond to a bug: details are in the log only.
    """
    note(request, "code", XferdError.code)
    return respond(request, error_json(XferdError.code, "internal error; see the daemon's log"), 500)


def respond_failure(request: Request, failure: Failure, log: Logger) -> bytes:
    """
    Respond with whatever a route raised; a bug is logged.
    """
    error = failure.value
    if isinstance(error, HTTPException):
        return respond_http_error(request, error)
    if isinstance(error, XferdError):
        return respond_error(request, error)
    log.failure("while answering {path}", failure, path=shown(request.path))
    return respond_internal_error(request)
