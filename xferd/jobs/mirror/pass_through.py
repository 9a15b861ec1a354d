# -*- test-case-name: tests.jobs.mirror.test_pass_through -*-
"""
A part of a blob that is relayed from an upstream to one client, past the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import DigestMismatch, RegistryError, SizeMismatch, Truncated
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.registry import IBlobSource
from xferd.interfaces.transfer import ISource
from xferd.oci import Descriptor
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

MOST: Final = 256 * 1024
"""Bytes that are held for a client that reads slowly; the upstream waits then."""


@implementer(IBlobReader)
class PassThrough:
    """
    The bytes from one offset to another, read once and in their order.

    A whole blob is verified, and its end held until then.  A part cannot be.

    Life cycle: made; C{fetch}ed by a transfer, which C{watch} names; read;
    C{close}d, which ends the transfer.
    """

    path: str | None = None

    def __init__(
        self,
        blob: Descriptor,
        start: int,
        stop: int,
        held_back: int,
        counter: Callable[[str, Transfer], Callable[[int], Deferred[None] | None]],
        closed: Callable[[], None],
        verified: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param stop: the exclusive end.
        @param held_back: the bytes at the end of a whole blob that wait for its
            digest.
        @param counter: called with the host and the transfer; returns a function that is
            called with the number of received bytes, and returns what has to fire before
            more are received.
        @param closed: called when the reader is closed.
        @param verified: called when a whole blob had its digest.
        """
        self.size = blob.size
        self._blob = blob
        self._start = start
        self._stop = stop
        self._received = start
        self._position = start
        self._buffer = bytearray()
        whole = start == 0 and stop == blob.size
        self._hash = blob.digest.hasher() if whole else None
        self._held = min(held_back, blob.size) if whole else 0
        self._counter = counter
        self._verified = verified
        self._closed: Callable[[], None] | None = closed
        self._watcher: Watcher[None] | None = None
        self._failure: Failure | None = None
        self._waiting: tuple[int, Deferred[bytes]] | None = None
        self._ready: Deferred[None] | None = None
        self._drained: Deferred[None] | None = None

    # ------------------------------------------------------- the transfer

    def watch(self, watcher: Watcher[None]) -> None:
        """
        Own the watcher of the transfer.
        """
        self._watcher = watcher
        _ = watcher.result().addErrback(self._fail)

    async def fetch(self, transfer: Transfer) -> None:
        """
        The work of the transfer.
        """
        transfer.report(bytes_done=0, bytes_total=self._stop - self._start)

        async def attempt(source: ISource) -> None:
            await self._attempt(transfer, cast("IBlobSource", source))

        await transfer.attempts(attempt)
        if self._hash is not None:
            if self._hash.hexdigest() != self._blob.digest.hex:
                raise DigestMismatch(f"the bytes that arrived for {self._blob.digest} have another digest")
            self._verified()
        self._held = 0
        self._wake()

    async def _attempt(self, transfer: Transfer, source: IBlobSource) -> None:
        """
        Receive what is missing.
        """
        begin, end = self._received, self._stop
        if begin >= end:
            return
        body = await source.open(self._blob.digest, begin, None if end == self.size else end)
        if body.total not in (None, self.size):
            body.abandon()
            raise SizeMismatch(
                f"{source.label} has {body.total} bytes for {self._blob.digest}; {self.size} were promised",
                host=source.host,
            )
        if body.start != begin:
            body.abandon()
            raise RegistryError(
                f"{source.label} sends no part of {self._blob.digest} from byte {begin} on", host=source.host
            )

        count = self._counter(source.host, transfer)

        def sink(data: bytes) -> Deferred[None] | None:
            data = data[: end - self._received]
            self._received += len(data)
            self._buffer += data
            if self._hash is not None:
                self._hash.update(data)
            transfer.report(bytes_done=self._received - self._start, moved=len(data))
            hold = count(len(data))
            self._wake()
            if hold is None and len(self._buffer) - self._held > MOST:
                hold = self._drained = Deferred(self._forget_drained)
            return hold

        await body.deliver(sink)
        if self._received < end:
            raise Truncated(
                f"{source.label} ended {self._blob.digest} after {self._received} bytes", host=source.host
            )

    # --------------------------------------------------------- the client

    def ready(self) -> Deferred[None]:
        """
        Wait for the first byte that can be read.
        """
        if self._failure is not None:
            return fail(self._failure)
        if self._available() or self._position >= self._stop:
            return succeed(None)
        self._ready = Deferred(self._forget_ready)
        return self._ready

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        if offset != self._position:
            return fail(AssertionError(f"byte {offset} is read after {self._position}"))
        if self._available() or self._position >= self._stop:
            return succeed(self._take(most))
        if self._failure is not None:
            return fail(self._failure)
        reading: Deferred[bytes] = Deferred(self._forget_waiting)
        self._waiting = most, reading
        return reading

    def close(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.release()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()

    # -------------------------------------------------------------- inside

    def _available(self) -> int:
        """
        The bytes that can be read now.
        """
        held = max(0, self._held - (self._stop - self._received))
        return max(0, len(self._buffer) - held)

    def _take(self, most: int) -> bytes:
        size = min(most, self._available())
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._position += size
        drained = self._drained
        if drained is not None and len(self._buffer) - self._held <= MOST // 2:
            self._drained = None
            drained.callback(None)
        return data

    def _wake(self) -> None:
        """
        Fire what waits for bytes.
        """
        if not self._available():
            return
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(None)
        if self._waiting is not None:
            (most, reading), self._waiting = self._waiting, None
            reading.callback(self._take(most))

    def _fail(self, failure: Failure) -> None:
        if failure.check(CancelledError) is not None and self._watcher is None:
            return  # It was closed.
        self._failure = failure
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.errback(failure)
        if self._waiting is not None:
            (_, reading), self._waiting = self._waiting, None
            reading.errback(failure)

    def _forget_ready(self, _: Deferred[None]) -> None:
        self._ready = None

    def _forget_waiting(self, _: Deferred[bytes]) -> None:
        self._waiting = None

    def _forget_drained(self, _: Deferred[None]) -> None:
        self._drained = None
