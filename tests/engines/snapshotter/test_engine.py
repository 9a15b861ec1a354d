"""
Tests for L{xferd.engines.snapshotter.engine}.
"""

from __future__ import annotations

import os
from time import process_time
from typing import cast

from zope.interface.verify import verifyObject

from tests.engines.snapshotter.test_pulls import PullsCase
from xferd.engines.engines import make_engines
from xferd.engines.settings import ContainerdSettings, EnginesSettings
from xferd.engines.snapshotter.engine import ContainerdEngine
from xferd.engines.snapshotter.labels import IMAGE
from xferd.engines.snapshotter.layer_source import LayerSource
from xferd.engines.snapshotter.snapshotter_process import SnapshotterProcess
from xferd.errors import EngineFailed
from xferd.interfaces.engines import CONTAINERD, STOPPED, EngineContext, EngineFigures, IEngine
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.snapshots import Kind, Snapshot
from xferd.testing.inline_threads import InlineReactor
from xferd.unpack.rights import Rights


class DescriptionTests(PullsCase):
    """
    What an engine says of itself.
    """

    def setUp(self) -> None:
        """
        Make an engine that is not started.
        """
        super().setUp()
        self.engine = self.make(Rights.ROOT)

    def make(self, rights: Rights) -> ContainerdEngine:
        """
        Make an engine.

        @param rights: those of the daemon over files.
        """
        context = EngineContext(
            cast("IReactor", InlineReactor()), self.wall_clock, self.jobs, self.store, self.store.path
        )
        process = SnapshotterProcess({}, LayerSource(self.store, self.pulls), context)
        return ContainerdEngine(
            "main", "/run/x.sock", context, process, self.pulls, ContainerdSettings(), rights
        )

    def put(self, key: str, parent: str = "", index: int | None = None, **labels: str) -> None:
        """
        Record a snapshot.
        """
        chain_id = None if index is None else self.image.chain_ids[index]
        kind = Kind.ACTIVE if index is None else Kind.COMMITTED
        table = self.store.snapshots.of("main")
        putting = table.put(Snapshot(table.number(), key, kind, parent, 0, 0, labels, chain_id))
        self.settle()
        self.successResultOf(putting)

    def test_interface(self) -> None:
        """
        It provides its Interface.
        """
        verifyObject(IEngine, self.engine)
        self.assertEqual((self.engine.name, self.engine.kind), ("main", CONTAINERD))

    def test_refused(self) -> None:
        """
        A daemon without root's rights over files does not serve containerd, and no process is
        started.
        """
        engine = self.make(Rights.NONE)
        why = str(self.failureResultOf(engine.start(), EngineFailed).value)
        self.assertIn("run xferd as root", why)
        self.successResultOf(engine.stop())
        self.assertFalse(os.path.exists(os.path.join(self.store.path, "engines")))

    def test_nothing(self) -> None:
        """
        One that has done nothing.
        """
        self.assertEqual(
            self.successResultOf(self.engine.describe()),
            {
                "name": "main",
                "kind": CONTAINERD,
                "state": STOPPED,
                "problem": None,
                "path": "/run/x.sock",
                "snapshots": 0,
                "layers": 0,
                "size": 0,
                "images": [],
                "cri": False,
            },
        )
        self.assertEqual(self.engine.figures(), EngineFigures())
        self.successResultOf(self.engine.stop())

    def test_images(self) -> None:
        """
        Images are those that layers were asked for, with what stands on them.
        """
        self.put("one", index=0, **{IMAGE: "app:1"})
        self.put("two", "one", index=1, **{IMAGE: "app:1"})
        self.put("three", "two", index=2)
        self.put("container", "two")
        self.put("built", "container")
        self.put("own")
        described = self.successResultOf(self.engine.describe())
        self.assertEqual((described["snapshots"], described["layers"]), (6, 3))
        self.assertEqual(
            described["images"],
            [
                {"image": "", "layers": 1, "containers": 0, "by": ""},
                {"image": "app:1", "layers": 2, "containers": 2, "by": ""},
            ],
        )
        self.assertEqual(self.engine.figures(), EngineFigures(6, 3))

    def test_long_chains(self) -> None:
        """
        A description takes milliseconds, however long the chains are.
        """
        table = self.store.snapshots.of("main")
        self.put("0", index=0, **{IMAGE: "app:1"})
        for number in range(1, 12_000):
            table.set(number + 1, Snapshot(number + 1, f"{number}", Kind.COMMITTED, f"{number - 1}", 0, 0))
        began = process_time()
        (image,) = self.successResultOf(self.engine.describe())["images"]
        self.assertLess(process_time() - began, 1)
        self.assertEqual(image["containers"], 11_999)

    def test_made_by_settings(self) -> None:
        """
        The settings make an engine for each name, with its socket.
        """
        settings = EnginesSettings({"main": ContainerdSettings(), "two": ContainerdSettings("/run/two.sock")})
        context = EngineContext(
            cast("IReactor", InlineReactor()), self.wall_clock, self.jobs, self.store, self.store.path
        )
        made = make_engines(settings, context, "/run/xferd")
        self.assertEqual(
            [(each.kind, each.name, each.path) for each in made],
            [(CONTAINERD, "main", "/run/xferd/engines/main.sock"), (CONTAINERD, "two", "/run/two.sock")],
        )
