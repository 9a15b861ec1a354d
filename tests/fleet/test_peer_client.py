"""
Tests for L{xferd.fleet.peer_client} and L{xferd.fleet.peer_body}, with peers in memory.
"""

from __future__ import annotations

from itertools import pairwise

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.fleet.case import PORT, FleetCase, Node
from tests.turns import turn
from xferd.errors import BlobUnknown, ConnectionFailed, RegistryError, SourceError, TimedOut
from xferd.fleet.peer_body import PeerBody
from xferd.fleet.peer_client import HOPS, PeerBusy, choose_origin
from xferd.fleet.peer_messages import host_of, peer_of
from xferd.fleet.peer_requests import NotAPeer
from xferd.fleet.proofs import NONCE_SECONDS, Proof
from xferd.interfaces.fleet import Peer
from xferd.interfaces.peers import IHeldBlob, IPeerBody, PeerAnswer, PeerRequest
from xferd.names import Digest
from xferd.realms import PUBLIC


class ClientCase(FleetCase):
    """
    Two nodes, of which the first has the blob, and the second asks.
    """

    size = 1_500_000

    def setUp(self) -> None:
        """
        Start them.
        """
        super().setUp()
        self.one, self.two = self.node(), self.node()
        self.one.pull()
        self.wait(3)
        self.moved: list[int] = []

    def begin(
        self,
        offset: int = 0,
        end: int | None = None,
        *,
        peer: Peer | None = None,
        digest: Digest | None = None,
        node: Node | None = None,
    ) -> Deferred[PeerBody]:
        """
        Ask a peer; by default the first node.
        """
        return (node or self.two).client.open(
            peer or self.one.peer,
            digest or self.digest,
            offset,
            end,
            origin=PUBLIC,
            avoided=(),
            moved=self.moved.append,
        )

    def open(self, offset: int = 0, end: int | None = None) -> PeerBody:
        """
        Ask the first node, and get its answer.
        """
        opening = self.begin(offset, end)
        self.settle()
        return self.successResultOf(opening)

    def read(self, body: PeerBody) -> bytes:
        """
        Read a body to its end.
        """
        found = bytearray()
        reading = body.deliver(found.extend)
        self.wait(1)
        self.successResultOf(reading)
        return bytes(found)

    def refuse(self, opening: Deferred[PeerBody], kind: type[SourceError], why: str = "") -> SourceError:
        """
        Check that there is no body, and whose fault it is.
        """
        self.settle()
        error = self.failureResultOf(opening, kind).value
        assert isinstance(error, SourceError)
        self.assertIn(why, str(error))
        return error


class OpenTests(ClientCase):
    """
    Tests for L{PeerClient.open<xferd.fleet.peer_client.PeerClient.open>}.
    """

    def setUp(self) -> None:
        """
        Note the answers of the first node.
        """
        super().setUp()
        self.statuses: list[int] = []
        decide = self.one.door.answer

        def note(request: PeerRequest) -> PeerAnswer:
            answer = decide(request)
            self.statuses.append(answer.status)
            return answer

        self.one.door.answer = note  # type: ignore[method-assign]

    def test_whole(self) -> None:
        """
        The whole blob, and a part of it.
        """
        body = self.open()
        self.assertTrue(verifyObject(IPeerBody, body))
        self.assertEqual((body.start, body.total, body.name, body.depth), (0, len(self.data), "n1", 1))
        self.assertTrue(self.read(body) == self.data)
        self.assertEqual(sum(self.moved), len(self.data))
        body = self.open(1000, 3000)
        self.assertEqual((body.start, body.total), (1000, len(self.data)))
        self.assertEqual(self.read(body), self.data[1000:3000])

    def test_one_challenge(self) -> None:
        """
        Only the first request is answered by a challenge, and one connection serves all.
        """
        for offset in range(0, 5000, 1000):
            self.read(self.open(offset, offset + 100))
        self.assertEqual(self.statuses, [401, 206, 206, 206, 206, 206])
        self.assertEqual(len(self.network.tried), 1)

    def test_old_nonce(self) -> None:
        """
        A nonce that became too old, or is of an earlier life of the peer, costs one more
        challenge.
        """
        self.read(self.open(0, 100))
        self.wait(NONCE_SECONDS, step=5.0)
        self.read(self.open(0, 100))
        self.assertEqual(self.statuses, [401, 206, 401, 206])
        self.one.door._prover._nonces._key = b"another key"
        self.read(self.open(0, 100))
        self.assertEqual(self.statuses[4:], [401, 206])

    def test_absent(self) -> None:
        """
        A blob that the peer does not have is unknown.
        """
        error = self.refuse(self.begin(digest=Digest.of(b"unknown")), BlobUnknown)
        self.assertEqual(error.host, "peer n1")

    def test_gone(self) -> None:
        """
        A peer that is gone is unreachable.
        """
        self.network.kill(self.one.address)
        opening = self.begin()
        self.wait(1)
        self.refuse(opening, ConnectionFailed)

    def test_silent(self) -> None:
        """
        A peer that does not answer is given up after some seconds.
        """
        self.network.freeze(self.one.address)
        opening = self.begin()
        self.wait(12)
        self.failureResultOf(opening, TimedOut, ConnectionFailed)

    def test_cancelled(self) -> None:
        """
        A request can be cancelled, early and late.
        """
        for turns in (0, 1, 3, 60):
            self.network.freeze(self.one.address)
            opening = self.begin()
            for _ in range(turns):
                turn(self.clock)
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            self.network.thaw(self.one.address)
            self.settle()
        body = self.open()
        reading = body.deliver(lambda _: self.network.freeze(self.one.address))
        self.settle()
        self.network.thaw(self.one.address)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.settle()
        self.assertEqual(self.one.door.followers.counts(), {})

    def test_abandoned(self) -> None:
        """
        An answer that is not wanted is dropped.
        """
        self.open().abandon()
        self.settle()
        self.assertEqual(self.one.door.followers.counts(), {})

    def test_stops(self) -> None:
        """
        A peer that stops in the middle of a blob is left after 5 s.
        """
        body = self.open()
        reading = body.deliver(lambda _: self.network.freeze(self.one.address))
        self.wait(4.5)
        self.assertNoResult(reading)
        self.wait(1)
        self.failureResultOf(reading, TimedOut)
        self.assertLess(sum(self.moved), len(self.data))

    def test_no_peer(self) -> None:
        """
        A server that is no node gets no proof.
        """
        self.one.v2._peers = None
        self.refuse(self.begin(), NotAPeer, "not a node of this fleet: it answers 404")
        self.assertEqual(self.statuses, [])

    def test_other_range(self) -> None:
        """
        An answer with another range than the requested one is refused.
        """
        decide = self.one.door._send

        def send(request: PeerRequest, proof: Proof, nonce: tuple[str, str], blob: IHeldBlob) -> PeerAnswer:
            return decide(evolve(request, start=0), proof, nonce, blob)

        self.one.door._send = send  # type: ignore[method-assign]
        self.refuse(self.begin(1000), RegistryError, "another range")


class RedirectTests(ClientCase):
    """
    Peers that send others on.
    """

    def lead(self, node: Node, target: Peer) -> None:
        """
        Have a node be full, with one follower.
        """
        node.door.followers.most = 1
        node.door.sending(self.digest, target, len(self.data))

    def chain(self, length: int) -> list[Node]:
        """
        Nodes that have the blob, each of which sends on to the next.
        """
        nodes = [self.one, *(self.node() for _ in range(length))]
        for node in nodes[1:]:
            node.pull()
            self.wait(2)
        for node, following in pairwise(nodes):
            self.lead(node, following.peer)
        return nodes

    def test_followed(self) -> None:
        """
        The one that is named sends the blob.
        """
        self.chain(HOPS)
        body = self.open()
        self.assertEqual(body.name, f"n{HOPS + 2}")
        self.assertTrue(self.read(body) == self.data)

    def test_too_many(self) -> None:
        """
        No more than four are followed.
        """
        self.chain(HOPS + 1)
        self.refuse(self.begin(), PeerBusy)

    def test_loop(self) -> None:
        """
        A circle ends.
        """
        nodes = self.chain(1)
        self.lead(nodes[1], self.one.peer)
        error = self.refuse(self.begin(), PeerBusy, "n1, n3 are all busy")
        self.assertEqual(error.host, "peer n1")

    def test_slow(self) -> None:
        """
        The time limit is for all peers on the way together; the last one is to blame.
        """
        three = self.chain(1)[1]
        self.read(self.open(0, 100))
        self.network.freeze(self.one.address)
        opening = self.begin()
        self.wait(4)
        self.network.freeze(three.address)
        self.network.thaw(self.one.address)
        self.wait(0.75)
        self.assertNoResult(opening)
        self.wait(0.5)
        error = self.failureResultOf(opening, TimedOut).value
        self.assertEqual(error.host, "peer n3")
        self.network.thaw(three.address)
        self.settle()
        self.assertEqual(three.door.followers.counts(), {})

    def test_outside(self) -> None:
        """
        One outside of the peers' networks gets no request.
        """
        before = len(self.network.tried)
        self.lead(self.one, Peer("evil", f"http://192.0.2.1:{PORT}"))
        error = self.refuse(self.begin(), NotAPeer, "not in peer_networks")
        self.assertEqual(error.host, "peer evil")
        self.assertEqual({host for host, _ in self.network.tried[before:]}, {self.one.address})

    def test_unproved(self) -> None:
        """
        A redirect that a stranger made is not followed.
        """
        nodes = self.chain(1)
        self.one.door._prover.prove_answer = lambda *_: "0" * 64  # type: ignore[method-assign]
        before = len(self.network.tried)
        self.refuse(self.begin(), NotAPeer, "the redirect of n1 does not come from a node")
        self.assertNotIn(nodes[1].address, [host for host, _ in self.network.tried[before:]])

    def test_busy(self) -> None:
        """
        A peer without a follower that can help is busy.
        """
        self.one.door.followers.most = 0
        self.refuse(self.begin(), PeerBusy, "too many peers")


class URLTests(ClientCase):
    """
    Tests for L{PeerClient.usable<xferd.fleet.peer_client.PeerClient.usable>}.
    """

    def test_usable(self) -> None:
        """
        Addresses in the networks are usable, and names until they are resolved.
        """
        for url in (
            "http://10.0.0.3:5000",
            "https://10.0.0.3",
            "http://10.0.0.3:5000/",
            "http://n3.example:5000",
        ):
            self.assertEqual(self.two.client.usable(Peer("n3", url)), "")

    def test_refused(self) -> None:
        """
        All others are not, and no error has a password of theirs.
        """
        for url in (
            "http://10.0.1.3:5000",
            "http://127.0.0.1:5000",
            "http://[::1]:5000",
            "http://localhost.localdomain@192.0.2.1/",
            "http://user:secret@10.0.0.3:5000",
            "http://10.0.0.3:5000/path",
            "http://10.0.0.3:5000?query",
            "http://10.0.0.3:5000#x",
            "http://167772163:5000",
            "ftp://10.0.0.3",
            "10.0.0.3:5000",
            "http://",
            "",
        ):
            why = self.two.client.usable(Peer("n3", url))
            self.assertTrue(why.startswith("the URL of n3 is refused"), url)
            self.assertNotIn("secret", why)

    def test_name_resolved(self) -> None:
        """
        A name that leads out of the networks gets no connection.
        """
        self.two.reactor.names["evil.example"] = "192.0.2.1"
        before = len(self.network.tried)
        self.refuse(self.begin(peer=Peer("evil", "http://evil.example:5000")), ConnectionFailed)
        self.assertEqual(self.network.tried[before:], [])
        three = self.node(url=f"http://good.example:{PORT}")
        three.pull()
        self.wait(3)
        self.two.reactor.names["good.example"] = three.address
        opening = self.begin(peer=three.peer)
        self.settle()
        self.assertTrue(self.read(self.successResultOf(opening)) == self.data)

    def test_relayed(self) -> None:
        """
        Where a wrong record leads to a server that passes requests on to the node that it
        names, this node sends nothing.
        """
        self.two.reactor.names["relay.example"] = self.one.address
        opening = self.begin(peer=Peer("n1", f"http://relay.example:{PORT}"))
        self.refuse(opening, NotAPeer, "secret_file must be the same on both")
        self.assertEqual(self.one.door.sent, 0)


class OriginTests(SynchronousTestCase):
    """
    Tests for L{choose_origin}, L{host_of} and L{peer_of}.
    """

    def test_choice(self) -> None:
        """
        The origin that helps the client is chosen, then any.
        """
        cases: list[tuple[list[str], str]] = [
            (["b", PUBLIC, "a"], PUBLIC),
            (["b", "own", "a"], "own"),
            (["b", "a"], "a"),
            ([], ""),
        ]
        for origins, chosen in cases:
            self.assertEqual(choose_origin(origins, "own"), chosen)

    def test_hosts(self) -> None:
        """
        A peer is no host of a registry.
        """
        self.assertEqual(peer_of(host_of("n1")), "n1")
        self.assertEqual(peer_of("registry.example"), "")
