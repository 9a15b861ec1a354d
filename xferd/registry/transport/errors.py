# -*- test-case-name: tests.registry.transport.test_errors -*-
"""
HTTP errors, and exceptions of Twisted and OpenSSL, as the errors of
L{xferd.errors}.

A message has nothing of an URL but its host: the query of a signed URL is a
password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

from attrs import frozen
from OpenSSL.SSL import Error as TLSError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    UnknownHostError,
)
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.python.failure import Failure
from twisted.web.http import PotentialDataLoss, _MalformedChunkedDataError
from twisted.web.http_headers import Headers

from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    Denied,
    ManifestUnknown,
    RegistryError,
    RegistryUnavailable,
    RequestLoop,
    SourceError,
    TimedOut,
    TooManyRequests,
    Truncated,
    XferdError,
)

MAX_EXCERPT = 200
"""Characters of a registry's own text in one of our messages, at most."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")
_URL_QUERY = re.compile(r"(https?://[^\s\"'?]*)\?[^\s\"']*")
_EPOCH = 1_000_000_000
_DAY = 86400.0


class NotHTTP(RegistryError):
    """
    The server speaks another protocol.
    """


@frozen
class Resource:
    """
    What a request is for, as errors name it.

    @ivar host: the registry's host as people write it.
    @ivar name: its name, C{docker.io/library/alpine:latest}.
    @ivar missing: the error for a 404.
    @ivar push: whether it is written, not read.
    """

    host: str
    name: str
    missing: type[ManifestUnknown | BlobUnknown]
    push: bool = False


def header(headers: Headers, name: str) -> str:
    """
    The first value of a header, or the empty string.
    """
    values = headers.getRawHeaders(name.encode())
    return values[0].decode("utf-8", "replace") if values else ""


def header_values(headers: Headers, name: str) -> list[str]:
    """
    All values of a header.
    """
    return [
        v.decode("utf-8", "replace") if isinstance(v, bytes) else v
        for v in headers.getRawHeaders(name.encode(), [])
    ]


def clean(text: str, most: int = MAX_EXCERPT) -> str:
    """
    Foreign text for a message: one line of printable characters, without the
    queries of URLs, cut at C{most} characters.
    """
    # Cut first: the time of the search for queries is quadratic.
    line = _CONTROL.sub(" ", text.strip()[: 4 * most])
    line = "".join(c if c.isprintable() else " " for c in line).strip()
    line = _URL_QUERY.sub(r"\1?...", line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def retry_after(headers: Headers, now: float) -> float | None:
    """
    The seconds to wait, from C{Retry-After} (RFC 9110, section 10.2.3: seconds
    or a date).

    Docker Hub has sent seconds since the epoch as well.  A value that cannot be
    read is ignored.

    @param now: seconds since the epoch; the response's own C{Date} is preferred,
        as both are by the same clock.
    @return: seconds, a day at most, or L{None} without such a header.
    """
    text = header(headers, "Retry-After").strip()
    sent = date_sent(headers)
    now = now if sent is None else sent
    if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{0,9})?", text):
        seconds = float(text)
        wanted = seconds - now if seconds > _EPOCH else seconds
    else:
        date = _seconds(text)
        if date is None:
            return None
        wanted = date - now
    return min(max(wanted, 0.0), _DAY)


def date_sent(headers: Headers) -> float | None:
    """
    The C{Date} of a response in seconds since the epoch, by its server's clock,
    or L{None}.
    """
    return _seconds(header(headers, "Date"))


@lru_cache(maxsize=100)
def _seconds(date: str) -> float | None:
    """
    An HTTP date as seconds since the epoch.  All responses of one second have the
    same.
    """
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@frozen
class ErrorDetails:
    """
    The error in a registry's response (OCI distribution-spec, "Error Codes").

    @ivar codes: the codes, C{TOOMANYREQUESTS}.
    @ivar text: codes and messages in one line, or the empty string.
    """

    codes: tuple[str, ...] = ()
    text: str = ""


def parse_error_details(body: bytes) -> ErrorDetails:
    """
    Read the body of an error response: JSON, or plain text.  HTML is ignored.
    """
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ErrorDetails() if "<" in text else ErrorDetails((), clean(text))
    if not isinstance(value, dict):
        return ErrorDetails()
    listed = value.get("errors")
    errors = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    if not errors:
        return ErrorDetails((), clean(_first_text(value, "message", "details", "detail", "error")))
    codes = tuple(clean(str(e["code"])).upper() for e in errors[:5] if isinstance(e.get("code"), str))
    words = [
        ": ".join(t for t in (_first_text(e, "code"), _first_text(e, "message", "detail")) if t)
        for e in errors[:3]
    ]
    return ErrorDetails(codes, clean("; ".join(w for w in words if w)))


def _first_text(value: dict[str, Any], *names: str) -> str:
    """
    The first of some members that is a text and not blank.
    """
    return next((v for v in (value.get(n) for n in names) if isinstance(v, str) and v.strip()), "")


LOOP: Final = 508
"""Loop Detected (RFC 5842, section 7.2)."""


def refusal(
    resource: Resource,
    status: int,
    headers: Headers,
    body: bytes,
    now: float,
    used: CredentialsUsed,
    storage: str = "",
) -> SourceError:
    """
    The error for a response that is not a success.

    @param used: the credentials of the request.
    @param storage: the host that responded, if it is not the registry.
    """
    host, details = resource.host, parse_error_details(body)
    name = f"{storage} (for {host})" if storage else host
    said = f"{status}: {details.text}" if details.text else f"{status}"
    wait = retry_after(headers, now)
    asks = f"; it asks to wait {wait:.0f} s" if wait is not None else ""
    if status == 429 or "TOOMANYREQUESTS" in details.codes:
        return TooManyRequests(
            f"{name} limits requests ({said}){asks}", host=host, status=status, retry_after=wait
        )
    if status in (401, 403):
        return denied(resource, said, status, used)
    if status == 404 and not resource.push:
        return resource.missing(
            f"{resource.name} does not exist; {name} answers {said}", host=host, status=status
        )
    if status == LOOP:
        return RequestLoop(
            f"{name} is this daemon's own registry, or leads back to it: remove it from registry.upstreams, "
            "and from the hosts.toml of the upstream",
            host=host,
            status=status,
        )
    if status >= 500:
        return RegistryUnavailable(
            f"{name} reports a server error ({said}){asks}", host=host, status=status, retry_after=wait
        )
    purpose = "an attempt to push" if resource.push else "a request for"
    return RegistryError(f"{name} answers {said} to {purpose} {resource.name}", host=host, status=status)


@frozen
class CredentialsUsed:
    """
    The credentials of a request, as errors describe them.

    @ivar words: the credentials and their origin, without secrets.
    @ivar remedy: the advice if they are refused; empty for C{xferctl login}.
    @ivar login: whether they are a user's name and password, or a token in
        their place: then a 401 means that they are wrong.
    """

    words: str = "without credentials"
    remedy: str = ""
    login: bool = False

    def advice(self, host: str) -> str:
        """
        The advice if a registry refuses them.
        """
        return self.remedy or f"'xferctl login {host}'"


def denied(resource: Resource, said: str, status: int, used: CredentialsUsed) -> Denied:
    """
    The error for credentials that are refused, with the remedy.  Registries
    answer alike for what does not exist, to hide what does.
    """
    host, name, advice = resource.host, resource.name, used.advice(resource.host)
    if used.login and status == 401:
        text = f"{host} does not accept a login {used.words} ({said}): they are wrong or have expired; " + (
            used.remedy or f"{advice} renews them"
        )
    elif resource.push:
        text = (
            f"{host} does not let you push {name} {used.words} ({said}): it needs other credentials "
            f"({advice}), or a right that yours do not have"
        )
    else:
        text = (
            f"{host} denies access to {name} {used.words} ({said}): it does not exist, or it needs other "
            f"credentials ({advice})"
        )
    return Denied(text, host=host, status=status)


def causes(error: BaseException) -> Iterator[BaseException]:
    """
    An error of L{twisted.web} and all errors that it wraps, which may be several
    and nested, outermost first.
    """
    yield error
    for reason in getattr(error, "reasons", None) or ():
        if isinstance(reason, Failure) and reason.value is not None:
            yield from causes(reason.value)


_ALERTS = {
    "certificate required": "it wants one",
    "unknown ca": "another authority has signed it",
    "certificate expired": "it has expired",
    "bad certificate": "it is not valid",
    "certificate unknown": "it cannot be verified",
    # By an authority of the same name, with another key.
    "decrypt error": "another authority has signed it",
}
"""The reasons of alerts (RFC 8446, section 6.2), by OpenSSL's names for them."""

_PHRASES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    ((DNSLookupError, UnknownHostError), "its name cannot be resolved"),
    (ConnectRefused, "nothing listens there (connection refused)"),
    (NoRouteError, "there is no route to it"),
    (ConnectingCancelledError, "the attempt was cancelled"),
    ((TCPTimedOutError, ConnectError), "the attempt failed"),
    (TLSError, "TLS failed"),
    (ConnectionDone, "it closed the connection"),
    (ConnectionLost, "the connection broke"),
)


def connection_error(error: BaseException, host: str, where: str) -> XferdError | None:
    """
    The error for a request without a response, or L{None} if it is a bug, and
    not the fault of the network or the peer.

    @param host: the registry's host as people write it.
    @param where: the host that the request went to: the registry's own, a token
        server or its storage.
    """
    name = where if where == host else f"{where} (for {host})"
    found = list(causes(error))
    for each in found:
        if isinstance(each, XferdError):
            if isinstance(each, SourceError):
                each.host = each.host or host
            return each
    for each in found:
        if isinstance(each, ConnectTimeout):
            return TimedOut(f"{name} did not accept a connection in time", phase="connect", host=host)
    for each in found:
        refusal = _refused_certificate(each) if isinstance(each, TLSError) else ""
        if refusal:
            return ConnectionFailed(f"{name} refuses the certificate of this daemon: {refusal}", host=host)
    for kind, phrase in _PHRASES:
        if any(isinstance(e, kind) for e in found):
            return ConnectionFailed(f"no answer from {name}: {phrase}", host=host)
    if len(found) > 1:
        # Errors of the HTTP parser are wrapped.
        return NotHTTP(f"{name} answered something that is not HTTP", host=host)
    return None


def _refused_certificate(error: TLSError) -> str:
    """
    The alert by which a server refuses our certificate; empty for other errors.
    """
    listed = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [str(each[2]) for each in listed if len(each) > 2]
    return next((words for reason in reasons for name, words in _ALERTS.items() if name in reason), "")


def body_error(error: BaseException | None, host: str, received: int, expected: int | None) -> XferdError:
    """
    The error for a body that ended early.

    @param received: bytes that have arrived.
    @param expected: bytes that should have, if that is known.
    """
    found = list(causes(error)) if error is not None else []
    for each in found:
        if isinstance(each, XferdError):
            return each
    of = f" of {expected}" if expected is not None else ""
    if any(isinstance(e, _MalformedChunkedDataError) for e in found):
        return ConnectionFailed(
            f"{host} sent a body whose chunked encoding is broken, or has an extension or a trailer that is "
            f"too long, after {received}{of} bytes",
            host=host,
        )
    if any(isinstance(e, ConnectionLost | TLSError) for e in found):
        return ConnectionFailed(f"the connection to {host} broke after {received}{of} bytes", host=host)
    if any(isinstance(e, ConnectionDone | PotentialDataLoss) for e in found):
        return Truncated(f"{host} ended a body after {received}{of} bytes", host=host)
    # The text of another error may quote a secret, and its type is for programmers.
    return ConnectionFailed(f"the body from {host} became unreadable after {received}{of} bytes", host=host)
