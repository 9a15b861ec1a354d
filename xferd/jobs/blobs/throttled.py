# -*- test-case-name: tests.jobs.blobs.test_throttled -*-
"""
Content that is sent no faster than the bandwidth allows.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.interfaces.registry import IContent
from xferd.transfer.bandwidth import Flow


@implementer(IContent)
class ThrottledContent:
    """
    Content whose next piece can be read when the bandwidth of the previous one
    is available.  At a low rate the pieces are small, so that they flow evenly.

    To the sender this is content that arrives slowly: the time does not count
    towards the limits on the registry.

    @ivar error: the content's last error, if it failed.
    """

    def __init__(self, content: IContent, flow: Flow) -> None:
        self.size = content.size
        self._content = content
        self._flow = flow
        self._owed: Deferred[None] | None = None
        self.error: Exception | None = None

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        return self._content.ready(offset, size, least).addErrback(self._failed)

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        if self._owed is None or self._owed.called:
            reading = self._content.read(offset, self._flow.piece(most)).addCallback(self._took)
        else:
            reading = Deferred.fromCoroutine(self._read(offset, most))
        return reading.addErrback(self._failed)

    async def _read(self, offset: int, most: int) -> bytes:
        """
        Wait for bandwidth, then read.
        """
        assert self._owed is not None
        await self._owed
        return self._took(await self._content.read(offset, self._flow.piece(most)))

    def _took(self, data: bytes) -> bytes:
        """
        Take the bandwidth of a piece that is about to be sent.
        """
        self._owed = self._flow.take(len(data))
        return data

    def _failed(self, failure: Failure) -> Failure:
        if isinstance(failure.value, Exception) and failure.check(CancelledError) is None:
            self.error = failure.value
        return failure
