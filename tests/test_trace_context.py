"""
Tests for L{xferd.trace_context}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.trace_context import carrying, read_traceparent, traceparent

VALUE = f"00-{'a' * 32}-{'b' * 16}-01"


class TraceContextTests(SynchronousTestCase):
    """
    The trace of requests.
    """

    def test_read(self) -> None:
        """
        A value that is invalid is ignored.
        """
        self.assertEqual(read_traceparent(VALUE), VALUE)
        for value in (
            None,
            "",
            VALUE.upper(),
            f"{VALUE}-x",
            VALUE.replace("00-", "ff-"),
            f"00-{'0' * 32}-{'b' * 16}-01",
            f"00-{'a' * 32}-{'0' * 16}-01",
        ):
            self.assertEqual(read_traceparent(value), "", value)

    def test_carrying(self) -> None:
        """
        A coroutine carries the value in which it begins, also after waits, and no other one
        does.
        """
        found: list[str] = []
        gate: Deferred[None] = Deferred()

        async def work() -> None:
            found.append(traceparent())
            await gate
            found.append(traceparent())

        with carrying(VALUE):
            working = Deferred.fromCoroutine(work())
        self.assertEqual(traceparent(), "")
        gate.callback(None)
        self.successResultOf(working)
        self.assertEqual(found, [VALUE, VALUE])
