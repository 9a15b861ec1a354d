# -*- test-case-name: tests.store.blobs.test_blobs -*-
"""
The content-addressed blobs, in C{content/blobs/}.

Each file there is complete and verified: it is renamed into place after its
bytes have been flushed.
"""

from __future__ import annotations

import os
import stat
from threading import Event
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.errors import DigestMismatch, NotFound, StoreError
from xferd.interfaces.blobs import IAnonymousBlob, IBlobs, IPartial
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT
from xferd.store.blobs.anonymous import AnonymousBlob, open_anonymous
from xferd.store.blobs.partial_file import Opened, open_partial
from xferd.store.blobs.partials import Partial
from xferd.store.disk.file_system import make_directory, sync_directory, trying_to, write_file
from xferd.store.disk.reserve import Reserve
from xferd.store.disk.trash import Trash
from xferd.store.leases import Leases
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation

PATIENCE: Final = 60.0
"""Seconds for which the next owner of a partial file waits for the previous one."""


_PIECE: Final = 1024 * 1024

_SMALL = 64 * 1024
"""
Bytes of a document that may use the reserve, at most.  A copy within one
registry writes nothing else.
"""


@implementer(IBlobs)
class Blobs:
    """
    The blobs of a data directory.
    """

    def __init__(
        self,
        paths: Paths,
        threads: Threads,
        bulk: Threads,
        *,
        trash: Trash,
        leases: Leases,
        clock: IReactorTime,
        reserve: Reserve,
    ) -> None:
        """
        @param bulk: threads for work whose time grows with the size of a blob.
        @param reserve: used by small documents when the disk is full.
        """
        self._bulk = bulk
        self._paths = paths
        self._reserve = reserve
        self._leases = leases
        self._threads = threads
        self._trash = trash
        self._clock = clock
        self._arriving: dict[Digest, Partial | None] = {}
        self._waiting: dict[Digest, list[Deferred[None]]] = {}

    def has(self, digest: Digest) -> bool:
        return self.size(digest) is not None

    def size(self, digest: Digest) -> int | None:
        # A caller that does not find the blob may resume its partial file.
        self._leases.touch(digest)
        # stat of a cached entry takes microseconds, and notices when an operator
        # has removed the blob.
        try:
            found = os.lstat(self.path(digest))
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return found.st_size

    def partial_size(self, digest: Digest) -> int:
        try:
            found = os.lstat(self._paths.partial(digest))
        except OSError:
            return 0
        return min(found.st_size, found.st_blocks * 512)

    def path(self, digest: Digest) -> str:
        return self._paths.blob(digest)

    def read(self, digest: Digest) -> Deferred[bytes]:
        self._leases.touch(digest)
        return self._threads.run(read_document, self._paths, digest)

    def preload(self, digest: Digest, offset: int, size: int) -> Deferred[None]:
        return self._threads.run(_preload, self._paths, digest, offset, size)

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        self._leases.touch(digest)
        if len(data) > _SMALL:
            return self._threads.run(write_document, self._paths, digest, data)
        return self._threads.run(self._reserve.spend, write_document, self._paths, digest, data)

    def partial(self, digest: Digest, size: int | None) -> Deferred[IPartial]:
        self._leases.touch(digest)
        return Deferred.fromCoroutine(self._partial(digest, size))

    def anonymous(self) -> Deferred[IAnonymousBlob]:
        opening = Deferred.fromCoroutine(self._anonymous())
        return delay_cancellation(opening, undo=lambda blob: blob.close())

    def close(self) -> None:
        """
        Close all partial files.
        """
        for partial in list(self._arriving.values()):
            if partial is not None:
                partial.close()

    def is_arriving(self, digest: Digest) -> bool:
        """
        Whether the blob's partial file is open.
        """
        return digest in self._arriving

    def forget(self, digest: Digest) -> None:
        """
        Move a blob to the trash.
        """
        self._forget(self.path(digest))

    def forget_partial(self, digest: Digest) -> None:
        """
        Move a partial blob to the trash.  It is not open.
        """
        self._forget(self._paths.partial(digest))
        self._forget(self._paths.note(digest))

    def _forget(self, path: str) -> None:
        if os.path.lexists(path):
            self._trash.throw(path)

    async def _anonymous(self) -> IAnonymousBlob:
        opened: tuple[int, str] = await self._threads.run(open_anonymous, self._paths)
        return AnonymousBlob(
            opened, paths=self._paths, threads=self._bulk, trash=self._trash, leases=self._leases
        )

    async def _partial(self, digest: Digest, size: int | None) -> IPartial:
        deadline = self._clock.seconds() + PATIENCE
        while digest in self._arriving:
            # Its owner was cancelled, and waits for the disk before it closes it.
            left = deadline - self._clock.seconds()
            if left <= 0:
                raise StoreError(
                    f"blob {digest} is still being written by an earlier transfer: the disk has not "
                    f"finished within {PATIENCE:.0f} s"
                )
            await self._wait_for_owner(digest, left)
        stop = Event()
        opening = Deferred.fromCoroutine(self._open(digest, size, stop))
        return await delay_cancellation(opening, stop=stop.set, undo=lambda partial: partial.close())

    async def _wait_for_owner(self, digest: Digest, seconds: float) -> None:
        """
        Wait until a partial file's owner closes it, for some seconds at most.
        """
        # No canceller: the waiter is removed below.
        waiting: Deferred[None] = Deferred()
        waiters = self._waiting.setdefault(digest, [])
        waiters.append(waiting)
        timer = self._clock.callLater(seconds, waiting.callback, None)
        try:
            await waiting
        finally:
            waiters.remove(waiting)
            if timer.active():
                timer.cancel()

    def _closed(self, digest: Digest) -> None:
        del self._arriving[digest]
        for waiting in tuple(self._waiting.pop(digest, ())):
            if not waiting.called:
                waiting.callback(None)

    async def _open(self, digest: Digest, size: int | None, stop: Event) -> IPartial:
        self._arriving[digest] = None
        try:
            opened: Opened = await self._bulk.run(
                open_partial, self._paths.partial(digest), self._paths.note(digest), digest, size, stop
            )
        except BaseException:
            self._closed(digest)
            raise
        partial = Partial(
            digest,
            size,
            opened,
            paths=self._paths,
            threads=self._bulk,
            trash=self._trash,
            clock=self._clock,
            released=self._closed,
        )
        self._arriving[digest] = partial
        return partial


def read_document(paths: Paths, digest: Digest) -> bytes:
    """
    Read a blob that is a document.  Blocking, for a thread.

    @raise NotFound: it is not in the store.
    @raise StoreError: it is damaged, or too large for a document.
    """
    path = paths.blob(digest)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
    except FileNotFoundError as e:
        raise NotFound(f"blob {digest} is not in the store") from e
    except OSError as e:
        raise StoreError(f"cannot read blob {digest}: {e.strerror}") from e
    if len(data) > MAX_DOCUMENT:
        raise StoreError(f"blob {digest} is larger than the {MAX_DOCUMENT} bytes of a document")
    if Digest.of(data, digest.algorithm) != digest:
        raise StoreError(f"blob {digest} is damaged; remove {path} and pull its image again")
    return data


def _preload(paths: Paths, digest: Digest, offset: int, size: int) -> None:
    """
    Read a part of a blob, so that the kernel caches it.  Blocking, for a
    thread.
    """
    file = _open(paths, digest)
    try:
        with trying_to(f"read blob {digest}"):
            stop = offset + size
            while offset < stop and (piece := os.pread(file, min(_PIECE, stop - offset), offset)):
                offset += len(piece)
    finally:
        os.close(file)


def _open(paths: Paths, digest: Digest) -> int:
    """
    Open a blob or its partial file, which may become the blob at any moment.
    """
    for path in (paths.partial(digest), paths.blob(digest)):
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise StoreError(f"cannot read blob {digest}: {e.strerror}") from e
    raise NotFound(f"blob {digest} is not in the store")


def write_document(paths: Paths, digest: Digest, data: bytes) -> None:
    """
    Write a document.  Blocking, for a thread.

    @raise DigestMismatch: C{data} has another digest.
    @raise StoreError: the disk refuses.
    """
    found = Digest.of(data, digest.algorithm)
    if found != digest:
        raise DigestMismatch(f"a document arrived that is {found} and should be {digest}")
    path = paths.blob(digest)
    with trying_to(f"write blob {digest}"):
        make_directory(os.path.dirname(path), 0o700)
        if _holds(path, data):
            # The thread that wrote it may not have flushed the directory yet.
            sync_directory(os.path.dirname(path))
        else:
            write_file(path, data, paths.staging)


def _holds(path: str, data: bytes) -> bool:
    """
    Whether a file has these bytes.  A damaged one is replaced.
    """
    try:
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except FileNotFoundError:
        return False
