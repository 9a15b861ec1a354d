"""
Tests for L{xferd.engines.snapshotter.engine}.
"""

from __future__ import annotations

import os
import shutil
from tempfile import mkdtemp
from time import process_time
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.engines.snapshotter.test_pulls import PullsCase
from xferd.engines.engines import make_engines
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto import snapshots_pb2 as messages
from xferd.engines.settings import ContainerdSettings, EnginesSettings
from xferd.engines.snapshotter.calls import SERVICE
from xferd.engines.snapshotter.engine import ContainerdEngine
from xferd.engines.snapshotter.labels import IMAGE, MANIFEST, REF
from xferd.engines.snapshotter.pulls import LayerPulls
from xferd.errors import ConfigError, StoreError
from xferd.interfaces.engines import (
    CONTAINERD,
    SERVING,
    STOPPED,
    EngineContext,
    EngineFigures,
    IEngine,
)
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.snapshots import Kind, Snapshot
from xferd.testing.inline_threads import InlinePool, InlineReactor

reactor = cast(IReactor, installed)


class DescriptionTests(PullsCase):
    """
    What an engine says of itself.
    """

    def setUp(self) -> None:
        """
        Make an engine that is not started.
        """
        super().setUp()
        context = EngineContext(
            cast("IReactor", InlineReactor()), self.wall_clock, self.jobs, self.store, self.store.path
        )
        self.engine = ContainerdEngine(
            "main", "/run/x.sock", context, self.pulls, ContainerdSettings(), InlinePool()
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


class SocketTests(PullsCase, TestCase):
    """
    An engine on a real socket.
    """

    def setUp(self) -> None:
        """
        Start the engine.
        """
        super().setUp()
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.path = f"{self.place}/engine.sock"
        self.context = EngineContext(reactor, self.wall_clock, self.jobs, self.store, self.store.path)
        # The jobs' clock is wound by hand, the engine's by the real reactor.
        self.pulls = LayerPulls(self.jobs, self.store, self.clock)
        self.engine = self.make()
        self.client = GrpcClient(self.path, reactor)
        self.addCleanup(self.client.close)

    def make(self) -> ContainerdEngine:
        """
        An engine that is stopped at the end.
        """
        engine = ContainerdEngine("main", self.path, self.context, self.pulls, ContainerdSettings())
        self.addCleanup(engine.stop)
        return engine

    async def call(self, name: str, request: Any, answer: Any) -> Any:
        """
        Make a call.
        """
        return await self.client.unary(f"/{SERVICE}/{name}", request, answer)

    def wanted(self) -> messages.PrepareSnapshotRequest:
        """
        The call for the bottom layer.
        """
        image = self.image
        labels = {REF: str(image.chain_ids[0]), IMAGE: f"{self.reference}", MANIFEST: str(image.digest)}
        return messages.PrepareSnapshotRequest(key="extract", labels=labels)

    async def test_served(self) -> None:
        """
        It answers on its socket, says so, and stops.
        """
        await self.engine.start()
        self.assertEqual((await self.engine.describe())["state"], SERVING)
        with self.assertRaises(GrpcError) as caught:
            await self.call("Stat", messages.StatSnapshotRequest(key="x"), messages.StatSnapshotResponse)
        self.assertEqual(caught.exception.code, Status.NOT_FOUND)
        await self.engine.stop()
        self.assertEqual((await self.engine.describe())["state"], STOPPED)
        with self.assertRaises(GrpcError) as caught:
            await self.call("Stat", messages.StatSnapshotRequest(key="x"), messages.StatSnapshotResponse)
        self.assertEqual(caught.exception.code, Status.UNAVAILABLE)
        await self.engine.stop()

    async def test_in_use(self) -> None:
        """
        A socket that is in use, and a place where containers cannot run, are errors.
        """
        await self.engine.start()
        with self.assertRaises(ConfigError):
            await self.make().start()
        shutil.rmtree(os.path.join(self.store.path, "engines"))
        with open(os.path.join(self.store.path, "engines"), "wb"):
            pass
        with self.assertRaises(StoreError):
            await self.make().start()

    async def test_reset(self) -> None:
        """
        A client that resets its call ends the job, if no other call waits for it.
        """
        await self.engine.start()
        self.registry.gate.hold("open", self.blob(0))
        calling = Deferred.fromCoroutine(
            self.call("Prepare", self.wanted(), messages.PrepareSnapshotResponse)
        )
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["running"])
        calling.cancel()
        with self.assertRaises(CancelledError):
            await calling
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["cancelled"])

    async def until(self, condition: Any) -> None:
        """
        Let the jobs, the threads and the socket work until something holds.
        """
        while not condition():
            self.settle()
            waiting: Deferred[None] = Deferred()
            reactor.callLater(0.01, waiting.callback, None)
            await waiting
