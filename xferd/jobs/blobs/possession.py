# -*- test-case-name: tests.jobs.blobs.test_possession -*-
"""
Proof that the registry of an isolated client has a blob.

A registry that a client runs itself confirms any digest.  So it has to send
some parts of the blob, which are compared with the bytes that are here.  Which
parts nobody can foresee, and they stay the same for as long as the daemon
runs: who knows only some of the bytes has one chance, however often he asks.
"""

from __future__ import annotations

import os
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
"""Parts of a blob that are asked for."""

PART: Final = 1024
"""Bytes of each part."""


@frozen
class Possession:
    """
    Asks registries to prove that they have what is here.

    @ivar key: decides which parts of a blob are asked for.
    """

    key: bytes = field(factory=lambda: token_bytes(32), repr=False)

    def prove(self, source: IBlobSource, digest: Digest, path: str, size: int) -> Deferred[None]:
        """
        Have a source confirm a blob and send parts of it.

        What is no registry has brought all of its bytes and shows nothing more.

        @param path: the file to compare with.
        @param size: how many bytes of the blob are in the file.
        @raise ContentMismatch: it sends something else.
        @raise SourceError: as for L{IBlobSource.confirm} and L{IBlobSource.open}.
        @raise StoreError: the file cannot be read.
        """
        return Deferred.fromCoroutine(self._prove(source, digest, path, size))

    async def prove_partial(self, source: IBlobSource, partial: IPartial) -> None:
        """
        Have a source confirm a blob that is not whole yet; where it does not
        prove to have what is here, that is thrown away.

        @raise SourceError: as for L{prove}, but for C{ContentMismatch}.
        """
        where = _Where()
        partial.follow(where)
        partial.unfollow(where)
        if not partial.offset:
            # What is behind a gap is compared with nothing.
            partial.trim()
        try:
            await self._prove(source, partial.digest, where.path, partial.offset)
        except ContentMismatch:
            partial.restart()

    def parts(self, digest: Digest, size: int) -> list[tuple[int, int]]:
        """
        Which parts of a blob are asked for.

        @param size: how many bytes there are to choose from.
        @return: the parts, each a start and a stop; all of a small blob.
        """
        if size <= PARTS * PART:
            return [(0, size)] if size else []
        starts = []
        for number in range(PARTS):
            chosen = hmac_digest(self.key, f"{digest} {size} {number}".encode(), "sha256")
            starts.append(int.from_bytes(chosen) % (size - PART + 1))
        return [(start, start + PART) for start in sorted(starts)]

    async def _prove(self, source: IBlobSource, digest: Digest, path: str, size: int) -> None:
        await source.confirm(digest)
        if not source.host:
            return
        parts = self.parts(digest, size)
        if not parts:
            return
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise StoreError(f"cannot read blob {digest}: {e.strerror}") from e
        try:
            for start, stop in parts:
                if await _compare(source, digest, start, stop, file, size):
                    return
        finally:
            os.close(file)


async def _compare(source: IBlobSource, digest: Digest, start: int, stop: int, file: int, size: int) -> bool:
    """
    Compare a part of a blob with a file.

    @param size: how many bytes of the file can be compared with.
    @return: whether the source sent everything in place of a part, so that no
        further part is of use.
    """
    body = await source.open(digest, start, stop)
    whole = body.start == 0 and (start, stop) != (0, size)
    at = body.start

    def sink(data: bytes) -> None:
        nonlocal at
        comparable = data[: max(0, size - at)]
        if os.pread(file, len(comparable), at) != comparable:
            raise DigestMismatch(
                f"{source.label} confirms {digest}, and sends something else for it",
                host=source.host,
            )
        at += len(data)
        if at > size:
            # Of a partial file's registry that sends no parts.
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
    All that is here was compared.
    """


@implementer(IFollower)
class _Where:
    """
    Learns where a partial file is.
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
