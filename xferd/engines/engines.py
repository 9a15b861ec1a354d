# -*- test-case-name: tests.engines.test_engines -*-
"""
The engines that the daemon serves: made by the settings, started and stopped together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults
from twisted.internet.interfaces import IReactorProcess
from twisted.logger import Logger
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.engines.extra import check_extra
from xferd.engines.former import FormerEngines
from xferd.engines.settings import EnginesSettings, socket_of
from xferd.errors import EngineFailed, NotFound, XferdError
from xferd.interfaces.engines import (
    CONTAINERD,
    FAILED,
    EngineContext,
    EngineFigures,
    EngineJSON,
    FilledJSON,
    IEngine,
    IEngines,
    IFillable,
    ILateAnswers,
)
from xferd.names import Reference
from xferd.unpack.rights import Rights, own_rights


def make_engines(settings: EnginesSettings, context: EngineContext, directory: str) -> Sequence[IEngine]:
    """
    Make the engines of the settings, and import the code of their kinds alone.

    @param directory: the runtime directory, for sockets.
    @raise ConfigError: one of them needs a package that is not installed.
    """
    engines: list[IEngine] = []
    if settings.containerd:
        check_extra("[engines.containerd]")
        from xferd.engines.snapshotter.engine import ContainerdEngine  # noqa: PLC0415
        from xferd.engines.snapshotter.layer_source import LayerSource  # noqa: PLC0415
        from xferd.engines.snapshotter.pulls import LayerPulls  # noqa: PLC0415
        from xferd.engines.snapshotter.snapshotter_process import SnapshotterProcess  # noqa: PLC0415
        from xferd.engines.snapshotter.wire import ServedEngine  # noqa: PLC0415

        pulls = LayerPulls(context.jobs, context.store, context.reactor)
        in_namespace = own_rights() is Rights.NAMESPACE
        served = {
            name: ServedEngine(socket_of(name, each, directory), each.address, each.cri, in_namespace)
            for name, each in settings.containerd.items()
        }
        process = SnapshotterProcess(served, LayerSource(context.store, pulls), context)
        for name, each in settings.containerd.items():
            engines.append(ContainerdEngine(name, served[name].socket, context, process, pulls, each))
    if settings.containers_storage.path:
        from xferd.engines.containers_storage.view import StorageView  # noqa: PLC0415

        engines.append(StorageView(settings.containers_storage, context))
    return engines


@implementer(IEngines)
class Engines:
    """
    Starts and stops engines.  The trouble of one leaves the others and the daemon as
    they are: it is in the log and in the engine's description.

    States: made; started; stopped.
    """

    _log = Logger()

    def __init__(
        self,
        engines: Sequence[IEngine],
        former: FormerEngines | None = None,
        reactor: IReactorProcess | None = None,
    ) -> None:
        """
        @param former: the engines that the settings do not name any more.
        @param reactor: needed for these.
        """
        self._reactor = reactor
        self.engines = engines
        self._former = former
        self._problems: dict[IEngine, str] = {}

    async def start(self) -> None:
        """
        Start all engines at once.

        @return: once each of them serves or has failed.
        """
        if self._former is not None:
            self._former.warn()
            if self._reactor is not None:
                await self._former.end_snapshotter(self._reactor)
        started = [Deferred.fromCoroutine(self._start(engine)) for engine in self.engines]
        try:
            await gatherResults(started, consumeErrors=True)
        except FirstError as e:
            # All other errors are handled in the coroutines.
            raise CancelledError from e

    async def _start(self, engine: IEngine) -> None:
        name = _title(engine)
        try:
            await engine.start()
        except CancelledError:
            raise
        except XferdError as e:
            self._problems[engine] = str(e)
            self._log.error("{engine} is not served: {why}", engine=name, why=str(e))
        except Exception:
            self._problems[engine] = "internal error; see the daemon's log"
            self._log.failure("while starting {engine}", engine=name)
        else:
            self._log.info("serving {engine} at {path}", engine=name, path=engine.path)

    async def stop(self) -> None:
        """
        Stop all engines at once.
        """
        stopped = [Deferred.fromCoroutine(self._stop(engine)) for engine in self.engines]
        await gatherResults(stopped, consumeErrors=True)

    async def _stop(self, engine: IEngine) -> None:
        try:
            await engine.stop()
        except CancelledError:
            raise
        except Exception:
            self._log.failure("while stopping {engine}", engine=_title(engine))

    @property
    def late_answers(self) -> ILateAnswers | None:
        """
        The engine that has manifests wait, if there is one.
        """
        found = (engine for engine in self.engines if ILateAnswers.providedBy(engine))
        return cast("ILateAnswers | None", next(found, None))

    @property
    def problems(self) -> Mapping[str, str]:
        """
        The reasons why engines are not served, by their kinds and names.
        """
        found = {engine: self._problems.get(engine) or engine.problem for engine in self.engines}
        return {_title(engine): why for engine, why in found.items() if why is not None}

    def describe(self) -> Deferred[list[EngineJSON]]:
        return Deferred.fromCoroutine(self._describe())

    async def _describe(self) -> list[EngineJSON]:
        named = [
            _failed(engine, self._problems[engine]) if engine in self._problems else await engine.describe()
            for engine in self.engines
        ]
        return named + ([] if self._former is None else self._former.describe())

    def fill(
        self,
        name: str,
        reference: str,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Deferred[FilledJSON]:
        try:
            wanted = Reference.parse(reference)
            engine = next((e for e in self.engines if (e.kind, e.name) == (CONTAINERD, name)), None)
            if engine is None:
                raise NotFound(f"the settings have no [engines.containerd.{name}]")
            if engine in self._problems:
                raise EngineFailed(f"containerd {name} is not served: {self._problems[engine]}")
        except XferdError:
            return fail()
        return IFillable(engine).fill(wanted, namespace, client, credentials, progress)

    def forget(self, name: str) -> Deferred[int]:
        if self._former is None:
            return fail(NotFound(f"xferd has no snapshots of a containerd {name}"))
        return Deferred.fromCoroutine(self._former.forget(name))

    def figures(self) -> Mapping[tuple[str, str], EngineFigures]:
        return {
            (engine.kind, engine.name): engine.figures()
            for engine in self.engines
            if engine not in self._problems
        }


def _title(engine: IEngine) -> str:
    return f"{engine.kind} {engine.name}".rstrip()


def _failed(engine: IEngine, problem: str) -> EngineJSON:
    """
    The description of an engine that could not be started.
    """
    return {
        "name": engine.name,
        "kind": engine.kind,
        "state": FAILED,
        "problem": problem,
        "path": engine.path,
        "snapshots": 0,
        "layers": 0,
        "size": 0,
        "images": [],
    }
