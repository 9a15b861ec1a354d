# -*- test-case-name: tests.registry.transport.test_request_body -*-
"""
Bodies of requests: bytes, and parts of blobs, which are read as fast as the
registry receives them, with limits on silence and rate.

Twisted's agent does not stop a body when its response arrives early or when its
request is cancelled, and has no timeouts.  L{ContentBody.guard} does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from xferd.errors import StoreError, TimedOut
from xferd.interfaces.registry import IContent
from xferd.registry.transport.response_body import discard
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.watchdog import Watchdog

PIECE: Final = 128 * 1024
"""Bytes that are read and written at once: what Twisted passes to the kernel in one
call, and twice what it buffers before it pauses a producer."""


class ContentFailed(Exception):
    """
    The bytes to be sent cannot be read.  The target registry is not at fault,
    even if they come from another registry.

    @ivar error: the reason.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@implementer(IBodyProducer)
class BytesBody:
    """
    A small body in memory.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Everything is written at once.
        """

    resumeProducing = stopProducing = pauseProducing


@implementer(IBodyProducer)
class ContentBody:
    """
    A part of a blob as the body of one request.

    States: made; sending, when it reads or is paused; sent, when it waits for
    the response; over.

    @ivar length: bytes of the body.
    @ivar at: the offset in the blob of the next byte to be sent.
    """

    def __init__(
        self,
        content: IContent,
        start: int,
        stop: int,
        report: Callable[[int], None],
        *,
        host: str,
        clock: IReactorTime,
        timeouts: Timeouts,
    ) -> None:
        """
        @param start: the offset of the first byte.
        @param stop: the offset after the last byte.
        @param report: called with the offset after each piece that was sent.
        """
        self.length = stop - start
        self.at = start
        self._stop = stop
        self._content = content
        self._report = report
        self._host = host
        self._clock = clock
        self._timeouts = timeouts
        self._consumer: IConsumer | None = None
        self._produced: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._reading: Deferred[bytes] | None = None
        self._flowing = self._paused = self._over = False
        self._watchdog = Watchdog(self._fail, host=host, verb="took", clock=clock, timeouts=timeouts)
        self._commit: IDelayedCall | None = None
        self._waiting: Deferred[IResponse] | None = None
        self._answer: Deferred[IResponse] | None = None
        self._error: Exception | None = None

    def guard(self, waiting: Deferred[IResponse]) -> Deferred[IResponse]:
        """
        Wait for the response to the request with this body.

        @param waiting: the agent's Deferred for the request.
        @return: fires as C{waiting} does, when the body stops.  Cancelling stops
            body and request at once.
        @raise ContentFailed: the bytes cannot be read.
        @raise TimedOut: the registry receives nothing, or too little, or does
            not respond.
        """

        def settle(result: IResponse | Failure) -> None:
            answer = self._end()
            if answer is not None:
                answer.callback(result)
            elif not isinstance(result, Failure):
                discard(result)

        self._waiting = waiting
        if self._error is None:
            answer = self._answer = Deferred(self._cancelled)
        else:
            # The first piece could not be read.
            answer = fail(self._error)
            waiting.cancel()
        _ = waiting.addBoth(settle)
        return answer

    # ------------------------------------------------------- IBodyProducer

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Begin to read and to write.

        @return: fires when all is written.  It does not fire if the body fails;
            the Deferred of L{guard} does.
        """
        self._consumer = consumer
        self._flow()
        self._finish()
        if not (self._over or self._produced.called):
            # All of a small body is written already.
            self._watchdog.start()
        return self._produced

    def pauseProducing(self) -> None:
        """
        Pause.  A piece that is being read is still written.
        """
        if not self._paused and not self._over and self.at < self._stop:
            self._paused = True
            self._watchdog.arm()

    def resumeProducing(self) -> None:
        """
        Read and write again.
        """
        self._paused = False
        self._watchdog.disarm()
        self._flow()
        self._finish()

    def stopProducing(self) -> None:
        """
        Stop for good.
        """
        self._over = True
        self._watchdog.stop()
        if self._commit is not None and self._commit.active():
            self._commit.cancel()
        if self._reading is not None:
            self._reading.cancel()
        # It leads here: no cycle is left for the garbage collector.
        self._consumer = None

    # ------------------------------------------------------------- the flow

    def _flow(self) -> None:
        """
        Read and write until paused, or until a read has to wait.
        """
        if self._flowing:
            return
        self._flowing = True
        while not (self._over or self._paused) and self._reading is None and self.at < self._stop:
            self._watchdog.suspend()
            self._reading = self._content.read(self.at, min(PIECE, self._stop - self.at))
            _ = self._reading.addCallbacks(self._write, self._unreadable)
        self._flowing = False

    def _write(self, data: bytes) -> None:
        """
        Send a piece.
        """
        self._reading = None
        self._watchdog.resume()
        if self._over:
            return
        if not data:
            self._fail(ContentFailed(StoreError(f"the blob ended after {self.at} bytes, before its end")))
            return
        self.at += len(data)
        self._watchdog.count(len(data))
        assert self._consumer is not None
        self._consumer.write(data)
        self._report(self.at)
        if not self._flowing:
            self._flow()
            self._finish()

    def _unreadable(self, failure: Failure) -> None:
        self._reading = None
        if not self._over:
            error = failure.value
            self._fail(ContentFailed(error) if isinstance(error, Exception) else CancelledError())

    def _finish(self) -> None:
        """
        If all is written, begin to wait for the response.
        """
        if self._over or self.at < self._stop or self._produced.called:
            return
        self._watchdog.stop()
        self._commit = self._clock.callLater(self._timeouts.commit, self._unanswered)
        self._produced.callback(None)

    def _unanswered(self) -> None:
        seconds = self._timeouts.commit
        self._fail(
            TimedOut(
                f"{self._host} did not answer within {seconds:g} s of all {self.length} bytes",
                phase="headers",
                host=self._host,
            )
        )

    # --------------------------------------------------------------- the end

    def _fail(self, error: Exception) -> None:
        """
        End the request with an error.
        """
        self._error = error
        answer = self._give_up()
        if answer is not None:
            answer.errback(error)

    def _cancelled(self, _: Deferred[IResponse]) -> None:
        self._give_up()

    def _give_up(self) -> Deferred[IResponse] | None:
        """
        End the request.

        @return: the Deferred of L{guard}, once, for the caller to fire.
        """
        answer = self._end()
        if self._waiting is not None:
            self._waiting.cancel()
        return answer

    def _end(self) -> Deferred[IResponse] | None:
        """
        End the body.

        @return: the Deferred of L{guard}, once.
        """
        self.stopProducing()
        answer, self._answer = self._answer, None
        return answer
