# -*- test-case-name: tests.engines.snapshotter.test_service,tests.engines.snapshotter.test_concurrency -*-
"""
The calls of containerd's snapshots service, for one engine.

An engine calls C{prepare} for each layer of an image before it fetches it.  If xferd can
have the layer, the answer is that it exists already, and the engine neither fetches nor
unpacks it.  In all other cases the engine gets an ordinary snapshot to unpack into, so
that nothing is worse than without xferd.

A call that has begun to change something is carried out, also if the engine does not
wait for the answer: it lists and removes later what it does not know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.engines.snapshotter.directories import Directories
from xferd.engines.snapshotter.errors import BadCall, NotPossible, SnapshotExists, SnapshotUnknown
from xferd.engines.snapshotter.filters import parse_filters
from xferd.engines.snapshotter.labels import check_key, checked, mapped_root, wanted_layer, without_maps
from xferd.engines.snapshotter.mounts import mount_of, needs_short_names
from xferd.engines.snapshotter.provider import LayerProvider, nanoseconds
from xferd.errors import StoreError
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.snapshots import ISnapshotTable, ISnapshotter, Kind, Mount, Snapshot, Usage
from xferd.names import Digest
from xferd.store.threads import Threads, delay_cancellation

T = TypeVar("T")

NAMED: Final = 5
"""The number of removed layers whose names are reported."""

LONGEST: Final = 200
"""Characters of such a name: an engine chooses the keys of its own layers."""


class Removed:
    """
    The layers that an engine has removed, for the audit trail.

    @ivar count: their number.
    @ivar last: the names of the last L{NAMED} of them.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last: deque[str] = deque(maxlen=NAMED)

    def add(self, name: str) -> None:
        """
        Add a layer, by its chain ID or by its key.
        """
        self.count += 1
        self.last.append(name[:LONGEST])


@implementer(ISnapshotter)
class Snapshotter:
    """
    The snapshots of one engine.

    @ivar removed: the layers that it has removed.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        *,
        table: ISnapshotTable,
        provider: LayerProvider,
        directories: Directories,
        files_of: Callable[[Digest], str | None],
        discard: Callable[[str], object],
        threads: Threads,
        wall_clock: WallClock,
        in_namespace: bool = False,
    ) -> None:
        """
        @param table: the snapshots of this engine, whose are the provider and the
            directories, too.
        @param files_of: finds the files of a layer; blocking, and called in a thread.
        @param discard: removes a directory; raises L{StoreError}.
        @param threads: for the files of snapshots.
        @param in_namespace: whether this process is root of a user namespace.
        """
        self.name = name
        self._in_namespace = in_namespace
        self.removed = Removed()
        self._table = table
        self._provider = provider
        self._files_of = files_of
        self._remove_files = discard
        self._directories = directories
        self._threads = threads
        self._wall_clock = wall_clock
        # The numbers and the keys of what is being made, committed or removed.  Until that is on the
        # disk, it may be undone, and other calls leave it alone.
        self._changing: set[int | str] = set()

    async def start(self) -> None:
        """
        Create the directories, and remove what an earlier daemon left there.

        @raise StoreError: containers cannot run there.
        """
        await self._threads.run(self._directories.prepare)
        await self._sweep()

    # ------------------------------------------------------------- the calls

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Deferred[Sequence[Mount]]:
        return Deferred.fromCoroutine(self._prepare(key, parent, labels))

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> Deferred[Sequence[Mount]]:
        return self._done(self._create(Kind.VIEW, key, parent, labels))

    def mounts(self, key: str) -> Deferred[Sequence[Mount]]:
        async def mounts() -> Sequence[Mount]:
            snapshot = self._known(key)
            if snapshot.kind is Kind.COMMITTED:
                raise NotPossible(f"snapshot {key!r} is committed, and has no mounts")
            return await self._mounts(snapshot)

        return Deferred.fromCoroutine(mounts())

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str) -> Deferred[None]:
        return self._done(self._commit(name, key, labels, parent))

    def remove(self, key: str) -> Deferred[None]:
        return self._done(self._remove(key))

    def stat(self, key: str) -> Deferred[Snapshot]:
        async def stat() -> Snapshot:
            return self._known(key)

        return Deferred.fromCoroutine(stat())

    def update(self, key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Deferred[Snapshot]:
        return self._done(self._update(key, labels, paths))

    def all(self, filters: Sequence[str]) -> Deferred[Sequence[Snapshot]]:
        async def found() -> Sequence[Snapshot]:
            return list(filter(parse_filters(filters), self._table.all()))

        return Deferred.fromCoroutine(found())

    def usage(self, key: str) -> Deferred[Usage]:
        return Deferred.fromCoroutine(self._usage(key))

    def cleanup(self) -> Deferred[None]:
        return self._done(self._sweep())

    # ------------------------------------------------------------ own snapshots

    async def _prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        self._check_new(key, parent)
        wanted = wanted_layer(labels)
        if wanted is not None:
            labels = without_maps(labels)
            if await self._provider.provide(wanted, parent, labels):
                raise SnapshotExists(str(wanted.chain_id))
        return await self._done(self._create(Kind.ACTIVE, key, parent, labels))

    async def _create(self, kind: Kind, key: str, parent: str, labels: Mapping[str, str]) -> Sequence[Mount]:
        """
        Make an active snapshot or a view.
        """
        self._check_new(key, parent)
        labels, root = checked(labels), mapped_root(labels)
        number, now = self._table.number(), nanoseconds(self._wall_clock)
        snapshot = Snapshot(number, key, kind, parent, now, now, labels)
        writable = kind is Kind.ACTIVE
        self._changing.add(number)
        try:
            if writable or not parent:
                below = self._known(parent) if parent else None
                try:
                    await self._threads.run(self._make, number, writable, below, root)
                finally:
                    # Others may have come meanwhile, and the parent may have gone.
                    self._check_new(key, parent)
            with self._change(key):
                await self._table.put(snapshot)
            return await self._mounts(snapshot)
        except BaseException:
            if self._table.get(key) is not snapshot:
                self._discard(number)
            raise
        finally:
            self._changing.discard(number)

    async def _commit(self, name: str, key: str, labels: Mapping[str, str], parent: str) -> None:
        check_key(name)
        if self._table.get(name) is not None or name in self._changing:
            raise SnapshotExists(name)
        snapshot = self._settled(key)
        if snapshot.kind is not Kind.ACTIVE:
            raise NotPossible(f"snapshot {key!r} is not active")
        if parent and snapshot.parent and parent != snapshot.parent:
            raise BadCall(f"cannot change the parent of snapshot {key!r}")
        below = parent or snapshot.parent
        if below and not self._is_committed(below):
            raise NotPossible(f"parent {below!r} is not committed")
        now = nanoseconds(self._wall_clock)
        committed = evolve(
            snapshot,
            key=name,
            kind=Kind.COMMITTED,
            parent=below,
            created=now,
            updated=now,
            labels=checked(labels),
        )
        with self._change(name, key):
            await self._table.put(committed)

    async def _remove(self, key: str) -> None:
        snapshot = self._settled(key)
        if self._table.has_children(key):
            raise NotPossible(f"cannot remove snapshot {key!r}: it is the parent of another one")
        with self._change(key, snapshot.number):
            await self._table.remove(snapshot)
        if snapshot.kind is Kind.COMMITTED:
            self.removed.add(str(snapshot.chain_id or key))
        if snapshot.chain_id is None:
            self._discard(snapshot.number)

    async def _update(self, key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Snapshot:
        snapshot = self._settled(key)
        fresh = dict(snapshot.labels)
        for path in paths or ("labels",):
            field, _, label = path.partition(".")
            if field != "labels":
                raise BadCall(f"cannot update {path!r} of snapshot {key!r}: labels alone can be")
            if label:
                fresh[label] = labels.get(label, "")
            else:
                fresh = dict(labels)
        changed = evolve(snapshot, labels=checked(fresh), updated=nanoseconds(self._wall_clock))
        await self._table.put(changed)
        return changed

    async def _usage(self, key: str) -> Usage:
        snapshot = self._known(key)
        if snapshot.usage is not None:
            return snapshot.usage
        if snapshot.kind is Kind.VIEW:
            return Usage()
        usage = await self._threads.run(self._directories.usage, snapshot.number)
        is_settled = self._table.get(key) is snapshot and key not in self._changing
        if snapshot.kind is Kind.COMMITTED and is_settled:
            # It never changes: counted once, when it is asked for, as a commit has to be quick.
            await self._table.put(evolve(snapshot, usage=usage))
        return usage

    async def _mounts(self, snapshot: Snapshot) -> Sequence[Mount]:
        """
        The mounts of an active snapshot or a view.
        """
        below = self._table.chain(snapshot.parent)
        lowers: Sequence[str] = await self._threads.run(self._all_files, below) if below else ()
        own = self._directories.of(snapshot.number)
        mount = mount_of(snapshot, lowers, own, in_namespace=self._in_namespace)
        if needs_short_names(mount):
            numbered = [(each.number, path) for each, path in zip(below, lowers, strict=True)]
            lowers = await self._threads.run(self._directories.shorten, numbered)
            mount = mount_of(snapshot, lowers, own, in_namespace=self._in_namespace)
        return [mount]

    def _make(
        self, number: int, writable: bool, parent: Snapshot | None, root: tuple[int, int] | None
    ) -> None:
        """
        Make the files of a new snapshot.  Blocking.
        """
        top = None if parent is None else self._files(parent)
        self._directories.make(number, writable, top, root)

    def _all_files(self, snapshots: Sequence[Snapshot]) -> list[str]:
        return [self._files(each) for each in snapshots]

    def _files(self, snapshot: Snapshot) -> str:
        """
        The directory that a committed snapshot is.  Blocking.

        @raise StoreError: its layer is gone.
        """
        if snapshot.chain_id is None:
            return f"{self._directories.of(snapshot.number)}/fs"
        files = self._files_of(snapshot.chain_id)
        if files is None:
            raise StoreError(
                f"layer {snapshot.chain_id} is not in the store any more; remove the image from the engine, "
                "and pull it again"
            )
        return files

    async def _sweep(self) -> None:
        """
        Remove the directories that belong to no snapshot.
        """
        directories, links = await self._threads.run(self._directories.present)
        # From now: what was made meanwhile is known, and numbers are never used again.
        known = {str(number) for number in {*self._changing, *(each.number for each in self._table.all())}}
        stray = [name for name in links if name.partition("-")[0] not in known]
        await self._threads.run(self._directories.remove_links, stray)
        for name in directories:
            if name not in known:
                self._discard(name)

    def _discard(self, number: int | str) -> None:
        """
        Remove the files of a snapshot.
        """
        try:
            self._remove_files(self._directories.of(number))
        except StoreError as e:
            # It has none, or the next sweep removes them.
            self._log.debug("{number} is not removed: {error}", number=number, error=e)

    def _check_new(self, key: str, parent: str) -> None:
        """
        Check that a snapshot can be made.
        """
        check_key(key)
        if self._table.get(key) is not None or key in self._changing:
            raise SnapshotExists(key)
        if parent and not self._is_committed(parent):
            raise BadCall(f"parent {parent!r} is not a committed snapshot")

    def _is_committed(self, parent: str) -> bool:
        """
        Whether a snapshot is committed, on the disk.

        @raise SnapshotUnknown: there is none.
        """
        return self._known(parent, "parent").kind is Kind.COMMITTED and parent not in self._changing

    def _settled(self, key: str) -> Snapshot:
        """
        A snapshot that no other call is changing.
        """
        snapshot = self._known(key)
        if key in self._changing:
            raise NotPossible(f"snapshot {key!r} is being changed by another call")
        return snapshot

    @contextmanager
    def _change(self, *keys: int | str) -> Iterator[None]:
        """
        Keep other calls from what is being changed.
        """
        self._changing.update(keys)
        try:
            yield
        finally:
            self._changing.difference_update(keys)

    def _known(self, key: str, what: str = "snapshot") -> Snapshot:
        snapshot = self._table.get(key)
        if snapshot is None:
            raise SnapshotUnknown(key, what)
        return snapshot

    def _done(self, work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """
        Carry out a change, also if the call is cancelled.
        """
        return delay_cancellation(Deferred.fromCoroutine(work))
