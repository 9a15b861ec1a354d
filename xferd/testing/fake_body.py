# -*- test-case-name: tests.testing.test_fake_registry -*-
"""
The response bodies of registries in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.interfaces.registry import IBlobBody
from xferd.names import Digest

PIECE = 16 * 1024
"""The most bytes that one call of a sink gets."""


@implementer(IBlobBody)
class FakeBody:
    """
    The body of one response.

    Life cycle: opened, delivering, then ended: delivered, failed, cancelled or
    abandoned.

    @ivar digest: the requested blob.
    @ivar size: the bytes of the response.
    @ivar sent: the bytes delivered so far.
    @ivar ended: whether its connection is free again.
    """

    def __init__(
        self, digest: Digest, data: bytes, start: int, clock: IReactorTime, end: int | None = None
    ) -> None:
        self.digest = digest
        self.start = start
        self.total: int | None = len(data)
        self.sent = 0
        self.ended = False
        self._rest = memoryview(data)[start:end]
        self.size = len(self._rest)
        self._clock = clock
        self._sink: Callable[[bytes], Deferred[None] | None] | None = None
        self._hold: Deferred[None] | None = None
        self._delivered: Deferred[None] = Deferred(self._cancelled)
        self._allowed: int | None = None
        self._failure: Exception | None = None

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        if self._sink is not None or self.ended:
            return fail(AssertionError("a body is delivered once, and not after it was abandoned"))
        self._sink = sink
        self._clock.callLater(0, self._flow)
        return self._delivered

    def abandon(self) -> None:
        self.ended = True
        if self._sink is not None and not self._delivered.called:
            self._delivered.errback(CancelledError())

    def stall(self) -> None:
        """
        Deliver nothing until C{feed} or C{finish}.
        """
        self._allowed = 0

    def feed(self, size: int) -> None:
        """
        Deliver C{size} more bytes, and wait again.
        """
        self._allowed = (self._allowed or 0) + size
        self._flow()

    def finish(self) -> None:
        """
        Deliver the rest.
        """
        self._allowed = None
        self._flow()

    def fail(self, error: Exception) -> None:
        """
        Break the connection.
        """
        self._failure = error
        self._flow()

    def cut(self) -> None:
        """
        End after the delivered bytes, as a response without a length does when its
        connection breaks.
        """
        self._rest = self._rest[:0]
        self._flow()

    def _cancelled(self, _: Deferred[None]) -> None:
        self.ended = True
        if self._hold is not None:
            self._hold.cancel()

    def _flow(self) -> None:
        """
        Deliver the permitted bytes.  A sink may end the body at any call.
        """
        if self._sink is None:
            return  # The test's settings are kept until the delivery begins.
        while not (self.ended or self._hold or self._failure) and self._rest and self._allowed != 0:
            size = min(PIECE, len(self._rest), self._allowed or PIECE)
            piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
            if self._allowed is not None:
                self._allowed -= size
            self.sent += size
            try:
                hold = self._sink(piece)
            except Exception as e:
                self._failure = e
            else:
                if hold is not None:
                    self._hold = hold
                    _ = hold.addCallbacks(self._continue, lambda _: None)
        if self.ended:
            return
        if self._failure is not None:
            self.ended = True
            self._delivered.errback(self._failure)
        elif not self._rest:
            self.ended = True
            self._delivered.callback(None)

    def _continue(self, _: None) -> None:
        """
        Continue after a sink has paused the body.
        """
        self._hold = None
        self._flow()
