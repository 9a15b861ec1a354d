# -*- test-case-name: tests.store.gc.test_collector -*-
"""
The garbage collector: it removes the layers, trees, blobs and partial blobs
that nothing names or uses.

A thread surveys the data directory first.  Then the reactor removes garbage in
small batches, and checks again before each that it is not named or used by
now, so that work that began in between is spared.

A daemon that is killed meanwhile leaves a consistent store.  Names are removed
before the content that they refer to, and content is checked before it is named
again.  Records of layers are removed before their trees, those on top before
those below.  Large files and trees are renamed into C{staging/}, which is
swept at the next start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.catalog import ABANDONED_AFTER, LOCAL_HOST
from xferd.interfaces.collection import Evicted, Freed, ICopies, IGarbageCollector, ILayerUser, KeptFor
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import Image
from xferd.names import Digest, Reference, Repository
from xferd.store.blobs.blobs import Blobs
from xferd.store.catalog.catalog import Catalog
from xferd.store.disk.trash import Trash
from xferd.store.gc.copies import Candidate, copied_first, questions
from xferd.store.gc.survey import Survey, survey
from xferd.store.gc.users import LayerUsers, reasons, shorten
from xferd.store.images.images import Images
from xferd.store.images.last_used import LastUsed
from xferd.store.layer_records import LayerUses
from xferd.store.layers import Layers
from xferd.store.leases import Leases
from xferd.store.paths import Paths, parse_tree_name
from xferd.store.threads import Threads
from xferd.store.trees.trees import Trees

T = TypeVar("T")

_BATCH = 64
"""Removals in one turn of the reactor: a millisecond or two."""


@implementer(IGarbageCollector)
class GarbageCollector:
    """
    The garbage collector of a data directory.
    """

    _log = Logger()

    def __init__(
        self,
        paths: Paths,
        *,
        threads: Threads,
        trash: Trash,
        leases: Leases,
        blobs: Blobs,
        trees: Trees,
        layers: Layers,
        images: Images,
        catalog: Catalog,
        last_used: LastUsed,
        clock: IReactorTime,
        wall_clock: WallClock,
        partial_age: float,
    ) -> None:
        """
        @param wall_clock: measures the ages of files.
        @param partial_age: seconds for which an unused partial blob is kept.
        """
        self._paths = paths
        self._threads = threads
        self._trash = trash
        self._leases = leases
        self._blobs = blobs
        self._trees = trees
        self._layers = layers
        self._images = images
        self._catalog = catalog
        self._last_used = last_used
        self._clock = clock
        self._wall_clock = wall_clock
        self._partial_age = partial_age
        self._lock = DeferredLock()
        self._open = False
        self._users = LayerUsers()
        self._copies: ICopies | None = None
        self._named: Set[Digest] = frozenset()
        self._abandoned: Set[Digest] = frozenset()
        self._without: Set[Reference] = frozenset()
        self._held: tuple[Set[Digest], Set[Digest]] | None = None

    def start(self) -> None:
        """
        Permit collections, after the store has been loaded.
        """
        self._open = True

    async def stop(self) -> None:
        """
        Refuse collections.  A running one ends at its next batch.
        """
        self._open = False
        async with self._lock:
            pass

    def add_user(self, user: ILayerUser) -> None:
        self._users.add(user)

    def use_copies(self, copies: ICopies) -> None:
        self._copies = copies

    def used_by(self, chain_id: Digest | None) -> Sequence[str]:
        return self._users.texts(chain_id)

    def kept_for(self) -> Sequence[KeptFor]:
        kept = []
        for user in self._users:
            records = [self._layers.all()[each] for each in self._chains(user.used().keys())]
            size = sum(record.size + self._trees.size_of_copy(record.tree) for record in records)
            kept.append(
                KeptFor(user.name, len(records), size, tuple(shorten(reasons(user, self._layers.all()))))
            )
        return kept

    def lease(self) -> Callable[[], None]:
        return self._leases.acquire()

    def collect(
        self,
        dry_run: bool = False,
        partials: bool = False,
        abandoned: Set[Digest] = frozenset(),
        without: Set[Reference] = frozenset(),
    ) -> Deferred[Freed]:
        """
        Cancelling ends it at its next batch.
        """
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
        async with self._lock:
            self._check()
            found = await self._survey()
            copied = await self._copied(excess, keeps)
            await self._images.settled()
            self._check()
            used = self._chains(self._users.needed())
            images: list[Reference] = []
            manifests: list[tuple[Repository, Digest]] = []
            for candidate in copied_first(self._in_order(keeps), excess, copied):
                if excess <= 0:
                    break
                if not isinstance(candidate, Image):
                    repository, manifest = candidate
                    manifests.append((repository, manifest.descriptor.digest))
                    excess -= manifest.size
                elif candidate.reference not in spare and not self._is_held(candidate, found, used):
                    images.append(candidate.reference)
                    excess -= candidate.size + self._layers.chain_size(candidate.chain_id)
            if enough and excess > 0:
                return Evicted()
            # Requested together, they are written in few batches.
            removals = [self._images.remove(reference) for reference in images]
            removals += [self._catalog.remove_manifest(*each) for each in manifests]
            for removal in removals:
                await removal
            return Evicted(tuple(images), tuple(manifests))

    async def _copied(self, excess: int, keeps: Callable[[Repository, Digest], bool]) -> Set[Digest]:
        """
        Find out which blobs of an eviction's candidates other machines have.
        """
        wanted = questions(self._in_order(keeps), excess)
        return await self._copies.elsewhere(wanted) if self._copies is not None and wanted else frozenset()

    def _in_order(self, keeps: Callable[[Repository, Digest], bool]) -> list[Candidate]:
        """
        Everything that can be evicted, the least recently used first.
        """
        return [candidate for _, candidate in sorted(self._candidates(keeps), key=lambda each: each[0])]

    def _candidates(
        self, keeps: Callable[[Repository, Digest], bool]
    ) -> Iterator[tuple[tuple[float, int], Candidate]]:
        """
        Everything that can be evicted, each with its last use.
        """
        for image in self._images.all():
            yield self._last_used.of(image), image
        for repository in self._catalog.repositories():
            if repository.host == LOCAL_HOST:
                continue
            for manifest in self._catalog.manifests(repository):
                digest = manifest.descriptor.digest
                if digest not in self._leases and not keeps(repository, digest):
                    name = Reference(repository, None, digest)
                    yield self._last_used.of_name(name), (repository, manifest)

    async def _survey(self, without: Set[Reference] = frozenset()) -> Survey:
        """
        Survey the data directory, and then let the users of layers read what they
        need: what an engine has recorded before it mounts is found either way.
        """
        found = await self._threads.run(survey, self._paths, "/proc", frozenset(map(str, without)))
        await self._users.refresh()
        return found

    def _is_held(self, image: Image, found: Survey, used: Set[Digest]) -> bool:
        """
        Whether a job, a mount, a user or a pin keeps an image.

        @param used: the layers that users need, with all their parents.
        """
        if image.pinned or image.manifest.digest in self._leases:
            return True
        record = None if image.chain_id is None else self._layers.all().get(image.chain_id)
        return record is not None and (
            record.chain_id in found.chains or record.tree in found.mounted or record.chain_id in used
        )

    def removed(self) -> Deferred[None]:
        return self._trash.emptied()

    async def _collect(
        self, dry_run: bool, all_partials: bool, abandoned: Set[Digest], without: Set[Reference]
    ) -> Freed:
        async with self._lock:
            self._check()
            await self._drop_abandoned(dry_run)
            self._without = without
            found = await self._survey(without)
            uses = self._layers.uses.copy() if dry_run else self._layers.uses
            layers = await self._free_layers(found, uses, dry_run)
            trees = await self._free_trees(found, uses, dry_run)
            blobs = await self._free_blobs(found, dry_run)
            partials = await self._free_partials(found, all_partials, abandoned, dry_run)
        freed = Freed(
            blobs=len(blobs),
            trees=len(trees),
            layers=layers,
            partials=len(partials),
            bytes=sum((*trees, *blobs, *partials)),
        )
        if not dry_run:
            self._log.info("collected: {freed}", freed=freed)
        return freed

    async def _drop_abandoned(self, dry_run: bool) -> None:
        """
        Remove pushed blobs from their repositories that no manifest has named for
        long.
        """
        abandoned = set(self._catalog.abandoned(self._wall_clock() - ABANDONED_AFTER))
        self._abandoned = frozenset()
        if dry_run:
            self._abandoned = frozenset(
                digest
                for _, digest in abandoned
                if all((holder, digest) in abandoned for holder in self._catalog.holders(digest))
            )
            return
        # Requested together, they are written in few batches.
        for removal in [self._catalog.remove_blob(*each) for each in abandoned]:
            await removal

    async def _free_layers(self, found: Survey, uses: LayerUses, dry_run: bool) -> int:
        """
        Remove the records of layers, from the top down.

        @param uses: what the layers refer to; those that would be removed are
            removed from it.
        @return: their number.
        """
        gone = 0
        async for chain_id in self._paced(self._layers.from_the_top()):
            record = self._layers.all().get(chain_id)
            # A layer may have come on top of it in between.
            if record is None or self._is_wanted(chain_id, found) or uses.parents[chain_id]:
                continue
            gone += 1
            if dry_run:
                uses.remove(record)
            else:
                self._layers.forget(chain_id)
        return gone

    async def _free_trees(self, found: Survey, uses: LayerUses, dry_run: bool) -> Sequence[int]:
        """
        Remove the trees that no layer needs.

        @param uses: what the layers that stay refer to.
        @return: the bytes of each tree.
        """
        freed: list[int] = []
        async for name in self._paced(found.trees):
            parsed = parse_tree_name(name)
            assert parsed is not None
            diff_id, variant = parsed
            if name in found.mounted or diff_id in self._leases or self._trees.is_busy(diff_id):
                continue
            if name == self._trees.name(diff_id):
                # The tree itself has the facts, and stays while a variant of it does.
                if not uses.diff_ids[diff_id]:
                    freed.append(self._trees.size(diff_id))
                    if not dry_run:
                        self._trees.forget(diff_id)
            elif (
                (variant or self._trees.is_superseded(name))
                and not uses.trees[name]
                and not self._may_be_mounted(name, diff_id, found)
            ):
                freed.append(self._trees.size_of_other(name))
                if not dry_run:
                    self._trees.forget_other(name)
        return freed

    def _may_be_mounted(self, name: str, diff_id: Digest, found: Survey) -> bool:
        """
        Whether a tree that no layer has any more may be mounted, although no options
        of a mount name it.

        A mount whose source is a chain ID may have any tree of its layers, and a
        user of a layer one by older rules.  These layers are not removed.
        """
        if self._held is None:
            layers = self._layers.all()
            mounted, used = self._chains(found.chains), self._chains(self._users.needed())
            self._held = {layers[each].diff_id for each in mounted}, {layers[each].diff_id for each in used}
        mounted_ids, used_ids = self._held
        return diff_id in mounted_ids or (diff_id in used_ids and self._trees.is_older(name))

    def _chains(self, digests: Set[Digest]) -> Set[Digest]:
        """
        Those of some digests that are layers, with all their parents.
        """
        layers = self._layers.all()
        return self._layers.with_parents(digest for digest in digests if digest in layers)

    async def _free_blobs(self, found: Survey, dry_run: bool) -> Sequence[int]:
        """
        Remove the blobs that no image needs.

        @return: the bytes of each blob.
        """
        freed: list[int] = []
        gone: list[Digest] = []
        try:
            async for digest, size in self._paced(found.blobs):
                if not self._is_wanted(digest, found) and not self._blobs.is_arriving(digest):
                    freed.append(size)
                    if not dry_run:
                        self._blobs.forget(digest)
                        self._catalog.forget_origins(digest)
                        gone.append(digest)
        finally:
            if gone and self._copies is not None:
                self._copies.removed(gone)
        return freed

    async def _free_partials(
        self, found: Survey, everything: bool, abandoned: Set[Digest], dry_run: bool
    ) -> Sequence[int]:
        """
        Remove partial blobs that no transfer uses.

        @param everything: whether to remove new ones, too.
        @param abandoned: blobs whose partial ones are removed in any case.
        @return: the bytes of each partial blob.
        """
        freed: list[int] = []
        oldest = self._wall_clock() - self._partial_age
        async for digest, size, written in self._paced(found.partials):
            if digest in self._leases or self._blobs.is_arriving(digest):
                continue
            if everything or digest in abandoned or written < oldest:
                freed.append(size)
                if not dry_run:
                    self._blobs.forget_partial(digest)
        return freed

    def _is_wanted(self, digest: Digest, found: Survey) -> bool:
        """
        Whether a blob or a layer is named or used.
        """
        listed = self._catalog.lists(digest) and digest not in self._abandoned
        return listed or digest in self._named or digest in found.reached or self._is_used(digest)

    def _is_used(self, digest: Digest) -> bool:
        return digest in self._leases or self._users.need(digest)

    async def _paced(self, items: Sequence[T]) -> AsyncIterator[T]:
        """
        Iterate over some items, with a turn of the reactor between batches.
        """
        for start in range(0, len(items), _BATCH):
            if start:
                await self._turn()
            # Includes the images whose names are being written.
            await self._images.settled()
            self._check()
            self._named = self._images.roots(self._without)
            self._held = None
            for item in items[start : start + _BATCH]:
                yield item

    def _turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(0, turn.callback, None)
        return turn

    def _check(self) -> None:
        if not self._open:
            raise StoreError(f"the store {self._paths.root} is not open")
