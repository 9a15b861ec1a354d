# -*- test-case-name: tests.engines.snapshotter.test_engine -*-
"""
A containerd that is served with a snapshotter, on a socket of its own.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.engines.cri.image_service import MAX_ANSWER, ImageService
from xferd.engines.cri.pull_credentials import PullCredentials
from xferd.engines.fill.filling import Filling
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.listener import GrpcListener
from xferd.engines.settings import ContainerdSettings
from xferd.engines.snapshotter.calls import snapshots_service
from xferd.engines.snapshotter.directories import Directories
from xferd.engines.snapshotter.labels import IMAGE
from xferd.engines.snapshotter.provider import LayerProvider
from xferd.engines.snapshotter.pulls import LayerPulls
from xferd.engines.snapshotter.service import Snapshotter
from xferd.interfaces.engines import (
    CONTAINERD,
    SERVING,
    STOPPED,
    EngineContext,
    EngineFigures,
    EngineImageJSON,
    EngineJSON,
    FilledJSON,
    IEngine,
    IFillable,
)
from xferd.interfaces.snapshots import Snapshot
from xferd.names import Digest, Reference
from xferd.store.threads import Pool, Threads

THREADS = 4
"""Threads for the files of one engine's snapshots: most of their work waits for the disk."""


@implementer(IEngine, IFillable)
class ContainerdEngine:
    """
    A containerd.

    States: made; serving; stopped.
    """

    kind = CONTAINERD

    def __init__(
        self,
        name: str,
        path: str,
        context: EngineContext,
        pulls: LayerPulls,
        settings: ContainerdSettings,
        pool: Pool | None = None,
    ) -> None:
        """
        @param path: the socket.
        @param pulls: those of all engines.
        @param settings: the engine's.
        @param pool: the threads; by default some of its own.
        """
        self.name = name
        self.path = path
        self._state = STOPPED
        self._pulls = pulls
        self._table = context.store.snapshots.of(name)
        self._has_cri = settings.cri
        self._client = GrpcClient(settings.address, context.reactor, MAX_ANSWER)
        credentials = PullCredentials()
        images = ImageService(self._client, credentials)
        self._filling = Filling(self._client, name, context)
        if pool is None:
            pool = ThreadPool(0, THREADS, f"engine {name}")
        self._threads = Threads(context.reactor, pool, "xferd is stopping")
        self._provider = LayerProvider(
            self._table,
            store=context.store,
            pulls=pulls,
            wall_clock=context.wall_clock,
            isolated=context.jobs.isolated,
            credentials=credentials,
        )
        self._snapshotter = Snapshotter(
            name,
            store=context.store,
            provider=self._provider,
            directories=Directories(os.path.join(context.data_dir, "engines", name)),
            threads=self._threads,
            wall_clock=context.wall_clock,
        )
        services = [snapshots_service(self._snapshotter), *(images.services() if settings.cri else ())]
        self._listener = GrpcListener(path, services, context.reactor)

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._threads.start()
        await self._snapshotter.start()
        self._listener.start()
        self._state = SERVING

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._state = STOPPED
        # Those that wait for layers get ordinary snapshots, for which the threads are needed.
        self._provider.stop()
        self._pulls.stop()
        await self._listener.stop()
        self._client.close()
        await self._threads.stop()

    def fill(
        self,
        reference: Reference,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Deferred[FilledJSON]:
        return Deferred.fromCoroutine(self._filling.fill(reference, namespace, client, credentials, progress))

    def describe(self) -> Deferred[EngineJSON]:
        layers = self._layers()
        return succeed(
            EngineJSON(
                name=self.name,
                kind=self.kind,
                state=self._state,
                problem=None,
                path=self.path,
                snapshots=len(self._table.all()),
                layers=len(layers),
                size=sum(each.usage.size for each in layers.values() if each.usage is not None),
                images=self._images(),
                cri=self._has_cri,
            )
        )

    def figures(self) -> EngineFigures:
        return EngineFigures(
            snapshots=len(self._table.all()),
            layers=len(self._layers()),
            prepares=dict(self._provider.prepares),
        )

    def _layers(self) -> dict[Digest, Snapshot]:
        """
        The layers of the store that it uses.
        """
        return {each.chain_id: each for each in self._table.all() if each.chain_id is not None}

    def _images(self) -> list[EngineImageJSON]:
        """
        The images, each with what stands on its layers.
        """
        layers: Counter[str] = Counter()
        containers: Counter[str] = Counter()
        known: dict[str, str | None] = {"": None}
        for snapshot in self._table.all():
            if snapshot.chain_id is not None:
                layers[snapshot.labels.get(IMAGE, "")] += 1
                continue
            image = self._image(snapshot.parent, known)
            if image is not None:
                containers[image] += 1
        return [
            EngineImageJSON(image=image, layers=count, containers=containers[image], by="")
            for image, count in sorted(layers.items())
        ]

    def _image(self, key: str, known: dict[str, str | None]) -> str | None:
        """
        The image that a snapshot belongs to or stands on; L{None} if it is none of xferd's.

        @param known: the results by key, which is extended: chains may be long.
        """
        above = []
        while key not in known:
            snapshot = self._table.get(key)
            assert snapshot is not None
            if snapshot.chain_id is not None:
                known[key] = snapshot.labels.get(IMAGE, "")
                break
            above.append(key)
            key = snapshot.parent
        known.update(dict.fromkeys(above, known[key]))
        return known[key]
