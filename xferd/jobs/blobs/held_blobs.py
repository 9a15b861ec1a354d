# -*- test-case-name: tests.jobs.blobs.test_held_blobs -*-
"""
The blobs that are here, or arrive, for the other nodes of a fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import DigestMismatch, Interrupted, SourceError
from xferd.interfaces.mirror import FilePart
from xferd.interfaces.peers import IHeldBlob, IHeldBlobs
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.reader import BlobReader, Restarted
from xferd.names import Digest
from xferd.oci import Descriptor

T = TypeVar("T")

_MEDIA_TYPE: Final = "application/octet-stream"


class Filling:
    """
    A download that fills the file of a blob, as those see it that only read.

    Life cycle: made when the download begins; L{end}ed with it.

    @ivar blob: the blob.
    @ivar growth: the growth of its file.
    """

    def __init__(self, blob: Descriptor, growth: Growth, expected: Callable[[], Set[str]]) -> None:
        """
        @param expected: returns the origins of the sources that may send bytes.
        """
        self.blob = blob
        self.growth = growth
        self._expected = expected
        self._readers: dict[HeldBlob, None] = {}

    @property
    def origins(self) -> Set[str]:
        """
        The one origin of all bytes that are here, or, before the first one, of all
        that will probably come; empty if there are several.
        """
        origins = self.growth.origins or self._expected()
        return frozenset(origins) if len(origins) == 1 else frozenset()

    def join(self, reader: HeldBlob) -> None:
        """
        Have a reader know when the download ends.
        """
        self._readers[reader] = None

    def leave(self, reader: HeldBlob) -> None:
        """
        End L{join}.  Idempotent.
        """
        self._readers.pop(reader, None)

    def end(self) -> None:
        """
        The download has ended, with the blob or without.
        """
        for reader in tuple(self._readers):
            reader.ended()


@implementer(IHeldBlob)
class HeldBlob:
    """
    A reader of one blob.

    Life cycle: made; read; closed.  In between its download may end.
    """

    def __init__(
        self,
        blob: Descriptor,
        growth: Growth,
        origins: Set[str],
        *,
        clock: IReactorTime,
        filling: Filling | None,
        release: Callable[[], None],
    ) -> None:
        """
        @param origins: see L{IHeldBlob<xferd.interfaces.peers.IHeldBlob>}; empty if they
            are not known.
        @param filling: the download that fetches the blob, or L{None} if it is in the
            store.
        @param release: releases the lease of the store.
        """
        self.size = blob.size
        self.origins = origins
        self.growing = filling is not None
        self._blob = blob
        self._growth = growth
        self._filling = filling
        self._release = release
        self._over = False
        self._waiting: set[Deferred[Any]] = set()
        # A peer verifies what it gets.
        self._reader = BlobReader(blob, growth, lambda: None, clock=clock, held_back=0)
        if filling is not None:
            filling.join(self)

    @property
    def path(self) -> str | None:
        """
        See L{IBlobReader<xferd.interfaces.mirror.IBlobReader>}.
        """
        return self._reader.path if self._is_of_origins() else None

    @property
    def here(self) -> int:
        """
        See L{IHeldBlob<xferd.interfaces.peers.IHeldBlob>}.
        """
        return self.size if self._growth.is_whole else self._growth.size

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        return self._read(lambda: self._reader.read(offset, most))

    def part(self, offset: int) -> Deferred[FilePart | None]:
        return self._read(lambda: self._reader.part(offset))

    def close(self) -> None:
        if self._filling is not None:
            self._filling.leave(self)
        self._reader.close()
        self._release()

    def ended(self) -> None:
        """
        The download that fetches the blob has ended.
        """
        if not self._growth.is_whole:
            self._over = True
            for waiting in tuple(self._waiting):
                waiting.cancel()

    def _read(self, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        if self._over:
            return fail(self._interrupted())
        reading = maybeDeferred(work)
        if not reading.called:
            self._waiting.add(reading)

            def forget(result: T) -> T:
                self._waiting.discard(reading)
                return result

            reading = reading.addBoth(forget)
        return reading.addCallbacks(self._check, self._translate)

    def _is_of_origins(self) -> bool:
        return not (self.growing and self.origins) or self._growth.origins <= self.origins

    def _check(self, found: T) -> T:
        if not self._is_of_origins():
            raise SourceError(f"another source continues with {self._blob.digest}: request the rest again")
        return found

    def _translate(self, failure: Failure) -> Failure:
        if failure.check(Restarted) is not None:
            return Failure(
                DigestMismatch(f"the bytes that arrived for {self._blob.digest} have another digest")
            )
        if failure.check(CancelledError) is not None and self._over:
            return Failure(self._interrupted())
        return failure

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"the download of {self._blob.digest} has ended without the blob")


@implementer(IHeldBlobs)
class HeldBlobs:
    """
    The blobs of the store, and those that downloads fetch for all clients.
    """

    def __init__(
        self,
        store: IStore,
        filling: Callable[[Digest], Filling | None],
        clock: IReactorTime,
        *,
        isolated: bool,
    ) -> None:
        """
        @param filling: returns the running download of a blob, if there is one.
        @param isolated: whether clients share no blobs: then peers get none.
        """
        self._isolated = isolated
        self._store = store
        self._filling = filling
        self._clock = clock

    def open(self, digest: Digest) -> IHeldBlob | None:
        if self._isolated:
            return None
        # Before the question: the lease keeps what the store is asked about.
        release = self._store.gc.lease()
        size = self._store.blobs.size(digest)
        if size is not None:
            growth = Growth()
            growth.sealed(self._store.blobs.path(digest), size)
            blob = Descriptor(_MEDIA_TYPE, digest, size)
            origins = frozenset(self._store.catalog.origins(digest))
            return HeldBlob(blob, growth, origins, clock=self._clock, filling=None, release=release)
        filling = self._filling(digest)
        if filling is None:
            release()
            return None
        return HeldBlob(
            filling.blob,
            filling.growth,
            filling.origins,
            clock=self._clock,
            filling=filling,
            release=release,
        )
