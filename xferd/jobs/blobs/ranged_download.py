# -*- test-case-name: tests.jobs.blobs.test_ranged_download,tests.jobs.blobs.test_ranged_errors -*-
"""
One blob is fetched from one source, by one stream or several.

Each stream requests the bytes from one offset on and writes them in place, up
to the first byte that is here or that another stream fetches.  Then it continues
with the next gap, or with half of what another stream has still to fetch.  A
single stream requests everything; where another stream has taken the second half
of that, it ends its response early.  One of several streams requests a part.

The stream in front uses the transfer's own slot, and its error is the transfer's;
the others borrow spare slots, and what one of them leaves is fetched by another.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import maxsize
from typing import Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.errors import RegistryError, SizeMismatch, SourceError, Truncated
from xferd.interfaces.blobs import IPartial
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.transfer.adaptive_streams import AdaptiveStreams, Advice, RangePolicy, StreamTrials
from xferd.transfer.eventual import Background
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

_PARTS: Final = 2
"""The number of smallest parts that one of several streams requests at once."""


def held(partial: IPartial) -> int:
    """
    The number of a blob's bytes that are here, at any offset.
    """
    return partial.offset + sum(stop - start for start, stop in partial.spans)


@define(eq=False)
class _Stream:
    """
    One request to the source, and its response.

    @ivar position: the offset of its next byte.
    @ivar bound: the exclusive offset at which its response ends.
    @ivar brought: the bytes received.
    @ivar work: the Deferred of its coroutine.
    """

    position: int
    bound: int = maxsize
    brought: int = 0
    work: Deferred[None] | None = field(default=None, repr=False)


class _Complete(Exception):
    """
    A stream has reached bytes that are here already.
    """


class RangedDownload:
    """
    Fills the gaps of one partial file from one source.

    Life cycle: made; L{run}, once.
    """

    _log = Logger()

    def __init__(
        self,
        partial: IPartial,
        source: IBlobSource,
        *,
        clock: IReactorTime,
        slots: Slots,
        policy: RangePolicy,
        trials: StreamTrials,
        opened: Callable[[IBlobBody], None] = lambda _: None,
        arrived: Callable[[int], Deferred[None] | None],
        changed: Callable[[int], None],
    ) -> None:
        """
        @param slots: the slots of the transfer, from which others are borrowed.
        @param opened: called with each body that is used, before its first byte.
        @param arrived: called with the size of each piece, when it is written;
            where it returns a Deferred, that stream reads no more until it
            fires.
        @param changed: called with the number of streams, when it changes.
        """
        self._partial = partial
        self._source = source
        self._clock = clock
        self._slots = slots
        self._policy = policy
        self._widening = AdaptiveStreams(policy, trials, source.host)
        self._opened = opened
        self._arrived = arrived
        self._changed = changed
        self._size = maxsize if partial.size is None else partial.size
        self._streams: list[_Stream] = []
        self._borrowed: list[SlotRequest] = []
        self._trial: _Stream | None = None
        self._background = Background()
        self._moved = 0
        self._ended_early = False
        self._error: Exception | None = None
        self._nap: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    async def run(self) -> None:
        """
        Fetch all that is missing, or as much as the source has.

        @raise SourceError: the stream in front failed.  Received bytes stay.
        @raise StoreError: the disk refuses.
        """
        if 0 < self._size - held(self._partial) < self._policy.least and not self._partial.spans:
            await self._run_alone()
            return
        self._widening.begin(self._clock.seconds(), 0)
        if self._policy.most > 1 and self._size - held(self._partial) >= self._policy.least:
            self._timer = self._clock.callLater(self._policy.window, self._look)
        try:
            while self._error is None:
                self._fill()
                if not self._streams:
                    break
                # No canceller: only this coroutine waits for it.
                self._nap = Deferred()
                await self._nap
            if self._error is not None:
                raise self._error
        finally:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._widening.end()
            try:
                await self._background.stop()
            finally:
                while self._borrowed:
                    self._borrowed.pop().release()

    async def _run_alone(self) -> None:
        """
        Fetch what is too little for more than one stream.
        """
        stream = _Stream(self._partial.offset)
        self._streams.append(stream)
        self._changed(1)
        try:
            await self._bring(stream)
        except _Complete:
            pass
        finally:
            self._streams.clear()
            self._changed(0)

    # ------------------------------------------------------- what is missing

    def _end_of(self, stream: _Stream) -> int:
        """
        The exclusive offset at which a stream has to end.
        """
        position, end = stream.position, self._size
        for start, _ in self._partial.spans:
            if position <= start < end:
                end = start
        for other in self._streams:
            if position < other.position < end:
                end = other.position
        return end

    def _next_start(self) -> int | None:
        """
        The offset at which one more stream should begin: the first gap that no
        stream fills, or else the middle of the longest rest of a stream.
        """
        start = self._partial.offset
        for span in (*self._partial.spans, (self._size, self._size)):
            # A stream writes where a gap begins, and reaches to the next one.
            if start < span[0] and all(stream.position != start for stream in self._streams):
                return start
            start = span[1]
        starts = [found for stream in self._streams if (found := self._start_behind(stream)) is not None]
        return max(starts, default=(0, None))[1]

    def _start_behind(self, stream: _Stream) -> tuple[int, int] | None:
        """
        The offset at which one more stream could begin in the rest of another:
        in its middle, but behind a requested part.  Ending a response early wastes
        the bytes in flight.

        @return: the number of bytes that it would have, and its start.
        """
        part, end = self._policy.part, self._end_of(stream)
        start = stream.position + (end - stream.position) // 2
        asked = min(stream.bound, end)
        if asked - stream.position <= _PARTS * part:
            start = max(start, asked)
        return (end - start, start) if end - start >= part else None

    def _front(self) -> _Stream:
        """
        The stream that fetches the bytes that followers wait for.
        """
        return min(self._streams, key=lambda stream: stream.position)

    # ------------------------------------------------------ more and fewer

    def _fill(self) -> None:
        """
        Begin a stream for each slot, and release the slots that have no work.
        """
        while self._error is None and not self._ended_early and len(self._streams) <= len(self._borrowed):
            start = self._next_start()
            if start is None:
                break
            self._begin(_Stream(start))
        if len(self._borrowed) >= max(1, len(self._streams)):
            self._widening.begin(self._clock.seconds(), self._moved)
            while len(self._borrowed) >= max(1, len(self._streams)):
                self._borrowed.pop().release()
        self._changed(len(self._streams))

    def _look(self) -> None:
        """
        Follow the advice that the rate gives.
        """
        self._timer = self._clock.callLater(self._policy.window, self._look)
        left = self._size - held(self._partial)
        advice = self._widening.look(self._clock.seconds(), self._moved, left, len(self._streams))
        if advice is Advice.WIDEN:
            self._widen()
        elif advice is Advice.NARROW and self._borrowed:
            self._narrow(self._borrowed[-1])

    def _widen(self) -> None:
        """
        Try one more stream, if there is a part and a slot for it.
        """
        start = self._next_start()
        request = (
            None
            if start is None
            else self._slots.spare(self._source.host, lambda: self._wanted(request), self._source.account)
        )
        if start is None or request is None:
            return
        self._borrowed.append(request)
        self._widening.opening()
        self._trial = _Stream(start)
        self._begin(self._trial)
        self._changed(len(self._streams))

    def _wanted(self, request: SlotRequest | None) -> None:
        """
        Another transfer needs a slot.
        """
        if request in self._borrowed:
            self._widening.begin(self._clock.seconds(), self._moved)
            self._narrow(request)

    def _narrow(self, request: SlotRequest) -> None:
        """
        Release a slot, and close a stream for it: the newest one, but not the one
        in front.
        """
        self._borrowed.remove(request)
        if len(self._streams) > 1 + len(self._borrowed):
            stream = self._streams[-1] if self._streams[-1] is not self._front() else self._streams[-2]
            self._streams.remove(stream)
            if stream.work is not None:
                stream.work.cancel()
        request.release()
        self._changed(len(self._streams))

    # ------------------------------------------------------------ one stream

    def _begin(self, stream: _Stream) -> None:
        self._streams.append(stream)
        stream.work = Deferred.fromCoroutine(self._flow(stream))
        self._background.spawn(stream.work, "while a part of a blob arrives")
        _ = stream.work.addBoth(self._ended, stream)

    def _ended(self, _: object, stream: _Stream) -> None:
        """
        Remove a stream that has ended, unless it was closed.
        """
        if stream in self._streams:
            self._streams.remove(stream)
            nap, self._nap = self._nap, None
            if nap is not None:
                nap.callback(None)

    async def _flow(self, stream: _Stream) -> None:
        """
        Run a stream to its end.
        """
        try:
            await self._bring(stream)
        except CancelledError:
            raise
        except _Complete:
            pass
        except Exception as e:
            self._failed(stream, e)

    async def _bring(self, stream: _Stream) -> None:
        """
        Write the bytes of one response, up to the end of the gap.
        """
        partial, bound = self._partial, self._size
        # Every registry can send the whole blob from the first byte on.
        if stream.position:
            bound = self._end_of(stream)
            if len(self._streams) > 1:
                bound = min(bound, stream.position + _PARTS * self._policy.part)
        stream.bound = bound
        body = await self._source.open(partial.digest, stream.position, bound if bound < self._size else None)
        if body.start < stream.position:
            bound = stream.bound = self._size
        passed_over = self._see_start(stream, body)
        self._opened(body)

        def sink(data: bytes) -> Deferred[None] | None:
            nonlocal passed_over
            size = len(data)
            skipped = min(passed_over, size)
            data = data[skipped:]
            end = min(bound, self._end_of(stream))
            # At the end of the requested range, the response has to end by itself.
            complete = stream.position + len(data) >= end != bound
            if complete:
                data = data[: end - stream.position]
            partial.write_at(stream.position, data)
            # Not before: a piece that could not be written may be passed again.
            passed_over -= skipped
            stream.position += len(data)
            self._moved += size
            if not stream.brought and stream is self._trial:
                self._widening.flowing(self._clock.seconds(), self._moved)
            stream.brought += size
            waiting = self._arrived(size)
            if complete:
                # Nothing would wait for the Deferred.
                raise _Complete
            return waiting

        await body.deliver(sink)
        if stream.position < min(bound, self._end_of(stream)):
            if self._size < maxsize:
                # A response without a length does not show that it was cut.
                raise Truncated(
                    f"{self._source.label} ended {partial.digest} after {stream.position} bytes",
                    host=self._source.host,
                )
            # The blob's size is not known.
            self._ended_early = True

    def _see_start(self, stream: _Stream, body: IBlobBody) -> int:
        """
        Check where a response starts.

        A registry that ignores Range sends the whole blob: then the bytes that
        are here are skipped, and what was unpacked of them stays.  The digest
        decides in the end.  Several streams are of no use then.

        @return: the number of bytes to skip.
        @raise SourceError: the response cannot be used.
        """
        partial, source = self._partial, self._source
        if None not in (body.total, partial.size) and body.total != partial.size:
            body.abandon()
            raise SizeMismatch(
                f"{source.label} has {body.total} bytes for {partial.digest}; {partial.size} were promised",
                host=source.host,
            )
        if body.start > stream.position or (body.start < stream.position and len(self._streams) > 1):
            body.abandon()
            raise RegistryError(
                f"{source.label} sent bytes from {body.start} on when asked for {stream.position} on",
                host=source.host,
            )
        if body.start < stream.position and partial.spans:
            partial.trim()
            stream.position = partial.offset
        return stream.position - body.start

    def _failed(self, stream: _Stream, error: Exception) -> None:
        """
        An error of the stream in front ends the attempt.  After an error of
        another stream, its slot is released and other streams do its work.
        """
        if stream is self._front() or not isinstance(error, SourceError):
            self._error = self._error or error
            return
        self._log.debug(
            "a further stream from {source} failed: {error}", source=self._source.label, error=error
        )
        if not stream.brought or (stream is self._trial and self._widening.in_trial):
            self._widening.refused(self._clock.seconds(), self._moved)
        else:
            self._widening.begin(self._clock.seconds(), self._moved)
        if self._borrowed:
            self._borrowed.pop().release()
