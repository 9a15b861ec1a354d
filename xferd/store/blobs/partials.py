# -*- test-case-name: tests.store.blobs.partials -*-
"""
Partial blobs: blobs whose bytes are arriving.

Bytes are written and hashed in the reactor, which is faster for pieces of
64 KiB than a hop to a thread.  Threads flush files, and hash bytes that an
earlier attempt left or that arrived before the bytes in front of them.
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
from xferd.store.blobs.publish import Unsynced, publish
from xferd.store.blobs.spans import MARK_LENGTH, Note, remove_note, thinned, write_note
from xferd.store.disk.file_system import refusal
from xferd.store.disk.trash import Trash
from xferd.store.paths import Paths
from xferd.store.threads import Threads, delay_cancellation

_STEP = 256 * 1024
"""New bytes that are reported to followers in the same turn."""

_LAG = 0.05
"""Seconds between two reports of fewer new bytes."""

_READ = 32 * 1024 * 1024
"""Bytes after a gap that are hashed before the next report, at most."""

_NOTE = 256 * 1024
"""Bytes between two notes of a file with gaps: those that C{kill -9} may lose."""

_MARK = 8 * 1024 * 1024
"""Bytes between two marks: those on the disk that a restart of the machine may lose."""


@implementer(IPartial)
class Partial:
    """
    A partial blob's file in C{ingest/}.

    States: I{open}; I{suspended}, without a descriptor; I{committing}, while a
    thread has the file; I{committed}; I{closed}.  While it is open, a thread
    may be hashing bytes after the first gap, once that is filled.
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
        @param released: called once, when the file is closed or committed.
        """
        self.digest = digest
        self.size = size
        self.offset = opened.offset
        self._fd = opened.fd
        self._hasher = opened.hasher
        self._spans = opened.spans
        self._path = paths.partial(digest)
        self._note_path = paths.note(digest)
        self._noted = opened.noted
        self._gaps = bool(opened.spans)
        self._unnoted = 0
        self._marks = list(opened.marks)
        self._hashing: Event | None = None
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
        self._reported = self.offset
        self._reporting: IDelayedCall | None = None
        self._last_report = float("-inf")

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        return self._spans.all()

    def write(self, data: bytes) -> None:
        self._check_size(self.offset, data)
        if self._spans and self.offset + len(data) > self._spans.first[0]:
            raise StoreError(f"bytes of blob {self.digest} came that are here already")
        try:
            self._put(self.offset, data)
        except OSError as e:
            self._cut()
            raise refusal(e, f"write blob {self.digest} to {self._path}") from e
        self._hasher.update(data)
        self._advance(self.offset + len(data))
        if self._spans:
            try:
                self._note_now_and_then(len(data))
            except OSError as e:
                raise refusal(e, f"write {self._note_path}") from e

    def write_at(self, offset: int, data: bytes) -> None:
        if offset == self.offset and self._hashing is None:
            self.write(data)
            return
        self._check_size(offset, data)
        if offset < self.offset:
            raise StoreError(f"bytes of blob {self.digest} came that are here already")
        try:
            if not self._gaps:
                self._note(gaps=True)
            self._put(offset, data)
            self._spans.add(offset, offset + len(data))
            self._note_now_and_then(len(data))
        except OSError as e:
            raise refusal(e, f"write blob {self.digest} to {self._path}") from e

    def trim(self) -> None:
        self._check()
        if self._spans:
            self._stop_hashing()
            self._spans.clear()
            self._forget_note()

    def restart(self) -> None:
        self._check()
        self._empty()

    def commit(self, verified: Callable[[], None] = lambda: None) -> Deferred[None]:
        return delay_cancellation(Deferred.fromCoroutine(self._commit(verified)))

    def suspend(self) -> None:
        if self._state != "open":
            return
        self._stop_hashing()
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
        self._hash_on()

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
        Close the file, and remove it if it is empty.
        """
        if self._spans:
            try:
                self._note(gaps=True)
            except OSError as e:
                self._log.warn("cannot write {path}: {error}", path=self._note_path, error=e)
        else:
            self._mark_after(_NOTE)
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

    async def _commit(self, verified: Callable[[], None]) -> None:
        self._check()
        while self._hashing is not None:
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
        verified()
        self._cancel_report()
        self._state = "committing"
        try:
            await self._threads.run(publish, self._fd, self._path, self._target)
        except Unsynced as e:
            self._state = "open"
            assert isinstance(e.__cause__, OSError)
            error = refusal(e.__cause__, f"flush blob {self.digest}")
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
        self._remove_note()
        self._release("committed")
        followers, self._followers = self._followers, []
        for follower in followers:
            self._notify(follower.sealed, self._target, self.offset)

    def _check(self) -> None:
        if self._state != "open":
            raise StoreError(f"the partial file of blob {self.digest} is {self._state}")
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            self._hash_on()
            raise trouble

    def _check_size(self, offset: int, data: bytes) -> None:
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
        Undo an incomplete write.
        """
        if self._spans:
            return  # Its bytes are in a gap.
        try:
            os.ftruncate(self._fd, self.offset)
        except OSError as e:
            # Bytes after the offset are written again, or hashed again and refused.
            self._log.warn("cannot shorten {path}: {error}", path=self._path, error=e)

    def _empty(self) -> None:
        """
        Begin with an empty file.  Readers of the old one are not disturbed.
        """
        self._stop_hashing()
        if self.offset or self._spans:
            old = self._fd
            self._trash.throw(self._path, old)
            try:
                self._fd = create(self._path)
            except OSError as e:
                # The trash closes the old descriptor.
                self._fd = -1
                self._release("closed")
                raise refusal(e, f"open {self._path}") from e
        self._hasher = self.digest.hasher()
        self._spans.clear()
        self._marks.clear()
        self._trouble = None
        self.offset = self._reported = 0
        # Only after the file with gaps has been moved away.
        self._forget_note()
        self._cancel_report()
        for follower in list(self._followers):
            self._notify(follower.restarted)

    def _release(self, state: str) -> None:
        self._state = state
        self._cancel_report()
        self._stop_hashing()
        if self._fd >= 0:
            os.close(self._fd)
        self._released(self.digest)

    # --------------------------------------------------- bytes after a gap

    def _advance(self, offset: int) -> None:
        """
        Record that all bytes up to C{offset} are here and hashed.
        """
        self.offset = offset
        if self._spans:
            self._spans.drop_before(offset)
            if self._spans:
                self._hash_on()
            else:
                self._forget_note()
        self._mark_after(_MARK)
        self._report_soon()

    def _hash_on(self) -> None:
        """
        Hash the bytes after a gap that has been filled: a few at once, more in a
        thread.
        """
        if self._hashing is not None or not self._spans or self._spans.first[0] != self.offset:
            return
        stop = Event()
        end = min(self._spans.first[1], self.offset + _READ)
        if end - self.offset <= _STEP:
            try:
                self._hashed(hash_part(self._fd, self.offset, end, self._hasher, stop), end)
            except OSError as e:
                self._trouble = refusal(e, f"read {self._path}")
            return
        # The thread has its own descriptor and hash, so that the file may be
        # closed or emptied meanwhile.
        self._hashing = stop
        fd, hasher = os.dup(self._fd), self._hasher.copy()

        def over(result: int | Failure) -> None:
            os.close(fd)
            if self._hashing is not stop:
                return
            self._hashing = None
            if not isinstance(result, Failure):
                self._hasher = hasher
                self._hashed(result, end)
            elif isinstance(result.value, OSError):
                self._trouble = refusal(result.value, f"read {self._path}")
            else:
                self._trouble = StoreError(f"cannot read {self._path}: {result.value}")
            if self._hashing is None:
                self._stop_hashing()

        _ = self._threads.run(hash_part, fd, self.offset, end, hasher, stop).addBoth(over)

    def _hashed(self, offset: int, wanted: int) -> None:
        """
        Record that bytes of a span are hashed.
        """
        if offset < wanted:
            self._log.warn("{path} was cut off at {size} bytes", path=self._path, size=offset)
            self._spans.clear()
        self._advance(offset)

    def _stop_hashing(self) -> None:
        """
        Discard the work of the hashing thread, and resume its waiters.
        """
        reading, self._hashing = self._hashing, None
        if reading is not None:
            reading.set()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _note(self, *, gaps: bool) -> None:
        write_note(self._note_path, Note(self.offset, self._spans.all(), tuple(self._marks), not gaps))
        self._noted, self._gaps = True, gaps
        self._unnoted = 0

    def _mark_after(self, size: int) -> None:
        """
        Mark the bytes before the first gap, if C{size} of them came since the last mark.
        """
        if self.offset - (self._marks[-1][0] if self._marks else 0) < size:
            return
        self._marks = thinned([*self._marks, (self.offset, self._hasher.hexdigest()[:MARK_LENGTH])])
        try:
            self._note(gaps=bool(self._spans))
        except OSError as e:
            # Only a restart of the machine needs it.
            self._log.warn("cannot write {path}: {error}", path=self._note_path, error=e)

    def _note_now_and_then(self, size: int) -> None:
        """
        Count bytes of a file with gaps, and write a note when there are enough.
        """
        self._unnoted += size
        if self._unnoted >= _NOTE:
            self._note(gaps=True)

    def _forget_note(self) -> None:
        """
        Replace the note after the last gap: the file's length suffices.
        """
        if not self._noted:
            return
        try:
            os.ftruncate(self._fd, self.offset)
            if self._marks:
                self._note(gaps=False)
                return
        except OSError as e:
            # An old note is true; bytes that it does not list are fetched again.
            self._log.warn("cannot replace {path}: {error}", path=self._note_path, error=e)
            return
        self._remove_note()

    def _remove_note(self) -> None:
        if not self._noted:
            return
        try:
            remove_note(self._note_path)
        except OSError as e:
            self._log.warn("cannot remove {path}: {error}", path=self._note_path, error=e)
        else:
            self._noted = self._gaps = False

    def _report_soon(self) -> None:
        """
        Report new bytes to followers, without a call for each piece.
        """
        if not self._followers:
            return
        now = self._clock.seconds()
        delay = 0 if self.offset - self._reported >= _STEP else max(0, self._last_report + _LAG - now)
        if self._reporting is None:
            self._reporting = self._clock.callLater(delay, self._report)
        elif not delay and self._reporting.getTime() > now:
            self._reporting.reset(0)

    def _report(self) -> None:
        self._reporting = None
        self._reported = self.offset
        self._last_report = self._clock.seconds()
        for follower in list(self._followers):
            self._notify(follower.grown, self._path, self.offset)

    def _notify(self, message: Callable[..., None], *args: object) -> None:
        """
        Notify one follower; its errors do not affect the blob.
        """
        try:
            message(*args)
        except Exception:
            self._log.failure("while notifying a follower of blob {digest}", digest=self.digest)

    def _cancel_report(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
