# -*- test-case-name: tests.engines.snapshotter.test_engine -*-
"""
A containerd that the snapshotter serves on a socket of its own, as an engine of the daemon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.engines.cri.image_service import MAX_ANSWER
from xferd.engines.fill.filling import Filling
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.settings import ContainerdSettings
from xferd.engines.snapshotter.labels import IMAGE
from xferd.engines.snapshotter.pulls import LayerPulls
from xferd.engines.snapshotter.snapshotter_process import SnapshotterProcess
from xferd.errors import EngineFailed, XferdError
from xferd.interfaces.engines import (
    CONTAINERD,
    FAILED,
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
from xferd.unpack.rights import Rights, own_rights


@implementer(IEngine, IFillable)
class ContainerdEngine:
    """
    A containerd.

    States: made; serving; stopped.
    """

    kind = CONTAINERD

    _log = Logger()

    def __init__(
        self,
        name: str,
        path: str,
        context: EngineContext,
        process: SnapshotterProcess,
        pulls: LayerPulls,
        settings: ContainerdSettings,
        rights: Rights | None = None,
    ) -> None:
        """
        @param path: the socket.
        @param process: the one that serves all engines.
        @param pulls: those of all engines.
        @param settings: the engine's.
        @param rights: those by which layers are unpacked; this process's by default.
        """
        self._rights = own_rights() if rights is None else rights
        self.name = name
        self.path = path
        self._state = STOPPED
        self._process = process
        self._pulls = pulls
        self._tables = context.store.snapshots
        self._table = context.store.snapshots.of(name)
        self._has_cri = settings.cri
        self._client = GrpcClient(settings.address, context.reactor, MAX_ANSWER)
        self._filling = Filling(self._client, name, context)

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        if self._rights is Rights.NONE:
            # Owners would be wrong, and removed files would come back.
            raise EngineFailed(
                "containerd is served only by a daemon that has root's rights over files; run xferd as root, "
                "or in the user namespace of a rootless containerd"
            )
        try:
            await self._process.start()
        except EngineFailed as e:
            # It may come later; until then this is its problem.
            self._log.error("{why}", why=str(e))
        problem = self._process.report(self.name).problem
        if problem is not None:
            raise EngineFailed(problem)
        self._state = SERVING

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._state = STOPPED
        # Calls for layers wait in the snapshotter for the next daemon.
        await self._process.stop()
        self._pulls.stop()
        self._client.close()

    def fill(
        self,
        reference: Reference,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Deferred[FilledJSON]:
        return Deferred.fromCoroutine(self._filling.fill(reference, namespace, client, credentials, progress))

    @property
    def problem(self) -> str | None:
        """
        See L{IEngine}.
        """
        if self._state != SERVING:
            return None
        return self._process.problem or self._process.report(self.name).problem

    def describe(self) -> Deferred[EngineJSON]:
        return Deferred.fromCoroutine(self._describe())

    async def _describe(self) -> EngineJSON:
        problem = self.problem
        if self._state == SERVING:
            try:
                await self._tables.reload()
            except XferdError as e:
                problem = str(e)
        layers = self._layers()
        return EngineJSON(
            name=self.name,
            kind=self.kind,
            state=self._state if problem is None else FAILED,
            problem=problem,
            path=self.path,
            snapshots=len(self._table.all()),
            layers=len(layers),
            size=sum(each.usage.size for each in layers.values() if each.usage is not None),
            images=self._images(),
            cri=self._has_cri,
        )

    def figures(self) -> EngineFigures:
        return EngineFigures(
            snapshots=len(self._table.all()),
            layers=len(self._layers()),
            prepares=dict(self._process.report(self.name).prepares),
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
