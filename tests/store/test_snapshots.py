"""
Tests for L{xferd.store.snapshots}.
"""

from __future__ import annotations

import os
import sqlite3

from attrs import evolve
from zope.interface.verify import verifyObject

from tests.store.support import StoreTestCase, pull, sample
from xferd.errors import StoreError
from xferd.interfaces.collection import Freed, ILayerUser
from xferd.interfaces.snapshots import ISnapshotTable, ISnapshotTables, Kind, Snapshot, Usage
from xferd.names import Digest
from xferd.store.journal_schema import MIGRATIONS
from xferd.store.snapshots import SnapshotTables

LABELS = {"containerd.io/snapshot/cri.image-ref": "docker.io/library/app:1", "a": "ä"}


def snapshot(number: int, key: str, parent: str = "", chain_id: Digest | None = None) -> Snapshot:
    """
    A committed snapshot.
    """
    return Snapshot(number, key, Kind.COMMITTED, parent, 10**18 + number, 10**18, {}, chain_id)


class SnapshotTests(StoreTestCase):
    """
    Snapshots in the journal's database.
    """

    def test_interfaces(self) -> None:
        """
        They provide their Interfaces.
        """
        verifyObject(ISnapshotTables, self.store.snapshots)
        table = self.store.snapshots.of("main")
        verifyObject(ISnapshotTable, table)
        verifyObject(ILayerUser, table)
        self.assertEqual(table.name, "containerd main")

    def test_over_a_restart(self) -> None:
        """
        Each engine finds its own snapshots after a restart, in their order, as they were.
        """
        one, two = self.store.snapshots.of("main"), self.store.snapshots.of("other")
        base = evolve(
            snapshot(one.number(), "k8s.io/1/a b", chain_id=Digest.of(b"1")), labels=LABELS, usage=Usage(9, 2)
        )
        top = evolve(snapshot(one.number(), "top", base.key), kind=Kind.ACTIVE)
        gone = snapshot(two.number(), "gone")
        kept = snapshot(two.number(), "top")
        for table, each in ((one, base), (one, top), (two, gone), (two, kept)):
            self.successResultOf(table.put(each))
        self.successResultOf(two.remove(gone))
        self.reopen()
        one, two = self.store.snapshots.of("main"), self.store.snapshots.of("other")
        self.assertEqual((one.all(), two.all()), ([base, top], [kept]))
        self.assertEqual(one.chain("top"), [top, base])
        self.assertEqual((one.number(), two.number()), (3, 3))

    def test_children(self) -> None:
        """
        A snapshot has children as long as others name it as their parent.
        """
        table = self.store.snapshots.of("main")
        base, top = snapshot(1, "base"), snapshot(2, "top", "base")
        for each in (base, top):
            self.successResultOf(table.put(each))
        self.assertEqual((table.has_children("base"), table.has_children("top")), (True, False))
        renamed = evolve(top, key="renamed", parent="")
        self.successResultOf(table.put(renamed))
        self.assertFalse(table.has_children("base"))
        self.assertEqual((table.get("top"), table.get("renamed")), (None, renamed))
        self.assertEqual(table.chain("renamed"), [renamed])
        self.assertEqual(table.chain(""), [])

    def test_refused(self) -> None:
        """
        A change that cannot be written is undone.
        """
        table = self.store.snapshots.of("main")
        base = snapshot(1, "base")
        self.successResultOf(table.put(base))
        self.pools.database.held = True
        changed, added = evolve(base, labels={"a": "b"}), snapshot(2, "base 2", "base")
        waiting = [table.put(changed), table.put(added)]
        self.assertEqual(table.all(), [changed, added])
        assert self.store._snapshots._database is not None
        self.store._snapshots._database.close()
        self.pools.database.release()
        for each in waiting:
            self.failureResultOf(each, StoreError)
        self.assertEqual((table.all(), table.has_children("base")), ([base], False))
        self.failureResultOf(table.remove(base), StoreError)
        self.assertEqual(table.all(), [base])

    def test_layers_are_kept(self) -> None:
        """
        The layers that snapshots stand on are kept, also by an engine that is not served
        any more, until the last snapshot is gone.
        """
        wanted = sample("app", b"one", b"two")
        self.run_now(pull(self.store, wanted))
        self.successResultOf(self.store.images.remove(wanted.image.reference))
        top = wanted.image.chain_id
        assert top is not None
        used = evolve(snapshot(1, "c", chain_id=top), labels=LABELS)
        self.successResultOf(self.store.snapshots.of("main").put(used))
        self.reopen()
        self.assertEqual(self.successResultOf(self.store.gc.collect()).layers, 0)
        (table,) = self.store.snapshots
        self.assertEqual(table.used(), {top: ["docker.io/library/app:1"]})
        self.successResultOf(table.put(evolve(used, labels={})))
        self.assertEqual(table.used(), {top: ["snapshot c"]})
        self.successResultOf(table.remove(used))
        freed = self.successResultOf(self.store.gc.collect())
        self.assertEqual((freed.layers, freed.trees), (2, 2))
        self.assertEqual(self.successResultOf(self.store.gc.collect()), Freed())

    def test_forget(self) -> None:
        """
        An engine is forgotten with all its snapshots, and no other one; if that cannot be
        written, all stay.
        """
        tables = self.store.snapshots
        for engine, key in (("main", "a"), ("main", "b"), ("other", "a")):
            table = tables.of(engine)
            self.successResultOf(table.put(snapshot(table.number(), key)))
        self.assertEqual(tables.engines(), ["main", "other"])
        self.assertEqual(self.successResultOf(tables.forget("main")), 2)
        self.assertEqual(tables.engines(), ["other"])
        self.assertEqual(self.successResultOf(tables.forget("unknown")), 0)
        self.assertEqual(self.reopen().snapshots.engines(), ["other"])
        assert self.store._snapshots._database is not None
        self.store._snapshots._database.close()
        self.failureResultOf(self.store.snapshots.forget("other"), StoreError)
        self.assertEqual(self.store.snapshots.engines(), ["other"])

    def test_promises(self) -> None:
        """
        A promised layer is kept, also if nothing is recorded, until a later collection has
        read the snapshots; with a promise from before a collection nothing is recorded.
        """
        tables, table = self.store.snapshots, self.store.snapshots.of("main")
        chains = [Digest.of(each) for each in (b"1", b"2", b"3")]
        first = tables.promise("main", chains[0])
        self.successResultOf(table.put(snapshot(1, "in time", chain_id=chains[0]), first))
        old = tables.promise("main", chains[1])
        self.assertEqual(table.used().keys(), {*chains[:2]})
        self.successResultOf(table.refresh())
        self.assertEqual(table.used().keys(), {chains[0]})
        late = snapshot(2, "late", chain_id=chains[1])
        self.failureResultOf(table.put(late, old), StoreError)
        self.assertIsNone(table.get("late"))
        # A promise that is made while the collection begins holds.
        self.pools.database.held = True
        refreshing = table.refresh()
        new = tables.promise("main", chains[2])
        self.pools.database.release()
        self.successResultOf(refreshing)
        self.assertEqual(table.used().keys(), {chains[0], chains[2]})
        self.successResultOf(table.put(evolve(late, chain_id=chains[2]), new))
        self.successResultOf(tables.reload())
        self.assertEqual(table.used().keys(), {chains[0], chains[2]})

    def test_promises_of_an_earlier_daemon(self) -> None:
        """
        A promise of a daemon that was killed is worth nothing once the next one has read the
        snapshots, and what was recorded by it before is kept.
        """
        chain = Digest.of(b"1")
        promise = self.store.snapshots.promise("main", chain)
        self.successResultOf(
            self.store.snapshots.of("main").put(snapshot(1, "in time", chain_id=chain), promise)
        )
        self.reopen()
        table = self.store.snapshots.of("main")
        self.assertEqual(table.used().keys(), {chain})
        self.failureResultOf(table.put(snapshot(2, "late", chain_id=chain), promise), StoreError)

    def test_read_again(self) -> None:
        """
        The daemon reads what the snapshotter has changed; what has not changed is the same
        object.
        """
        own = SnapshotTables(self.store._snapshots, lambda _: None)
        table, seen = own.of("main"), self.store.snapshots.of("main")
        one, two = snapshot(1, "one"), snapshot(2, "two", "one", Digest.of(b"2"))
        for each in (one, two):
            self.successResultOf(table.put(each))
        self.successResultOf(self.store.snapshots.reload())
        self.assertEqual(seen.all(), [one, two])
        first = seen.get("one")
        self.successResultOf(table.put(evolve(two, key="other")))
        self.successResultOf(self.store.snapshots.reload())
        self.assertEqual((seen.get("two"), seen.chain("other")), (None, [evolve(two, key="other"), one]))
        self.assertIs(seen.get("one"), first)
        self.assertTrue(seen.has_children("one"))
        self.successResultOf(table.remove(evolve(two, key="other")))
        for _ in range(2):
            self.successResultOf(self.store.snapshots.reload("main"))
        self.assertEqual((seen.all(), seen.used(), seen.has_children("one")), ([one], {}, False))

    def test_of_an_older_version(self) -> None:
        """
        The snapshots that an older version has in its journal are taken over.
        """
        table = self.store.snapshots.of("main")
        kept = evolve(snapshot(3, "k8s.io/1/a b", chain_id=Digest.of(b"1")), labels=LABELS)
        self.successResultOf(table.put(kept))
        self.close(self.store)
        os.unlink(self.store.journal._path)
        journal = sqlite3.connect(self.store.journal._path)
        journal.execute("ATTACH DATABASE ? AS new", (f"{self.store.path}/snapshots.db",))
        version = next(number for number, script in enumerate(MIGRATIONS) if "DROP TABLE snapshot" in script)
        journal.executescript(
            f"{''.join(MIGRATIONS[:version])} INSERT INTO snapshot SELECT * FROM new.snapshot;"
            f"PRAGMA user_version = {version};"
        )
        journal.close()
        os.unlink(f"{self.store.path}/snapshots.db")
        self.store = self.open()
        self.assertEqual(self.store.snapshots.of("main").all(), [kept])
        self.assertEqual(self.reopen().snapshots.of("main").all(), [kept])

    def test_discard(self) -> None:
        """
        A directory that is discarded is gone.
        """
        staged = self.successResultOf(self.store.trees.stage())
        self.store.discard(staged)
        self.successResultOf(self.store.gc.removed())
        self.assertRaises(StoreError, self.store.discard, staged)
