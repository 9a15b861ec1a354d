"""
What is on the disk, and at registries, when the daemon is killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pickle import dumps, loads
from random import Random
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.store import Image
from xferd.names import Digest
from xferd.oci import Document
from xferd.store.catalog.records import Change, OriginChange, Recorded
from xferd.testing.fake_body import PIECE
from xferd.testing.fake_images import FakeImages
from xferd.testing.fakes import FakeJournal, FakeRegistries, FakeRegistry, FakeStore, Gate

Write = tuple[str, bytes]
"""A call of the journal: the name of the method, and its pickled arguments."""


def _write(name: str) -> Any:
    """
    A method of the journal that remembers its calls.
    """

    def write(self: Journal, *args: Any) -> Deferred[None]:
        self.writes.append((name, dumps(args)))
        number = len(self.writes)

        def reported(_: None) -> None:
            self.flushed = max(self.flushed, number)
            for flush in [flush for flush in self.flushes if flush[0] <= self.flushed]:
                self.flushes.remove(flush)
                flush[1].callback(None)

        done: Deferred[None] = getattr(FakeJournal, name)(self, *args)
        return done.addCallback(reported)

    return write


class Journal(FakeJournal):
    """
    A journal that knows which of its writes are on the disk.

    SQLite commits them in their order: all before one that was reported are there.

    @ivar writes: all writes, in their order.
    @ivar flushed: the number of those that were reported.
    @ivar flushes: the calls of C{flush} that wait, with the number of writes before each.
    """

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        self.writes: list[Write] = []
        self.flushed = 0
        self.flushes: list[tuple[int, Deferred[None]]] = []

    def flush(self) -> Deferred[None]:
        """
        Wait until all writes so far are on the disk.
        """
        if self.flushed == len(self.writes):
            return super().flush()
        # Its waiters do not cancel it.
        flush: Deferred[None] = Deferred()
        self.flushes.append((len(self.writes), flush))
        return flush

    record_job: Any = _write("record_job")
    record_begun: Any = _write("record_begun")
    record_attempt: Any = _write("record_attempt")
    record_key: Any = _write("record_key")
    record_upload: Any = _write("record_upload")
    record_holder: Any = _write("record_holder")
    record_host: Any = _write("record_host")
    record_fill: Any = _write("record_fill")
    forget_fill: Any = _write("forget_fill")

    def replay(self, writes: list[Write]) -> None:
        """
        Make the writes of earlier daemons, and continue as the journal of the next one.
        """
        for name, args in writes:
            if name == "restart":
                FakeJournal.restart(self)
            else:
                getattr(FakeJournal, name)(self, *loads(args))
        FakeJournal.restart(self)
        self.writes = [*writes, ("restart", b"")]
        self.flushed = len(self.writes)


class Images(FakeImages):
    """
    Named images, without the checks of L{FakeImages}: a disk takes what it gets.
    """

    async def _put(self, image: Image) -> Image:
        await self._gate.enter("images.put", image.reference)
        self._named[image.reference] = image
        self.note(image.reference)
        self._report()
        return image


class CatalogRecords:
    """
    Records of the catalog, of which those are on the disk that were reported, and all before
    them.

    @ivar batches: the changes of all transactions, in their order.
    @ivar flushed: the number of those that were reported.
    """

    def __init__(self, gate: Gate, batches: Iterable[list[Change | OriginChange]] = ()) -> None:
        self._gate = gate
        self.batches = list(batches)
        self.flushed = len(self.batches)

    def write(self, changes: Iterable[Change | OriginChange]) -> Deferred[None]:
        """
        See L{xferd.store.catalog.records.CatalogRecords}.
        """
        self.batches.append(list(changes))
        number = len(self.batches)

        def reported(_: None) -> None:
            self.flushed = max(self.flushed, number)

        return self._gate.enter("catalog.write").addCallback(reported)

    def read(self) -> Deferred[Recorded]:
        """
        All rows.
        """
        found = Recorded()
        for change in [change for batch in self.batches for change in batch]:
            _apply(found, change)
        return succeed(found)


def _apply(found: Recorded, change: Change | OriginChange) -> None:
    """
    Make one change of the rows.
    """
    if isinstance(change, OriginChange):
        found.origins[:] = [o for o in found.origins if change.origin or o[0] != change.digest]
        if change.origin:
            found.origins.append((change.digest, change.origin))
        return
    where = change.repository
    if change.manifest is not None:
        found.manifests.append((where, change.manifest))
    elif change.tag:
        found.tags[:] = [tag for tag in found.tags if tag[:2] != (where, change.tag)]
        if change.tagged is not None:
            found.tags.append((where, change.tag, change.tagged))
    elif change.blob is not None:
        found.blobs.append((where, change.blob))
    elif change.unlinked is not None:
        found.blobs[:] = [b for b in found.blobs if (b[0], b[1].digest) != (where, change.unlinked)]
    else:
        gone = where, change.digest
        found.manifests[:] = [m for m in found.manifests if (m[0], m[1].descriptor.digest) != gone]


class Store(FakeStore):
    """
    A store on a disk that outlives the daemon.
    """

    images_class = Images
    journal_class = Journal
    journal: Journal

    def __init__(self, clock: IReactorTime, path: str, disk: Disk | None = None) -> None:
        super().__init__(clock, path)
        self.catalog_records = CatalogRecords(self.gate, () if disk is None else disk.catalog)
        self.catalog._records = self.catalog_records
        if disk is not None:
            disk.load(self)


@define
class Disk:
    """
    A copy of what is on the disk.
    """

    writes: list[Write]
    catalog: list[list[Change | OriginChange]]
    contents: dict[Digest, bytes]
    partials: dict[Digest, bytes]
    trees: dict[Digest, Any]
    tree_blobs: dict[Digest, Digest]
    layers: dict[Digest, Any]
    layer_blobs: dict[Digest, set[Digest]]
    layer_paths: dict[str, Digest]
    descriptors: dict[Digest, list[Any]]
    named: dict[Any, Image]
    free: int

    @classmethod
    def of(cls, store: Store, random: Random, lost: float) -> Disk:
        """
        Copy what the death of the daemon leaves.

        @param lost: the share of what was not flushed that is lost, 0 to 1.
        """
        journal, blobs, catalog = store.journal, store.blobs, store.catalog_records
        listed = catalog.flushed + round((len(catalog.batches) - catalog.flushed) * (1 - lost))
        kept = journal.flushed + round((len(journal.writes) - journal.flushed) * (1 - lost))
        partials = dict(blobs.partials)
        for digest, partial in blobs.opened.items():
            data = bytes(partial._data)
            partials[digest] = data[: max(0, len(data) - random.randrange(PIECE))] if lost else data
        return cls(
            writes=journal.writes[:kept],
            catalog=catalog.batches[:listed],
            contents=dict(blobs.contents),
            partials=partials,
            trees=dict(store.trees.unpacked),
            tree_blobs=dict(store.trees.blobs),
            layers=dict(store.layers.registered),
            layer_blobs={chain: set(blobs) for chain, blobs in store.layers.blobs.items()},
            layer_paths=dict(store.layers._owners),
            descriptors={chain: list(known) for chain, known in store.layers._descriptors.items()},
            named=dict(store.images._named),
            free=blobs.free,
        )

    def load(self, store: Store) -> None:
        """
        Fill the store of the next daemon.
        """
        store.journal.replay(self.writes)
        store.blobs.contents.update(self.contents)
        for digest, data in self.contents.items():
            store.blobs.mirror(store.blobs.path(digest), data)
        store.blobs.partials.update(self.partials)
        store.blobs.free = self.free
        store.trees.unpacked.update(self.trees)
        store.trees.blobs.update(self.tree_blobs)
        store.layers.registered.update(self.layers)
        store.layers.blobs.update(self.layer_blobs)
        store.layers._owners.update(self.layer_paths)
        store.layers._descriptors.update(self.descriptors)
        store.images._named.update(self.named)


@frozen
class _Content:
    """
    What one registry has.
    """

    documents: dict[tuple[str, str], Document]
    blobs: dict[tuple[str, Digest], bytes]
    sessions: dict[str, Any]
    begun: int
    stalled: set[Digest]


@define
class World:
    """
    A copy of what the registries have.
    """

    contents: dict[str, _Content] = field(factory=dict)

    @classmethod
    def of(cls, registries: Iterable[FakeRegistry]) -> World:
        """
        Copy what they have.
        """
        found = {}
        for registry in registries:
            uploads = registry.uploads
            sessions = {url: evolve(s, data=bytearray(s.data)) for url, s in uploads.sessions.items()}
            found[registry.host] = _Content(
                dict(registry._documents),
                dict(registry._blobs),
                sessions,
                uploads._begun,
                set(registry._stalled),
            )
        return cls(found)

    def load(self, registries: FakeRegistries) -> None:
        """
        Fill registries that the next daemon reaches.
        """
        for host, content in self.contents.items():
            registry: FakeRegistry = registries.registry(host)
            registry._documents.update(content.documents)
            registry._blobs.update(content.blobs)
            registry.uploads.sessions.update(content.sessions)
            registry.uploads._begun = content.begun
            registry._stalled |= content.stalled
            registry.uploads._stalled |= content.stalled
