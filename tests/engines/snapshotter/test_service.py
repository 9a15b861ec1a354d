"""
Tests for L{xferd.engines.snapshotter.service}.

The module is long because each method of the snapshotter has its states and its refusals.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface.verify import verifyObject

from tests.engines.snapshotter.test_pulls import PullsCase
from xferd.engines.snapshotter.directories import Directories
from xferd.engines.snapshotter.errors import BadCall, NotPossible, SnapshotExists, SnapshotUnknown
from xferd.engines.snapshotter.labels import GID_MAP, UID_MAP
from xferd.engines.snapshotter.layer_source import LayerSource
from xferd.engines.snapshotter.provider import LayerProvider
from xferd.engines.snapshotter.service import Snapshotter
from xferd.errors import DiskFull
from xferd.interfaces.snapshots import ISnapshotter, Kind, Mount, Snapshot, Usage
from xferd.names import Digest
from xferd.store.snapshots import SnapshotTables
from xferd.store.threads import Threads
from xferd.testing.inline_threads import InlinePool, InlineReactor

T = TypeVar("T")

LABELS = {"containerd.io/gc.root": "2026-01-01T00:00:00Z"}


class SnapshotterCase(PullsCase):
    """
    The snapshotter of an engine C{main}, on a store in memory and files on the disk.

    @cvar in_namespace: whether it is in a user namespace.
    """

    in_namespace = False

    def setUp(self) -> None:
        """
        Start it.
        """
        super().setUp()
        self.pool = InlinePool()
        self.threads = Threads(cast("IReactorFromThreads", InlineReactor()), self.pool, "stopped")
        self.threads.start()
        self.source = LayerSource(self.store, self.pulls)
        self.root = os.path.abspath(os.path.join(self.store.path, "engines", "main"))
        self.snapshotter = self.make_snapshotter()

    def make_snapshotter(self, **how: Any) -> Snapshotter:
        """
        Make and start one.

        @param how: changes of what its provider gets.
        """
        options = {"isolated": self.jobs.isolated, **how}
        # Those of the snapshotter's process; the store's are the daemon's.
        tables = SnapshotTables(self.store.snapshot_records, lambda _: None)
        self.successResultOf(tables.reload())
        self.table = tables.of("main")
        self.provider = LayerProvider(
            "main",
            self.table,
            source=self.source,
            wall_clock=self.wall_clock,
            **options,
        )
        made = Snapshotter(
            "main",
            table=self.table,
            provider=self.provider,
            directories=Directories(self.root),
            files_of=self.files_of,
            discard=self.store.discard,
            threads=self.threads,
            wall_clock=self.wall_clock,
            in_namespace=self.in_namespace,
        )
        starting = Deferred.fromCoroutine(made.start())
        self.settle()
        self.successResultOf(starting)
        return made

    def files_of(self, chain_id: Digest) -> str | None:
        """
        The files of a layer.
        """
        layer = self.store.layers.get(chain_id)
        return None if layer is None else layer.path

    def do(self, work: Deferred[T]) -> T:
        """
        The result of a call.
        """
        self.settle()
        return self.successResultOf(work)

    def refuse(self, work: Deferred[Any], kind: type[Exception]) -> str:
        """
        The message of a call's error.
        """
        self.settle()
        error = self.failureResultOf(work, kind).value
        return str(error)

    def prepare(self, key: str, parent: str = "", **labels: str) -> Sequence[Mount]:
        """
        Prepare an active snapshot.
        """
        return self.do(self.snapshotter.prepare(key, parent, {**LABELS, **labels}))

    def committed(self, name: str, parent: str = "") -> None:
        """
        Make a committed snapshot.
        """
        self.prepare(f"{name}-active", parent)
        self.do(self.snapshotter.commit(name, f"{name}-active", LABELS, ""))

    def stat(self, key: str) -> Snapshot:
        """
        A snapshot.
        """
        return self.do(self.snapshotter.stat(key))

    def keys(self) -> list[str]:
        """
        The keys of all snapshots.
        """
        return [each.key for each in self.do(self.snapshotter.all([]))]

    def directories(self) -> list[str]:
        """
        The directories of snapshots.
        """
        return sorted(os.listdir(f"{self.root}/snapshots"))

    def base(self) -> None:
        """
        The snapshots of containerd's own tests: committed, active and views, with and
        without parents.
        """
        self.committed("c1")
        self.committed("c2", "c1")
        self.prepare("a1", "c2")
        self.prepare("a2")
        for key, parent in (("v1", "c2"), ("v2", "")):
            self.do(self.snapshotter.view(key, parent, LABELS))


class OwnTests(SnapshotterCase):
    """
    Snapshots with files of their own.
    """

    def test_interface(self) -> None:
        """
        It provides its Interface.
        """
        verifyObject(ISnapshotter, self.snapshotter)

    def test_kinds(self) -> None:
        """
        Each has its kind, its parent, its labels and its times.
        """
        self.base()
        found = {key: (self.stat(key).kind, self.stat(key).parent) for key in self.keys()}
        self.assertEqual(
            found,
            {
                "c1": (Kind.COMMITTED, ""),
                "c2": (Kind.COMMITTED, "c1"),
                "a1": (Kind.ACTIVE, "c2"),
                "a2": (Kind.ACTIVE, ""),
                "v1": (Kind.VIEW, "c2"),
                "v2": (Kind.VIEW, ""),
            },
        )
        now = int(self.wall_clock() * 1e9)
        for key in self.keys():
            each = self.stat(key)
            self.assertEqual((each.created, each.updated, each.labels), (now, now, LABELS))

    def test_mounts(self) -> None:
        """
        The mounts are those that were answered at first, at any time, also after a restart.
        """
        self.base()
        fresh = self.prepare("a3", "c2")
        lower = f"{self.root}/snapshots/2/fs:{self.root}/snapshots/1/fs"
        (mount,) = fresh
        self.assertEqual(mount.type, "overlay")
        self.assertIn(f"lowerdir={lower}", mount.options)
        before = {key: self.do(self.snapshotter.mounts(key)) for key in ("a1", "a2", "a3", "v1", "v2")}
        self.assertEqual(before["a3"], fresh)
        self.snapshotter = self.make_snapshotter()
        self.assertEqual({key: self.do(self.snapshotter.mounts(key)) for key in before}, before)
        for key in ("a1", "a2", "a3"):
            for option in before[key][0].options:
                name, _, path = option.partition("=")
                if name in ("upperdir", "workdir"):
                    self.assertTrue(os.path.isdir(path))

    def test_mounts_in_a_namespace(self) -> None:
        """
        Those of a daemon in a user namespace are for it, also with short names.
        """
        self.in_namespace = True
        self.snapshotter = self.make_snapshotter()
        names = [f"c{number}" for number in range(100)]
        for parent, name in zip(["", *names], names, strict=False):
            self.committed(name, parent)
        for key, below in (("few", names[1]), ("many", names[-1])):
            (mount,) = self.prepare(key, below)
            self.assertEqual(mount.options[-1], "userxattr")
            self.assertEqual(f"{self.root}/l/" in ",".join(mount.options), key == "many")

    def test_no_mounts(self) -> None:
        """
        Committed and unknown snapshots have no mounts.
        """
        self.committed("c")
        self.refuse(self.snapshotter.mounts("c"), NotPossible)
        self.assertEqual(
            self.refuse(self.snapshotter.mounts("x"), SnapshotUnknown), "snapshot 'x' does not exist"
        )

    def test_keys(self) -> None:
        """
        A key is any text, and is never a path.
        """
        key = "k8s.io/12/../../extract 1-x sha256:abc\n/ä"
        self.prepare(key)
        self.assertEqual(self.keys(), [key])
        self.assertEqual(self.directories(), ["1"])
        self.refuse(self.snapshotter.prepare("", "", {}), BadCall)
        long = "x" * 4_000_000
        for call in (
            self.snapshotter.prepare(long, "", {}),
            self.snapshotter.view(long, "", {}),
            self.snapshotter.commit(long, key, {}, ""),
        ):
            self.assertLess(len(self.refuse(call, BadCall)), 200)
        for call in (self.snapshotter.mounts(long), self.snapshotter.prepare("a", long, {})):
            self.assertLess(len(self.refuse(call, SnapshotUnknown)), 200)

    def test_key_in_use(self) -> None:
        """
        A key that is in use is refused, whatever it is, and leaves no directory.
        """
        self.base()
        before = self.directories()
        for key in ("c1", "a1", "v1"):
            self.refuse(self.snapshotter.prepare(key, "c1", {}), SnapshotExists)
            self.refuse(self.snapshotter.view(key, "c1", {}), SnapshotExists)
        self.assertEqual(self.directories(), before)

    def test_key_at_once(self) -> None:
        """
        Of two calls with one key at one time, one succeeds.
        """
        self.pool.held = True
        calls = [self.snapshotter.prepare("a", "", {}), self.snapshotter.prepare("a", "", {})]
        self.pool.release()
        self.settle()
        self.successResultOf(calls[0])
        self.failureResultOf(calls[1], SnapshotExists)
        self.assertEqual(self.directories(), ["1"])

    def test_parent(self) -> None:
        """
        A parent has to be there, and committed.
        """
        self.base()
        for make in (self.snapshotter.prepare, self.snapshotter.view):
            self.refuse(make("new", "x", {}), SnapshotUnknown)
            for parent in ("a1", "v1"):
                self.refuse(make("new", parent, {}), BadCall)
        self.assertNotIn("new", self.keys())

    def test_parent_removed_meanwhile(self) -> None:
        """
        The same for a parent that is removed while the directory is made.
        """
        self.committed("c")
        self.pool.held = True
        preparing = self.snapshotter.prepare("a", "c", {})
        self.settle()
        self.do(self.snapshotter.remove("c"))
        self.pool.release()
        self.refuse(preparing, SnapshotUnknown)
        self.assertEqual((self.keys(), self.directories()), ([], []))

    def test_labels(self) -> None:
        """
        A label that is too long is refused everywhere.
        """
        self.committed("c")
        self.prepare("a")
        long = {"k": "v" * 4096}
        for call in (
            self.snapshotter.prepare("new", "", long),
            self.snapshotter.view("new", "c", long),
            self.snapshotter.commit("new", "a", long, ""),
            self.snapshotter.update("c", long, []),
        ):
            self.refuse(call, BadCall)
        self.assertEqual((self.keys(), self.directories()), (["c", "a"], ["1", "2"]))

    def test_commit(self) -> None:
        """
        The key goes and the name comes, with the labels of the commit alone.
        """
        self.prepare("a", own="1")
        self.clock.advance(5)
        self.do(self.snapshotter.commit("c", "a", {"b": "c"}, ""))
        found = self.stat("c")
        self.assertEqual(
            (found.kind, found.labels, found.created), (Kind.COMMITTED, {"b": "c"}, found.updated)
        )
        self.assertEqual(found.created, int(self.wall_clock() * 1e9))
        self.assertEqual(self.keys(), ["c"])
        self.assertEqual(self.directories(), ["1"])

    def test_commit_refused(self) -> None:
        """
        A name in use, an unknown key and a key that is not active are refused.
        """
        self.base()
        commit = self.snapshotter.commit
        self.refuse(commit("c1", "a1", {}, ""), SnapshotExists)
        self.refuse(commit("a2", "a1", {}, ""), SnapshotExists)
        self.refuse(commit("new", "x", {}, ""), SnapshotUnknown)
        for key in ("c2", "v1"):
            self.refuse(commit("new", key, {}, ""), NotPossible)
        self.refuse(commit("", "a1", {}, ""), BadCall)

    def test_commit_with_a_parent(self) -> None:
        """
        One that was prepared without a parent can get one, which is committed.
        """
        self.base()
        commit = self.snapshotter.commit
        self.refuse(commit("new", "a1", {}, "c1"), BadCall)
        self.refuse(commit("new", "a2", {}, "x"), SnapshotUnknown)
        self.refuse(commit("new", "a2", {}, "a1"), NotPossible)
        self.do(commit("n1", "a1", {}, "c2"))
        self.do(commit("n2", "a2", {}, "n1"))
        self.assertEqual([self.stat(key).parent for key in ("n1", "n2")], ["c2", "n1"])
        self.refuse(self.snapshotter.remove("n1"), NotPossible)

    def test_remove(self) -> None:
        """
        From the top down, each can be removed; its directory goes with it.
        """
        self.base()
        self.assertIn("cannot remove", self.refuse(self.snapshotter.remove("c1"), NotPossible))
        self.refuse(self.snapshotter.remove("c2"), NotPossible)
        self.refuse(self.snapshotter.remove("x"), SnapshotUnknown)
        for key in ("v1", "v2", "a1", "a2", "c2", "c1"):
            self.do(self.snapshotter.remove(key))
        self.assertEqual((self.keys(), self.directories()), ([], []))

    def test_update(self) -> None:
        """
        Labels are set all together, or each by a path; nothing else changes.
        """
        self.base()
        update = self.snapshotter.update
        for key in self.keys():
            before = self.stat(key)
            self.clock.advance(1)
            changed = self.do(update(key, {"a": "1", "b": "2"}, []))
            self.assertEqual((changed.labels, changed.parent), ({"a": "1", "b": "2"}, before.parent))
            self.assertEqual((changed.created, changed.updated), (before.created, before.created + 10**9))
            changed = self.do(update(key, {"a": "3", "b": "ignored", "c": "4"}, ["labels.a", "labels.c"]))
            self.assertEqual(changed.labels, {"a": "3", "b": "2", "c": "4"})
            changed = self.do(update(key, {"b": ""}, ["labels.b", "labels.a"]))
            self.assertEqual(changed.labels, {"c": "4"})
            changed = self.do(update(key, {"x.y/z": "5"}, ["labels"]))
            self.assertEqual(changed.labels, {"x.y/z": "5"})
            changed = self.do(update(key, {"x.y/z": "6"}, ["labels.x.y/z"]))
            self.assertEqual(self.stat(key), changed)
            self.assertEqual(changed.labels, {"x.y/z": "6"})
            self.wall_clock.set(self.wall_clock() - 1)

    def test_update_refused(self) -> None:
        """
        Other fields cannot be updated.
        """
        self.committed("c")
        for path in ("parent", "name", "kind", "created_at", "label"):
            self.refuse(self.snapshotter.update("c", {}, [path]), BadCall)
        self.refuse(self.snapshotter.update("x", {}, []), SnapshotUnknown)
        self.assertEqual(self.stat("c").labels, LABELS)

    def test_filters(self) -> None:
        """
        A list can be filtered.
        """
        self.base()
        found = self.do(self.snapshotter.all(['parent=="c2"']))
        self.assertEqual([each.key for each in found], ["a1", "v1"])

    def test_usage(self) -> None:
        """
        Usage is that of a snapshot's own files; that of a committed one is counted once.
        """
        self.committed("c")
        top = f"{self.root}/snapshots/1/fs"
        with open(f"{top}/file", "wb") as file:
            file.write(b"x" * 10_000)
        self.prepare("a", "c")
        self.do(self.snapshotter.view("v", "c", {}))
        usage = self.snapshotter.usage
        self.assertEqual(self.do(usage("a")).inodes, 1)
        counted = self.do(usage("c"))
        self.assertEqual(counted.inodes, 2)
        self.assertGreaterEqual(counted.size, 10_000)
        self.assertEqual(self.stat("c").usage, counted)
        os.unlink(f"{top}/file")
        self.assertEqual(self.do(usage("c")), counted)
        self.assertEqual(self.do(usage("v")), Usage())
        self.refuse(usage("x"), SnapshotUnknown)

    def test_user_namespace(self) -> None:
        """
        A container's ID maps are options of its mounts; root of its user namespace owns its
        root directory.
        """
        self.committed("c")
        maps = {UID_MAP: "0:100000:65536", GID_MAP: "0:200000:65536"}
        (mount,) = self.do(self.snapshotter.prepare("a", "c", maps))
        self.assertEqual(mount.options[:2], ("uidmap=0:100000:65536", "gidmap=0:200000:65536"))
        found = os.stat(f"{self.root}/snapshots/2/fs")
        self.assertEqual((found.st_uid, found.st_gid), (100000, 200000))
        for labels in ({UID_MAP: "x", GID_MAP: "0:1:1"}, {UID_MAP: "0:1:1"}):
            self.refuse(self.snapshotter.prepare("b", "c", labels), BadCall)
        self.assertEqual(self.directories(), ["1", "2"])

    def test_deep(self) -> None:
        """
        The mounts of many layers have short names, and the same after a restart.
        """
        parent = ""
        for number in range(120):
            self.committed(f"c{number}", parent)
            parent = f"c{number}"
        (mount,) = self.prepare("a", parent)
        lowers = (
            next(o for o in mount.options if o.startswith("lowerdir=")).removeprefix("lowerdir=").split(":")
        )
        self.assertEqual((len(lowers), lowers[0]), (120, f"{self.root}/l/120"))
        for number, lower in zip(range(120, 0, -1), lowers, strict=True):
            self.assertEqual(os.path.realpath(lower), f"{os.path.realpath(self.root)}/snapshots/{number}/fs")
        self.snapshotter = self.make_snapshotter()
        self.assertEqual(self.do(self.snapshotter.mounts("a")), [mount])

    def test_sweep(self) -> None:
        """
        What a killed daemon left is removed at the start and by a cleanup, which spares what
        is being made.
        """
        self.prepare("a")
        os.makedirs(f"{self.root}/snapshots/99/fs")
        self.snapshotter = self.make_snapshotter()
        self.assertEqual(self.directories(), ["1"])
        os.makedirs(f"{self.root}/snapshots/98/fs")
        self.store.gate.hold("snapshots.write")
        preparing = self.snapshotter.prepare("b", "", {})
        self.settle()
        self.do(self.snapshotter.cleanup())
        self.store.gate.release("snapshots.write")
        self.do(preparing)
        self.assertEqual(self.directories(), ["1", "2"])

    def test_made_during_a_sweep(self) -> None:
        """
        A snapshot that is made while a sweep waits for a thread keeps its files and its short
        names.
        """
        parent = ""
        for number in range(60):
            self.committed(f"c{number}", parent)
            parent = f"c{number}"
        self.pool.held = True
        cleaning = self.snapshotter.cleanup()
        preparing = self.snapshotter.prepare("a", parent, {})
        # The threads do the later work first.
        sweep = self.pool.waiting.pop(0)
        while self.pool.waiting:
            self.pool.step()
            self.settle()
        (mount,) = self.successResultOf(preparing)
        sweep()
        self.pool.release()
        self.do(cleaning)
        self.assertEqual(len(self.directories()), 61)
        lowers = next(o for o in mount.options if o.startswith("lowerdir=")).removeprefix("lowerdir=")
        self.assertEqual([path for path in lowers.split(":") if not os.path.exists(path)], [])

    def test_disk_refuses(self) -> None:
        """
        What cannot be recorded was not done.
        """
        self.prepare("a")
        self.store.gate.fail("snapshots.write", DiskFull("full"), times=3)
        self.refuse(self.snapshotter.prepare("b", "", {}), DiskFull)
        self.refuse(self.snapshotter.commit("c", "a", {}, ""), DiskFull)
        self.refuse(self.snapshotter.remove("a"), DiskFull)
        self.assertEqual((self.keys(), self.directories()), (["a"], ["1"]))

    def test_cancelled(self) -> None:
        """
        A change that has begun is carried out, also if nobody waits for it.
        """
        self.store.gate.hold("snapshots.write")
        preparing = self.snapshotter.prepare("a", "", {})
        self.settle()
        preparing.cancel()
        self.assertNoResult(preparing)
        self.store.gate.release("snapshots.write")
        self.refuse(preparing, CancelledError)
        self.assertEqual((self.keys(), self.directories()), (["a"], ["1"]))
