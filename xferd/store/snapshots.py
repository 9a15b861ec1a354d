# -*- test-case-name: tests.store.test_snapshots -*-
"""
The snapshots of container engines: kept in memory, and in the journal's database.

They keep the layers that they stand on, whether their engine is served or not:
an engine that the settings name again finds its containers as they were.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.interfaces.collection import ILayerUser
from xferd.interfaces.snapshots import ISnapshotTable, ISnapshotTables, Kind, Snapshot, Usage
from xferd.names import Digest
from xferd.store.journal import Statement

T = TypeVar("T")

IMAGE_LABEL: Final = "containerd.io/snapshot/cri.image-ref"
"""The label by which containerd names the image that a layer was wanted for."""

_COLUMNS: Final = ("key", "kind", "parent", "created", "updated", "labels", "chain_id", "size", "inodes")
_PUT: Final = f"""
    INSERT INTO snapshot (engine, number, {", ".join(_COLUMNS)})
    VALUES (:engine, :number, {", ".join(f":{name}" for name in _COLUMNS)})
    ON CONFLICT (engine, number) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""  # noqa: S608
_REMOVE: Final = "DELETE FROM snapshot WHERE engine = :engine AND number = :number"
_FORGET: Final = "DELETE FROM snapshot WHERE engine = :engine"
_ALL: Final = f"SELECT engine, number, {', '.join(_COLUMNS)} FROM snapshot ORDER BY engine, number"  # noqa: S608


class Database(Protocol):
    """
    The part of L{Journal<xferd.store.journal.Journal>} that snapshots use.
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

    def __init__(self, engine: str, database: Database) -> None:
        self.name = f"containerd {engine}"
        self._engine = engine
        self._database = database
        self._by_key: dict[str, Snapshot] = {}
        self._by_number: dict[int, Snapshot] = {}
        self._parents: Counter[str] = Counter()
        self._highest = 0
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

    def put(self, snapshot: Snapshot) -> Deferred[None]:
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
        }
        return self._write(_PUT, snapshot.number, values, snapshot, older)

    def remove(self, snapshot: Snapshot) -> Deferred[None]:
        self.set(snapshot.number, None)
        return self._write(_REMOVE, snapshot.number, {}, None, snapshot)

    def refresh(self) -> Deferred[None]:
        return succeed(None)

    def used(self) -> Mapping[Digest, Sequence[str]]:
        if self._used is None:
            self._used = {
                snapshot.chain_id: [_user(snapshot)]
                for snapshot in self._by_number.values()
                if snapshot.chain_id is not None
            }
        return self._used

    def set(self, number: int, snapshot: Snapshot | None) -> None:
        """
        Change the memory alone: a snapshot in place of the one with its number.
        """
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

        names = {"engine": self._engine, "number": number}
        written = self._database.write([Statement(statement, {**names, **values})])
        return written.addErrback(undo)


@implementer(ISnapshotTables)
class SnapshotTables:
    """
    The snapshots of all engines.
    """

    def __init__(self, database: Database, add_user: AddUser) -> None:
        """
        @param add_user: makes the garbage collector keep what a table needs.
        """
        self._database = database
        self._add_user = add_user
        self._tables: dict[str, SnapshotTable] = {}

    async def load(self) -> None:
        """
        Read all snapshots.
        """
        for engine, number, *values in await self._database.read(_ALL):
            self.of(engine).set(number, _snapshot(number, dict(zip(_COLUMNS, values, strict=True))))

    def of(self, engine: str) -> SnapshotTable:
        table = self._tables.get(engine)
        if table is None:
            table = self._tables[engine] = SnapshotTable(engine, self._database)
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
        return iter(self._tables.values())


def _user(snapshot: Snapshot) -> str:
    """
    The text that names what needs a layer.
    """
    return snapshot.labels.get(IMAGE_LABEL) or f"snapshot {snapshot.key}"


def _snapshot(number: int, row: Mapping[str, Any]) -> Snapshot:
    """
    Read a row.
    """
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
