"""
Tests for L{xferd.engines.grpc.status}.
"""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis.strategies import characters, floats, text
from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.grpc.status import (
    MAX_MESSAGE_LENGTH,
    GrpcError,
    Status,
    error_of_trailers,
    format_timeout,
    parse_timeout,
    quote_message,
    status_of_reset,
)


class TrailerTests(SynchronousTestCase):
    """
    The outcome of a call in its trailers.
    """

    def test_success(self) -> None:
        """
        The status 0 is no error.
        """
        self.assertIsNone(error_of_trailers({"grpc-status": "0", "grpc-message": "fine"}))

    def test_error(self) -> None:
        """
        Another status is an error with the decoded text.
        """
        error = error_of_trailers({"grpc-status": "5", "grpc-message": "no 100%25 caf%C3%A9"})
        assert error is not None
        self.assertEqual((error.code, error.message), (Status.NOT_FOUND, "no 100% café"))
        self.assertEqual(str(error), "no 100% café (NOT_FOUND)")

    def test_unknown(self) -> None:
        """
        A code that gRPC does not define is UNKNOWN, also one of many digits.
        """
        for number in ("17", "9" * 5000):
            error = error_of_trailers({"grpc-status": number})
            assert error is not None
            self.assertEqual((error.code, error.message), (Status.UNKNOWN, "the peer gave no reason"))

    def test_no_status(self) -> None:
        """
        Without a status that of HTTP decides.
        """
        for http, code in {"503": 14, "404": 12, "401": 16, "418": 2, "": 2}.items():
            for text_ in ({}, {"grpc-status": "-1"}, {"grpc-status": "\u00b2"}):
                error = error_of_trailers({":status": http} | text_)
                assert error is not None
                self.assertEqual(error.code, code)

    def test_reset(self) -> None:
        """
        The codes of HTTP/2 that mean a status of gRPC, and any other.
        """
        self.assertEqual([status_of_reset(code) for code in (7, 8, 11, 12, 2, 999)], [14, 1, 8, 7, 13, 13])

    @given(text(characters(exclude_categories=["Cs"])))
    def test_quoted(self, message: str) -> None:
        """
        A text survives, cut to the limit, and is printable ASCII on the wire.
        """
        quoted = quote_message(message)
        self.assertTrue(quoted.isascii() and (quoted.isprintable() or not quoted))
        self.assertEqual(unquote(quoted), message[:MAX_MESSAGE_LENGTH])

    def test_lone_surrogate(self) -> None:
        """
        What has no UTF-8 is replaced.
        """
        self.assertEqual(quote_message("a\ud800"), "a?")


class TimeoutTests(SynchronousTestCase):
    """
    The header C{grpc-timeout}.
    """

    def test_units(self) -> None:
        """
        Each unit is understood.
        """
        times = {"2H": 7200, "3M": 180, "4S": 4, "5m": 0.005, "6u": 6e-6, "7n": 7e-9, "99999999S": 99999999}
        for text_, seconds in times.items():
            self.assertAlmostEqual(parse_timeout(text_), seconds, 12)

    def test_malformed(self) -> None:
        """
        Anything else is refused.
        """
        for text_ in ("", "1", "S", "-1S", "1.5S", "123456789S", "1s", "\u0661S", "1S\n"):
            with self.assertRaises(GrpcError) as caught:
                parse_timeout(text_)
            self.assertEqual(caught.exception.code, Status.INVALID_ARGUMENT)

    @given(floats(0, 90_000))
    def test_formatted(self, seconds: float) -> None:
        """
        A time is rounded up, by less than a millisecond.
        """
        self.assertTrue(-1e-9 <= parse_timeout(format_timeout(seconds)) - seconds < 0.001 + 1e-9)

    def test_bounds(self) -> None:
        """
        No time is left after the deadline, and a time that is too long is limited.
        """
        self.assertEqual([format_timeout(x) for x in (-1.0, 1e9)], ["0m", "99999999m"])
