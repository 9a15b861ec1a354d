# -*- test-case-name: tests.unpack.test_inflate -*-
"""
From the bytes of a blob to the bytes of its tar.

What the bytes say wins over what the media type says: a blob that begins with
gzip's or zstd's magic is that, and one that does not is a tar.  Several gzip
members and several zstd frames are one stream (RFC 1952, 2.2; RFC 8878, 3.1),
skippable frames are skipped, and zeros after the last gzip member are
padding.  Any other trailing bytes are an error: tools differ on them.

L{Blocks} inflates in one thread and hashes in another, a few buffers ahead of
its reader.  Both let go of the interpreter's lock for nearly all of their
time, so that one large layer keeps several cores busy.  The buffers are used over and
over: fresh memory for each would cost a page fault for every 4 KiB.

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

from xferd.errors import BadLayer
from xferd.unpack.limits import Limits

READ_SIZE: Final = 256 * 1024
"""Compressed bytes to read at once."""

BUFFER_SIZE: Final = 512 * 1024
"""Bytes of tar in one buffer: a multiple of a tar's block."""

BUFFERS: Final = 6
"""Buffers of one layer: how far inflating may be ahead of writing."""

RATIO_FROM: Final = 64 * 1024 * 1024
"""Uncompressed bytes from which on the ratio is looked at."""

MAX_WINDOW: Final = 128 * 1024 * 1024
"""The largest window, in bytes, that a zstd frame may ask for."""

_TOO_WIDE: Final = "too much memory"
"""What zstd's error says of a larger one."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_FOREIGN = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}
_MAGIC = 6
_BAD: Any = (
    EOFError,
    BadGzipFile,
    IsalError,
    ZstdError,
    OverflowError,
)  # isal's stubs call its error a value


class Readable(Protocol):
    """
    What gives the blob's bytes, or the tar's.
    """

    def readinto(self, buffer: memoryview, /) -> int:
        """
        Wait for bytes and put some into C{buffer}.

        @return: how many; 0 at the end.
        """


class _Sniffed:
    """
    A source whose first bytes were looked at and are given again.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        head = bytearray(_MAGIC)
        room, have = memoryview(head), 0
        while have < _MAGIC and (count := source.readinto(room[have:])):
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
        The same for zstandard, which takes bytes.
        """
        room = bytearray(READ_SIZE if size < 0 else size)
        count = self.readinto(memoryview(room))
        del room[count:]
        return bytes(room)


class _Zstd:
    """
    Inflates zstd.
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
        Bytes of memory that it needs, of which most are the frame's window.
        """
        return self._inner.memory_size()


def _inflater(source: _Sniffed, compression: str) -> Readable:
    """
    Choose by magic.

    @raise BadLayer: it is none of OCI's formats.
    """
    head = source.head
    if head.startswith(_GZIP):
        # The class is private to isal by its name only: it is in the stubs, and it is what the public
        # IGzipFile reads with, through a BufferedReader that would copy every byte once more.
        reader: Readable = _GzipReader(source, READ_SIZE)  # type: ignore[arg-type]
        return reader
    if head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return _Zstd(source)
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise BadLayer(f"the layer is compressed with {name}; OCI knows gzip and zstd")
    if not head and compression != "tar":
        raise BadLayer(f"the layer is empty, and should be {compression}")
    return source


_Filled = tuple[memoryview, int] | BaseException | None


class Blocks:
    """
    The tar in buffers, each full (and so a whole number of tar's blocks) but
    the last.

    @ivar size: bytes of tar so far; all, once iteration has ended.
    @ivar consumed: bytes of the blob that were read so far.
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
        @param seal: called when both threads run and nothing has been read yet.
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
        Bytes of the blob that were read so far.
        """
        return 0 if self._sniffed is None else self._sniffed.consumed

    @property
    def memory(self) -> int:
        """
        Bytes of memory that the compression needs; a stream may have frames
        that each need more than those before.
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
        The next buffer.  The one before is void from now on.

        @raise BadLayer: the bytes cannot be inflated, or there are too many.
        """
        if self._lent is not None:
            self._free.put(self._lent)
            self._lent = None
        found = self._hashed.get()
        if isinstance(found, tuple):
            self._lent, count = found
            return self._lent[:count]
        self._hashed.put(found)  # the end stays the end
        if found is None:
            raise StopIteration
        raise found

    def close(self) -> None:
        """
        Let the threads end, when they have what they wait for.  Idempotent.
        """
        self._free.put(None)

    def _digest(self) -> None:
        """
        The second thread: hash each buffer and hand it on.
        """
        while isinstance(filled := self._filled.get(), tuple):
            buffer, have = filled
            self._hash.update(buffer[:have])
            self._hashed.put(filled)
        self._hashed.put(filled)

    def _inflate(self) -> None:
        """
        The first thread: fill buffers, and say how it ended.
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
        """
        Fill buffers until the stream ends.
        """
        buffer = self._free.get()  # there is none before the process is sealed
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
    What an error of a decompressor means.
    """
    text = str(error)
    return f"a zstd frame has a window above {MAX_WINDOW} bytes" if _TOO_WIDE in text else text
