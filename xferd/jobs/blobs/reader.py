# -*- test-case-name: tests.jobs.blobs.test_reader -*-
"""
A reader of a blob's bytes: from the store, or while they arrive from a registry.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.blobs import IFollower
from xferd.interfaces.mirror import FilePart, IFileReader
from xferd.interfaces.registry import IContent
from xferd.jobs.blobs.growth import Growth
from xferd.oci import Descriptor
from xferd.transfer.attempts import Postponed
from xferd.transfer.reason import NO_REASON
from xferd.transfer.watcher import Watcher

PATIENCE: Final = 1.0
"""Seconds for which a request to the target waits for more bytes."""


class Restarted(Exception):
    """
    The first bytes were wrong, and are fetched again.
    """


@define(eq=False)
class _Wait:
    """
    The wait of a request that is about to begin.

    @ivar offset: the offset of its first byte.
    @ivar end: the exclusive offset of its end.
    @ivar least: the least exclusive offset at which it may end.
    @ivar done: fires with the number of bytes.
    @ivar timer: ends the wait for more.
    """

    offset: int
    end: int
    least: int
    done: Deferred[int] = field(repr=False)
    timer: IDelayedCall | None = None


@implementer(IContent, IFileReader, IFollower)
class BlobReader:
    """
    Reads a blob's file while it grows or when it is complete.

    The file is opened, and the blob requested, with the first C{read} or
    C{ready}: where the target registry has the blob already, no byte is needed.

    Life cycle: made; read, any number of times and from any offset, with
    C{rest}s in between; closed.
    """

    def __init__(
        self,
        blob: Descriptor,
        growth: Growth,
        fetch: Callable[[], Watcher[None] | None],
        *,
        clock: IReactorTime,
        held_back: int = 1,
    ) -> None:
        """
        @param growth: the growth of the file.
        @param fetch: begins to fetch the blob, if it is not in the store.
        @param held_back: the number of bytes at the end of the blob that are read
            only after the blob was verified.
        """
        self.size = blob.size
        self._held_back = held_back
        self._blob = blob
        self._growth = growth
        self._fetch = fetch
        self._clock = clock
        self._begun = False
        self._watcher: Watcher[None] | None = None
        self._path: str | None = None
        self._whole = False
        self._file: int | None = None
        self._there = 0
        self._failure: Failure | None = None
        self._readers: list[tuple[int, int, Deferred[bytes]]] = []
        self._waits: list[_Wait] = []

    @property
    def path(self) -> str | None:
        """
        The path of the file, once the blob is complete and verified.
        """
        return self._growth.path if self._growth.is_whole else None

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read bytes that are here, or wait for them.

        The file was written a moment ago, or is read in its order: the
        kernel has the bytes in memory, and a thread would cost more than it
        saves.

        @raise Restarted: the bytes were wrong, and are fetched again; the next
            C{read} returns new bytes.
        @raise XferdError: the error of the download.
        """
        failure = self._see()
        if failure is not None:
            return fail(failure)
        if offset >= self.size:
            return succeed(b"")
        if offset < self._there:
            return self._piece(offset, most)
        return self._wait_for(offset, most)

    def part(self, offset: int) -> Deferred[FilePart | None]:
        def found(_: bytes) -> FilePart | None:
            assert self._file is not None, "a read opens the file"
            return FilePart(self._file, self._there)

        return self.read(offset, 0).addCallback(found)

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        See L{IContent.ready}.

        @raise Postponed: no byte arrived for a second; it is ready when some
            have.  Time of the daemon's own bandwidth limit does not count.
        """
        failure = self._see()
        if failure is not None:
            return fail(failure)
        end = min(offset + size, self.size)
        if self._there >= end:
            return succeed(end - offset)
        wait = self._await(offset, end, min(offset + least, end))
        wait.timer = self._clock.callLater(PATIENCE, self._late, wait)
        return wait.done

    def rest(self) -> None:
        """
        Close the file until the next C{read}.
        """
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def close(self) -> None:
        """
        Release the file and the download.  Idempotent.
        """
        self._growth.unfollow(self)
        self._forget_file()
        for wait in self._waits:
            _stop(wait)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.release()

    # ------------------------------------------------------------- IFollower

    def grown(self, path: str, size: int) -> None:
        """
        More bytes can be read.  The last ones are held until the blob is verified:
        no client may take wrong bytes for a complete blob.
        """
        held_back = 0 if self._growth.is_verified else self._held_back
        self._path, self._there = path, min(size, max(0, self.size - held_back))
        self._wake()

    def restarted(self) -> None:
        """
        The bytes that were read are void.
        """
        self._forget_file()
        self._fail(Failure(Restarted(f"the bytes of {self._blob.digest} were wrong")))

    def sealed(self, path: str, size: int) -> None:
        """
        The blob is complete.
        """
        self._path, self._there, self._whole = path, size, True
        self._wake()

    # --------------------------------------------------------------- inside

    def _see(self) -> Failure | None:
        """
        Begin, if the reader has not begun.

        @return: an error since the last call.
        """
        if not self._begun:
            self._begin()
        failure, self._failure = self._failure, None
        return failure

    def _begin(self) -> None:
        self._begun = True
        self._watcher = self._fetch()
        self._growth.follow(self)
        if self._watcher is not None:
            _ = self._watcher.result().addErrback(self._not_fetched)

    def _not_fetched(self, failure: Failure) -> None:
        """
        The download failed: fail the waiting reads, or the next one.
        """
        if failure.check(CancelledError) is None:
            self._begun = False
            self._growth.unfollow(self)
            watcher, self._watcher = self._watcher, None
            if watcher is not None:
                watcher.release()
            self._fail(failure)

    def _piece(self, offset: int, most: int) -> Deferred[bytes]:
        assert self._path is not None
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._file, min(most, self._there - offset), offset)
            if most and not data:
                # A caller that continues at the same byte would do so for ever.
                return fail(
                    StoreError(f"the file of blob {self._blob.digest} ends at byte {offset} or before")
                )
            return succeed(data)
        except FileNotFoundError as e:
            if not self._whole:
                # It became a blob just now, which is about to be reported.
                self._there = 0
                return self._wait_for(offset, most)
            return fail(self._unreadable(e))
        except OSError as e:
            return fail(self._unreadable(e))

    def _unreadable(self, error: OSError) -> StoreError:
        unreadable = StoreError(f"blob {self._blob.digest} cannot be read: {error.strerror}")
        unreadable.__cause__ = error
        return unreadable

    def _wait_for(self, offset: int, most: int) -> Deferred[bytes]:
        reader: Deferred[bytes] = Deferred(self._forget)
        self._readers.append((offset, most, reader))
        return reader

    def _await(self, offset: int, end: int, least: int) -> _Wait:
        wait = _Wait(offset, end, least, Deferred(lambda _: self._leave(wait)))
        self._waits.append(wait)
        return wait

    def _late(self, wait: _Wait) -> None:
        """
        A request has waited for long enough.
        """
        wait.timer = None
        if self._there >= wait.least:
            self._leave(wait)
            wait.done.callback(self._there - wait.offset)
        elif self._is_slowed():
            wait.timer = self._clock.callLater(PATIENCE, self._late, wait)
        else:
            self._leave(wait)
            later = self._await(wait.offset, wait.least, wait.least).done
            wait.done.errback(
                Postponed("waiting for the bytes of its download", cast("Deferred[None]", later))
            )

    def _is_slowed(self) -> bool:
        """
        Whether the bytes are in transit, and only this reader slows them.
        """
        if self._watcher is None:
            return False
        transfer = self._watcher.transfer
        return transfer.state == "running" and transfer.activity.limit() is not NO_REASON

    def _wake(self) -> None:
        """
        Fire the reads and waits whose bytes have arrived.
        """
        for wait in [w for w in self._waits if w.end <= self._there]:
            self._leave(wait)
            wait.done.callback(wait.end - wait.offset)
        ready = [r for r in self._readers if r[0] < self._there]
        self._readers = [r for r in self._readers if r[0] >= self._there]
        for offset, most, reader in ready:
            _ = self._piece(offset, most).addBoth(reader.callback)

    def _fail(self, failure: Failure) -> None:
        readers, self._readers = self._readers, []
        waits, self._waits = self._waits, []
        if not readers and not any(wait.timer for wait in waits):
            self._failure = failure
        for wait in waits:
            _stop(wait)
            wait.done.errback(failure)
        for _, _, reader in readers:
            reader.errback(failure)

    def _forget_file(self) -> None:
        self.rest()
        self._path, self._there, self._whole = None, 0, False

    def _forget(self, reader: Deferred[bytes]) -> None:
        self._readers = [r for r in self._readers if r[2] is not reader]

    def _leave(self, wait: _Wait) -> None:
        _stop(wait)
        if wait in self._waits:
            self._waits.remove(wait)


def _stop(wait: _Wait) -> None:
    timer, wait.timer = wait.timer, None
    if timer is not None:
        timer.cancel()
