# -*- test-case-name: tests.jobs.test_content -*-
"""
The bytes of a blob on their way out: from the store, or from another registry
while they arrive.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import StoreError, Truncated
from xferd.interfaces import IContent, IFollower
from xferd.jobs.feed import Feed
from xferd.oci import Descriptor
from xferd.transfer.transfer import Watcher


@implementer(IContent, IFollower)
class BlobContent:
    """
    A blob's file, read while it grows or when it is whole.

    Nothing is opened, and nobody is asked for the blob, before the first
    C{read}: where the registry has the blob already, not a byte is needed.

    Life cycle: made; read, any number of times and from any offset; closed.
    """

    def __init__(self, blob: Descriptor, feed: Feed, fetch: Callable[[], Watcher[None] | None]) -> None:
        """
        @param feed: what is known of the file.
        @param fetch: begins to fetch the blob, if it is not in the store.
        """
        self.size = blob.size
        self._blob = blob
        self._feed = feed
        self._fetch = fetch
        self._begun = False
        self._watcher: Watcher[None] | None = None
        self._file: int | None = None
        self._there = 0
        self._failure: Failure | None = None
        self._readers: list[tuple[int, int, Deferred[bytes]]] = []

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read what is there, or wait for it.

        The file was written a moment ago, or is read in its order: the
        kernel has the bytes at hand, and a thread would cost more than it
        saves.

        @raise Truncated: the bytes turned out to be wrong, and come anew; the
            next C{read} is one of the new ones.
        @raise XferdError: what the download failed with.
        """
        if not self._begun:
            self._begin()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            return fail(failure)
        if offset >= self.size:
            return succeed(b"")
        if self._file is not None and offset < self._there:
            return self._piece(offset, most)
        reader: Deferred[bytes] = Deferred(self._forget)
        self._readers.append((offset, most, reader))
        return reader

    def close(self) -> None:
        """
        Let go of the file and of the download.  Idempotent.
        """
        self._feed.unfollow(self)
        self._shut()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.release()

    # ------------------------------------------------------------- IFollower

    def grown(self, path: str, size: int) -> None:
        """
        There is more to read.  The last byte is kept back until it is known
        that all are right: no registry shall be told to take wrong ones.
        """
        self._open(path, min(size, self.size - 1))

    def restarted(self) -> None:
        """
        What was read is void.
        """
        self._shut()
        self._fail(Failure(Truncated(f"the bytes of {self._blob.digest} that came first were wrong")))

    def sealed(self, path: str, size: int) -> None:
        """
        All is there.
        """
        self._open(path, size, whole=True)

    # --------------------------------------------------------------- inside

    def _open(self, path: str, size: int, *, whole: bool = False) -> None:
        if self._file is None:
            try:
                self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as e:
                if isinstance(e, FileNotFoundError) and not whole:
                    return  # It became a blob just now, and that is about to be said.
                self._fail(Failure(StoreError(f"blob {self._blob.digest} cannot be read: {e.strerror}")))
                return
        self._there = size
        self._wake()

    def _begin(self) -> None:
        self._begun = True
        self._watcher = self._fetch()
        self._feed.follow(self)
        if self._watcher is not None:
            _ = self._watcher.result().addErrback(self._not_fetched)

    def _not_fetched(self, failure: Failure) -> None:
        """
        The download failed: those who wait are told, or who reads next.
        """
        if failure.check(CancelledError) is None:
            self._begun = False
            self._feed.unfollow(self)
            watcher, self._watcher = self._watcher, None
            if watcher is not None:
                watcher.release()
            self._fail(failure)

    def _piece(self, offset: int, most: int) -> Deferred[bytes]:
        assert self._file is not None
        try:
            return succeed(os.pread(self._file, min(most, self._there - offset), offset))
        except OSError as e:
            return fail(StoreError(f"blob {self._blob.digest} cannot be read: {e.strerror}"))

    def _wake(self) -> None:
        """
        Serve those whose bytes have come.
        """
        ready = [r for r in self._readers if r[0] < self._there]
        self._readers = [r for r in self._readers if r[0] >= self._there]
        for offset, most, reader in ready:
            _ = self._piece(offset, most).addBoth(reader.callback)

    def _fail(self, failure: Failure) -> None:
        readers, self._readers = self._readers, []
        if not readers:
            self._failure = failure
        for _, _, reader in readers:
            reader.errback(failure)

    def _shut(self) -> None:
        file, self._file = self._file, None
        self._there = 0
        if file is not None:
            os.close(file)

    def _forget(self, reader: Deferred[bytes]) -> None:
        self._readers = [r for r in self._readers if r[2] is not reader]
