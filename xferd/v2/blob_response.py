# -*- test-case-name: tests.v2.test_blob_response -*-
"""
A blob, or a range of it, as the body of a response: written as fast as the client
reads, and while the blob arrives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from xferd.errors import StoreError, XferdError
from xferd.interfaces.mirror import IFileReader
from xferd.v2.file_sender import AHEAD, WINDOW, FileSender
from xferd.web.backpressure import Backpressure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.mirror import FilePart, IBlobReader

STALL: Final = 300.0
"""Seconds after which a client that reads nothing is dropped."""

ARRIVING: Final = 32 * 1024
"""Bytes that are read and written at once while the blob arrives.  Each client has them
in memory several times: in the transport and in what is read next."""

FRAME: Final = 128 * 1024
"""Bytes in one frame, at most: a peer that begins late catches up."""

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))")


class RangeNotSatisfiable(Exception):
    """
    A range begins after the blob's end, or ends before its start.
    """


@frozen
class Span:
    """
    The bytes of a blob to send.

    @ivar stop: the exclusive end.
    @ivar partial: whether the answer is a 206.
    """

    start: int
    stop: int
    partial: bool


def span_of(header: str | None, size: int) -> Span:
    """
    The bytes that a C{Range} header asks for (RFC 9110, section 14.2).

    A header that is malformed, or has several ranges, is ignored, as the RFC allows.

    @param size: the blob's size in bytes.
    @raise RangeNotSatisfiable: there are no such bytes.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None:
        return Span(0, size, partial=False)
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if start >= stop:
        raise RangeNotSatisfiable
    return Span(start, stop, partial=True)


class BlobResponse:
    """
    The body of one response.

    Life cycle: made; C{run}; over when all is written or the client has left.  The
    reader is closed in each case.
    """

    _log = Logger()

    def __init__(
        self,
        request: Request,
        reader: IBlobReader,
        span: Span,
        clock: IReactorTime,
        preload: Callable[[int, int], Deferred[None]],
        *,
        stall: float = STALL,
        pace: Callable[[int], Deferred[None] | None] = lambda _: None,
        window: int = WINDOW,
        frame: Callable[[int, bytes], bytes] | None = None,
    ) -> None:
        """
        @param preload: see L{FileSender}.
        @param stall: seconds after which a client that reads nothing is dropped.
        @param pace: see L{FileSender}; not called for bytes that have no file.
        @param window: see L{FileSender}.
        @param frame: see L{PeerAnswer<xferd.interfaces.peers.PeerAnswer>}.
        """
        self._frame = frame
        self._window = window
        self._flow = Backpressure(request, clock, stall=stall, noun="blob")
        self._pace = pace
        self._request = request
        self._preload = preload
        self._reader = reader
        self._span = span
        self._clock = clock
        self._file: int | None = None
        self._arriving: FileSender | None = None

    async def run(self) -> None:
        """
        Write the bytes.

        On an error the connection is aborted: the client sees that the body is
        shorter than its Content-Length.
        """
        self._flow.begin()
        offset, stop = self._span.start, self._span.stop
        broken = False
        try:
            if self._frame is not None:
                await self._send_frames(self._frame, offset, stop)
                return
            while offset < stop:
                if self._reader.path is not None:
                    await self._send_file(self._reader.path, offset, stop)
                    return
                if IFileReader.providedBy(self._reader):
                    part = await self._reader.part(offset)
                    if part is not None:
                        offset = await self._send_part(part, offset, stop)
                        continue
                data = await self._reader.read(offset, min(ARRIVING, stop - offset))
                if self._flow.gone:
                    return
                self._flow.write(data)
                offset += len(data)
                if self._flow.paused:
                    await self._flow.writable()
                else:
                    await deferLater(self._clock, 0)
        except CancelledError:
            self._flow.gone = True
            raise
        except XferdError as e:
            self._log.warn(
                "the response with a blob ends early, at byte {offset}: {why}", offset=offset, why=str(e)
            )
            broken = True
        except Exception:
            self._log.failure("while a blob was sent")
            broken = True
        finally:
            if self._file is not None:
                os.close(self._file)
            self._reader.close()
            self._flow.end()
        if broken:
            self._flow.abort()
            # Returning would end the response as if it were whole.
            await Deferred()

    async def _send_frames(self, frame: Callable[[int, bytes], bytes], start: int, stop: int) -> None:
        """
        Send bytes in frames, as they come.
        """
        while start < stop:
            data = await self._reader.read(start, min(FRAME, self._window, stop - start))
            if self._flow.gone:
                return
            self._flow.write(frame(start, data))
            start += len(data)
            hold = self._pace(len(data))
            if hold is not None:
                await hold
            if self._flow.paused:
                await self._flow.writable()
            else:
                await deferLater(self._clock, 0)

    async def _send_part(self, part: FilePart, start: int, stop: int) -> int:
        """
        Send bytes of the growing file that are here.

        @return: the offset after them.
        """
        if self._arriving is None:
            # Only this response closes it; the file stays the same when the blob is complete.
            self._file = os.dup(part.file)
            self._arriving = self._sender(self._file)
        end = min(part.stop, stop)
        # Of a client that is far behind, the kernel may have dropped the bytes: written ones
        # remain for seconds.
        await self._arriving.send(start, end, fresh=end - start <= AHEAD)
        return end

    async def _send_file(self, path: str, start: int, stop: int) -> None:
        """
        Send the rest from the file of the complete blob.
        """
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise StoreError(f"cannot open {path}: {e.strerror}") from e
        try:
            await self._sender(file).send(start, stop)
        finally:
            os.close(file)

    def _sender(self, file: int) -> FileSender:
        return FileSender(
            self._request, self._flow, file, self._preload, self._clock, self._pace, self._window
        )
