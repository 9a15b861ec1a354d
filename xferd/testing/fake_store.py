# -*- test-case-name: tests.testing.test_fake_store -*-
"""
A store in memory, for tests.

Deferreds of the Interfaces fire in the next turn of the clock.  The store's L{Gate}
holds calls or makes them fail.  Its names are C{blobs.read}, C{blobs.preload}, C{blobs.put},
C{blobs.partial}, C{partial.write}, C{partial.commit} (keys: the digest),
C{anonymous.write}, C{anonymous.commit}, C{trees.stage}, C{trees.weigh},
C{trees.commit} (key: the diff ID), C{trees.discard}, C{layers.register} (key: the
diff ID), C{images.put}, C{images.pin} and C{images.remove} (key: the reference),
C{gc.collect}, C{catalog.write}, C{integrity.check} and C{integrity.quarantine} (keys: the digest),
C{incoming.begin} (key: the
repository), C{incoming.open}, C{incoming.write} (key: the session),
C{incoming.commit} (key: the digest), C{snapshots.write} (key: the number), C{journal.job},
C{journal.attempt}, C{journal.jobs} and C{journal.interrupted}.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.errors import StoreError
from xferd.interfaces.store import IStore
from xferd.store.catalog.catalog import Catalog
from xferd.store.catalog.records import Change, OriginChange, Recorded
from xferd.store.database import Statement
from xferd.store.disk.file_system import trying_to
from xferd.store.disk.free_space import FreeSpace
from xferd.store.snapshots import SnapshotDatabase, SnapshotTables
from xferd.testing.fake_blobs import FakeBlobs
from xferd.testing.fake_gc import FakeGarbageCollector
from xferd.testing.fake_images import FakeImages
from xferd.testing.fake_incoming import FakeIncomingBlobs
from xferd.testing.fake_integrity import FakeIntegrity
from xferd.testing.fake_journal import FakeJournal
from xferd.testing.fake_leases import FakeLeases
from xferd.testing.fake_trees import FakeLayers, FakeTrees
from xferd.testing.gate import Gate


@implementer(IStore)
class FakeStore:
    """
    A data directory in memory.  If C{path} is a real directory, blobs and partial
    files are written there as well, for readers of files.

    @ivar gate: the gate of its calls.
    @cvar images_class: the class of its images.
    @cvar journal_class: the class of its journal.
    """

    images_class: type[FakeImages] = FakeImages
    journal_class: type[FakeJournal] = FakeJournal

    def __init__(self, clock: IReactorTime, path: str = "/memory") -> None:
        self.path = path
        self.gate = Gate(clock)
        leases = FakeLeases()
        self.blobs = FakeBlobs(path, self.gate, leases)
        self.trees = FakeTrees(path, self.gate, leases)
        self.layers = FakeLayers(self.trees, self.gate, leases)
        self.images = self.images_class(self.blobs, self.layers, self.gate, leases)
        self.catalog = Catalog(_NoRecords(self.gate), leases.touch, self.images)
        self.gc = FakeGarbageCollector(
            self.gate, self.blobs, self.trees, self.layers, self.images, leases, self.catalog
        )
        self.journal = self.journal_class(self.gate)
        self.incoming = FakeIncomingBlobs(self.blobs, self.gate)
        self.snapshot_records = _SnapshotRecords(self.gate)
        self.snapshots = SnapshotTables(self.snapshot_records, self.gc.add_user)
        self.integrity = FakeIntegrity(self.blobs, self.trees, self.layers, self.gate)
        self.free_space = FreeSpace(path, clock, free=lambda: self.blobs.free)

    def discard(self, path: str) -> None:
        with trying_to(f"move {path} away"):
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def usage(self) -> Deferred[Mapping[str, int]]:
        return succeed(
            {
                "blobs": sum(map(len, self.blobs.contents.values())),
                "arriving": sum(map(len, self.blobs.partials.values())),
                "trees": sum(tree.size for tree in self.trees.unpacked.values()),
            }
        )


class _NoRecords:
    """
    Records of a catalog that are forgotten.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def write(self, changes: Iterable[Change | OriginChange]) -> Deferred[None]:
        """
        Take as long as the gate wants.
        """
        change = next(iter(changes))
        key = change.repository if isinstance(change, Change) else change.digest
        return self._gate.enter("catalog.write", key)

    def read(self) -> Deferred[Recorded]:
        """
        There are none.
        """
        return succeed(Recorded())


class _SnapshotRecords:
    """
    A database of snapshots in memory.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @cached_property
    def _database(self) -> sqlite3.Connection:
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.executescript("".join(SnapshotDatabase.migrations))
        return database

    def read(self, query: str) -> Deferred[list[tuple[Any, ...]]]:
        """
        Read rows.
        """
        return succeed(self._database.execute(query).fetchall())

    def write(self, statements: Sequence[Statement]) -> Deferred[None]:
        """
        Take as long as the gate wants.
        """

        def write(_: None) -> None:
            try:
                for statement in statements:
                    self._database.execute(statement.sql, statement.values)
            except sqlite3.Error as e:
                raise StoreError(str(e)) from e

        values = statements[0].values
        # A collection has no engine.
        entered = (
            self._gate.enter("snapshots.write", values.get("number")) if "engine" in values else succeed(None)
        )
        return entered.addCallback(write)
