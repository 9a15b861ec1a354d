# -*- test-case-name: tests.store.test_snapshots -*-
"""
The snapshots of container engines: kept in memory, and in a database of their own.

Two processes have them.  The snapshotter (L{xferd.engines.snapshotter.main}) makes,
changes and removes them.  The daemon reads them: it is the collector of garbage, and
they keep the layers that they stand on, whether their engine is served or not.

A layer is never removed under a snapshot that is just being recorded.  The daemon
promises the layer, with the number of the last collection, and keeps it at least until
it reads the snapshots the next time.  Each collection begins with a transaction that
raises this number, and reads the snapshots afterwards.  A snapshot of a promised layer
is recorded by a transaction that fails if the number is higher than that of the promise:
so it was either recorded before, and is read, or its layer is asked for again.  That
holds whichever process ends between any two steps.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.interfaces.collection import ILayerUser
from xferd.interfaces.snapshots import ISnapshotTable, ISnapshotTables, Kind, Snapshot, Usage
from xferd.names import Digest
from xferd.store.database import Database, Statement

T = TypeVar("T")

IMAGE_LABEL: Final = "containerd.io/snapshot/cri.image-ref"
"""The label by which containerd names the image that a layer was wanted for."""

_MIGRATIONS: Final = (
    """
    CREATE TABLE snapshot (
        engine TEXT NOT NULL,
        number INTEGER NOT NULL,
        key TEXT NOT NULL,
        kind INTEGER NOT NULL,
        parent TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        labels TEXT NOT NULL,
        chain_id TEXT,
        size INTEGER,
        inodes INTEGER,
        PRIMARY KEY (engine, number),
        UNIQUE (engine, key)
    ) WITHOUT ROWID;
    CREATE TABLE collection (number INTEGER NOT NULL);
    INSERT INTO collection VALUES (0);
    """,
)

_COLUMNS: Final = ("key", "kind", "parent", "created", "updated", "labels", "chain_id", "size", "inodes")
# NULL, which the column does not take, if the promise of the layer is no longer valid.
_IF_PROMISED: Final = """
    CASE WHEN :promise IS NULL OR (SELECT number FROM collection) <= :promise THEN :number END
"""
_PUT: Final = f"""
    INSERT INTO snapshot (engine, number, {", ".join(_COLUMNS)})
    VALUES (:engine, {_IF_PROMISED}, {", ".join(f":{name}" for name in _COLUMNS)})
    ON CONFLICT (engine, number) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""  # noqa: S608
_REMOVE: Final = "DELETE FROM snapshot WHERE engine = :engine AND number = :number"
_FORGET: Final = "DELETE FROM snapshot WHERE engine = :engine"
_ALL: Final = f"SELECT engine, number, {', '.join(_COLUMNS)} FROM snapshot ORDER BY engine, number"  # noqa: S608
_BEING_MADE: Final = "a snapshot that is being made"

_COLLECTION: Final = "SELECT number FROM collection"
_COLLECT: Final = "UPDATE collection SET number = :number"
_HAS_OLD: Final = "SELECT count(*) FROM old.sqlite_master WHERE type = 'table' AND name = 'snapshot'"
_TAKE: Final = "INSERT OR IGNORE INTO main.snapshot SELECT * FROM old.snapshot"

_UNREADABLE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN)


class SnapshotDatabase(Database):
    """
    The file C{snapshots.db}.
    """

    migrations = _MIGRATIONS
    remedy = "move it away to start without it: images stay, but the containers of engines are lost"

    def take_from(self, journal: str) -> None:
        """
        Take over the snapshots that an older version has left in the journal, which drops
        them afterwards.  Blocking.

        @param journal: the journal's file, which need not exist.
        @raise StoreError: the disk refuses.
        """
        if os.path.exists(journal):
            self._reserve.spend(self._take_from, journal)

    def _take_from(self, journal: str) -> None:
        with self._trouble("write to") as database:
            try:
                database.execute("ATTACH DATABASE ? AS old", (journal,))
                if database.execute(_HAS_OLD).fetchone()[0]:
                    database.execute(_TAKE)
                database.execute("DETACH DATABASE old")
            except sqlite3.DatabaseError as e:
                if e.sqlite_errorcode & 0xFF not in _UNREADABLE:
                    raise
                # The journal's own opening reports it.


class Records(Protocol):
    """
    The part of L{Database} that snapshots use.
    """

    def read(self, query: str) -> Deferred[list[tuple[Any, ...]]]:
        """
        Read rows.
        """

    def write(self, statements: Sequence[Statement]) -> Deferred[None]:
        """
        Execute statements in one transaction.
        """


class AddUser(Protocol):
    """
    As L{IGarbageCollector.add_user<xferd.interfaces.collection.IGarbageCollector.add_user>}.
    """

    def __call__(self, user: ILayerUser) -> None:
        """
        Keep what a user needs.
        """


@implementer(ISnapshotTable, ILayerUser)
class SnapshotTable:
    """
    The snapshots of one engine.
    """

    def __init__(
        self,
        engine: str,
        database: Records,
        refresh: Callable[[], Deferred[None]],
        changed: Callable[[], object],
    ) -> None:
        """
        @param refresh: begins a collection: L{SnapshotTables.refresh}.
        @param changed: called after each change.
        """
        self._changed = changed
        self.name = f"containerd {engine}"
        self._engine = engine
        self._refresh = refresh
        self._database = database
        self._by_key: dict[str, Snapshot] = {}
        self._by_number: dict[int, Snapshot] = {}
        self._parents: Counter[str] = Counter()
        self._highest = 0
        # The last reading, and its rows.
        self._read: list[Snapshot] = []
        self._rows: list[tuple[Any, ...]] = []
        # The layers that are promised, and the numbers of the last promises.
        self._promised: dict[Digest, int] = {}
        self._used: Mapping[Digest, Sequence[str]] | None = None

    def get(self, key: str) -> Snapshot | None:
        return self._by_key.get(key)

    def all(self) -> Sequence[Snapshot]:
        return [self._by_number[number] for number in sorted(self._by_number)]

    def has_children(self, key: str) -> bool:
        return self._parents[key] > 0

    def chain(self, key: str) -> Sequence[Snapshot]:
        found = []
        while key:
            snapshot = self._by_key[key]
            found.append(snapshot)
            key = snapshot.parent
        return found

    def number(self) -> int:
        self._highest += 1
        return self._highest

    def put(self, snapshot: Snapshot, promise: int | None = None) -> Deferred[None]:
        older = self._by_number.get(snapshot.number)
        self.set(snapshot.number, snapshot)
        usage = snapshot.usage
        values = {
            "key": snapshot.key,
            "kind": snapshot.kind.value,
            "parent": snapshot.parent,
            "created": snapshot.created,
            "updated": snapshot.updated,
            "labels": json.dumps(dict(snapshot.labels)),
            "chain_id": None if snapshot.chain_id is None else str(snapshot.chain_id),
            "size": None if usage is None else usage.size,
            "inodes": None if usage is None else usage.inodes,
            "promise": promise,
        }
        return self._write(_PUT, snapshot.number, values, snapshot, older)

    def remove(self, snapshot: Snapshot) -> Deferred[None]:
        self.set(snapshot.number, None)
        return self._write(_REMOVE, snapshot.number, {}, None, snapshot)

    def refresh(self) -> Deferred[None]:
        return self._refresh()

    def used(self) -> Mapping[Digest, Sequence[str]]:
        if self._used is None:
            promised: dict[Digest, Sequence[str]] = dict.fromkeys(self._promised, (_BEING_MADE,))
            self._used = promised | {
                snapshot.chain_id: [_user(snapshot)]
                for snapshot in self._by_number.values()
                if snapshot.chain_id is not None
            }
        return self._used

    def promise(self, chain_id: Digest, number: int) -> None:
        """
        Keep a layer until the snapshots have been read after the next collection began.

        @param number: that of the last collection.
        """
        self._promised[chain_id] = number
        self._used = None

    def read(self, rows: Sequence[tuple[Any, ...]], collection: int) -> None:
        """
        Change the memory alone: these are all snapshots.

        @param rows: number and columns of each; most are those of the last reading.
        @param collection: they were read after it had begun.
        """
        kept = {each: number for each, number in self._promised.items() if number >= collection}
        if len(kept) < len(self._promised):
            self._promised, self._used = kept, None
        if self._rows == rows:
            return
        before = dict(zip(self._rows, self._read, strict=True))
        snapshots = [before.get(row) or _snapshot(*row) for row in rows]
        self._rows, self._read = list(rows), snapshots
        self._by_number = {each.number: each for each in snapshots}
        self._by_key = {each.key: each for each in snapshots}
        self._parents = Counter(each.parent for each in snapshots)
        self._highest = max([self._highest, *self._by_number])
        self._used = None

    def set(self, number: int, snapshot: Snapshot | None) -> None:
        """
        Change the memory alone: a snapshot in place of the one with its number.
        """
        # The next reading differs from the last one.
        self._rows, self._read = [], []
        older = self._by_number.pop(number, None)
        if older is not None:
            del self._by_key[older.key]
            self._parents[older.parent] -= 1
        if snapshot is not None:
            self._by_number[number] = self._by_key[snapshot.key] = snapshot
            self._parents[snapshot.parent] += 1
            self._highest = max(self._highest, number)
        self._used = None

    def _write(
        self,
        statement: str,
        number: int,
        values: Mapping[str, Any],
        now: Snapshot | None,
        before: Snapshot | None,
    ) -> Deferred[None]:
        """
        Write a change that is in memory already.
        """

        def undo(failure: Failure) -> Failure:
            # A later change of the same snapshot is another write, which may have succeeded.
            if self._by_number.get(number) is now:
                self.set(number, before)
            return failure

        def done(_: None) -> None:
            self._changed()

        names = {"engine": self._engine, "number": number}
        written = self._database.write([Statement(statement, {**names, **values})])
        return written.addCallbacks(done, undo)


@implementer(ISnapshotTables)
class SnapshotTables:
    """
    The snapshots of all engines.
    """

    def __init__(
        self, database: Records, add_user: AddUser, changed: Callable[[], object] = lambda: None
    ) -> None:
        """
        @param add_user: makes the garbage collector keep what a table needs.
        @param changed: called after each change that is made here.
        """
        self._changed = changed
        self._database = database
        self._add_user = add_user
        self._tables: dict[str, SnapshotTable] = {}
        self._collection = 0

    async def load(self) -> None:
        """
        Read all snapshots.  Promises of an earlier daemon are no longer valid.
        """
        rows = await self._database.read(_COLLECTION)
        self._collection = max((number for (number,) in rows), default=0)
        await self.refresh()

    def refresh(self) -> Deferred[None]:
        """
        Begin a collection, and read all snapshots.

        @raise StoreError: the disk refuses.
        """
        return Deferred.fromCoroutine(self._collect())

    def reload(self, engine: str | None = None) -> Deferred[None]:
        return Deferred.fromCoroutine(self._read(0, engine))

    def promise(self, engine: str, chain_id: Digest) -> int:
        self.of(engine).promise(chain_id, self._collection)
        return self._collection

    async def _collect(self) -> None:
        self._collection += 1
        number = self._collection
        await self._database.write([Statement(_COLLECT, {"number": number})])
        await self._read(number)

    async def _read(self, collection: int, only: str | None = None) -> None:
        """
        Read all snapshots, or those of one engine.

        @param collection: the number of one that has begun before.
        """
        found: dict[str, list[tuple[Any, ...]]] = {}
        for engine, *row in await self._database.read(_ALL):
            found.setdefault(engine, []).append(tuple(row))
        for engine in {*found, *self._tables} if only is None else {only}:
            self.of(engine).read(found.get(engine, []), collection)

    def of(self, engine: str) -> SnapshotTable:
        table = self._tables.get(engine)
        if table is None:
            table = self._tables[engine] = SnapshotTable(engine, self._database, self.refresh, self._changed)
            self._add_user(table)
        return table

    def engines(self) -> Sequence[str]:
        return sorted(engine for engine, table in self._tables.items() if table.all())

    def forget(self, engine: str) -> Deferred[int]:
        table = self.of(engine)
        gone = table.all()
        for snapshot in gone:
            table.set(snapshot.number, None)

        def undo(failure: Failure) -> Failure:
            for snapshot in gone:
                table.set(snapshot.number, snapshot)
            return failure

        forgotten = self._database.write([Statement(_FORGET, {"engine": engine})])
        return forgotten.addErrback(undo).addCallback(lambda _: len(gone))

    def __iter__(self) -> Iterator[SnapshotTable]:
        return iter(tuple(self._tables.values()))


def _user(snapshot: Snapshot) -> str:
    """
    The text that names what needs a layer.
    """
    return snapshot.labels.get(IMAGE_LABEL) or f"snapshot {snapshot.key}"


def _snapshot(number: int, *values: Any) -> Snapshot:
    """
    Read a row.
    """
    row = dict(zip(_COLUMNS, values, strict=True))
    chain_id, size = row["chain_id"], row["size"]
    return Snapshot(
        number,
        row["key"],
        Kind(row["kind"]),
        row["parent"],
        row["created"],
        row["updated"],
        json.loads(row["labels"]),
        None if chain_id is None else Digest.parse(chain_id),
        None if size is None else Usage(size, row["inodes"]),
    )
