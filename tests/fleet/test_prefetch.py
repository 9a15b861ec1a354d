"""
Tests for L{xferd.fleet.prefetch}, and for the requests that it makes.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import CancelledError, Deferred

from tests.fleet.case import HOST, SECRET, FleetCase, Node
from tests.v2.case import HERE, PEER, RegistryCase
from tests.web.connection import Answer, Connection
from xferd.errors import CoordinationUnavailable, RegistryError, SourceError
from xferd.fleet.peer_messages import PREFETCH
from xferd.fleet.peer_requests import NotAPeer
from xferd.fleet.prefetch import AT_ONCE, Prefetches
from xferd.fleet.proofs import Prover, Secrets, challenged
from xferd.interfaces.fleet import Peer
from xferd.interfaces.fleet_status import PeerPrefetchJSON
from xferd.web.peer_trust import Trust

APP = f"{HOST}/app"


class PrefetchesTests(FleetCase):
    """
    Several nodes.
    """

    def begin(self, nodes: int, reference: str = APP) -> list[PeerPrefetchJSON]:
        """
        Have nodes begin, at the word of the first one.
        """
        one = self.nodes[0]
        prefetches = Prefetches(one.coordination, one.client, one.name, Random(1))
        beginning = Deferred.fromCoroutine(prefetches.begin(reference, None, nodes))
        self.wait(3)
        return self.successResultOf(beginning)

    def jobs_of(self, node: Node) -> list[tuple[str, str, str]]:
        """
        The jobs of a node: kind, state and client.
        """
        return [(job["kind"], job["state"], job["client"]) for job in node.jobs.all()]

    def test_begun(self) -> None:
        """
        Other nodes fetch the image, those with the fewest transfers, and upstream sends the
        blob once.
        """
        _, two, three, four = (self.node() for _ in range(4))
        three.coordination.report_load(5)
        self.wait(61)
        begun = self.begin(2)
        self.assertEqual({each["node"] for each in begun}, {"n2", "n4"})
        for node in (two, four):
            self.assertEqual(self.jobs_of(node), [("prefetch", "done", "peer n1")])
            self.assertTrue(node.has(self.digest))
        self.assertEqual(self.jobs_of(three), [])
        self.assertEqual(self.requests(), [0])

    def test_fewer(self) -> None:
        """
        A node that does not begin is replaced, and there may be fewer than wanted.
        """
        self.node()
        self.node(secret=b"another secret of a node")
        self.node()
        begun = self.begin(2)
        self.assertEqual([each["node"] for each in begun], ["n3"])

    def test_at_once(self) -> None:
        """
        Nodes that do not answer do not delay one another: they are asked at once, and
        others in their place.
        """
        silent = [self.node() for _ in range(12)][1:]
        for node in silent:
            self.network.freeze(node.address)
            node.coordination.report_load(0)
        for node in (self.node(), self.node()):
            node.coordination.report_load(9)
        self.wait(61)
        one = self.nodes[0]
        prefetches = Prefetches(one.coordination, one.client, one.name, Random(1))
        before = len(self.network.tried)
        beginning = Deferred.fromCoroutine(prefetches.begin(APP, None, 10))
        self.wait(0.25)
        self.assertEqual(len(self.network.tried) - before, AT_ONCE)
        self.wait(12)
        self.assertEqual({each["node"] for each in self.successResultOf(beginning)}, {"n13", "n14"})

    def test_unavailable(self) -> None:
        """
        Without coordination there is an error.
        """
        one = self.node()
        self.cluster.lose()
        self.wait(3)
        beginning = Deferred.fromCoroutine(Prefetches(one.coordination, one.client, "n1").begin(APP, None, 1))
        self.failureResultOf(beginning, CoordinationUnavailable)

    def test_cancelled(self) -> None:
        """
        Cancelling ends it while a node does not answer.
        """
        one, two = self.node(), self.node()
        self.network.freeze(two.address)
        beginning = Deferred.fromCoroutine(Prefetches(one.coordination, one.client, "n1").begin(APP, None, 1))
        self.settle()
        beginning.cancel()
        self.settle()
        self.failureResultOf(beginning, CancelledError)


class RequestTests(FleetCase):
    """
    The request of one node, and its answer.
    """

    def refused(self, peer: Peer, reference: str, kind: type[SourceError]) -> str:
        """
        The reason why a node refuses.
        """
        asking = self.nodes[0].client.prefetch(peer, reference, "linux/arm64")
        self.wait(8)
        return str(self.failureResultOf(asking, kind).value)

    def test_refused(self) -> None:
        """
        A malformed reference is refused; a node outside of the networks is not asked.
        """
        self.node()
        two = self.node()
        self.assertIn("n2 answers 400", self.refused(two.peer, "UPPER", RegistryError))
        self.assertIn("is not in peer_networks", self.refused(Peer("n2", "http://192.0.2.1"), APP, NotAPeer))

    def test_by_hand(self) -> None:
        """
        A request needs a proof, which is for this image alone.
        """
        node = self.node()
        prover = Prover(Secrets(SECRET), Peer("n9", "http://10.0.0.9:5000"), self.clock.seconds)
        path = f"{PREFETCH}?reference={HOST}%2Fapp"

        def request(**fields: str) -> Answer:
            connection = Connection(node.v2.site(Trust.NONE), PEER, HERE)
            self.addCleanup(connection.lose)
            connection.send("POST", path, {"Host": "n1", "Content-Length": "0", **fields})
            self.wait(1)
            return connection.answer()

        for wanted, status in ((f"{path}2", 401), (path, 202)):
            first = request()
            self.assertEqual(first.status, 401)
            nonce = challenged(first.headers["www-authenticate"])
            assert nonce is not None
            proof = str(prover.prove("POST", wanted, node.peer, nonce))
            self.assertEqual(request(Authorization=proof).status, status)
            self.assertEqual(request(Authorization=proof).status, 401)
        self.assertEqual(len(node.jobs.all()), 1)


class NoFleetTests(RegistryCase):
    """
    A node that is in no fleet.
    """

    def test_unknown(self) -> None:
        """
        Nothing is there for peers.
        """
        self.assertEqual(self.request(PREFETCH, "POST").status, 404)
