# -*- test-case-name: tests.store.blobs.test_partials -*-
"""
Blobs while they arrive.

Bytes are written and hashed in the reactor, which for pieces of 64 KiB is
quicker than to hand them to a thread.  What waits for the disk, and the
hashing of what an earlier try left or of what came before the bytes in front
of it, is done in threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import DigestMismatch, SizeMismatch, StoreError
from xferd.interfaces.blobs import IFollower, IPartial
from xferd.names import Digest
from xferd.store.blobs.partial_file import Opened, create, hash_part
from xferd.store.blobs.spans import Note, remove_note, write_note
from xferd.store.disk.file_system import make_directory, move, refusal
from xferd.store.disk.trash import Trash
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation

_STEP = 256 * 1024
"""So many new bytes are told of at the end of the turn that they came in."""
_LAG = 0.05
"""Fewer are told of after so many seconds."""
_READ = 32 * 1024 * 1024
"""The most bytes that are hashed before followers hear of them."""
_NOTE = 2 * 1024 * 1024
"""After so many bytes behind a gap they are noted."""


class _Unsynced(Exception):
    """
    The bytes may or may not be on the disk, and asking again would not tell:
    the kernel reports a failed write once.
    """


def _publish(fd: int, source: str, target: str) -> None:
    """
    Make a partial file a blob.  Blocking, for a thread.
    """
    try:
        os.fsync(fd)
    except OSError as e:
        raise _Unsynced from e
    make_directory(os.path.dirname(target), 0o700)
    move(source, target)


@implementer(IPartial)
class Partial:
    """
    A blob's file in C{ingest/}.

    States: I{open}; I{suspended}, without a descriptor; I{committing}, while a
    thread has the file; I{committed}; I{closed}.  While it is open, a thread
    may be reading what has come behind the first gap, once that is filled.
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
        self._spans = opened.spans
        self._path = paths.partial(digest)
        self._note_path = paths.note(digest)
        self._noted = bool(opened.spans)
        self._unnoted = 0
        self._reading: Event | None = None
        self._waiting: list[Deferred[None]] = []
        self._trouble: StoreError | None = None
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

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        return self._spans.all()

    def write(self, data: bytes) -> None:
        self._check_room(self.offset, data)
        if self._spans and self.offset + len(data) > self._spans.first[0]:
            raise StoreError(f"bytes of blob {self.digest} came that are here already")
        try:
            self._put(self.offset, data)
        except OSError as e:
            self._cut()
            raise refusal(e, f"write blob {self.digest} to {self._path}") from e
        self._hasher.update(data)
        self._advance(self.offset + len(data))

    def write_at(self, offset: int, data: bytes) -> None:
        if offset == self.offset and self._reading is None:
            self.write(data)
            return
        self._check_room(offset, data)
        if offset < self.offset:
            raise StoreError(f"bytes of blob {self.digest} came that are here already")
        try:
            if not self._noted:
                self._note()
            self._put(offset, data)
            self._spans.add(offset, offset + len(data))
            self._unnoted += len(data)
            if self._unnoted >= _NOTE:
                self._note()
        except OSError as e:
            raise refusal(e, f"write blob {self.digest} to {self._path}") from e

    def trim(self) -> None:
        self._check()
        if self._spans:
            self._stop_reading()
            self._spans.clear()
            self._forget_note()

    def restart(self) -> None:
        self._check()
        self._empty()

    def commit(self) -> Deferred[None]:
        return delay_cancellation(Deferred.fromCoroutine(self._commit()))

    def suspend(self) -> None:
        if self._state != "open":
            return
        self._stop_reading()
        self._leave_file()
        self._state = "suspended"

    def resume(self) -> None:
        if self._state != "suspended":
            return
        try:
            self._fd = create(self._path)
            there = os.fstat(self._fd).st_size
        except OSError as e:
            raise refusal(e, f"open {self._path}") from e
        self._state = "open"
        if there < max([self.offset, *(stop for _, stop in self._spans.all())]):
            self._log.warn("{path} was cut off at {size} bytes", path=self._path, size=there)
            self._empty()
        self._read_on()

    def close(self) -> None:
        if self._state == "committing":
            self._close_later = True
        elif self._state == "open":
            self._leave_file()
            self._release("closed")
        elif self._state == "suspended":
            self._release("closed")

    def _leave_file(self) -> None:
        """
        Close the file, which stays if there is something in it.
        """
        if self._spans:
            try:
                self._note()
            except OSError as e:
                self._log.warn("cannot write {path}: {error}", path=self._note_path, error=e)
        os.close(self._fd)
        self._fd = -1
        if self.offset == 0 and not self._spans:
            try:
                os.unlink(self._path)
            except OSError as e:
                self._log.warn("cannot remove {path}: {error}", path=self._path, error=e)

    def follow(self, follower: IFollower) -> None:
        if self._state == "committed":
            follower.sealed(self._target, self.offset)
            return
        self._followers.append(follower)
        if self.offset:
            follower.grown(self._path, self.offset)

    def unfollow(self, follower: IFollower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    async def _commit(self) -> None:
        self._check()
        while self._reading is not None:
            # No canceller: a cancelled commit waits.
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter
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
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            self._read_on()
            raise trouble

    def _check_room(self, offset: int, data: bytes) -> None:
        self._check()
        if self.size is not None and offset + len(data) > self.size:
            raise SizeMismatch(
                f"blob {self.digest} is larger than the {self.size} bytes that its image names"
            )

    def _put(self, offset: int, data: bytes) -> None:
        written = 0
        view = memoryview(data)
        while written < len(data):
            written += os.pwrite(self._fd, view[written:], offset + written)

    def _close_if_asked(self) -> None:
        if self._close_later:
            self.close()

    def _cut(self) -> None:
        """
        Take back a write that was cut short.
        """
        if self._spans:
            return  # It is in a gap.
        try:
            os.ftruncate(self._fd, self.offset)
        except OSError as e:
            # The bytes behind are written again, or hashed again and refused.
            self._log.warn("cannot shorten {path}: {error}", path=self._path, error=e)

    def _empty(self) -> None:
        """
        Begin with another file.  Whoever reads the old one reads on in peace.
        """
        self._stop_reading()
        if self.offset or self._spans:
            old = self._fd
            self._trash.throw(self._path, old)
            try:
                self._fd = create(self._path)
            except OSError as e:
                # The trash closes the old one.
                self._fd = -1
                self._release("closed")
                raise refusal(e, f"open {self._path}") from e
        self._hasher = self.digest.hasher()
        self._spans.clear()
        self._trouble = None
        self.offset = self._told = 0
        # Not before the file with the gaps is out of the way.
        self._forget_note()
        self._hush()
        for follower in list(self._followers):
            self._tell(follower.restarted)

    def _release(self, state: str) -> None:
        self._state = state
        self._hush()
        self._stop_reading()
        if self._fd >= 0:
            os.close(self._fd)
        self._released(self.digest)

    # ------------------------------------------------- what is behind a gap

    def _advance(self, offset: int) -> None:
        """
        All bytes up to C{offset} are here and hashed.
        """
        self.offset = offset
        if self._spans:
            self._spans.drop_before(offset)
            if self._spans:
                self._read_on()
            else:
                self._forget_note()
        self._tell_soon()

    def _read_on(self) -> None:
        """
        Hash what has come behind a gap, if that is filled: a little at once,
        more in a thread.
        """
        if self._reading is not None or not self._spans or self._spans.first[0] != self.offset:
            return
        stop = Event()
        end = min(self._spans.first[1], self.offset + _READ)
        if end - self.offset <= _STEP:
            try:
                self._have_read(hash_part(self._fd, self.offset, end, self._hasher, stop), end)
            except OSError as e:
                self._trouble = refusal(e, f"read {self._path}")
            return
        # The thread has a descriptor and a hash of its own: what is done with
        # the file meanwhile is none of its business.
        self._reading = stop
        fd, hasher = os.dup(self._fd), self._hasher.copy()

        def over(result: int | Failure) -> None:
            os.close(fd)
            if self._reading is not stop:
                return
            self._reading = None
            if not isinstance(result, Failure):
                self._hasher = hasher
                self._have_read(result, end)
            elif isinstance(result.value, OSError):
                self._trouble = refusal(result.value, f"read {self._path}")
            else:
                self._trouble = StoreError(f"cannot read {self._path}: {result.value}")
            if self._reading is None:
                self._stop_reading()

        _ = self._threads.run(hash_part, fd, self.offset, end, hasher, stop).addBoth(over)

    def _have_read(self, offset: int, wanted: int) -> None:
        """
        Bytes of a span are hashed.
        """
        if offset < wanted:
            self._log.warn("{path} was cut off at {size} bytes", path=self._path, size=offset)
            self._spans.clear()
        self._advance(offset)

    def _stop_reading(self) -> None:
        """
        Want nothing more of the thread, and let go who waits for it.
        """
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.set()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _note(self) -> None:
        """
        Note which bytes are here.
        """
        write_note(self._note_path, Note(self.offset, self._spans.all()))
        self._noted = True
        self._unnoted = 0

    def _forget_note(self) -> None:
        """
        There is no gap any more: the file says itself how far it goes.
        """
        if not self._noted:
            return
        try:
            os.ftruncate(self._fd, self.offset)
            remove_note(self._note_path)
        except OSError as e:
            # An old note is true, and only costs what it does not name.
            self._log.warn("cannot remove {path}: {error}", path=self._note_path, error=e)
        else:
            self._noted = False

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
