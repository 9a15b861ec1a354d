# -*- test-case-name: tests.store.blobs.test_anonymous -*-
"""
Blobs that arrive without a digest: the layers in an archive of C{docker save}.

Their files are in C{staging/} until all bytes are here, and are then renamed to
the digest of these bytes.
"""

from __future__ import annotations

import os
from hashlib import sha256
from tempfile import mkstemp

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.blobs import IAnonymousBlob
from xferd.names import Digest
from xferd.store.disk.file_system import make_directory, move, refusal, trying_to
from xferd.store.disk.trash import Trash
from xferd.store.leases import Leases
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation


def open_anonymous(paths: Paths) -> tuple[int, str]:
    """
    Create a file in C{staging/}.  Blocking, for a thread.

    @return: its descriptor and its path.
    @raise StoreError: the disk refuses.
    """
    with trying_to(f"write to {paths.staging}"):
        return mkstemp(prefix="blob-", dir=paths.staging)


def _publish(fd: int, source: str, target: str) -> None:
    """
    Make the file a blob.  Blocking, for a thread.
    """
    with trying_to(f"keep {target}"):
        os.fsync(fd)
        make_directory(os.path.dirname(target), 0o700)
        # If the blob exists already, it is replaced by the same bytes.
        move(source, target)


@implementer(IAnonymousBlob)
class AnonymousBlob:
    """
    A blob's file in C{staging/}.
    """

    def __init__(
        self, opened: tuple[int, str], *, paths: Paths, threads: Threads, trash: Trash, leases: Leases
    ) -> None:
        """
        @param opened: the result of L{open_anonymous}.
        """
        self.size = 0
        self._fd: int | None = opened[0]
        self._path = opened[1]
        self._paths = paths
        self._threads = threads
        self._trash = trash
        self._leases = leases
        self._hasher = sha256()
        self._busy = False
        self._close_later = False

    def write(self, data: bytes | memoryview) -> None:
        fd = self._open()
        view = memoryview(data)
        written = 0
        try:
            while written < len(view):
                written += os.pwrite(fd, view[written:], self.size + written)
        except OSError as e:
            raise refusal(e, f"write to {self._path}") from e
        self._hasher.update(view)
        self.size += written

    def commit(self) -> Deferred[Digest]:
        return delay_cancellation(Deferred.fromCoroutine(self._commit()))

    def close(self) -> None:
        if self._busy:
            self._close_later = True
        elif self._fd is not None:
            fd, self._fd = self._fd, None
            self._trash.remove([self._path], fd)

    def _open(self) -> int:
        if self._fd is None or self._busy:
            raise StoreError(f"{self._path} is closed")
        return self._fd

    async def _commit(self) -> Digest:
        fd = self._open()
        digest = Digest("sha256", self._hasher.hexdigest())
        self._busy = True
        self._leases.touch(digest)
        try:
            await self._threads.run(_publish, fd, self._path, self._paths.blob(digest))
        except BaseException:
            self._busy = False
            if self._close_later:
                self.close()
            raise
        self._busy = False
        self._fd = None
        os.close(fd)
        return digest
