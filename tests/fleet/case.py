"""
Several nodes of a fleet in one process: the jobs and the registry of each on fakes, and
a network in memory between them.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase

from tests.clocks import QuickClock
from xferd.fleet.door import PeerDoor
from xferd.fleet.downloads import FleetDownloads
from xferd.fleet.memory import MemoryCluster
from xferd.fleet.peer_client import PeerClient
from xferd.fleet.peer_requests import PeerRequests
from xferd.fleet.proofs import Prover, Secrets
from xferd.interfaces.fleet import MIN_SHARED, Peer
from xferd.interfaces.job_json import AttemptJSON
from xferd.jobs.local.manifests import LocalManifests
from xferd.jobs.manager import Jobs
from xferd.names import Digest
from xferd.registry.transport.networks import Networks
from xferd.store.threads import Threads
from xferd.testing.fake_keychain import FakeKeychain
from xferd.testing.fakes import FakeRegistries, FakeRegistry, FakeStore, FakeUnpacker, FakeWallClock
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.inline_threads import InlinePool, InlineReactor
from xferd.testing.memory_network import MemoryNetwork
from xferd.transfer.retry import RetryPolicy
from xferd.v2.app import Registry
from xferd.v2.rights.rights import Rights
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.peer_trust import Trust

T = TypeVar("T")

HOST = "registry.example"
SECRET = b"the secret of all nodes"
PORT = 5000
SIZE = 4 * 1024 * 1024
RETRY = RetryPolicy(attempts=3, jitter=0.0)


class Node:
    """
    One node.
    """

    def __init__(
        self,
        number: int,
        cluster: MemoryCluster,
        network: MemoryNetwork,
        registries: FakeRegistries,
        path: str,
        *,
        secret: bytes = SECRET,
        max_followers: int = 8,
        url: str | None = None,
        smallest: int = MIN_SHARED,
        retry: RetryPolicy = RETRY,
        clock: Any = None,
    ) -> None:
        clock = network.clock if clock is None else clock
        self.name = f"n{number}"
        self.address = f"10.0.0.{number}"
        self.clock = clock
        self.peer = Peer(self.name, f"http://{self.address}:{PORT}" if url is None else url)
        os.makedirs(path)
        self.store = FakeStore(clock, path)
        wall_clock = FakeWallClock(clock)
        self.coordination = cluster.join(self.name, self.peer.url)
        self.reactor = network.reactor(self.address, clock)
        prover = Prover(Secrets(secret), self.peer, clock.seconds)
        requests = PeerRequests(
            prover, Networks.parse(["10.0.0.0/24"]), clock=cast("IReactorTime", self.reactor)
        )
        self.client = PeerClient(requests)
        self.fleet = FleetDownloads(
            self.coordination,
            self.client,
            self.peer,
            clock=clock,
            random=Random(number),
            smallest=smallest,
        )
        self.jobs = Jobs(
            self.store,
            registries,
            FakeUnpacker(clock, self.store.blobs.open_path),
            clock=clock,
            wall_clock=wall_clock,
            retry=retry,
            fleet=self.fleet,
        )
        self.door = PeerDoor(
            prover,
            self.jobs.held,
            self.coordination,
            self.fleet.depths,
            self.fleet.guide,
            clock=clock,
            prefetch=lambda reference, platform, client: self.jobs.prefetch(reference, platform, client, 0)[
                "id"
            ],
            taken=self.fleet.taken,
            max_followers=max_followers,
        )
        settings = RegistrySettings(default=HOST, upstreams={HOST: UpstreamSettings(alias="up")})
        reactor: Any = InlineReactor()
        rights = Rights(
            settings,
            registries,
            FakeKeychain(lambda: None),
            self.store.catalog,
            threads=Threads(reactor, InlinePool(), "closed"),
            clock=clock,
            wall_clock=wall_clock,
        )
        rights.start()
        self.v2 = Registry(
            store=self.store,
            mirror=self.jobs.mirror,
            rights=rights,
            registries=registries,
            manifests=LocalManifests(self.store, wall_clock),
            settings=settings,
            clock=clock,
            peers=self.door,
            connections=lambda: 1000,
        )
        network.listen(self.address, PORT, self.v2.site(Trust.NONE))
        self.coordination.start()
        self.fleet.start()

    def pull(self, name: str = "app") -> str:
        """
        Begin to pull an image.
        """
        return self.jobs.pull(f"{HOST}/{name}", None, "ci", 0)["id"]

    def bytes_done(self) -> int:
        """
        The bytes that the running download has.
        """
        return sum(t["bytes_done"] for t in self.jobs.transfers() if t["kind"] == "download")

    def stop(self) -> None:
        """
        Stop the jobs and leave the cluster.
        """
        _ = Deferred.fromCoroutine(self.jobs.stop(1.0))
        _ = self.fleet.stop()
        _ = self.coordination.stop()
        _ = self.client.close()

    def has(self, digest: Digest) -> bool:
        """
        Whether a blob is here.
        """
        return self.store.blobs.has(digest)

    def sources(self, job_id: str) -> list[tuple[str, str | None]]:
        """
        The source and the code of each attempt of a job's layers.
        """
        found: list[AttemptJSON] = []
        _ = self.jobs.attempts(job_id).addCallback(lambda attempts: found.extend(attempts))
        self.clock.advance(0)
        return [(each["source"], each["code"]) for each in found if each["kind"] == "download"]


class FleetCase(SynchronousTestCase):
    """
    A cluster, a network, and an upstream with one image of one large layer.
    """

    size = SIZE

    def setUp(self) -> None:
        """
        Make the upstream.
        """
        self.clock = QuickClock()
        self.cluster = MemoryCluster(self.clock)
        self.network = MemoryNetwork(self.clock)
        self.registries = FakeRegistries(self.clock)
        self.registry: FakeRegistry = self.registries.registry(HOST)
        self.image: SampleImage = sample_image(1, size=self.size)
        self.registry.add(self.image, "app")
        self.blob = self.image.layers[0].blob
        self.digest = self.blob.digest
        self.data = self.blob.read()
        self.nodes: list[Node] = []

    def node(self, **settings: Any) -> Node:
        """
        Start one more node.
        """
        node = Node(
            len(self.nodes) + 1, self.cluster, self.network, self.registries, self.mktemp(), **settings
        )
        self.nodes.append(node)
        starting = Deferred.fromCoroutine(node.jobs.start())
        self.settle()
        self.successResultOf(starting)
        return node

    def tearDown(self) -> None:
        """
        Stop all nodes: nothing is left to happen.
        """
        for node in self.nodes:
            self.network.thaw(node.address)
            node.stop()
        self.wait(5)

    def settle(self) -> None:
        """
        Let everything happen that needs no time.
        """
        # Calls that are due make further ones due, which the clock makes, too.
        self.clock.advance(0)

    def wait(self, seconds: float, step: float = 0.25) -> None:
        """
        Let time pass.
        """
        for _ in range(int(seconds / step)):
            self.clock.advance(step)

    def now(self, call: Deferred[T]) -> Deferred[T]:
        """
        Let a call of the coordination end.
        """
        self.settle()
        return call

    def state(self, node: Node, job_id: str) -> str:
        """
        The state of a job.
        """
        return node.jobs.get(job_id)["state"]

    def half(self) -> tuple[Node, str, Node, str]:
        """
        Two nodes: the first has half of the blob from upstream, which sends no more, and
        the second follows it.
        """
        one, two = self.node(), self.node()
        self.registry.stall(self.digest)
        first = one.pull()
        self.wait(1)
        self.registry.feed(self.digest, len(self.data) // 2)
        self.wait(1)
        second = two.pull()
        self.wait(1)
        self.assertEqual(two.bytes_done(), len(self.data) // 2)
        self.assertEqual(self.requests(), [0])
        return one, first, two, second

    def requests(self) -> list[int]:
        """
        The offset of each request for the blob at upstream.
        """
        return [r.offset for r in self.registry.requests if r.kind == "blob" and r.wanted == str(self.digest)]

    def check(self, node: Node, job_id: str) -> None:
        """
        A pull is done, and has the right bytes.
        """
        self.assertEqual(self.state(node, job_id), "done", node.jobs.get(job_id))
        with open(node.store.blobs.path(self.digest), "rb") as file:
            self.assertTrue(file.read() == self.data)
