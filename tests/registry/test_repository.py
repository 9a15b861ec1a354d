"""
Tests for L{xferd.registry.repository}, over a registry in memory.
"""

from __future__ import annotations

from typing import TypeVar

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.conformance import HERE, RepositoryConformance
from xferd.interfaces.registry import IRegistries
from xferd.registry.client import Registries
from xferd.testing.images import SampleImage
from xferd.testing.registry import Registry

T = TypeVar("T")


class RemoteRepositoryTests(RepositoryConformance, SynchronousTestCase):
    """
    A L{RemoteRepository<xferd.registry.repository.RemoteRepository>} provides
    its Interface.
    """

    def make(self, image: SampleImage) -> IRegistries:
        """
        Make a client of a registry in memory.
        """
        self.clock = Clock()
        server = Registry(self.clock)
        server.add(image, HERE.path, "1")
        self.agent = RequestTraversalAgent(server.resource())
        return Registries(self.clock, wall_clock=self.clock.seconds, agent=self.agent)

    def wait(self, work: Deferred[T]) -> T:
        """
        Pass bytes between client and server until there is a result.
        """
        results: list[T | Failure] = []
        _ = work.addBoth(results.append)
        for _ in range(2000):
            if results:
                break
            self.clock.advance(0)
            self.agent.flush()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result
