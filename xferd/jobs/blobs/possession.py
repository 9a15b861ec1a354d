# -*- test-case-name: tests.jobs.blobs.test_possession -*-
"""
The proof that the registry of an isolated client has a blob.

A registry that a client runs itself confirms any digest.  So it has to send
some parts of the blob, which are compared with the bytes that are here.  The
parts are unpredictable, and stay the same for as long as the daemon runs: a
client that knows only some of the bytes has one chance, however often it tries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hmac import digest as hmac_digest
from secrets import token_bytes
from typing import Final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import ContentMismatch, DigestMismatch, StoreError, Truncated
from xferd.interfaces.blobs import IFollower, IPartial
from xferd.interfaces.registry import IBlobSource
from xferd.names import Digest

PARTS: Final = 3
"""The number of parts that are requested of a blob."""

PART: Final = 1024
"""Bytes of each part."""


@frozen
class Possession:
    """
    Has registries prove that they have the blobs that are here.

    @ivar key: determines which parts of a blob are requested.
    """

    key: bytes = field(factory=lambda: token_bytes(32), repr=False)

    def prove(self, source: IBlobSource, digest: Digest, path: str, size: int) -> Deferred[None]:
        """
        Have a source confirm a blob and send parts of it.

        An archive has sent all of its bytes: it proves nothing more.

        @param path: the file to compare with.
        @param size: the number of the blob's bytes that are in the file.
        @raise ContentMismatch: it sends other bytes.
        @raise SourceError: as for L{IBlobSource.confirm} and L{IBlobSource.open}.
        @raise StoreError: the file cannot be read.
        """
        return Deferred.fromCoroutine(self._prove(source, digest, path, size)).addCallback(lambda _: None)

    def prove_by_parts(self, source: IBlobSource, digest: Digest, path: str, size: int) -> Deferred[bool]:
        """
        The same, without receiving the whole blob from a source that ignores C{Range}.

        @return: fires with whether it is proven; not by such a source.
        @raise SourceError: as L{prove}.
        """
        return Deferred.fromCoroutine(self._prove(source, digest, path, size, by_parts=True))

    async def prove_partial(self, source: IBlobSource, partial: IPartial) -> None:
        """
        Have a source confirm a blob that is not complete yet.  Where it does not
        prove to have the bytes that are here, they are discarded.

        @raise SourceError: as for L{prove}, but for C{ContentMismatch}.
        """
        where = _Where()
        partial.follow(where)
        partial.unfollow(where)
        try:
            each = await self._prove(source, partial.digest, where.path, partial.offset, partial.spans)
        except ContentMismatch:
            partial.restart()
        else:
            if not each:
                # Bytes behind a gap were not compared.
                partial.trim()

    def parts(self, digest: Digest, size: int) -> list[tuple[int, int]]:
        """
        The parts that are requested of a blob.

        @param size: the number of bytes to choose from.
        @return: the parts, each a start and a stop; all of a small blob.
        """
        if size <= PARTS * PART:
            return [(0, size)] if size else []
        return sorted(self._part(digest, 0, size, number) for number in range(PARTS))

    def _part(self, digest: Digest, start: int, stop: int, number: int = 0) -> tuple[int, int]:
        """
        One part between two offsets.
        """
        size = min(PART, stop - start)
        chosen = hmac_digest(self.key, f"{digest} {stop} {number}".encode(), "sha256")
        at = start + int.from_bytes(chosen) % (stop - start - size + 1)
        return at, at + size

    async def _prove(
        self,
        source: IBlobSource,
        digest: Digest,
        path: str,
        size: int,
        spans: Sequence[tuple[int, int]] = (),
        by_parts: bool = False,
    ) -> bool:
        """
        See L{prove}.

        @param spans: further bytes that are in the file, each a start and a stop: one
            part of each is compared.
        @param by_parts: whether a response with other bytes than those of a part is
            dropped.
        @return: whether parts were compared; otherwise the source sent all bytes up to
            C{size}.
        """
        await source.confirm(digest)
        if not source.host:
            return True
        parts = [(start, stop, size) for start, stop in self.parts(digest, size)]
        parts += [(*self._part(digest, start, stop), stop) for start, stop in spans]
        if not parts:
            return True
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise StoreError(f"cannot read blob {digest}: {e.strerror}") from e
        try:
            for start, stop, end in parts:
                if await _compare(source, digest, start, stop, file, end, by_parts):
                    return False
        finally:
            os.close(file)
        return True


async def _compare(
    source: IBlobSource, digest: Digest, start: int, stop: int, file: int, size: int, by_parts: bool
) -> bool:
    """
    Compare a part of a blob with a file.

    @param size: the number of bytes of the file that can be compared.
    @return: whether the source sent the whole blob in place of a part, so that no
        further part is needed.
    """
    body = await source.open(digest, start, stop)
    whole = body.start == 0 and (start, stop) != (0, size)
    if by_parts and whole and start:
        body.abandon()
        return True
    at = body.start

    def sink(data: bytes) -> None:
        nonlocal at
        comparable = data[: max(0, size - at)]
        if os.pread(file, len(comparable), at) != comparable:
            raise DigestMismatch(
                f"{source.label} confirms {digest}, and sends other bytes for it",
                host=source.host,
            )
        at += len(data)
        if at > size:
            # A registry that ignores Range sends more than the partial file has.
            raise _Enough

    try:
        await body.deliver(sink)
    except _Enough:
        return True
    if at < stop:
        raise Truncated(f"{source.label} sent {at - start} of {stop - start} bytes of {digest}")
    return whole


class _Enough(Exception):
    """
    All bytes that are here were compared.
    """


@implementer(IFollower)
class _Where:
    """
    Learns the path of a partial file.
    """

    def __init__(self) -> None:
        self.path = ""

    def grown(self, path: str, size: int) -> None:  # noqa: ARG002
        self.path = path

    def restarted(self) -> None:
        """
        The path stays the same.
        """

    def sealed(self, path: str, size: int) -> None:
        self.grown(path, size)
