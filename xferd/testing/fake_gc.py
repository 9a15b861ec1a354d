# -*- test-case-name: tests.testing.test_fake_gc -*-
"""
The garbage collector of a store in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.catalog import LOCAL_HOST, CatalogManifest
from xferd.interfaces.collection import Evicted, Freed, ICopies, IGarbageCollector, ILayerUser, KeptFor
from xferd.names import Digest, Reference, Repository
from xferd.store.catalog.catalog import Catalog
from xferd.store.gc.users import LayerUsers, reasons
from xferd.testing.fake_blobs import FakeBlobs
from xferd.testing.fake_images import FakeImages
from xferd.testing.fake_leases import FakeLeases
from xferd.testing.fake_trees import FakeLayers, FakeTrees
from xferd.testing.gate import Gate


@implementer(IGarbageCollector)
class FakeGarbageCollector:
    """
    The garbage collector.  It evicts by last use alone, whatever other engines have copies of.

    @ivar kept: the digests that other tools use, for tests to change.
    """

    def __init__(
        self,
        gate: Gate,
        blobs: FakeBlobs,
        trees: FakeTrees,
        layers: FakeLayers,
        images: FakeImages,
        leases: FakeLeases,
        catalog: Catalog,
    ) -> None:
        self.kept: set[Digest] = set()
        self._gate = gate
        self._blobs = blobs
        self._trees = trees
        self._layers = layers
        self._images = images
        self._leases = leases
        self._catalog = catalog
        self._users = LayerUsers()
        self._copies: ICopies | None = None

    def add_user(self, user: ILayerUser) -> None:
        self._users.add(user)

    def use_copies(self, copies: ICopies) -> None:
        self._copies = copies

    def used_by(self, chain_id: Digest | None) -> Sequence[str]:
        return self._users.texts(chain_id)

    def kept_for(self) -> Sequence[KeptFor]:
        registered = self._layers.registered
        chains = [(user.name, self._chains(user.used().keys())) for user in self._users]
        by = {user.name: tuple(reasons(user, registered)) for user in self._users}
        return [
            KeptFor(name, len(each), sum(registered[c].size for c in each), by[name]) for name, each in chains
        ]

    def lease(self) -> Callable[[], None]:
        return self._leases.begin()

    def collect(
        self,
        dry_run: bool,
        partials: bool = False,
        abandoned: Set[Digest] = frozenset(),
        without: Set[Reference] = frozenset(),
    ) -> Deferred[Freed]:
        return Deferred.fromCoroutine(self._collect(dry_run, partials, abandoned, without))

    def evict(
        self,
        excess: int,
        spare: Set[Reference] = frozenset(),
        enough: bool = False,
        keeps: Callable[[Repository, Digest], bool] = lambda *_: False,
    ) -> Deferred[Evicted]:
        return Deferred.fromCoroutine(self._evict(excess, spare, enough, keeps))

    async def _evict(
        self,
        excess: int,
        spare: Set[Reference],
        enough: bool,
        keeps: Callable[[Repository, Digest], bool],
    ) -> Evicted:
        await self._gate.enter("gc.evict")
        await self._users.refresh()
        used = self._chains(self._users.needed())
        gone: list[Reference] = []
        manifests: list[tuple[Repository, Digest]] = []
        names = {Reference(r, None, m.descriptor.digest): m for r, m in self._mirrored(keeps)}
        images = {image.reference: image for image in self._images.all()}
        for name in sorted([*images, *names], key=self._images.time_of):
            if name in names and name not in images:
                if excess > 0 and name.digest is not None:
                    manifests.append((name.repository, name.digest))
                    excess -= names[name].size
                continue
            image = images[name]
            held = (
                image.pinned
                or image.manifest.digest in self._leases
                or not self.kept.isdisjoint(image.parts)
                or image.chain_id in used
            )
            if excess > 0 and not held and image.reference not in spare:
                gone.append(image.reference)
                excess -= image.size
                current = image.chain_id
                while current is not None:
                    excess -= self._layers.registered[current].size
                    current = self._layers.registered[current].parent
        if enough and excess > 0:
            return Evicted()
        for reference in gone:
            await self._images.remove(reference)
        for repository, digest in manifests:
            await self._catalog.remove_manifest(repository, digest)
        return Evicted(tuple(gone), tuple(manifests))

    def _mirrored(
        self, keeps: Callable[[Repository, Digest], bool]
    ) -> Iterator[tuple[Repository, CatalogManifest]]:
        for repository in self._catalog.repositories():
            for manifest in self._catalog.manifests(repository):
                digest = manifest.descriptor.digest
                held = digest in self._leases or keeps(repository, digest)
                if repository.host != LOCAL_HOST and not held:
                    yield repository, manifest

    def removed(self) -> Deferred[None]:
        return succeed(None)

    async def _collect(
        self, dry_run: bool, all_partials: bool, abandoned: Set[Digest], without: Set[Reference]
    ) -> Freed:
        await self._gate.enter("gc.collect")
        await self._users.refresh()
        images = [image for image in self._images.all() if image.reference not in without]
        wanted = {digest for image in images for digest in image.parts} | self.kept
        wanted |= self._users.needed()
        chains = self._chains(
            {each for each in self._layers.registered if each in wanted or each in self._leases}
        )
        diff_ids = {self._layers.registered[chain_id].diff_id for chain_id in chains}
        layers = self._layers.registered.keys() - chains
        trees = {d for d in self._trees.unpacked if d not in diff_ids and d not in self._leases}
        blobs = {d for d in self._blobs.contents if d not in wanted and d not in self._leases}
        blobs = {d for d in blobs if not self._catalog.lists(d)}
        blobs -= self._blobs.opened.keys()
        partials = self._blobs.partials.keys() - self._blobs.opened.keys()
        partials = {d for d in partials if (all_partials or d in abandoned) and d not in self._leases}
        freed = Freed(
            blobs=len(blobs),
            trees=len(trees),
            layers=len(layers),
            partials=len(partials),
            bytes=sum(len(self._blobs.contents[d]) for d in blobs)
            + sum(len(self._blobs.partials[d]) for d in partials)
            + sum(self._trees.unpacked[d].size for d in trees),
        )
        if not dry_run:
            self._blobs.free += freed.bytes
            for chain_id in layers:
                del self._layers.registered[chain_id]
            for digest in trees:
                del self._trees.unpacked[digest]
            for digest in blobs:
                del self._blobs.contents[digest]
            if blobs and self._copies is not None:
                self._copies.removed(blobs)
            for digest in partials:
                del self._blobs.partials[digest]
        return freed

    def _chains(self, digests: Set[Digest]) -> Set[Digest]:
        """
        Those of some digests that are layers, with all their parents.
        """
        chains: set[Digest] = set()
        for digest in digests:
            current: Digest | None = digest if digest in self._layers.registered else None
            while current is not None:
                chains.add(current)
                current = self._layers.registered[current].parent
        return chains
