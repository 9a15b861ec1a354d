"""
Tests for L{xferd.fleet.pauses}.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials
from xferd.fleet.accounts import FleetAccounts
from xferd.fleet.memory import MemoryCluster, MemoryCoordination
from xferd.fleet.pauses import MOST, FleetPauses
from xferd.hosts.memory import HostMemory
from xferd.interfaces.transfer import HostAccount
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fakes import FakeWallClock
from xferd.transfer.pauses import Pauses

HUB = HostAccount("docker.io")


@frozen
class Node:
    """
    A node: its pauses of documents, and how it shares them.
    """

    documents: Pauses
    memory: HostMemory
    shared: FleetPauses
    member: MemoryCoordination


class PausesTests(SynchronousTestCase):
    """
    Nodes of a fleet that share an account.
    """

    def setUp(self) -> None:
        """
        Start two.
        """
        self.clock = Clock()
        self.cluster = MemoryCluster(self.clock, latency=0.01)
        self.one, self.two = self.node("one"), self.node("two")

    def node(self, name: str, user: str = "bob", *, known: bool = True) -> Node:
        """
        Start a node.

        @param known: whether it has had a response of the registry.
        """
        documents = Pauses(self.clock)
        memory = HostMemory(self.clock, wall_clock=FakeWallClock(self.clock))
        memory.join("document", documents)
        if known:
            memory.answered("docker.io", None, None)
        keychain = FakeKeychain(lambda: Credentials.of(user, "x") if user else None)
        member = self.cluster.join(name, f"http://{name}:5000")
        member.start()
        shared = FleetPauses(member, FleetAccounts(b"0123456789abcdef", keychain), memory)
        shared.start()
        self.pump()
        return Node(documents, memory, shared, member)

    def pump(self, seconds: float = 1.0) -> None:
        """
        Let time pass.
        """
        for _ in range(10):
            self.clock.advance(seconds / 10)

    def left(self, *nodes: Node) -> list[int]:
        """
        The seconds left of the pause on each node, rounded to tens.
        """
        return [round(node.documents.left(HUB), -1) for node in nodes]  # type: ignore[misc]

    def test_shared(self) -> None:
        """
        What a registry asks of one node, all obey that have the account, also those that
        come later.
        """
        self.one.documents.pause(HUB, 60.0)
        self.pump()
        others = [self.node("other", "eve"), self.node("anonymous", ""), self.node("new", known=False)]
        late = self.node("late")
        self.assertEqual(self.left(self.one, self.two, late, *others), [60, 60, 60, 0, 0, 0])

    def test_ends(self) -> None:
        """
        It ends everywhere when it ends where it began: it is not passed on.
        """
        self.one.documents.pause(HUB, 60.0)
        for _ in range(10):
            self.pump(5)
            self.two.member.cut()
            self.pump(0.1)
            self.two.member.heal()
        self.pump(15)
        self.assertEqual(self.left(self.one, self.two), [0, 0])

    def test_bounded(self) -> None:
        """
        Another node cannot pause this one for longer than some minutes, and a pause here
        is not shortened.
        """
        self.two.documents.pause(HUB, 30.0)
        self.pump()
        self.one.documents.pause(HUB, 86400.0)
        self.pump()
        self.assertLessEqual(self.two.documents.left(HUB), MOST)
        self.assertGreater(self.two.documents.left(HUB), MOST - 30)
        self.assertGreater(self.one.documents.left(HUB), 86000)

    def test_not_shared(self) -> None:
        """
        The pauses of clients, of anonymous ones, and short ones stay here.
        """
        anonymous = self.node("anonymous", "")
        requests = self.cluster.requests
        self.one.documents.pause(HostAccount("docker.io", "c0ffee"), 60.0)
        self.one.documents.pause(HUB, 0.5)
        anonymous.documents.pause(HUB, 60.0)
        self.clock.advance(0.01)
        self.assertEqual(self.cluster.requests, requests)
        self.pump()
        self.assertEqual(self.left(self.two), [0])

    def test_stopped(self) -> None:
        """
        A node that stops neither tells nor hears.
        """
        self.successResultOf(self.two.shared.stop())
        self.two.documents.pause(HUB, 60.0)
        self.pump()
        self.assertEqual(self.left(self.one), [0])
        self.one.documents.pause(HUB, 90.0)
        self.pump()
        self.assertLess(self.two.documents.left(HUB), 60)

    def test_forged(self) -> None:
        """
        An account that is not ours is ignored.
        """
        self.one.member.pause("docker.io", "document/0000", 60.0, "forged")
        self.one.member.pause("docker.io", "document", 60.0, "forged")
        self.pump()
        self.assertEqual(self.left(self.two), [0])
