# -*- test-case-name: tests.jobs.mirror.test_provenance -*-
"""
A blob that arrives, for a client of the mirror.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import DigestMismatch, DiskFull, SourceError
from xferd.interfaces.mirror import FilePart, IBlobReader, IFileReader
from xferd.interfaces.registry import IRepository
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.reader import BlobReader, Restarted
from xferd.jobs.mirror.provenance import Provenance
from xferd.jobs.mirror.room import Room
from xferd.oci import Descriptor
from xferd.transfer.fair_queue import Turn

T = TypeVar("T")


@implementer(IFileReader)
class ArrivingBlob:
    """
    A reader of a blob that arrives.  It fails if the bytes were wrong, or if the
    client may not have them, as another source has continued.

    Where the disk runs full, it continues past the store: see L{IFileReader.part}.
    """

    _log = Logger()

    def __init__(
        self,
        reader: BlobReader,
        blob: Descriptor,
        growth: Growth,
        provenance: Provenance,
        source: IRepository,
        turn: Turn,
        *,
        room: Room,
        unkept: Callable[[int], Awaitable[IBlobReader]],
    ) -> None:
        """
        @param growth: the growth of the file that C{reader} reads.
        @param source: the repository whose client this is.
        @param unkept: opens the blob past the store, from an offset to the client's
            end.
        """
        self.size = blob.size
        self._reader = reader
        self._blob = blob
        self._growth = growth
        self._provenance = provenance
        self._source = source
        self._turn = turn
        self._room = room
        self._unkept = unkept
        self._rest: IBlobReader | None = None
        self._admitted: set[str] = set()

    @property
    def path(self) -> str | None:
        """
        See L{IBlobReader<xferd.interfaces.mirror.IBlobReader>}.
        """
        return self._reader.path if self._rest is None and self._is_admitted() else None

    async def admit(self) -> bool:
        """
        Check where the bytes come from that are here.

        @return: whether the client may have them.
        @raise SourceError: the registry has to confirm that, and does not.
        """
        while not self._is_admitted():
            origins = frozenset(self._growth.origins)
            if self._growth.is_whole:
                if not await self._provenance.check(self._source, self._blob.digest, self._turn):
                    return False
            elif not await self._provenance.admits(self._source, self._blob.digest, origins, self._turn):
                return False
            self._admitted |= origins
        return True

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        if self._rest is not None:
            return self._rest.read(offset, most)
        reading = maybeDeferred(self._reader.read, offset, most)
        if reading.called:
            return self._checked(reading)

        async def read() -> bytes:
            found = await self._arrived(self._checked(reading), offset)
            return found if found is not None else await self.read(offset, most)

        return Deferred.fromCoroutine(read())

    def part(self, offset: int) -> Deferred[FilePart | None]:
        if self._rest is not None:
            return succeed(None)
        reading = maybeDeferred(self._reader.part, offset)
        if reading.called:
            return self._checked(reading)
        return Deferred.fromCoroutine(self._arrived(self._checked(reading), offset))

    def close(self) -> None:
        self._reader.close()
        if self._rest is not None:
            self._rest.close()

    async def _arrived(self, reading: Deferred[T], offset: int) -> T | None:
        """
        Wait for bytes that arrive.

        @return: the bytes; L{None} if the disk is full, and they come past the store.
        """
        try:
            return await self._room.wait(reading)
        except DiskFull as e:
            self._log.warn("{digest} is not kept: {why}", digest=self._blob.digest, why=str(e))
        # Others wait for their turn without a file.
        self._reader.close()
        self._rest = await self._unkept(offset)
        return None

    def _is_admitted(self) -> bool:
        return self._growth.origins <= self._admitted

    def _checked(self, reading: Deferred[T]) -> Deferred[T]:
        return reading.addCallbacks(self._check, self._translate)

    def _check(self, found: T) -> T | Deferred[T]:
        return found if self._is_admitted() else Deferred.fromCoroutine(self._admit(found))

    async def _admit(self, found: T) -> T:
        if not await self.admit():
            raise SourceError(
                f"another source continues with {self._blob.digest}: request the rest again",
                host=self._source.host,
            )
        return found

    def _translate(self, failure: Failure) -> Failure:
        if failure.check(Restarted) is None:
            return failure
        return Failure(DigestMismatch(f"the bytes that arrived for {self._blob.digest} have another digest"))
