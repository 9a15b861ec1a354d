# -*- test-case-name: tests.v2.test_app -*-
"""
Errors as the OCI distribution-spec has them ("Error Codes"), and which answer sends
a client to the upstream itself.

A client of a mirror tries the registry next when it hears 404; 401 costs requests
and may cause wrong credentials to be sent, and 429 makes containerd ask again at once.
Therefore an upstream's refusal is 404 here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.logger import Logger
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.exceptions import TooManyRequests as TooManyHTTPRequests

from xferd.errors import (
    BadDigest,
    BadDocument,
    BadImage,
    BadInput,
    BadReference,
    BlobUnknown,
    ConnectionFailed,
    ContentMismatch,
    ContentMissing,
    Denied,
    DigestMismatch,
    DiskFull,
    Draining,
    Interrupted,
    ManifestUnknown,
    NotFound,
    PreconditionFailed,
    PushRefused,
    RequestLoop,
    SizeMismatch,
    SourceError,
    StoreError,
    TimedOut,
    TooManyRequests,
    TooManyUploads,
    UploadBusy,
    UploadUnknown,
    WrongOffset,
    XferdError,
)
from xferd.json_encoding import encode
from xferd.web.request import note, shown
from xferd.web.responses import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.python.failure import Failure
    from twisted.web.server import Request

_log = Logger()

ERRORS: Final[Mapping[type[XferdError], tuple[int, str]]] = {
    XferdError: (500, "UNKNOWN"),
    BadInput: (400, "UNSUPPORTED"),
    BadReference: (400, "NAME_INVALID"),
    BadDigest: (400, "DIGEST_INVALID"),
    NotFound: (404, "NAME_UNKNOWN"),
    TooManyUploads: (429, "TOOMANYREQUESTS"),
    UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
    UploadBusy: (409, "BLOB_UPLOAD_INVALID"),
    PreconditionFailed: (412, "PRECONDITION_FAILED"),
    PushRefused: (403, "DENIED"),
    WrongOffset: (416, "BLOB_UPLOAD_INVALID"),
    SourceError: (502, "UNAVAILABLE"),
    Denied: (404, "NAME_UNKNOWN"),
    ManifestUnknown: (404, "MANIFEST_UNKNOWN"),
    BlobUnknown: (404, "BLOB_UNKNOWN"),
    ContentMissing: (400, "MANIFEST_BLOB_UNKNOWN"),
    TooManyRequests: (404, "TOOMANYREQUESTS"),
    RequestLoop: (508, "UNAVAILABLE"),
    ConnectionFailed: (502, "UNAVAILABLE"),
    TimedOut: (504, "UNAVAILABLE"),
    DigestMismatch: (400, "DIGEST_INVALID"),
    SizeMismatch: (400, "SIZE_INVALID"),
    BadDocument: (400, "MANIFEST_INVALID"),
    StoreError: (500, "UNKNOWN"),
    DiskFull: (507, "UNAVAILABLE"),
    Draining: (503, "UNAVAILABLE"),
    Interrupted: (503, "UNAVAILABLE"),
}
"""
The status and the code of each kind of error.  A class that is not named here has
those of its nearest ancestor.
"""


AGAIN: Final = 5
"""Seconds after which a client should try again, where the upstream named none."""


def respond_error(request: Request, error: XferdError, status: int = 0) -> bytes:
    """
    Respond with one of our own errors.

    @param status: in place of the usual status.
    """
    usual, code = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    if request.method in (b"GET", b"HEAD") and isinstance(error, BadImage | ContentMismatch):
        # Not the client sent it, but the upstream.
        usual, code = 502, "UNAVAILABLE"
    status = status or usual
    wanted = error.retry_after if isinstance(error, SourceError | Draining) else None
    if wanted is None and status in (429, 502, 503, 504):
        wanted = AGAIN
    if wanted is not None:
        request.setHeader(b"retry-after", b"%d" % max(1, round(wanted)))
    if isinstance(error, TooManyRequests) and status == 404:
        # The status does not say it.
        add_warning(request, str(error))
    return respond_errors(request, status, code, str(error))


def add_warning(request: Request, text: str) -> None:
    """
    Add a C{Warning} of code 299, "miscellaneous persistent warning" (RFC 7234,
    section 5.5.7), which podman and skopeo show.
    """
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    request.responseHeaders.addRawHeader(b"warning", f'299 - "{quoted}"'.encode("latin-1", "replace"))


def respond_http_error(request: Request, refusal: HTTPException) -> bytes:
    """
    Respond with an error of HTTP itself: unknown path, wrong method.
    """
    codes = {
        401: "UNAUTHORIZED",
        403: "DENIED",
        404: "NAME_UNKNOWN",
        413: "SIZE_INVALID",
        429: "TOOMANYREQUESTS",
        503: "UNAVAILABLE",
    }
    status = refusal.code or 500
    if isinstance(refusal, TooManyHTTPRequests | ServiceUnavailable):
        request.setHeader(b"retry-after", str(refusal.retry_after or 1).encode("ascii"))
    return respond_errors(request, status, codes.get(status, "UNSUPPORTED"), explain(request, refusal))


def respond_errors(request: Request, status: int, code: str, message: str) -> bytes:
    """
    Respond with one error.
    """
    note(request, "code", code)
    body = encode({"errors": [{"code": code, "message": message, "detail": None}]}) + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def respond_failure(request: Request, failure: Failure) -> bytes:
    """
    Respond with the error of a route, or of the decision about a body.  A bug is
    logged.
    """
    request.setHeader(b"docker-distribution-api-version", b"registry/2.0")
    error = failure.value
    if isinstance(error, HTTPException):
        return respond_http_error(request, error)
    if isinstance(error, XferdError):
        return respond_error(request, error)
    _log.failure("while answering {path}", failure, path=shown(request.path))
    return respond_errors(request, 500, "UNKNOWN", "internal error; see the daemon's log")


def respond_empty(request: Request, status: int) -> bytes:
    """
    Respond without a body.
    """
    request.setResponseCode(status)
    if status != 204:
        request.setHeader(b"content-length", b"0")
    return b""
