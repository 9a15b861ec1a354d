# -*- test-case-name: tests.store.incoming.test_sessions -*-
"""
One upload session, and its use by one request.

Bytes are written and hashed in the reactor, as those of partial blobs are.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import DigestMismatch, StoreError, UploadUnknown
from xferd.interfaces.incoming import IIncomingBlob
from xferd.names import Digest
from xferd.store.blobs.partial_file import hash_part
from xferd.store.blobs.publish import Unsynced, publish
from xferd.store.disk.file_system import refusal, trying_to
from xferd.store.incoming.records import Row
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation

if TYPE_CHECKING:
    from hashlib import _Hash


@define(eq=False)
class Session:
    """
    An upload session.

    @ivar offset: the bytes that are in its file.
    @ivar hasher: their hash; L{None} after a restart, until they are hashed again.
    @ivar used: when it was last used, in seconds since the epoch.
    @ivar brief: whether it is not recorded, and ends with its request.
    @ivar busy: whether a request uses it.
    """

    row: Row
    offset: int = 0
    hasher: _Hash | None = field(default=None, repr=False)
    used: float = 0.0
    brief: bool = False
    busy: bool = True


def open_file(path: str, offset: int, hasher: _Hash | None, stop: Event) -> int:
    """
    Open a session's file, and hash the bytes in it.  Blocking, for a thread.

    @param offset: the bytes that belong to the session.
    @param hasher: receives them; L{None} if they are hashed already.
    @return: a descriptor.
    @raise Stopped: C{stop} was set.
    @raise StoreError: the disk refuses, or bytes are missing.
    """
    with trying_to(f"open {path}"):
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags if offset else flags | os.O_CREAT, 0o600)
        try:
            if os.fstat(fd).st_size < offset:
                raise StoreError(f"{path} was cut off")
            # An incomplete write may have left more.
            os.ftruncate(fd, offset)
            if hasher is not None:
                hash_part(fd, 0, offset, hasher, stop)
        except BaseException:
            os.close(fd)
            raise
        return fd


@implementer(IIncomingBlob)
class IncomingBlob:
    """
    The use of a session by one request.

    States: I{open}; I{committing}, while threads have the file; I{over}.
    """

    def __init__(
        self,
        session: Session,
        fd: int,
        *,
        paths: Paths,
        threads: Threads,
        touch: Callable[[Digest], None],
        ended: Callable[[Session, int | None], Awaitable[None]],
        released: Callable[[Session], None],
    ) -> None:
        """
        @param touch: called with the digest of a new blob, for the leases.
        @param ended: ends the session: its row is removed, and, if a descriptor of
            it is passed, its file.
        @param released: called once, when this use is over and the session stays.
        """
        self.id = session.row.id
        self._session = session
        self._fd = fd
        self._path = paths.incoming(self.id)
        self._paths = paths
        self._threads = threads
        self._touch = touch
        self._ended = ended
        self._released = released
        self._state = "open"
        self._release_later = False

    @property
    def offset(self) -> int:
        return self._session.offset

    def write(self, data: bytes) -> None:
        self._check()
        session = self._session
        assert session.hasher is not None
        view, written = memoryview(data), 0
        try:
            while written < len(view):
                written += os.pwrite(self._fd, view[written:], session.offset + written)
        except OSError as e:
            # After a restart, the offset is the file's size.
            with suppress(OSError):
                os.ftruncate(self._fd, session.offset)
            raise refusal(e, f"write to {self._path}") from e
        session.hasher.update(data)
        session.offset += len(data)

    def commit(self, digest: Digest) -> Deferred[int]:
        return delay_cancellation(Deferred.fromCoroutine(self._commit(digest)))

    def remove(self) -> Deferred[None]:
        return delay_cancellation(Deferred.fromCoroutine(self._remove()))

    def release(self) -> None:
        if self._state == "committing":
            self._release_later = True
        elif self._state == "open":
            self._state = "over"
            os.close(self._fd)
            self._released(self._session)

    async def _commit(self, digest: Digest) -> int:
        self._check()
        self._state = "committing"
        session = self._session
        try:
            found = await self._hash(digest)
            if found != digest.hex:
                await self._end(self._fd)
                raise DigestMismatch(
                    f"the bytes that were uploaded are {digest.algorithm}:{found}, not {digest}"
                )
            await self._publish(digest)
        finally:
            if self._state == "committing":
                self._state = "open"
                if self._release_later:
                    self.release()
        return session.offset

    async def _hash(self, digest: Digest) -> str:
        """
        The hash of the bytes by the algorithm of a digest.
        """
        session = self._session
        assert session.hasher is not None
        if digest.algorithm == session.row.algorithm:
            return session.hasher.hexdigest()
        hasher = digest.hasher()
        await self._threads.run(_hash_all, self._path, self._fd, session.offset, hasher)
        return hasher.hexdigest()

    async def _publish(self, digest: Digest) -> None:
        target = self._paths.blob(digest)
        self._touch(digest)
        try:
            await self._threads.run(_cut_and_publish, self._fd, self._session.offset, self._path, target)
        except Unsynced as e:
            assert isinstance(e.__cause__, OSError)
            await self._end(self._fd)
            raise refusal(e.__cause__, f"flush blob {digest}") from e
        except OSError as e:
            raise refusal(e, f"keep blob {digest} as {target}") from e
        try:
            await self._end(None)
        finally:
            os.close(self._fd)

    async def _remove(self) -> None:
        self._check()
        await self._end(self._fd)

    async def _end(self, fd: int | None) -> None:
        """
        End the session.

        @param fd: the descriptor of the file to remove, if it is not a blob.
        """
        self._state = "over"
        await self._ended(self._session, fd)

    def _check(self) -> None:
        if self._state != "open":
            raise UploadUnknown(f"upload {self.id} has ended")


def _hash_all(path: str, fd: int, size: int, hasher: _Hash) -> None:
    """
    Hash a whole file.  Blocking, for a thread.
    """
    with trying_to(f"read {path}"):
        if hash_part(fd, 0, size, hasher, Event()) != size:
            raise StoreError(f"{path} was cut off")


def _cut_and_publish(fd: int, size: int, path: str, target: str) -> None:
    """
    Make a session's file a blob, without what an incomplete write left.  Blocking,
    for a thread.
    """
    os.ftruncate(fd, size)
    publish(fd, path, target)
