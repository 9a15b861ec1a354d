# -*- test-case-name: tests.store.test_partials -*-
"""
Blobs while they arrive.

Bytes are written and hashed in the reactor, which for pieces of 64 KiB is
quicker than to hand them to a thread.  What waits for the disk, and the
hashing of what an earlier try left, is done in threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import DigestMismatch, SizeMismatch, StoreError
from xferd.interfaces import IFollower, IPartial
from xferd.names import Digest
from xferd.store.disk import make_directory, move, refusal, trying_to
from xferd.store.paths import Paths
from xferd.store.threads import Threads, patient
from xferd.store.trash import Trash

if TYPE_CHECKING:
    from hashlib import _Hash

_PIECE = 1024 * 1024
_STEP = 256 * 1024
"""So many new bytes are told of at the end of the turn that they came in."""
_LAG = 0.05
"""Fewer are told of after so many seconds."""


@frozen
class Opened:
    """
    A partial blob's open file.

    @ivar fd: a descriptor, for reading and writing.
    @ivar offset: how many bytes are in it.
    @ivar hasher: the hash of these bytes.
    """

    fd: int
    offset: int
    hasher: _Hash


class Stopped(Exception):
    """
    The hashing of an earlier try's bytes was cancelled.
    """


def open_partial(path: str, digest: Digest, size: int | None, stop: Event) -> Opened:
    """
    Open a partial blob's file and hash what is in it.  Blocking, for a thread.

    @param size: how many bytes the blob has; a file with more is emptied.
    @raise Stopped: C{stop} was set.
    @raise StoreError: the disk refuses.
    """
    with trying_to(f"open {path}"):
        fd = _create(path)
        try:
            hasher = digest.hasher()
            offset = 0
            if size is not None and os.fstat(fd).st_size > size:
                os.ftruncate(fd, 0)
            while piece := os.pread(fd, _PIECE, offset):
                if stop.is_set():
                    raise Stopped
                hasher.update(piece)
                offset += len(piece)
        except BaseException:
            os.close(fd)
            raise
        return Opened(fd, offset, hasher)


def _create(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


class _Unsynced(Exception):
    """
    The bytes may or may not be on the disk, and asking again would not tell:
    the kernel reports a failed write once.
    """


def _publish(fd: int, source: str, target: str) -> None:
    """
    Make a partial file a blob.  Blocking, for a thread.
    """
    os.fchmod(fd, 0o644)
    try:
        os.fsync(fd)
    except OSError as e:
        raise _Unsynced from e
    make_directory(os.path.dirname(target), 0o755)
    move(source, target)


@implementer(IPartial)
class Partial:
    """
    A blob's file in C{ingest/}.

    States: I{open}; I{committing}, while a thread has the file; I{committed};
    I{closed}.
    """

    _log = Logger()

    def __init__(
        self,
        digest: Digest,
        size: int | None,
        opened: Opened,
        *,
        paths: Paths,
        threads: Threads,
        trash: Trash,
        clock: IReactorTime,
        released: Callable[[Digest], None],
    ) -> None:
        """
        @param released: called once, when the file is let go of.
        """
        self.digest = digest
        self.size = size
        self.offset = opened.offset
        self._fd = opened.fd
        self._hasher = opened.hasher
        self._path = paths.partial(digest)
        self._target = paths.blob(digest)
        self._threads = threads
        self._trash = trash
        self._clock = clock
        self._released = released
        self._state = "open"
        self._close_later = False
        self._followers: list[IFollower] = []
        self._told = self.offset
        self._telling: IDelayedCall | None = None

    def write(self, data: bytes) -> None:
        """
        See L{IPartial.write}.
        """
        self._check()
        if self.size is not None and self.offset + len(data) > self.size:
            raise SizeMismatch(
                f"blob {self.digest} is larger than the {self.size} bytes that its image names"
            )
        written = 0
        view = memoryview(data)
        try:
            while written < len(data):
                written += os.pwrite(self._fd, view[written:], self.offset + written)
        except OSError as e:
            self._cut()
            raise refusal(e, f"write blob {self.digest} to {self._path}") from e
        self._hasher.update(data)
        self.offset += written
        self._tell_soon()

    def restart(self) -> None:
        """
        See L{IPartial.restart}.
        """
        self._check()
        self._empty()

    def commit(self) -> Deferred[None]:
        """
        See L{IPartial.commit}.
        """
        return patient(Deferred.fromCoroutine(self._commit()))

    def close(self) -> None:
        """
        See L{IPartial.close}.
        """
        if self._state == "committing":
            self._close_later = True
        elif self._state == "open":
            self._release("closed")
            if self.offset == 0:
                try:
                    os.unlink(self._path)
                except OSError as e:
                    self._log.warn("cannot remove {path}: {error}", path=self._path, error=e)

    def follow(self, follower: IFollower) -> None:
        """
        See L{IPartial.follow}.
        """
        if self._state == "committed":
            follower.sealed(self._target, self.offset)
            return
        self._followers.append(follower)
        if self.offset:
            follower.grown(self._path, self.offset)

    def unfollow(self, follower: IFollower) -> None:
        """
        See L{IPartial.unfollow}.
        """
        if follower in self._followers:
            self._followers.remove(follower)

    async def _commit(self) -> None:
        self._check()
        if self.size is not None and self.offset != self.size:
            found = self.offset
            self._empty()
            raise SizeMismatch(
                f"blob {self.digest} arrived with {found} bytes, and its image names {self.size}"
            )
        arrived = self._hasher.hexdigest()
        if arrived != self.digest.hex:
            self._empty()
            raise DigestMismatch(f"blob {self.digest} arrived as {self.digest.algorithm}:{arrived}")
        self._hush()
        self._state = "committing"
        try:
            await self._threads.run(_publish, self._fd, self._path, self._target)
        except _Unsynced as e:
            self._state = "open"
            assert isinstance(e.__cause__, OSError)
            error = refusal(e.__cause__, f"bring blob {self.digest} to the disk")
            self._empty()
            self._close_if_asked()
            raise error from e
        except OSError as e:
            self._state = "open"
            self._close_if_asked()
            raise refusal(e, f"keep blob {self.digest} as {self._target}") from e
        except BaseException:
            self._state = "open"
            self._close_if_asked()
            raise
        self._release("committed")
        followers, self._followers = self._followers, []
        for follower in followers:
            self._tell(follower.sealed, self._target, self.offset)

    def _check(self) -> None:
        if self._state != "open":
            raise StoreError(f"the partial file of blob {self.digest} is {self._state}")

    def _close_if_asked(self) -> None:
        if self._close_later:
            self.close()

    def _cut(self) -> None:
        """
        Take back a write that was cut short.
        """
        try:
            os.ftruncate(self._fd, self.offset)
        except OSError as e:
            # The bytes behind are written again, or hashed again and refused.
            self._log.warn("cannot shorten {path}: {error}", path=self._path, error=e)

    def _empty(self) -> None:
        """
        Begin with another file.  Whoever reads the old one reads on in peace.
        """
        if self.offset:
            old = self._fd
            self._trash.throw(self._path, old)
            try:
                self._fd = _create(self._path)
            except OSError as e:
                # The trash closes the old one.
                self._fd = -1
                self._release("closed")
                raise refusal(e, f"open {self._path}") from e
        self._hasher = self.digest.hasher()
        self.offset = self._told = 0
        self._hush()
        for follower in list(self._followers):
            self._tell(follower.restarted)

    def _release(self, state: str) -> None:
        self._state = state
        self._hush()
        if self._fd >= 0:
            os.close(self._fd)
        self._released(self.digest)

    def _tell_soon(self) -> None:
        """
        See to it that followers hear of what has come, without a message for
        each piece.
        """
        if not self._followers:
            return
        delay = 0 if self.offset - self._told >= _STEP else _LAG
        if self._telling is None:
            self._telling = self._clock.callLater(delay, self._tell_grown)
        elif not delay and self._telling.getTime() > self._clock.seconds():
            self._telling.reset(0)

    def _tell_grown(self) -> None:
        self._telling = None
        self._told = self.offset
        for follower in list(self._followers):
            self._tell(follower.grown, self._path, self.offset)

    def _tell(self, message: Callable[..., None], *args: object) -> None:
        """
        Tell one follower; its mistakes are not the blob's.
        """
        try:
            message(*args)
        except Exception:
            self._log.failure("while telling a follower of blob {digest}", digest=self.digest)

    def _hush(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
