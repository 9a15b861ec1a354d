"""
Tests for L{xferd.engines.former}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.engines import Engines
from xferd.engines.former import FormerEngines
from xferd.errors import InUse, NotFound, StoreError
from xferd.interfaces.snapshots import Kind, Snapshot, Usage
from xferd.names import Digest
from xferd.testing.fake_engine import FakeEngine
from xferd.testing.fake_store import FakeStore


class FormerTests(SynchronousTestCase):
    """
    An engine that the settings name, and one that they do not.
    """

    def setUp(self) -> None:
        """
        Have snapshots of both.
        """
        self.clock = Clock()
        path = os.path.abspath(self.mktemp())
        self.files = f"{path}/engines/old"
        os.makedirs(f"{self.files}/snapshots/2/fs")
        self.store = FakeStore(self.clock, path)
        layer = Digest.of(b"layer")
        for engine in ("node", "old"):
            table = self.store.snapshots.of(engine)
            base = Snapshot(1, "base", Kind.COMMITTED, "", 0, 0, {}, layer, Usage(9, 0))
            for snapshot in (base, Snapshot(2, "container", Kind.ACTIVE, "base", 0, 0)):
                self.do(table.put(snapshot))
        self.former = FormerEngines(self.store, ["node"])
        self.engines = Engines([FakeEngine("node")], self.former)

    def do(self, work: Deferred[Any]) -> Any:
        """
        The result of some work.
        """
        self.clock.advance(0)
        return self.successResultOf(work)

    def test_described(self) -> None:
        """
        It comes behind the engines of the settings, with what it keeps and the remedy.
        """
        node, old = self.do(self.engines.describe())
        self.assertEqual((node["name"], node["problem"]), ("node", None))
        self.assertEqual((old["name"], old["state"], old["path"]), ("old", "stopped", ""))
        self.assertEqual((old["snapshots"], old["layers"], old["size"]), (2, 1, 9))
        self.assertIn("xferctl engine forget old", old["problem"])

    def test_forgotten(self) -> None:
        """
        It is forgotten with its files, once.
        """
        self.assertEqual(self.do(self.engines.forget("old")), 2)
        self.assertFalse(os.path.exists(self.files))
        self.assertEqual(len(self.do(self.engines.describe())), 1)
        self.failureResultOf(self.engines.forget("old"), NotFound)
        self.failureResultOf(Engines([]).forget("old"), NotFound)

    def test_without_files(self) -> None:
        """
        The same if the files are gone already.
        """
        os.rename(self.files, f"{self.files}-away")
        self.assertEqual(self.do(self.engines.forget("old")), 2)

    def test_named(self) -> None:
        """
        An engine of the settings is not forgotten.
        """
        error = self.failureResultOf(self.engines.forget("node"), InUse).value
        self.assertIn("the settings name node", str(error))
        self.assertEqual(self.store.snapshots.engines(), ["node", "old"])

    def test_running(self) -> None:
        """
        Nor is one whose containers run, or may run.
        """
        mounts = self.mktemp()
        with open(mounts, "w") as file:
            file.write(
                f"1 1 0:1 / /c rw - overlay overlay rw,upperdir={self.files}/snapshots/2/fs,index=off\n"
            )
        forgetting = Deferred.fromCoroutine(self.former.forget("old", mounts))
        self.assertIn("stop them first", str(self.failureResultOf(forgetting, InUse).value))
        self.failureResultOf(Deferred.fromCoroutine(self.former.forget("old", "/nowhere")), StoreError)
        self.assertTrue(os.path.exists(self.files))

    def test_warned(self) -> None:
        """
        The log says at the start what is kept.
        """
        self.do(Deferred.fromCoroutine(self.engines.start()))
        self.assertEqual(self.former.names(), ["old"])
