# -*- test-case-name: tests.jobs.mirror.test_provenance -*-
"""
Which bytes of the store an upstream's clients may have: those that came from this
upstream, or from one that sends them to any client.

The digest of a blob is no secret, and an upstream can name any digest in a manifest.
Therefore the bytes that came with credentials are sent to the clients of another
repository only after its registry has proved to have them (see
L{xferd.jobs.blobs.possession}).  The proof is made once, and takes some kilobytes.
"""

from __future__ import annotations

from collections.abc import Set

from xferd.interfaces.catalog import LOCAL_HOST
from xferd.interfaces.registry import IRepository
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.mirror.questions import Questions
from xferd.names import Digest
from xferd.realms import PUBLIC, host_of
from xferd.transfer.fair_queue import Turn


class Provenance:
    """
    The checks of all upstreams.
    """

    def __init__(self, store: IStore, layers: DownloadManager, questions: Questions) -> None:
        self._store = store
        self._layers = layers
        self._questions = questions

    async def check(self, source: IRepository, digest: Digest, turn: Turn) -> bool:
        """
        Check that the clients of a repository may have a blob of the store.

        @return: whether they may; L{False} if the registry sends whole blobs only, so
            that the client has to receive this one from there.
        @raise BlobUnknown: its registry does not have the blob.
        @raise ContentMismatch: it sends other bytes.
        @raise SourceError: it cannot be asked.
        """
        known = self._store.catalog.origins(digest)
        if source.host == LOCAL_HOST or known & {PUBLIC, source.origin}:
            return True

        async def attempt(repository: IRepository) -> bool:
            if any(host_of(each) == repository.host for each in known):
                # This registry has sent the bytes: only the right is in question.
                await repository.confirm(digest)
                return True
            return await self._layers.prove_by_parts(repository, digest)

        async def use(proven: bool) -> None:
            if proven:
                self.sent(source, digest)

        return await self._questions.ask(source, "possession", str(digest), attempt, use, turn)

    def sent(self, source: IRepository, digest: Digest) -> None:
        """
        Record that a repository has proved to have a blob.
        """
        if self._store.blobs.has(digest):
            self._store.catalog.add_origin(digest, source.origin)

    async def admits(self, source: IRepository, digest: Digest, origins: Set[str], turn: Turn) -> bool:
        """
        Whether the clients of a repository may have the bytes of a blob that arrives.

        @param origins: where these come from: see L{Growth<xferd.jobs.blobs.growth.Growth>}.
        @raise SourceError: as L{check}.
        """
        foreign = origins - {PUBLIC, source.origin}
        if not foreign:
            return True
        if any(host_of(each) != source.host for each in foreign):
            return False

        async def attempt(repository: IRepository) -> None:
            await repository.confirm(digest)

        async def use(_: None) -> None:
            """
            The blob has no record before it is complete.
            """

        await self._questions.ask(source, "right", str(digest), attempt, use, turn)
        return True
