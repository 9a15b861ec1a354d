# -*- test-case-name: tests.engines.test_engines -*-
"""
An engine that serves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.interfaces.engines import (
    CONTAINERD,
    SERVING,
    EngineFigures,
    EngineImageJSON,
    EngineJSON,
    IEngine,
)


@implementer(IEngine)
@define(eq=False)
class FakeEngine:
    """
    An engine with whatever state a test needs.

    @ivar started: the result of C{start}.
    @ivar stopped: the result of C{stop}.
    @ivar images: the images that it uses.
    @ivar counted: its counters.
    @ivar calls: C{start} and C{stop}, as they were called.
    """

    name: str
    kind: str = CONTAINERD
    path: str = "/s"
    started: Deferred[None] = field(factory=lambda: succeed(None))
    stopped: Deferred[None] = field(factory=lambda: succeed(None))
    images: Sequence[EngineImageJSON] = ()
    counted: EngineFigures = field(factory=EngineFigures)
    calls: list[str] = field(factory=list)

    def start(self) -> Deferred[None]:
        self.calls.append("start")
        return self.started

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopped

    def describe(self) -> Deferred[EngineJSON]:
        return succeed(
            EngineJSON(
                name=self.name,
                kind=self.kind,
                state=SERVING,
                problem=None,
                path=self.path,
                snapshots=self.counted.snapshots,
                layers=self.counted.layers,
                size=0,
                images=list(self.images),
            )
        )

    def figures(self) -> EngineFigures:
        return self.counted
