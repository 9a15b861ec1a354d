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
from xferd.fleet.proofs import Secrets
from xferd.hosts.memory import HostMemory
from xferd.interfaces.hosts import Quota
from xferd.interfaces.transfer import HostAccount
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fakes import FakeWallClock
from xferd.transfer.pauses import Pauses

HUB = HostAccount("docker.io")
OLD = Secrets(b"0123456789abcdef")
NEW = b"fedcba9876543210"


@frozen
class Node:
    """
    A node: its pauses of documents, and how it shares them.
    """

    documents: Pauses
    memory: HostMemory
    shared: FleetPauses
    member: MemoryCoordination


class PausesCase(SynchronousTestCase):
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

    def node(self, name: str, user: str = "bob", *, known: bool = True, secrets: Secrets = OLD) -> Node:
        """
        Start a node.

        @param known: whether it has had a response of the registry.
        """
        documents = Pauses(self.clock)
        memory = HostMemory(self.clock, wall_clock=FakeWallClock(self.clock))
        memory.join("document", documents, metered=True)
        if known:
            memory.answered("docker.io", None, None)
        keychain = FakeKeychain(lambda: Credentials.of(user, "x") if user else None)
        member = self.cluster.join(name, f"http://{name}:5000")
        member.start()
        accounts = FleetAccounts(secrets, keychain)
        shared = FleetPauses(member, accounts, memory, self.clock.seconds)
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


class PausesTests(PausesCase):
    """
    Pauses that a registry asks for.
    """

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

    def test_replaced(self) -> None:
        """
        While the secret is replaced, nodes with the newer one first and with the older one
        first obey the same.
        """
        first = self.node("first", secrets=Secrets(NEW, *OLD.all))
        second = self.node("second", secrets=Secrets(*OLD.all, NEW))
        first.documents.pause(HUB, 60.0)
        self.pump()
        self.assertEqual(self.left(second, self.one), [60, 0])
        second.documents.pause(HUB, 120.0)
        self.pump()
        self.assertEqual(self.left(first, self.one), [120, 120])

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
        self.one.member.pause("docker.io", "quota/0000", 60.0, "forged", Quota(0, 100))
        self.pump()
        self.assertEqual(self.left(self.two), [0])
        self.assertTrue(self.two.memory.state("docker.io").ok)

    def test_many_pauses(self) -> None:
        """
        A registry that asks for a pause again and again makes one report in some seconds;
        one that is much longer is reported at once.
        """
        self.pump(6)
        requests = self.cluster.requests
        for n in range(100):
            self.one.documents.pause(HUB, 2.0 + n / 10)
            self.clock.advance(0.02)
        self.assertEqual(self.cluster.requests - requests, 1)
        self.one.documents.pause(HUB, 300.0)
        self.pump()
        self.assertEqual(self.left(self.one, self.two), [300, 300])


class QuotaTests(PausesCase):
    """
    Quotas of an account that nodes of a fleet share.
    """

    def setUp(self) -> None:
        """
        Let some time pass, in which responses come.
        """
        super().setUp()
        self.nodes = [self.one, self.two]
        self.answer(100)
        self.requests = self.cluster.requests

    def answer(self, remaining: int, node: Node | None = None, reset: float = 3600.0) -> None:
        """
        The registry answers one node.
        """
        one = self.one if node is None else node
        one.memory.answered("docker.io", None, Quota(remaining, 100, 3600.0, reset))
        self.pump()

    def states(self) -> list[str]:
        """
        Whether each node makes requests that it can do without.
        """
        return [node.memory.admit("docker.io").availability.value for node in self.nodes]

    def waits(self) -> list[float]:
        """
        The seconds until each node begins the next request but one.
        """
        for node in self.nodes:
            node.documents.started(HUB)
        return [node.documents.before_start(HUB) for node in self.nodes]

    def test_floor(self) -> None:
        """
        At the floor, all nodes with the account slow down together, also those that come
        later; others do not.
        """
        self.assertEqual(self.states(), ["ok", "ok"])
        self.assertEqual(self.waits(), [0.0, 0.0])
        self.answer(10)
        self.nodes = [self.one, self.two, self.node("late")]
        self.assertEqual(self.states(), ["quota-low"] * 3)
        self.assertEqual(self.waits(), [10.0] * 3)
        self.nodes = [self.node("other", "eve"), self.node("anonymous", "")]
        self.assertEqual(self.states(), ["ok", "ok"])

    def test_whole(self) -> None:
        """
        A node that learns that the quota is whole again informs the others.
        """
        self.answer(10)
        self.pump(6)
        self.answer(99, self.two)
        self.assertEqual(self.states(), ["ok", "ok"])
        self.assertEqual(self.waits(), [0.0, 0.0])

    def test_newer(self) -> None:
        """
        A node's own response that is newer than what the fleet knows is believed.
        """
        self.answer(10)
        self.pump(8)
        self.two.member.cut()
        self.answer(60, self.two)
        self.two.member.heal()
        self.pump(3)
        self.assertEqual(self.states(), ["quota-low", "ok"])

    def test_ends(self) -> None:
        """
        What another node reports ends with its window, and is believed for some minutes
        only.
        """
        self.answer(0, reset=120.0)
        self.assertEqual(self.states(), ["quota-low"] * 2)
        self.pump(120)
        self.assertEqual(self.states(), ["ok", "ok"])
        self.answer(5, reset=50_000.0)
        self.assertEqual(self.states(), ["quota-low"] * 2)
        self.pump(MOST)
        self.assertEqual(self.states(), ["quota-low", "ok"])

    def test_writes(self) -> None:
        """
        The writes are few: above the floor none; below it one for each fourth that was
        used, by whichever node, and one in some seconds at most.
        """
        for remaining in range(99, 10, -1):
            self.answer(remaining, self.nodes[remaining % 2])
        self.assertEqual(self.cluster.requests, self.requests)
        for remaining in range(10, -1, -1):
            self.pump(5)
            self.answer(remaining, self.nodes[remaining % 2])
        self.assertEqual(self.cluster.requests - self.requests, 7)
        self.pump(6)
        before = self.cluster.requests
        for n in range(100):
            self.one.memory.answered("docker.io", None, Quota(99 * (n % 2), 100, 3600.0, 3600.0))
            self.clock.advance(0.02)
        self.assertEqual(self.cluster.requests - before, 1)

    def test_others(self) -> None:
        """
        Quotas of clients and of anonymous daemons stay here.
        """
        anonymous = self.node("anonymous", "")
        for memory, account in ((self.one.memory, "c0ffee"), (anonymous.memory, None)):
            memory.answered("docker.io", account, Quota(1, 100, 3600.0))
        self.pump()
        self.assertEqual(self.states(), ["ok", "ok"])
