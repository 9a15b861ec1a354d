"""
Tests for L{xferd.engines.snapshotter.service}, with calls that overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.engines.snapshotter.test_service import SnapshotterCase
from xferd.engines.snapshotter.errors import BadCall, NotPossible, SnapshotError, SnapshotExists
from xferd.errors import DiskFull
from xferd.interfaces.snapshots import Kind

KEYS = [f"k{number}" for number in range(6)]


class ConcurrencyTests(SnapshotterCase):
    """
    Calls for the same keys at the same time.
    """

    def test_removed_meanwhile(self) -> None:
        """
        What is being removed keeps its files and its key until the removal is on the disk: it
        may fail.
        """
        self.prepare("a")
        self.store.gate.hold("snapshots.write")
        removing = self.snapshotter.remove("a")
        preparing = self.snapshotter.prepare("a", "", {})
        self.do(self.snapshotter.cleanup())
        self.refuse(preparing, SnapshotExists)
        self.store.gate.fail("snapshots.write", DiskFull("full"))
        self.store.gate.release("snapshots.write")
        self.refuse(removing, DiskFull)
        self.assertEqual((self.keys(), self.directories()), (["a"], ["1"]))
        self.do(self.snapshotter.remove("a"))

    def test_committed_meanwhile(self) -> None:
        """
        What is being committed is no parent, and is neither removed nor committed again, until
        the commit is on the disk; its key and its name are in use.
        """
        self.prepare("a")
        self.prepare("b")
        self.store.gate.hold("snapshots.write")
        committing = self.snapshotter.commit("c", "a", {}, "")
        self.refuse(self.snapshotter.prepare("a", "", {}), SnapshotExists)
        self.refuse(self.snapshotter.prepare("d", "c", {}), BadCall)
        self.refuse(self.snapshotter.remove("c"), NotPossible)
        self.refuse(self.snapshotter.update("c", {}, []), NotPossible)
        self.refuse(self.snapshotter.commit("a", "b", {}, ""), SnapshotExists)
        self.store.gate.fail("snapshots.write", DiskFull("full"))
        self.store.gate.release("snapshots.write")
        self.refuse(committing, DiskFull)
        self.assertEqual([self.stat(key).kind for key in self.keys()], [Kind.ACTIVE, Kind.ACTIVE])
        self.do(self.snapshotter.commit("c", "a", {}, ""))

    def test_used_meanwhile(self) -> None:
        """
        A committed snapshot whose usage is being recorded, or whose labels are, is a parent.
        """
        self.committed("c")
        self.store.gate.hold("snapshots.write")
        calls: list[Deferred[Any]] = [
            self.snapshotter.usage("c"),
            self.snapshotter.update("c", {"a": "b"}, []),
        ]
        preparing = self.snapshotter.prepare("d", "c", {})
        self.store.gate.release("snapshots.write")
        self.do(preparing)
        for call in calls:
            self.do(call)

    def test_random(self) -> None:
        """
        Whatever calls overlap, are cancelled or meet a full disk: each snapshot has its parent
        and its files, and a cleanup leaves no others.
        """
        for seed in range(8):
            self.walk(Random(seed))
            everything = self.do(self.snapshotter.all([]))
            keys = [each.key for each in everything]
            self.assertEqual(len(keys), len(set(keys)), seed)
            self.assertLessEqual({each.parent for each in everything}, {*keys, ""}, seed)
            self.do(self.snapshotter.cleanup())
            own = {str(s.number) for s in everything if s.kind is not Kind.VIEW or not s.parent}
            self.assertEqual(set(self.directories()), own, seed)
            while keys:
                # Those that are parents go later.
                for key in keys:
                    self.ended(self.snapshotter.remove(key), NotPossible)
                keys = self.keys()

    def ended(self, call: Deferred[Any], *errors: type[Exception]) -> None:
        """
        A call succeeds, or fails with one of some errors.
        """
        self.settle()
        result: list[object] = []
        _ = call.addBoth(result.append)
        (found,) = result
        if isinstance(found, Failure):
            found.trap(*errors)

    def call(self, random: Random) -> Deferred[Any]:
        """
        Begin a call at random.
        """
        snapshotter = self.snapshotter
        key, parent, name = random.choice(KEYS), random.choice(["", "", *KEYS]), random.choice(KEYS)
        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: snapshotter.prepare(key, parent, {}),
            lambda: snapshotter.prepare(key, parent, {}),
            lambda: snapshotter.view(key, parent, {}),
            lambda: snapshotter.commit(name, key, {}, ""),
            lambda: snapshotter.remove(key),
            lambda: snapshotter.usage(key),
            lambda: snapshotter.update(key, {"a": name}, []),
            snapshotter.cleanup,
        ]
        return random.choice(calls)()

    def walk(self, random: Random) -> None:
        """
        Make calls at random, some of which overlap.
        """
        calls: list[Deferred[Any]] = []
        self.pool.held = True
        for _ in range(150):
            calls.append(self.call(random))
            if random.random() < 0.05:
                random.choice(calls).cancel()
            if random.random() < 0.05:
                self.store.gate.fail("snapshots.write", DiskFull("full"))
            for _ in range(random.randrange(3)):
                if self.pool.waiting:
                    self.pool.waiting.pop(random.randrange(len(self.pool.waiting)))()
            if random.random() < 0.7:
                self.settle()
        self.pool.release()
        self.settle()
        for call in calls:
            self.ended(call, SnapshotError, DiskFull, CancelledError)
        # Uses up a failure that was planted.
        self.ended(self.snapshotter.prepare("last", "", {}), DiskFull)
