# -*- test-case-name: tests.engines.snapshotter.test_snapshotter_process -*-
"""
One containerd that the snapshotter serves, on a socket of its own.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred

from xferd.engines.cri.image_service import MAX_ANSWER, ImageService
from xferd.engines.cri.pull_credentials import PullCredentials
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.listener import GrpcListener
from xferd.engines.snapshotter.calls import snapshots_service
from xferd.engines.snapshotter.directories import Directories
from xferd.engines.snapshotter.provider import LayerProvider
from xferd.engines.snapshotter.service import Snapshotter
from xferd.engines.snapshotter.wire import EngineReport, ServedEngine
from xferd.interfaces.layer_source import ILayerSource
from xferd.interfaces.reactor import IUnixReactor, WallClock
from xferd.interfaces.snapshots import ISnapshotTables
from xferd.names import Digest
from xferd.store.threads import Threads


@frozen
class Files:
    """
    What engines need of the data directory.

    @ivar data_dir: its path.
    @ivar threads: for the files of snapshots.
    @ivar tables: the snapshots.
    @ivar find: finds the files of a layer; blocking.
    @ivar discard: removes a directory.
    """

    data_dir: str
    threads: Threads
    tables: ISnapshotTables
    find: Callable[[Digest], str | None]
    discard: Callable[[str], object]


class EngineServer:
    """
    Serves one engine.

    States: made; serving; stopped.

    @ivar settings: what it serves.
    """

    def __init__(
        self,
        name: str,
        settings: ServedEngine,
        files: Files,
        source: ILayerSource,
        reactor: IUnixReactor,
        wall_clock: WallClock,
        isolated: bool,
    ) -> None:
        """
        @param isolated: whether clients have to prove that they may have a layer.
        """
        self.settings = settings
        self.isolated = isolated
        self._name = name
        self._tables = files.tables
        self._client = GrpcClient(settings.address, reactor, MAX_ANSWER)
        credentials = PullCredentials()
        images = ImageService(self._client, credentials)
        table = files.tables.of(name)
        self._provider = LayerProvider(
            name, table, source=source, wall_clock=wall_clock, isolated=isolated, credentials=credentials
        )
        self._snapshotter = Snapshotter(
            name,
            table=table,
            provider=self._provider,
            directories=Directories(os.path.join(files.data_dir, "engines", name)),
            files_of=files.find,
            discard=files.discard,
            threads=files.threads,
            wall_clock=wall_clock,
            in_namespace=settings.in_namespace,
        )
        services = [snapshots_service(self._snapshotter), *(images.services() if settings.cri else ())]
        self._listener = GrpcListener(settings.socket, services, reactor)

    @property
    def connections(self) -> int:
        """
        The connections of its clients.
        """
        return len(self._listener.factory.connections)

    @property
    def busy(self) -> bool:
        """
        Whether a call is running.
        """
        factory = self._listener.factory
        return factory.running > 0 or any(each.streams for each in factory.connections)

    def start(self) -> Deferred[None]:
        """
        Begin to serve.

        @raise XferdError: it cannot be served.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        # Before, the daemon may have removed some.
        await self._tables.reload(self._name)
        await self._snapshotter.start()
        self._listener.start()

    def stop(self) -> Deferred[None]:
        """
        Stop serving.  Idempotent.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._listener.stop()
        self._client.close()

    def report(self, problem: str | None) -> EngineReport:
        """
        Its state.
        """
        removed = self._snapshotter.removed
        return EngineReport(problem, dict(self._provider.prepares), removed.count, tuple(removed.last))
