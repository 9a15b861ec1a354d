# -*- test-case-name: tests.v2.test_file_sender -*-
"""
Sends a blob's file to a client, without waiting for the disk in the reactor.

On a plain connection, C{sendfile(2)} has the kernel copy from its page cache to the
socket, and no byte passes through Python.  Under TLS, each piece is encrypted by one call
and goes to the socket at once.  Twisted's own C{FileSender} reads and writes pieces; its
TLS transport cuts them into records, copies each four times, and waits for the reactor
after each 128 KiB.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, Never, cast

from OpenSSL.SSL import Error
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Connection
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol

from xferd.errors import StoreError
from xferd.web.backpressure import Backpressure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IPushProducer, IReactorTime
    from twisted.web.server import Request

WINDOW: Final = 1024 * 1024
"""Bytes that one call of C{sendfile} may send: others wait meanwhile."""

AHEAD: Final = 4 * WINDOW
"""Bytes that a thread reads from the disk at once."""

PIECE: Final = 32 * 1024
"""Bytes that are read and written at once where C{sendfile} cannot be used.  Twice as many cost
a tenth less time, but each TLS connection keeps a buffer of that size."""

_STRIDE: Final = 128 * 1024
"""The kernel reads as many bytes ahead, and has dropped none of them alone."""

_SEALED: Final = PIECE + PIECE // 64
"""More bytes than the TLS records of a piece have: each of 16 KiB adds less than 100."""

_LEFT: Final = (errno.EPIPE, errno.ECONNRESET)
"""Errors of a connection whose client has left."""

_NOT_HERE: Final = (errno.EAGAIN, errno.EWOULDBLOCK)


class FileSender:
    """
    Sends parts of one file, in their order.
    """

    def __init__(
        self,
        request: Request,
        flow: Backpressure,
        file: int,
        preload: Callable[[int, int], Deferred[None]],
        clock: IReactorTime,
        pace: Callable[[int], Deferred[None] | None] = lambda _: None,
        window: int = WINDOW,
    ) -> None:
        """
        @param flow: the request's producer, which has begun.
        @param file: a descriptor of the file, which stays open.
        @param preload: reads a part of the file, an offset and a size in bytes,
            into the page cache, in a thread.
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
        self._socket = _socket_of(request, flow, file)

    async def send(self, start: int, stop: int, *, fresh: bool = False) -> None:
        """
        Send the bytes from C{start} to C{stop}.  A client that leaves cancels this.

        @param fresh: whether the bytes were written a moment ago, so that the kernel has
            them in memory.
        @raise StoreError: the file is shorter, or cannot be read.
        """
        # Where the last part left room, one that has just arrived needs no turn of the reactor.
        at_once = self._socket is not None and self._socket.has_room
        if not at_once:
            # Writes the head of the response, if nothing else has.
            self._flow.write(b"")
        while start < stop:
            size = min(self._window, stop - start)
            if not fresh and not is_cached(self._file, start, size):
                await self._preload(start, min(AHEAD, stop - start))
            before = start
            if self._socket is None:
                start = await self._write(start, start + size)
            else:
                if not at_once:
                    await self._socket.drained()
                at_once = False
                sent = await self._socket.send(start, size)
                self._request.sentLength += sent
                start += sent
            hold = self._pace(start - before)
            if hold is not None:
                await hold

    async def _write(self, start: int, stop: int) -> int:
        """
        Read and write in pieces, for a transport of another kind.

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
    L{_STRIDE}.  Where the kernel or the file system does not support the call, it counts as cached.
    """
    buffer = bytearray(1)
    try:
        for offset in (*range(start, start + size, _STRIDE), start + size - 1):
            os.preadv(file, [buffer], offset, os.RWF_NOWAIT)
    except OSError as e:
        return e.errno not in _NOT_HERE
    return True


class _Socket:
    """
    The connection of a request, as far as bytes go past its transport.

    @ivar has_room: whether the socket has taken all that was to be sent.
    """

    has_room = False

    def __init__(self, connection: Connection, flow: Backpressure, file: int) -> None:
        self._connection = connection
        self._flow = flow
        self._file = file

    async def drained(self) -> None:
        """
        Wait until the transport's buffer is empty and the socket takes more.

        A transport whose producer is paused resumes it at that moment.
        """
        if not self._flow.paused:
            self._pause()
        # As FileDescriptor sets it, where its buffer is full.
        self._connection.producerPaused = True
        cast(FileDescriptor, self._connection).startWriting()
        await self._flow.writable()

    async def send(self, start: int, size: int) -> int:
        """
        Send as much as the socket takes.

        @return: the number of bytes.
        @raise StoreError: the file is shorter, or cannot be read.
        """
        self.has_room = False
        try:
            sent = os.sendfile(self._connection.fileno(), self._file, start, size)
        except BlockingIOError:
            return 0
        except OSError as e:
            if e.errno in _LEFT:
                await self._left()
            raise StoreError(f"a blob cannot be sent: {e.strerror}") from e
        if not sent:
            raise StoreError(f"the file of a blob ends at byte {start}")
        self.has_room = sent == size
        return sent

    def _pause(self) -> None:
        self._flow.pauseProducing()

    async def _left(self) -> Never:
        """
        The client has left.  The end of the connection cancels this wait.
        """
        self._connection.abortConnection()
        await Deferred()
        raise AssertionError("the wait has no result")


class _TLSSocket(_Socket):
    """
    The same under TLS.
    """

    _buffer: ClassVar = bytearray(PIECE)
    """Of all connections: it is used within one turn of the reactor."""

    def __init__(
        self, tls: TLSMemoryBIOProtocol, connection: Connection, flow: Backpressure, file: int
    ) -> None:
        super().__init__(connection, flow, file)
        self._tls = tls

    async def send(self, start: int, size: int) -> int:
        """
        Encrypt and send pieces until the socket takes no more.  What it leaves of the last
        one is the transport's.
        """
        sent, self.has_room = 0, True
        while sent < size and self.has_room:
            with memoryview(self._buffer)[: min(PIECE, size - sent)] as piece:
                try:
                    read = os.preadv(self._file, [piece], start + sent)
                except OSError as e:
                    raise StoreError(f"a blob cannot be read: {e.strerror}") from e
                if not read:
                    raise StoreError(f"the file of a blob ends at byte {start + sent}")
                try:
                    sealed = self._seal(piece[:read])
                except Error:
                    await self._left()
            sent += read
            self.has_room = await self._pass(sealed)
        return sent

    def _seal(self, piece: memoryview) -> bytes:
        """
        The TLS records of a piece.

        @raise Error: the TLS connection has ended.
        """
        connection, taken, records = self._tls.getHandle(), 0, []
        # One call takes all, by the certificate's context; another one, a record.
        while taken < len(piece):
            taken += connection.send(piece[taken:])
            records.append(connection.bio_read(_SEALED))
        return b"".join(records)

    async def _pass(self, sealed: bytes) -> bool:
        """
        Have the socket take bytes, and the transport the rest of them.

        @return: whether there is no rest.
        """
        try:
            taken = self._connection.socket.send(sealed)
        except BlockingIOError:
            taken = 0
        except OSError as e:
            if e.errno in _LEFT:
                await self._left()
            raise StoreError(f"a blob cannot be sent: {e.strerror}") from e
        if taken < len(sealed):
            self._connection.write(sealed[taken:])
        return taken == len(sealed)

    def _pause(self) -> None:
        # The transport's producer is the TLS layer's, which forgets no pause.
        cast("IPushProducer", self._connection.producer).pauseProducing()


def _socket_of(request: Request, flow: Backpressure, file: int) -> _Socket | None:
    """
    The socket of a request, if bytes can go past its transport.

    A TLS transport that gathers writes would send its own later, and is none.
    """
    transport = cast("object", request.channel.transport)
    if isinstance(transport, Connection):
        return None if transport.TLS else _Socket(transport, flow, file)
    if not isinstance(transport, TLSMemoryBIOProtocol) or isinstance(transport, BufferingTLSTransport):
        return None
    connection = cast("object", transport.transport)
    return _TLSSocket(transport, connection, flow, file) if isinstance(connection, Connection) else None
