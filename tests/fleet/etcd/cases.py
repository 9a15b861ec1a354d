"""
A case with nodes at an etcd in memory.
"""

from __future__ import annotations

from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fleet.etcd.fake_etcd import FakeEtcd
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.interfaces.fleet import Found, Node, Peer
from xferd.names import Digest

COLLECT_SECONDS = 0.2
"""How long announcements are collected here."""

BLOB = Digest.of(b"a layer")
OTHER = Digest.of(b"another layer")


class CoordinationCase(SynchronousTestCase):
    """
    Two nodes at one etcd.
    """

    def setUp(self) -> None:
        """
        Start two nodes.
        """
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.one, self.two = self.make("one"), self.make("two")
        self.one.start()
        self.two.start()
        self.passes(0.1)
        self.etcd.paths()

    def make(self, name: str) -> EtcdCoordination:
        """
        Make a node.
        """
        peer = Peer(name, f"http://{name}.example")
        client = cast(Any, self.etcd)
        return EtcdCoordination(
            self.clock, client, Node(peer, "1", 5.0), Random(1), collect_seconds=COLLECT_SECONDS
        )

    def passes(self, seconds: float) -> None:
        """
        Advance the clock.
        """
        self.clock.pump([0.01] * round(seconds * 100))

    def result(self, work: Deferred[Any]) -> Any:
        """
        Wait for a result.
        """
        self.passes(0.05)
        return self.successResultOf(work)

    def look(self, digest: Digest = BLOB) -> Found:
        """
        Look from the second node.
        """
        found: Found = self.result(self.two.look([digest]))[digest]
        return found
