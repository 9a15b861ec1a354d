"""
Tests for L{xferd.registry.transport.errors}.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL.SSL import Error as TLSError
from twisted.internet import error as neterror
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import (
    ParseError,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
    _WrapperException,
)
from twisted.web.http import PotentialDataLoss, _DataLoss
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
)
from xferd.registry.transport.errors import (
    MAX_EXCERPT,
    CredentialsUsed,
    NotHTTP,
    Resource,
    body_error,
    clean,
    connection_error,
    header,
    header_values,
    parse_error_details,
    refusal,
    retry_after,
)

_NOW = 1_700_000_000.0
_WHAT = Resource("docker.io", "docker.io/library/alpine:1", ManifestUnknown)


def _headers(**values: str) -> Headers:
    return Headers({name.replace("_", "-"): [value] for name, value in values.items()})


def _wrapped(kind: type[_WrapperException], *errors: Exception) -> _WrapperException:
    return kind([Failure(e) for e in errors])


class WordsTests(SynchronousTestCase):
    """
    A registry's own words are kept, and made harmless.
    """

    def test_oci_form(self) -> None:
        """
        Codes and messages of the specified form.
        """
        body = json.dumps(
            {
                "errors": [
                    {"code": "DENIED", "message": "not you", "detail": {"a": 1}},
                    {"code": "UNSUPPORTED"},
                    "junk",
                ]
            }
        )
        words = parse_error_details(body.encode())
        self.assertEqual(words.codes, ("DENIED", "UNSUPPORTED"))
        self.assertEqual(words.text, "DENIED: not you; UNSUPPORTED")

    def test_other_forms(self) -> None:
        """
        Token servers and proxies have forms of their own; pages of HTML
        are ignored.
        """
        for body, text in (
            (b'{"details": "incorrect username or password"}', "incorrect username or password"),
            (b'{"message": "slow down"}', "slow down"),
            (b'{"errors": "none", "error": "x"}', "x"),
            (b"plain words\n", "plain words"),
            (b"<html>x</html>", ""),
            (b"[1]", ""),
            (b"", ""),
        ):
            found = parse_error_details(body)
            self.assertEqual((found.codes, found.text), ((), text))
        self.assertEqual(len(parse_error_details(b"[" * 100_000).text), MAX_EXCERPT)

    def test_clean(self) -> None:
        """
        No control characters, no terminal escapes, no direction marks, no
        queries of URLs, and not too much.
        """
        self.assertEqual(clean("half \ud800 of it"), "half   of it")
        self.assertEqual(clean(" a\r\nb\x1b[31mc\u202ed "), "a b [31mc d")
        self.assertEqual(clean("a\ue000b\u3000c"), "a b c")
        self.assertEqual(
            clean("see https://cdn.example/blob?X-Amz-Signature=abc&b=c, or not"),
            "see https://cdn.example/blob?... or not",
        )
        self.assertEqual(len(clean("x" * 1000)), MAX_EXCERPT)
        # A query that is cut in its middle is a query all the same.
        self.assertNotIn("secret", clean("https://a/?" + "secret" * 1000))

    @given(st.binary(max_size=300))
    @settings(max_examples=80, deadline=None)
    def test_anything(self, body: bytes) -> None:
        """
        No body raises, and all words are printable.
        """
        text = parse_error_details(body).text
        self.assertFalse([c for c in text if ord(c) < 0x20 or c == "\x7f"])

    def test_header(self) -> None:
        """
        Headers are text here; one that is absent is empty.
        """
        headers = Headers({"A": ["1", "2"]})
        headers.addRawHeader(b"B", b"\xff")
        self.assertEqual(header_values(headers, "a"), ["1", "2"])
        self.assertEqual(
            (header(headers, "a"), header(headers, "b"), header(headers, "c")), ("1", "\ufffd", "")
        )


class RetryAfterTests(SynchronousTestCase):
    """
    C{Retry-After} is understood in all forms that occur.
    """

    def test_forms(self) -> None:
        """
        Seconds, a date, seconds since the epoch; never below zero, never more
        than a day.
        """
        for text, seconds in (
            ("120", 120.0),
            ("0.5", 0.5),
            (" 7 ", 7.0),
            ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
            ("Tue, 14 Nov 2023 22:12:20 GMT", 0.0),
            ("1700000030", 30.0),
            ("99999999", 86400.0),
        ):
            self.assertEqual(retry_after(_headers(Retry_After=text), _NOW), seconds, text)

    def test_own_date(self) -> None:
        """
        A date is measured against the answer's own date, not our clock.
        """
        headers = _headers(Retry_After="Tue, 14 Nov 2023 22:14:20 GMT", Date="Tue, 14 Nov 2023 22:14:10 GMT")
        self.assertEqual(retry_after(headers, 0.0), 10.0)

    def test_unreadable(self) -> None:
        """
        What cannot be read is as good as nothing.
        """
        for text in ("", "soon", "-5", "nan", "inf", "1e9", "Tue, 99 Foo 2023 22:14:20 GMT"):
            self.assertIsNone(retry_after(_headers(Retry_After=text), _NOW), text)
        self.assertIsNone(retry_after(Headers(), _NOW))


class RefusalTests(SynchronousTestCase):
    """
    Statuses become errors.
    """

    def _refusal(self, status: int, body: bytes = b"", **headers: str) -> SourceError:
        return refusal(_WHAT, status, _headers(**headers), body, _NOW, CredentialsUsed())

    def test_kinds(self) -> None:
        """
        Each status has its error, which carries host and status.
        """
        for status, kind in (
            (401, Denied),
            (403, Denied),
            (404, ManifestUnknown),
            (429, TooManyRequests),
            (500, RegistryUnavailable),
            (503, RegistryUnavailable),
            (508, RequestLoop),
            (400, RegistryError),
            (418, RegistryError),
            (204, RegistryError),
        ):
            error = self._refusal(status)
            self.assertIs(type(error), kind)
            self.assertEqual((error.host, error.status), ("docker.io", status))
        blob = Resource("h", "h/a@sha256:x", BlobUnknown)
        self.assertIs(type(refusal(blob, 404, Headers(), b"", _NOW, CredentialsUsed())), BlobUnknown)

    def test_rate_limit(self) -> None:
        """
        A rate limit has the time to wait; the registry's code takes
        precedence over the status.
        """
        error = self._refusal(429, Retry_After="30")
        self.assertEqual(error.retry_after, 30.0)
        self.assertIn("asks to wait 30 s", str(error))
        coded = self._refusal(403, b'{"errors": [{"code": "toomanyrequests", "message": "limit"}]}')
        self.assertIs(type(coded), TooManyRequests)
        self.assertEqual(self._refusal(503, Retry_After="5").retry_after, 5.0)

    def test_words(self) -> None:
        """
        The registry's own message is in the error, and so is the remedy.
        """
        error = self._refusal(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}')
        self.assertIn("UNAUTHORIZED: who are you", str(error))
        self.assertIn("'xferctl login docker.io'", str(error))


class ConnectionErrorTests(SynchronousTestCase):
    """
    Errors of the network are translated.
    """

    def test_kinds(self) -> None:
        """
        The reason is found however deep it is wrapped, and named.
        """
        for error, kind, why in (
            (neterror.DNSLookupError("x"), ConnectionFailed, "resolved"),
            (neterror.ConnectionRefusedError(), ConnectionFailed, "refused"),
            (neterror.NoRouteError(), ConnectionFailed, "no route"),
            (neterror.TCPTimedOutError(), ConnectionFailed, "attempt failed"),
            (neterror.TimeoutError(), TimedOut, "in time"),
            (_wrapped(ResponseNeverReceived, neterror.ConnectionDone()), ConnectionFailed, "closed"),
            (_wrapped(RequestTransmissionFailed, neterror.ConnectionLost()), ConnectionFailed, "broke"),
            (_wrapped(ResponseNeverReceived, TLSError([("a", "b", "c")])), ConnectionFailed, "TLS"),
            (_wrapped(ResponseFailed, ParseError("x", b"secret")), NotHTTP, "not HTTP"),
            (_wrapped(ResponseFailed, ValueError("https://x/?sig=secret")), NotHTTP, "not HTTP"),
        ):
            found = connection_error(error, "docker.io", "cdn.example")
            self.assertIs(type(found), kind, error)
            self.assertIn(why, str(found))
            self.assertIn("cdn.example (for docker.io)", str(found))
            self.assertNotIn("secret", str(found))
            assert isinstance(found, SourceError)
            self.assertEqual(found.host, "docker.io")

    def test_refused_certificate(self) -> None:
        """
        The alert by which a server refuses our certificate is named.
        """
        for reason, words in (
            ("tlsv13 alert certificate required", "it wants one"),
            ("tlsv1 alert unknown ca", "another authority has signed it"),
            ("tlsv1 alert decrypt error", "another authority has signed it"),
            ("ssl/tls alert certificate expired", "it has expired"),
            ("sslv3 alert bad certificate", "it is not valid"),
        ):
            error = _wrapped(ResponseNeverReceived, TLSError([("SSL routines", "", reason)]))
            found = connection_error(error, "docker.io", "cdn.example")
            self.assertEqual(
                str(found),
                f"cdn.example (for docker.io) refuses the certificate of this daemon: {words}",
            )

    def test_ours(self) -> None:
        """
        One of our own errors inside is the answer, and learns its host.
        """
        inner = TimedOut("no TLS", phase="connect")
        found = connection_error(_wrapped(ResponseNeverReceived, inner), "docker.io", "docker.io")
        self.assertIs(found, inner)
        self.assertEqual(inner.host, "docker.io")

    def test_bugs(self) -> None:
        """
        What neither the network nor the peer can cause is no error of theirs.
        """
        self.assertIsNone(connection_error(NameError("x"), "docker.io", "docker.io"))


class BodyErrorTests(SynchronousTestCase):
    """
    A body that ends early becomes one of our errors.
    """

    def test_kinds(self) -> None:
        """
        A clean end before its time is a truncation; a break is a break.
        """
        for error, kind in (
            (_wrapped(ResponseFailed, neterror.ConnectionDone(), _DataLoss()), Truncated),
            (_wrapped(ResponseFailed, neterror.ConnectionLost(), _DataLoss()), ConnectionFailed),
            (_wrapped(ResponseFailed, TLSError(), _DataLoss()), ConnectionFailed),
            (PotentialDataLoss(), Truncated),
            (ValueError("secret"), ConnectionFailed),
            (None, ConnectionFailed),
        ):
            found = body_error(error, "docker.io", 5, 10)
            self.assertIs(type(found), kind)
            self.assertIn("5 of 10 bytes", str(found))
            self.assertNotIn("secret", str(found))
        ours = TimedOut("x", phase="rate")
        self.assertIs(body_error(ours, "h", 1, None), ours)
