# -*- test-case-name: tests.unpack.test_inflate -*-
"""
Inflates a blob into its tar, for one reader in the worker.

The bytes decide over the media type: a blob that begins with the magic number
of gzip or zstd is inflated as such, and any other is a tar.  Several gzip
members and several zstd frames are one stream (RFC 1952, 2.2; RFC 8878, 3.1),
skippable frames are skipped, and zeros after the last gzip member are
padding.  Any other trailing bytes are an error, since tools disagree on them.

L{Blocks} inflates in one thread and hashes in another, a few buffers ahead of
its reader.  Both release the interpreter's lock for nearly all of their time,
so that one large layer keeps several cores busy.  Buffers are reused: new
memory for each would cost a page fault for every 4 KiB.

Archives, which arrive at the reactor in pieces, are inflated by
L{xferd.archive.inflate}.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from gzip import BadGzipFile
from hashlib import sha256, sha512
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

from isal.igzip_lib import IsalError
from isal.isal_zlib import _GzipReader
from zstandard import ZstdDecompressor, ZstdError

from xferd.compression import HEAD_SIZE, MAX_WINDOW, RATIO_FROM, compression_of
from xferd.errors import BadLayer
from xferd.unpack.limits import Limits

READ_SIZE: Final = 256 * 1024
"""Compressed bytes of one read."""

BUFFER_SIZE: Final = 512 * 1024
"""Bytes of tar in one buffer: a multiple of a tar's block."""

BUFFERS: Final = 6
"""Buffers of one layer: how far inflating may be ahead of writing."""

_TOO_WIDE: Final = "too much memory"
"""Part of zstd's error for a window above L{MAX_WINDOW}."""

_BAD: Any = (
    EOFError,
    BadGzipFile,
    IsalError,
    ZstdError,
    OverflowError,
)  # isal's stubs call its error a value


class Readable(Protocol):
    """
    A source of bytes: the blob, or the tar.
    """

    def readinto(self, buffer: memoryview, /) -> int:
        """
        Wait for bytes and write some to C{buffer}.

        @return: their number; 0 at the end.
        """


class _Sniffed:
    """
    A source whose first bytes are read ahead.

    @ivar head: the first L{HEAD_SIZE} bytes, or all if there are fewer.
    @ivar consumed: bytes read from the source so far.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        head = bytearray(HEAD_SIZE)
        room, have = memoryview(head), 0
        while have < HEAD_SIZE and (count := source.readinto(room[have:])):
            have += count
        self.head = bytes(head[:have])
        self._again = self.head
        self.consumed = have

    def readinto(self, buffer: memoryview, /) -> int:
        view = memoryview(buffer)
        if self._again:
            count = min(len(view), len(self._again))
            view[:count] = self._again[:count]
            self._again = self._again[count:]
            return count
        count = self._source.readinto(view)
        self.consumed += count
        return count

    def read(self, size: int = -1, /) -> bytes:
        """
        Read for zstandard, which does not use C{readinto}.
        """
        room = bytearray(READ_SIZE if size < 0 else size)
        count = self.readinto(memoryview(room))
        del room[count:]
        return bytes(room)


class _Zstd:
    """
    A zstd decompressor with its window's size.
    """

    def __init__(self, source: _Sniffed) -> None:
        self._inner = ZstdDecompressor(max_window_size=MAX_WINDOW)
        self.readinto = self._inner.stream_reader(
            source,  # type: ignore[arg-type]
            read_size=READ_SIZE,
            read_across_frames=True,
            closefd=False,
        ).readinto

    @property
    def memory(self) -> int:
        """
        Bytes of memory in use; most of them are the frame's window.
        """
        return self._inner.memory_size()


def _inflater(source: _Sniffed, compression: str) -> Readable:
    """
    Choose a decompressor by the magic number.

    @raise BadLayer: the format is not one of OCI's.
    """
    found = compression_of(source.head)
    if found == "gzip":
        # The class is private by its name only: isal's stubs have it, and the public IGzipFile reads
        # through it, behind a BufferedReader that copies every byte once more.
        reader: Readable = _GzipReader(source, READ_SIZE)  # type: ignore[arg-type]
        return reader
    if found == "zstd":
        return _Zstd(source)
    if found:
        raise BadLayer(f"the layer is compressed with {found}; OCI knows gzip and zstd")
    if not source.head and compression != "tar":
        raise BadLayer(f"the layer is empty, and should be {compression}")
    return source


_Filled = tuple[memoryview, int] | BaseException | None


class Blocks:
    """
    Iterates over the tar in buffers.  Each but the last is full, and so a whole
    number of tar blocks.

    @ivar size: bytes of tar inflated so far; all of them once iteration has
        ended.
    """

    def __init__(
        self,
        source: Readable,
        compression: str,
        limits: Limits,
        algorithm: str = "sha256",
        seal: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param algorithm: the algorithm of the tar's digest.
        @param seal: called after both threads have started and before a byte is
            read.
        """
        self._source, self._compression, self._limits = source, compression, limits
        self._sniffed: _Sniffed | None = None
        self._zstd: _Zstd | None = None
        self._algorithm = algorithm
        self._hash = sha512() if algorithm == "sha512" else sha256()
        self.size = 0
        self._lent: memoryview | None = None
        self._free: SimpleQueue[memoryview | None] = SimpleQueue()
        self._filled: SimpleQueue[_Filled] = SimpleQueue()
        self._hashed: SimpleQueue[_Filled] = SimpleQueue()
        self._threads = [Thread(target=work, daemon=True) for work in (self._inflate, self._digest)]
        for thread in self._threads:
            thread.start()
        seal()
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(BUFFER_SIZE)))

    @property
    def consumed(self) -> int:
        """
        Bytes of the blob read so far.
        """
        return 0 if self._sniffed is None else self._sniffed.consumed

    @property
    def memory(self) -> int:
        """
        Bytes of memory that decompression uses.  Later frames of a stream may
        need more.
        """
        return 0 if self._zstd is None else self._zstd.memory

    @property
    def diff_id(self) -> str:
        """
        The digest of the tar, once iteration has ended.
        """
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> memoryview:
        """
        Return the next buffer.  The previous one becomes invalid.

        @raise BadLayer: the bytes cannot be inflated, or to too many.
        """
        if self._lent is not None:
            self._free.put(self._lent)
            self._lent = None
        found = self._hashed.get()
        if isinstance(found, tuple):
            self._lent, count = found
            return self._lent[:count]
        self._hashed.put(found)  # for further calls after the end
        if found is None:
            raise StopIteration
        raise found

    def close(self) -> None:
        """
        End the threads after their current buffer.  Idempotent.
        """
        self._free.put(None)

    def _digest(self) -> None:
        """
        The second thread: hash the buffers, in order.
        """
        while isinstance(filled := self._filled.get(), tuple):
            buffer, have = filled
            self._hash.update(buffer[:have])
            self._hashed.put(filled)
        self._hashed.put(filled)

    def _inflate(self) -> None:
        """
        The first thread: fill buffers, and report the end or the error.
        """
        try:
            self._fill()
        except _BAD as e:
            bad = BadLayer(f"the layer cannot be inflated after {self.size} bytes: {_explained(e)}")
            bad.__cause__ = e
            self._filled.put(bad)
        except BaseException as e:
            self._filled.put(e)
        else:
            self._filled.put(None)

    def _fill(self) -> None:
        buffer = self._free.get()  # blocks until the process is sealed
        source = self._sniffed = _Sniffed(self._source)
        inflater = _inflater(source, self._compression)
        readinto = inflater.readinto
        if isinstance(inflater, _Zstd):
            self._zstd = inflater
        limits = self._limits
        while buffer is not None:
            have, count = 0, 1
            while have < BUFFER_SIZE and (count := readinto(buffer[have:])):
                have += count
            self.size += have
            if self.size > limits.size:
                raise BadLayer(f"the layer inflates to more than {limits.size} bytes")
            if self.size > RATIO_FROM and self.size > limits.ratio * source.consumed:
                raise BadLayer(
                    f"the layer inflates to more than {limits.ratio} times its size: "
                    f"{source.consumed} bytes became {self.size}"
                )
            if have:
                self._filled.put((buffer, have))
            if not count:
                return
            buffer = self._free.get()


def _explained(error: BaseException) -> str:
    """
    The message of a decompressor's error.
    """
    text = str(error)
    return f"a zstd frame has a window above {MAX_WINDOW} bytes" if _TOO_WIDE in text else text
