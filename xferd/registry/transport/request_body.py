# -*- test-case-name: tests.registry.transport.test_request_body -*-
"""
Bodies of requests: small ones, and parts of blobs, which are read as fast as
the registry takes them, and watched for a registry that takes too little.

An Agent does not tell a body when its answer has come early, nor that it was
cancelled, and knows no limit on time.  L{ContentBody.guard} sees to all three.
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
"""Bytes to read and to write at once: what Twisted hands to the kernel in one
call, and twice what it buffers before it asks for a pause."""


class ContentFailed(Exception):
    """
    The bytes to be sent cannot be had.  This is no fault of the registry, even
    where they come from one.

    @ivar error: what the content said.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@implementer(IBodyProducer)
class BytesBody:
    """
    A small body.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Nothing is left to pause.
        """

    resumeProducing = stopProducing = pauseProducing


@implementer(IBodyProducer)
class ContentBody:
    """
    A part of a blob as the body of one request.

    States: made; sending, in which it reads or is paused; sent, in which the
    answer is waited for; over.

    @ivar length: the bytes of the body.
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
        @param stop: the offset behind the last.
        @param report: told the offset behind each piece that was sent.
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
        Wait for the answer to the request that this is the body of.

        @param waiting: what the Agent gave for the request.
        @return: fires as C{waiting} does, and stops the body.  Cancelling stops
            body and request at once.
        @raise ContentFailed: the bytes cannot be had.
        @raise TimedOut: the registry takes nothing, or too little, or does not
            answer.
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
            # The first piece could not be read, and so at once.
            answer = fail(self._error)
            waiting.cancel()
        _ = waiting.addBoth(settle)
        return answer

    # ------------------------------------------------------- IBodyProducer

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Begin to read and to write.

        @return: fires when all is written.  It does not fire if the body ends
            before; who waits is told by L{guard}.
        """
        self._consumer = consumer
        self._watchdog.start()
        self._flow()
        self._finish()
        return self._produced

    def pauseProducing(self) -> None:
        """
        Write no more for now.  What is being read is written still.
        """
        if not self._paused and not self._over and self.at < self._stop:
            self._paused = True
            self._watchdog.arm()

    def resumeProducing(self) -> None:
        """
        Go on.
        """
        self._paused = False
        self._watchdog.disarm()
        self._flow()
        self._finish()

    def stopProducing(self) -> None:
        """
        Write no more at all.
        """
        self._over = True
        self._watchdog.stop()
        if self._commit is not None and self._commit.active():
            self._commit.cancel()
        if self._reading is not None:
            self._reading.cancel()

    # ------------------------------------------------------------- the flow

    def _flow(self) -> None:
        """
        Read and write for as long as bytes are there and wanted.
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
        If all is written, begin to wait for the answer.
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
        End the request; who waits for its answer is the caller's to tell.
        """
        answer = self._end()
        if self._waiting is not None:
            self._waiting.cancel()
        return answer

    def _end(self) -> Deferred[IResponse] | None:
        """
        End the body.

        @return: who waits for the answer, once.
        """
        self.stopProducing()
        answer, self._answer = self._answer, None
        return answer
