# -*- test-case-name: tests.engines.test_engines -*-
"""
An engine that serves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.interfaces.engines import (
    CONTAINERD,
    FAILED,
    SERVING,
    EngineFigures,
    EngineImageJSON,
    EngineJSON,
    FilledJSON,
    IEngine,
    IFillable,
    LeftOutJSON,
)
from xferd.names import Reference


@implementer(IEngine, IFillable)
@define(eq=False)
class FakeEngine:
    """
    An engine with whatever state a test needs.

    @ivar started: the result of C{start}.
    @ivar stopped: the result of C{stop}.
    @ivar images: the images that it uses.
    @ivar left_out: the images of the store that it does not see.
    @ivar counted: its counters.
    @ivar filled: the result of C{fill}.
    @ivar progress: that of the last C{fill}.
    @ivar problem: why it is not served.
    @ivar calls: C{start}, C{stop} and the arguments of C{fill}, as they were called.
    """

    name: str
    kind: str = CONTAINERD
    path: str = "/s"
    started: Deferred[None] = field(factory=lambda: succeed(None))
    stopped: Deferred[None] = field(factory=lambda: succeed(None))
    images: Sequence[EngineImageJSON] = ()
    left_out: Sequence[LeftOutJSON] = ()
    counted: EngineFigures = field(factory=EngineFigures)
    filled: Deferred[FilledJSON] = field(factory=Deferred)
    calls: list[object] = field(factory=list)
    progress: Callable[[int, int], object] = field(default=lambda *_: None)
    problem: str | None = None

    def start(self) -> Deferred[None]:
        self.calls.append("start")
        return self.started

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopped

    def fill(
        self,
        reference: Reference,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Deferred[FilledJSON]:
        self.calls.append((str(reference), namespace, client, credentials))
        self.progress = progress
        return self.filled

    def describe(self) -> Deferred[EngineJSON]:
        return succeed(
            EngineJSON(
                name=self.name,
                kind=self.kind,
                state=SERVING if self.problem is None else FAILED,
                problem=self.problem,
                path=self.path,
                snapshots=self.counted.snapshots,
                layers=self.counted.layers,
                size=0,
                images=list(self.images),
                left_out=list(self.left_out),
            )
        )

    def figures(self) -> EngineFigures:
        return self.counted
