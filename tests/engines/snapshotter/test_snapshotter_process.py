"""
Tests for L{xferd.engines.snapshotter.snapshotter_process}, with a snapshotter in the same
process, on real sockets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from tempfile import mkdtemp
from typing import Any, cast

from attrs import evolve
from google.protobuf.empty_pb2 import Empty
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.engines.snapshotter.test_pulls import PullsCase
from xferd.engines.engines import Engines, make_engines
from xferd.engines.former import FormerEngines
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto import snapshots_pb2 as messages
from xferd.engines.settings import ContainerdSettings, EnginesSettings
from xferd.engines.snapshotter.calls import SERVICE
from xferd.engines.snapshotter.command import lock_of_snapshotter, settings_of_snapshotter, socket_of_daemon
from xferd.engines.snapshotter.engine import ContainerdEngine
from xferd.engines.snapshotter.labels import IMAGE, MANIFEST, REF
from xferd.engines.snapshotter.layer_source import LayerSource
from xferd.engines.snapshotter.pulls import LayerPulls
from xferd.engines.snapshotter.served_engine import Files
from xferd.engines.snapshotter.snapshot_server import RENEWAL, SnapshotServer
from xferd.engines.snapshotter.snapshotter_process import SnapshotterProcess, is_in_unit_of
from xferd.engines.snapshotter.wire import ServedEngine
from xferd.errors import ConfigError, EngineFailed
from xferd.interfaces.engines import FAILED, SERVING, STOPPED, EngineContext
from xferd.interfaces.reactor import IReactor
from xferd.locks import FileLock
from xferd.names import Digest
from xferd.store.snapshots import SnapshotTables
from xferd.store.threads import Threads
from xferd.unpack.rights import Rights

reactor = cast(IReactor, installed)


class SnapshotterCase(PullsCase, TestCase):
    """
    A daemon and a snapshotter.
    """

    prefix = "xferd-"

    def setUp(self) -> None:
        """
        Make them.
        """
        super().setUp()
        self.place = mkdtemp(prefix=self.prefix)
        self.addCleanup(shutil.rmtree, self.place)
        sockets = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, sockets)
        self.path = f"{sockets}/engine.sock"
        self.served = {"main": ServedEngine(self.path, f"{self.place}/containerd.sock", False)}
        os.makedirs(f"{self.place}/engines")
        os.makedirs(f"{self.place}/staging")
        self.context = EngineContext(reactor, self.wall_clock, self.jobs, self.store, self.place)
        # The jobs' clock is wound by hand, the engine's by the real reactor.
        self.pulls = LayerPulls(self.jobs, self.store, self.clock)
        # What holds the lock is the snapshotter: the daemon starts no process.
        self.lock = FileLock(lock_of_snapshotter(self.place))
        self.lock.acquire()
        self.addCleanup(self.lock.release)
        self.ended: list[bool] = []
        self.threads = Threads(reactor, ThreadPool(0, 2), "stopped")
        self.threads.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.threads.stop()))
        self.client = GrpcClient(self.path, reactor, max_delay=0.05)
        self.addCleanup(self.client.close)

    def find(self, chain_id: Digest) -> str | None:
        """
        The files of a layer.
        """
        layer = self.store.layers.get(chain_id)
        return None if layer is None else layer.path

    def take_over(self, again: bool) -> None:
        """
        The snapshotter is not needed any more.
        """
        self.ended.append(again)

    async def snapshotter(self, lasting: bool = False) -> SnapshotServer:
        """
        Start a snapshotter.
        """
        tables = SnapshotTables(self.store.snapshot_records, lambda _: None, lambda: server.changed())
        files = Files(self.place, self.threads, tables, self.find, self.store.discard)
        server = SnapshotServer(files, reactor, self.wall_clock, self.take_over, lasting)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        await server.start()
        return server

    def daemon(self, served: dict[str, ServedEngine] | None = None) -> ContainerdEngine:
        """
        The engine of a daemon.
        """
        served = self.served if served is None else served
        process = SnapshotterProcess(served, LayerSource(self.store, self.pulls), self.context)
        engine = ContainerdEngine(
            "main", self.path, self.context, process, self.pulls, ContainerdSettings(), Rights.ROOT
        )
        self.addCleanup(engine.stop)
        return engine

    async def call(self, name: str, request: Any, answer: Any) -> Any:
        """
        Make a call.
        """
        return await self.client.unary(f"/{SERVICE}/{name}", request, answer)

    async def stat(self, key: str = "x") -> Status:
        """
        The error of C{Stat}.
        """
        try:
            await self.call("Stat", messages.StatSnapshotRequest(key=key), messages.StatSnapshotResponse)
        except GrpcError as e:
            return e.code
        return Status.OK

    def wanted(self, index: int = 0) -> messages.PrepareSnapshotRequest:
        """
        The call for a layer.
        """
        image = self.image
        labels = {REF: str(image.chain_ids[index]), IMAGE: f"{self.reference}", MANIFEST: str(image.digest)}
        parent = str(image.chain_ids[index - 1]) if index else ""
        return messages.PrepareSnapshotRequest(key=f"extract {index}", parent=parent, labels=labels)

    def prepare(self, request: messages.PrepareSnapshotRequest) -> Deferred[Any]:
        """
        Make a call for a layer.
        """
        return Deferred.fromCoroutine(self.call("Prepare", request, messages.PrepareSnapshotResponse))

    async def until(self, condition: Callable[[], object]) -> None:
        """
        Let the jobs, the threads and the sockets work until something holds.
        """
        while not condition():
            self.settle()
            waiting: Deferred[None] = Deferred()
            reactor.callLater(0.01, waiting.callback, None)
            await waiting


class SnapshotterProcessTests(SnapshotterCase):
    """
    A daemon and a snapshotter, which come and go.
    """

    async def test_served(self) -> None:
        """
        The engine is served once both are there, whichever comes first, and goes on without
        the daemon.
        """
        server = await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        described = await daemon.describe()
        self.assertEqual((described["state"], described["problem"]), (SERVING, None))
        self.assertEqual(await self.stat(), Status.NOT_FOUND)
        await daemon.stop()
        self.assertEqual((await daemon.describe())["state"], STOPPED)
        self.assertEqual(await self.stat(), Status.NOT_FOUND)
        await server.stop()
        self.assertEqual(await self.stat(), Status.UNAVAILABLE)
        starting = self.daemon().start()
        await self.snapshotter()
        await starting
        await self.until(lambda: True)
        self.assertEqual(await self.stat(), Status.NOT_FOUND)
        self.assertEqual(self.ended, [])

    async def test_without_daemon(self) -> None:
        """
        A snapshotter that starts without the daemon serves what it served before.
        """
        server = await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        prepared = self.prepare(messages.PrepareSnapshotRequest(key="one"))
        await self.until(lambda: prepared.called)
        await prepared
        await daemon.stop()
        await server.stop()
        await self.snapshotter()
        self.assertEqual(await self.stat("one"), Status.OK)

    async def test_provided(self) -> None:
        """
        A layer is pulled by the daemon; its snapshot is made by the snapshotter, and the
        daemon knows it.
        """
        server = await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        with capturedLogs() as events:
            asked = self.prepare(self.wanted())
            await self.until(lambda: asked.called)
        trail = [event["action"] for event in events if event.get("event") == "audit"]
        self.assertEqual(trail, ["pull_layers"])
        error = await self.assertFailure(asked, GrpcError)
        self.assertEqual(error.code, Status.ALREADY_EXISTS)
        layers = (self.image.chain_ids[0],)
        await self.until(lambda: daemon.figures().layers == 1)
        self.assertEqual(self.store.snapshots.of("main").used().keys(), {*layers})
        await self.until(lambda: daemon.figures().prepares == {"pulled": 1})
        # The lease has ended.
        await self.until(lambda: not self.pulls._flights[next(iter(self.pulls._flights))].waiting)
        self.assertEqual(server.report().engines["main"].problem, None)
        with capturedLogs() as events:
            removing = Deferred.fromCoroutine(
                self.call("Remove", messages.RemoveSnapshotRequest(key=str(layers[0])), Empty)
            )
            await self.until(lambda: removing.called and daemon.figures().layers == 0)
            await self.until(lambda: any(event.get("action") == "remove_layers" for event in events))
        await removing

    async def test_reset(self) -> None:
        """
        A client that resets its call ends the job, if no other call waits for it.
        """
        await self.snapshotter()
        await self.daemon().start()
        self.registry.gate.hold("open", self.blob(0))
        calling = self.prepare(self.wanted())
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["running"])
        calling.cancel()
        with self.assertRaises(CancelledError):
            await calling
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["cancelled"])

    async def test_daemon_restarted(self) -> None:
        """
        A call that waits for a layer when the daemon stops is answered by the next one.
        """
        await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        self.registry.gate.hold("open", self.blob(0))
        calling = self.prepare(self.wanted())
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["running"])
        await daemon.stop()
        self.settle()
        self.assertFalse(calling.called)
        self.registry.gate.release("open", self.blob(0))
        self.pulls = LayerPulls(self.jobs, self.store, self.clock)
        await self.daemon().start()
        await self.until(lambda: calling.called)
        error = await self.assertFailure(calling, GrpcError)
        self.assertEqual(error.code, Status.ALREADY_EXISTS)

    async def test_snapshotter_gone(self) -> None:
        """
        Without the snapshotter, the engine has a problem; its leases end.
        """
        server = await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        self.registry.gate.hold("open", self.blob(0))
        calling = self.prepare(self.wanted())
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["running"])
        stopping = Deferred.fromCoroutine(server.stop())
        await self.until(lambda: stopping.called and calling.called)
        await self.assertFailure(calling, GrpcError)
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["cancelled"])
        described = await daemon.describe()
        self.assertEqual(described["state"], FAILED)
        self.assertIn("snapshotter is not running", described["problem"] or "")
        await self.snapshotter()
        await self.until(lambda: daemon._process.problem is None)
        self.assertEqual((await daemon.describe())["state"], SERVING)

    async def test_other_settings(self) -> None:
        """
        Settings that change apply when the daemon has started again: another socket, other
        engines, none.
        """
        server = await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        await daemon.stop()
        moved = ServedEngine(f"{self.place}/moved.sock", self.served["main"].address, True)
        daemon = self.daemon({"main": moved, "other": self.served["main"]})
        await daemon.start()
        self.assertEqual(sorted(server.report().engines), ["main", "other"])
        self.assertEqual(await self.stat(), Status.NOT_FOUND)
        await daemon.stop()
        process = SnapshotterProcess({}, LayerSource(self.store, self.pulls), self.context)
        self.addCleanup(process.stop)
        await process.start()
        await self.until(lambda: self.ended)
        self.assertEqual(self.ended, [False])
        self.assertEqual((server.report().engines, await self.stat()), ({}, Status.UNAVAILABLE))
        self.assertFalse(os.path.exists(settings_of_snapshotter(self.place)))

    async def test_other_version(self) -> None:
        """
        A snapshotter of another version than the daemon's makes place for one, as soon as no
        call is running; until then it serves.
        """
        await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        self.registry.gate.hold("open", self.blob(0))
        calling = self.prepare(self.wanted())
        await self.until(lambda: [job["state"] for job in self.jobs.all()] == ["running"])
        await daemon.stop()
        daemon = self.daemon()
        daemon._process._served = evolve(daemon._process._served, version="9.9")
        self.pulls = LayerPulls(self.jobs, self.store, self.clock)
        daemon._process._source = LayerSource(self.store, self.pulls)
        await daemon.start()
        self.assertEqual(await self.stat(), Status.NOT_FOUND)
        late: Deferred[None] = Deferred()
        reactor.callLater(2 * RENEWAL, late.callback, None)
        await late
        self.assertEqual((calling.called, self.ended), (False, []))
        self.registry.gate.release("open", self.blob(0))
        await self.until(lambda: calling.called)
        error = await self.assertFailure(calling, GrpcError)
        self.assertEqual(error.code, Status.ALREADY_EXISTS)
        await self.until(lambda: self.ended)
        self.assertEqual(self.ended, [True])

    async def test_in_use(self) -> None:
        """
        A socket that is in use, and a place where containers cannot run, are problems of the
        engine; other engines are served.
        """
        with open(f"{self.place}/bad.sock", "wb"):
            pass
        await self.snapshotter()
        bad = ServedEngine(f"{self.place}/bad.sock", "", False)
        daemon = self.daemon({"main": bad, "other": self.served["main"]})
        with self.assertRaises(EngineFailed) as caught:
            await daemon.start()
        self.assertIn("bad.sock", str(caught.exception))
        self.assertEqual(await self.stat(), Status.NOT_FOUND)

    async def test_two_daemons(self) -> None:
        """
        The socket of the daemon belongs to one.
        """
        await self.snapshotter()
        await self.daemon().start()
        with self.assertRaises(ConfigError):
            await self.daemon().start()
        self.assertTrue(os.path.exists(socket_of_daemon(self.place)))


class DeepTests(SnapshotterCase):
    """
    A data directory with a path that no socket can have.
    """

    prefix = f"xferd-{100 * 'x'}-"

    async def test_served(self) -> None:
        """
        The engine is served.
        """
        await self.snapshotter()
        daemon = self.daemon()
        await daemon.start()
        self.assertEqual((await daemon.describe())["state"], SERVING)
        self.assertEqual(await self.stat(), Status.NOT_FOUND)


class UnitTests(SynchronousTestCase):
    """
    Processes in a unit of systemd.
    """

    def test_unit(self) -> None:
        """
        Two processes end together if they are in the control group of one service.
        """
        root = self.mktemp()
        groups = {"self": "0::/system.slice/xferd.service\n", "2": "0::/system.slice/xferd.service\n"}
        groups |= {"3": "0::/system.slice/xferd-snapshotter.service\n", "4": "0::/user.slice/a.scope\n"}
        for pid, group in groups.items():
            os.makedirs(f"{root}/{pid}")
            with open(f"{root}/{pid}/cgroup", "w", encoding="utf-8") as file:
                file.write(group)
        found = [is_in_unit_of(pid, root=root) for pid in (2, 3, 4, 5)]
        self.assertEqual(found, [True, False, False, False])
        self.assertFalse(is_in_unit_of(4, "4", root))


class RealProcessTests(SnapshotterCase):
    """
    The real process.
    """

    def setUp(self) -> None:
        """
        Let the daemon start it.
        """
        super().setUp()
        self.lock.release()
        self.former = FormerEngines(self.store, [])
        self.store.path = self.place
        self.addCleanup(lambda: Deferred.fromCoroutine(self.former.end_snapshotter(reactor)))

    def settings(self, *names: str) -> EnginesSettings:
        """
        Settings with some engines.
        """
        directory = os.path.dirname(self.path)
        return EnginesSettings({name: ContainerdSettings(f"{directory}/{name}.sock") for name in names})

    def engines(self, *names: str) -> Engines:
        """
        The engines of a daemon.
        """
        former = FormerEngines(self.store, names)
        made = Engines(make_engines(self.settings(*names), self.context, self.place), former, reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        return made

    def pid(self) -> int:
        """
        The process.
        """
        with open(lock_of_snapshotter(self.place), encoding="ascii") as file:
            return int(file.read().split()[0])

    async def test_started(self) -> None:
        """
        The daemon starts it, finds it again after a restart, starts it again when it was
        killed, and ends it when the settings have no engine.
        """
        daemon = self.engines("engine", "other")
        await daemon.start()
        self.assertEqual(daemon.problems, {})
        first = self.pid()
        self.assertEqual(await self.stat(), Status.NOT_FOUND)
        await daemon.stop()
        daemon = self.engines("engine", "other")
        await daemon.start()
        self.assertEqual(self.pid(), first)
        os.kill(first, 9)
        await self.until(lambda: self.pid() != first)
        while await self.stat() is not Status.NOT_FOUND:
            await self.until(lambda: True)
        await daemon.stop()
        daemon = self.engines()
        await daemon.start()
        self.assertEqual(await self.stat(), Status.UNAVAILABLE)
        self.assertFalse(os.path.exists(settings_of_snapshotter(self.place)))
