"""
Tests for L{xferd.errors}.
"""

import re
from inspect import getmembers, isclass

from twisted.trial.unittest import SynchronousTestCase

from xferd import errors
from xferd.errors import (
    MAX_MESSAGE,
    MAX_QUOTED,
    BadDigest,
    BadLayer,
    BadPlatform,
    BadReference,
    ConnectionFailed,
    Denied,
    StoreError,
    TimedOut,
    TooManyRequests,
    WorkerLost,
    XferdError,
    causes,
    is_retryable,
    quoted,
)


def ours() -> list[type[XferdError]]:
    """
    All classes of the tree.
    """
    return [c for _, c in getmembers(errors, isclass) if issubclass(c, XferdError)]


class TreeTests(SynchronousTestCase):
    """
    The tree in the docstring is complete.
    """

    def test_drawn(self) -> None:
        """
        Each class is in the tree, one level below its parent.
        """
        drawn: dict[str, int] = {}
        for line in (errors.__doc__ or "").splitlines():
            match = re.match(r"    ([│ ]*(?:[├└]── )?)(\w+)", line)
            if match is not None:
                drawn[match[2]] = len(match[1]) // 4
        for cls in ours():
            self.assertIn(cls.__name__, drawn)
            self.assertEqual(drawn[cls.__name__], len(cls.__mro__) - len(XferdError.__mro__), cls.__name__)

    def test_codes(self) -> None:
        """
        Each class has a code of its own.
        """
        codes = [cls.code for cls in ours()]
        self.assertEqual(len(set(codes)), len(codes))
        for code in codes:
            self.assertRegex(code, r"\A[A-Z_]+\Z")


class MessageTests(SynchronousTestCase):
    """
    Messages that quote external text.
    """

    def test_long(self) -> None:
        """
        A message with a quotation of megabytes has at most 500 characters, and keeps its
        beginning and its end.
        """
        self.assertEqual(str(XferdError("a" * MAX_MESSAGE)), "a" * MAX_MESSAGE)
        for middle in ("x" * (MAX_MESSAGE + 1), "x" * 4_000_000, "\x1b" * MAX_MESSAGE, "\U0001f4a9\n" * 9999):
            message = str(ConnectionFailed(f"the thing: {middle}; do this"))
            self.assertLessEqual(len(message), MAX_MESSAGE)
            self.assertTrue(message.startswith("the thing: "))
            self.assertTrue(message.endswith("; do this"))
            self.assertTrue(message.isprintable())

    def test_escaped(self) -> None:
        """
        Control sequences, line breaks and bidirectional marks of quotations are escaped.
        """
        self.assertEqual(
            str(BadLayer("a\x1b[31m\nb\u202ec\xa0d \u00e9")), "a\\x1b[31m\\nb\\u202ec\\xa0d \u00e9"
        )

    def test_quoted(self) -> None:
        """
        A quoted value is truncated, whatever its type and depth.
        """
        values: tuple[object, ...] = (
            "x" * (MAX_QUOTED - 2),
            "x" * 4_000_000,
            ["x" * 4_000_000] * 9,
            {"x" * 4_000_000: [[[[{}]]]]},
            10**4000,
            1.5,
            None,
        )
        for value in values:
            self.assertLessEqual(len(quoted(value)), MAX_QUOTED)
        self.assertEqual(quoted("x" * (MAX_QUOTED - 2)), f"'{'x' * (MAX_QUOTED - 2)}'")
        self.assertEqual(quoted(-1), "-1")
        for error in (BadReference("x" * 4_000_000, "why"), BadDigest("x" * 999), BadPlatform("x" * 999)):
            self.assertIn("'xxx", str(error))
            self.assertNotIn(" ... ", str(error))

    def test_surrogates(self) -> None:
        """
        Lone surrogates are replaced, so that each message can be encoded as UTF-8.
        """
        text = "half \ud800 and \udc80 of it"
        for error in (
            XferdError(text),
            BadLayer(text),
            ConnectionFailed(text),
            TimedOut(text, phase="silence"),
        ):
            self.assertEqual(str(error), "half \ufffd and \ufffd of it")
            str(error).encode("utf-8")


class RetryableTests(SynchronousTestCase):
    """
    Whether a retry can help.
    """

    def test_by_class(self) -> None:
        """
        Errors that pass with time are retryable; those that need a person are not.
        """
        self.assertTrue(is_retryable(ConnectionFailed("no route", host="h")))
        self.assertTrue(is_retryable(TooManyRequests("slow down", host="h", retry_after=3.0)))
        self.assertTrue(is_retryable(TimedOut("silence", phase="silence")))
        self.assertTrue(is_retryable(WorkerLost("gone")))
        self.assertFalse(is_retryable(Denied("no", host="h")))
        self.assertFalse(is_retryable(BadLayer("bad")))

    def test_through_causes(self) -> None:
        """
        A wrapper does not make a final error retryable.
        """
        error = ConnectionFailed("broke", host="h")
        error.__cause__ = StoreError("disk")
        self.assertFalse(is_retryable(error))
        error.__cause__ = OSError("reset")
        self.assertTrue(is_retryable(error))

    def test_foreign(self) -> None:
        """
        An error of another class is a bug, and is not retried.
        """
        self.assertFalse(is_retryable(ValueError("bug")))

    def test_circle(self) -> None:
        """
        Causes in a circle are visited once each.
        """
        one, two = ValueError(1), ValueError(2)
        one.__cause__, two.__cause__ = two, one
        self.assertEqual(list(causes(one)), [one, two])
