"""
Tests for L{xferd.v2.peers}.
"""

from __future__ import annotations

from twisted.logger import capturedLogs

from tests.fleet.case import SECRET, FleetCase, Node
from tests.v2.case import HERE, PEER, RegistryCase
from tests.web.connection import Answer, Connection
from xferd.fleet.peer_messages import path_of
from xferd.fleet.proofs import Prover, Secrets, challenged
from xferd.interfaces.fleet import Peer
from xferd.names import Digest
from xferd.web.peer_trust import Trust


class NoFleetTests(RegistryCase):
    """
    A node that is in no fleet.
    """

    def test_unknown(self) -> None:
        """
        Nothing is there for peers.
        """
        answer = self.request(path_of(Digest.of(b"a blob")))
        self.assertEqual(answer.status, 404)


class RouteTests(FleetCase):
    """
    The route of one node, by hand.
    """

    def setUp(self) -> None:
        """
        Pull the image.
        """
        super().setUp()
        self.one = self.node()
        self.one.pull()
        self.wait(3)
        self.asking = Prover(Secrets(SECRET), Peer("n9", "http://10.0.0.9:5000"), self.clock.seconds)

    def request(self, node: Node, method: str = "GET", *, proved: bool = True, **fields: str) -> Answer:
        """
        Make a request.
        """
        path = path_of(self.digest)
        connection = Connection(node.v2.site(Trust.NONE), PEER, HERE)
        self.addCleanup(connection.lose)
        headers = {"Host": "n1", **{name.replace("_", "-"): value for name, value in fields.items()}}
        if proved:
            connection.send("GET", path, {"Host": "n1"})
            self.settle()
            nonce = challenged(connection.answer().headers["www-authenticate"])
            assert nonce is not None
            headers["Authorization"] = str(self.asking.prove(method, path, node.peer, nonce))
        connection.send(method, path, headers)
        self.wait(1)
        return connection.answer()

    def test_whole(self) -> None:
        """
        The whole blob is sent.
        """
        answer = self.request(self.one)
        self.assertEqual((answer.status, len(answer.body)), (200, len(self.data)))
        self.assertTrue(answer.body == self.data)
        self.assertEqual(self.one.door.followers.counts(), {})
        self.assertEqual(self.one.door.sent, len(self.data))

    def test_part(self) -> None:
        """
        A part of it is sent.
        """
        answer = self.request(self.one, Range="bytes=100-199")
        self.assertEqual((answer.status, answer.body), (206, self.data[100:200]))
        self.assertEqual(answer.headers["content-range"], f"bytes 100-199/{len(self.data)}")

    def test_head(self) -> None:
        """
        HEAD has no body.
        """
        answer = self.request(self.one, "HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len(self.data)))

    def test_growing(self) -> None:
        """
        Bytes that are not verified yet are sent in frames.
        """
        two = self.node()
        for node in self.nodes[:1]:
            self.network.kill(node.address)
            node.coordination.freeze()
        self.wait(16)
        self.registry.stall(self.digest)
        two.pull()
        self.wait(1)
        self.registry.feed(self.digest, 1000)
        answer = self.request(two, Range="bytes=900-")
        self.assertEqual(answer.status, 206)
        self.assertNotIn("content-length", answer.headers)
        self.assertIn((100).to_bytes(4) + self.data[900:1000], answer.body)

    def test_taken(self) -> None:
        """
        A node learns that a peer has taken its claim over, with a proof only.
        """
        taken: list[tuple[Digest, int]] = []
        self.one.door._taken = lambda *facts: taken.append(facts)
        path = f"{path_of(self.digest)}?offset=77"
        connection = Connection(self.one.v2.site(Trust.NONE), PEER, HERE)
        self.addCleanup(connection.lose)
        connection.send("POST", path, {"Host": "n1", "Content-Length": "0"})
        self.settle()
        answer = connection.answer()
        self.assertEqual((answer.status, taken), (401, []))
        nonce = challenged(answer.headers["www-authenticate"])
        assert nonce is not None
        proof = str(self.asking.prove("POST", path, self.one.peer, nonce))
        connection.send("POST", path, {"Host": "n1", "Content-Length": "0", "Authorization": proof})
        self.settle()
        self.assertEqual(connection.answer().status, 202)
        self.assertEqual(taken, [(self.digest, 77)])

    def test_audit(self) -> None:
        """
        A prefetch for a peer has a line in the audit trail with the peer's name; blobs that it
        fetches have none.
        """
        path = "/v2/_xferd/prefetch?reference=registry.example/app"
        with capturedLogs() as events:
            self.assertEqual(self.request(self.one).status, 200)
            connection = Connection(self.one.v2.site(Trust.NONE), PEER, HERE)
            self.addCleanup(connection.lose)
            connection.send("POST", path, {"Host": "n1", "Content-Length": "0"})
            self.settle()
            nonce = challenged(connection.answer().headers["www-authenticate"])
            assert nonce is not None
            proof = str(self.asking.prove("POST", path, self.one.peer, nonce))
            connection.send("POST", path, {"Host": "n1", "Content-Length": "0", "Authorization": proof})
            self.settle()
            answer = connection.answer()
        self.assertEqual(answer.status, 202)
        (line,) = [each for each in events if each.get("event") == "audit"]
        names = ("action", "door", "node", "status", "job", "account")
        self.assertEqual(
            [line[name] for name in names],
            ["peer_prefetch", "fleet", "n9", 202, answer.json()["job"], ""],
        )

    def test_fetching(self) -> None:
        """
        A node learns that a peer fetches a blob, and sends others to it.
        """
        two = self.node()
        connection = Connection(two.v2.site(Trust.NONE), PEER, HERE)
        self.addCleanup(connection.lose)
        path = path_of(self.digest)
        connection.send("POST", path, {"Host": "n2", "Content-Length": "0"})
        self.settle()
        answer = connection.answer()
        nonce = challenged(answer.headers["www-authenticate"])
        assert nonce is not None
        self.assertEqual((answer.status, two.fleet.guide.known(self.digest, "n1")), (401, None))
        proof = str(self.asking.prove("POST", path, two.peer, nonce))
        connection.send("POST", path, {"Host": "n2", "Content-Length": "0", "Authorization": proof})
        self.settle()
        self.assertEqual(connection.answer().status, 202)
        self.assertEqual(getattr(two.fleet.guide.known(self.digest, "n1"), "name", None), "n9")

    def test_refused(self) -> None:
        """
        Without a proof, nothing is sent.
        """
        answer = self.request(self.one, proved=False)
        self.assertEqual(answer.status, 401)
        self.assertNotIn(self.data[:20], answer.body)
        self.assertEqual(self.one.door.sent, 0)

    def test_not_here(self) -> None:
        """
        What is not here is 404, and is not fetched.
        """
        two = self.node()
        self.assertEqual(self.request(two).status, 404)
        self.assertEqual(self.requests(), [0])

    def test_head_at_once(self) -> None:
        """
        The head of the answer is sent before there are bytes; a peer that leaves is no
        follower any more.
        """
        two = self.node()
        self.network.kill(self.one.address)
        self.one.coordination.freeze()
        self.wait(16)
        self.registry.stall(self.digest)
        two.pull()
        self.wait(1)
        path = path_of(self.digest)
        connection = Connection(two.v2.site(Trust.NONE), PEER, HERE)
        connection.send("GET", path, {"Host": "n2"})
        self.settle()
        nonce = challenged(connection.answer().headers["www-authenticate"])
        assert nonce is not None
        proof = str(self.asking.prove("GET", path, two.peer, nonce))
        connection.send("GET", path, {"Host": "n2", "Authorization": proof})
        self.settle()
        self.assertEqual(connection.answer().status, 200)
        self.assertEqual(two.door.followers.counts(), {self.digest: 1})
        connection.lose()
        self.settle()
        self.assertEqual(two.door.followers.counts(), {})
        self.registry.finish(self.digest)
