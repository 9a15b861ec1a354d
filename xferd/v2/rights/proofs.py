# -*- test-case-name: tests.v2.rights.test_policies -*-
"""
Proofs that a client may read content of an upstream: the upstream itself says so, to
the client's own credentials, before anything from the store is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

from attrs import define, field
from twisted.internet.defer import Deferred

from xferd.expiring import ExpiringDict
from xferd.names import Digest
from xferd.single_flight import SingleFlight

if TYPE_CHECKING:
    from xferd.interfaces.catalog import ICatalog
    from xferd.interfaces.registry import IRepository

KEEP: Final = 120.0
"""Seconds for which a proof is good."""

_MOST: Final = 256
"""The most proofs of one client for one repository."""


@define
class _Proven:
    """
    What one client may read in one repository.

    @ivar manifests: the digests of tags and manifests, each with the time at which
        the proof ends.  The oldest are first.
    @ivar blobs: the same for blobs that no proven manifest names.
    """

    manifests: OrderedDict[str, tuple[float, Digest]] = field(factory=OrderedDict)
    blobs: OrderedDict[Digest, float] = field(factory=OrderedDict)


class Proofs:
    """
    The proofs of all clients.

    Nothing is remembered of a client that the upstream refuses.
    """

    def __init__(self, catalog: ICatalog, clock: Callable[[], float]) -> None:
        """
        @param clock: returns monotonic seconds.
        """
        self._catalog = catalog
        self._clock = clock
        self._proven: ExpiringDict[Hashable, _Proven] = ExpiringDict(clock, keep=KEEP)
        self._running: dict[Hashable, SingleFlight[Digest]] = {}

    async def manifest(self, source: IRepository, client: str, wanted: str) -> Digest:
        """
        Prove that a client may read a manifest.

        @param client: distinguishes clients with different credentials.
        @param wanted: a tag or a digest.
        @return: the digest that the upstream has for this client: another client may
            see another one under the same tag.
        @raise Denied: the upstream refuses.
        @raise SourceError: the upstream has no such manifest, or cannot be asked.
        """
        proven = self._of(source, client)
        until, digest = proven.manifests.get(wanted, (0.0, None))
        if digest is not None and self._clock() < until:
            return digest
        found = await self._once((source.name, client, wanted), lambda: source.resolve(wanted, confirm=True))
        proof = (self._clock() + KEEP, found)
        for name in (wanted, str(found)):
            proven.manifests.pop(name, None)
            proven.manifests[name] = proof
        while len(proven.manifests) > _MOST:
            proven.manifests.popitem(last=False)
        return found

    async def blob(self, source: IRepository, client: str, digest: Digest) -> None:
        """
        Prove that a client may read a blob: a proven manifest names it, or the
        upstream confirms it.

        @raise Denied: the upstream refuses.
        @raise SourceError: the upstream has no such blob, or cannot be asked.
        """
        proven, now = self._of(source, client), self._clock()
        if now < proven.blobs.get(digest, 0.0):
            return
        for until, manifest in proven.manifests.values():
            found = self._catalog.manifest(source.name, manifest) if now < until else None
            if found is not None and any(blob.digest == digest for blob in found.blobs):
                return

        def confirm() -> Deferred[Digest]:
            return source.confirm(digest).addCallback(lambda _: digest)

        await self._once((source.name, client, digest), confirm)
        proven.blobs.pop(digest, None)
        proven.blobs[digest] = self._clock() + KEEP
        while len(proven.blobs) > _MOST:
            proven.blobs.popitem(last=False)

    def has_any(self, source: IRepository, client: str) -> bool:
        """
        Whether a client may read anything in a repository, as far as is known.
        """
        now = self._clock()
        return any(now < until for until, _ in self._of(source, client).manifests.values())

    def _of(self, source: IRepository, client: str) -> _Proven:
        return self._proven.get_or_make((source.name, client), _Proven)

    def _once(self, key: Hashable, work: Callable[[], Deferred[Digest]]) -> Deferred[Digest]:
        """
        Make one request to the upstream for all that want the same proof.
        """
        flight = self._running.get(key)
        if flight is not None:
            return flight.wait()
        flight = self._running[key] = SingleFlight[Digest]()
        waiting = flight.wait()

        def done() -> None:
            del self._running[key]

        flight.start(work(), done)
        return waiting
