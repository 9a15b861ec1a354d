# -*- test-case-name: tests.v2.test_file_sender -*-
"""
Sends a blob's file to a client: by C{sendfile(2)} where the connection is a plain
socket, and without waiting for the disk in the reactor.

With C{sendfile}, the kernel copies from its page cache to the socket, and no byte
passes through Python.  Twisted's own C{FileSender} reads and writes pieces.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Connection

from xferd.errors import StoreError
from xferd.web.backpressure import Backpressure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

WINDOW: Final = 1024 * 1024
"""Bytes that one call of C{sendfile} may send: others wait meanwhile."""

AHEAD: Final = 4 * WINDOW
"""Bytes that a thread reads from the disk at once."""

PIECE: Final = 128 * 1024
"""Bytes that are read and written at once where C{sendfile} cannot be used."""

_NOT_HERE: Final = (errno.EAGAIN, errno.EWOULDBLOCK)


class FileSender:
    """
    Sends a part of one file.
    """

    def __init__(
        self,
        request: Request,
        flow: Backpressure,
        file: int,
        preload: Callable[[int, int], Deferred[None]] | None,
        clock: IReactorTime,
        pace: Callable[[int], Deferred[None] | None] = lambda _: None,
        window: int = WINDOW,
    ) -> None:
        """
        @param flow: the request's producer, which has begun.
        @param file: a descriptor of the file, which stays open.
        @param preload: reads a part of the file, an offset and a size in bytes,
            into the page cache, in a thread; L{None} if the bytes were written a moment
            ago, so that the kernel has them there.
        @param pace: called with the number of bytes that were sent; where it returns a
            Deferred, no more are sent until it fires.
        @param window: the bytes between two calls of C{pace}, at most.
        """
        self._window = min(window, WINDOW)
        self._pace = pace
        self._request = request
        self._flow = flow
        self._file = file
        self._preload = preload
        self._clock = clock
        self._connection = _plain(request)

    async def send(self, start: int, stop: int) -> None:
        """
        Send the bytes from C{start} to C{stop}.  A client that leaves cancels this.

        @raise StoreError: the file is shorter, or cannot be read.
        """
        # Writes the head of the response, if nothing else has.
        self._flow.write(b"")
        while start < stop:
            size = min(self._window, stop - start)
            if self._preload is not None and not is_cached(self._file, start, size):
                await self._preload(start, min(AHEAD, stop - start))
            before = start
            if self._connection is None:
                start = await self._write(start, start + size)
            else:
                await self._drained(self._connection)
                start += await self._sendfile(self._connection, start, size)
            hold = self._pace(start - before)
            if hold is not None:
                await hold

    async def _sendfile(self, connection: Connection, start: int, size: int) -> int:
        """
        Send as much as the socket takes.

        @return: the number of bytes.
        """
        try:
            sent = os.sendfile(connection.fileno(), self._file, start, size)
        except BlockingIOError:
            return 0
        except OSError as e:
            if e.errno in (errno.EPIPE, errno.ECONNRESET):
                # The client has left.  The end of the connection cancels this wait.
                connection.abortConnection()
                await Deferred()
            raise StoreError(f"a blob cannot be sent: {e.strerror}") from e
        if not sent:
            raise StoreError(f"the file of a blob ends at byte {start}")
        self._request.sentLength += sent
        return sent

    async def _drained(self, connection: Connection) -> None:
        """
        Wait until the transport's buffer is empty and the socket takes more.

        A transport whose producer is paused resumes it at that moment.
        """
        if not self._flow.paused:
            self._flow.pauseProducing()
        # As FileDescriptor sets it, where its buffer is full.
        connection.producerPaused = True
        cast(FileDescriptor, connection).startWriting()
        await self._flow.writable()

    async def _write(self, start: int, stop: int) -> int:
        """
        Read and write in pieces, for TLS.

        @return: the offset that was reached.
        """
        while start < stop:
            try:
                data = os.pread(self._file, min(PIECE, stop - start), start)
            except OSError as e:
                raise StoreError(f"a blob cannot be read: {e.strerror}") from e
            if not data:
                raise StoreError(f"the file of a blob ends at byte {start}")
            self._flow.write(data)
            start += len(data)
            if self._flow.paused:
                await self._flow.writable()
            else:
                await deferLater(self._clock, 0)
        return start


def is_cached(file: int, start: int, size: int) -> bool:
    """
    Whether the kernel has a part of a file in memory, by a look at one byte in each
    L{PIECE}.  Where the kernel or the file system cannot tell, it counts as cached.
    """
    buffer = bytearray(1)
    try:
        for offset in (*range(start, start + size, PIECE), start + size - 1):
            os.preadv(file, [buffer], offset, os.RWF_NOWAIT)
    except OSError as e:
        return e.errno not in _NOT_HERE
    return True


def _plain(request: Request) -> Connection | None:
    """
    The connection of a request, if the kernel's socket takes its bytes as they
    are: not under TLS.
    """
    transport = cast("object", request.channel.transport)
    return transport if isinstance(transport, Connection) and not transport.TLS else None
