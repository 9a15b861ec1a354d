"""
Tests for L{xferd.fleet.door}.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from tests.jobs.case import JobsCase
from xferd.fleet.door import BEHIND, LEAST_WINDOW, WARN_SECONDS, PeerDoor
from xferd.fleet.guide import Guide
from xferd.fleet.memory import MemoryCluster
from xferd.fleet.peer_messages import WHOLE, answer_facts, path_of, redirect_facts
from xferd.fleet.proofs import Proof, Prover, Secrets, challenged
from xferd.interfaces.fleet import Peer
from xferd.interfaces.peers import IPeerDoor, IPeerSending, PeerAnswer, PeerRequest
from xferd.names import Digest
from xferd.testing.certificates import Authority
from xferd.testing.images import sample_image

SECRET = b"0123456789abcdef"
TWO = Peer("n2", "http://10.0.0.2:5000")


class DoorCase(JobsCase):
    """
    The door of node n2, whose store has a blob, and node n1.
    """

    max_followers = 2
    upload_rate = 0

    def setUp(self) -> None:
        """
        Pull the image.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=300_000))
        self.digest = self.image.layers[0].blob.digest
        self.size = len(self.image.layers[0].blob.read())
        cluster = MemoryCluster(self.clock)
        self.coordination = cluster.join("n2", "http://10.0.0.2:5000")
        self.coordination.start()
        self.addCleanup(self.coordination.stop)
        self.third = cluster.join("n3", "http://10.0.0.3:5000")
        self.third.start()
        self.addCleanup(self.third.stop)
        self.settle()
        self.asking = Prover(Secrets(SECRET), Peer("n1", "http://10.0.0.1:5000"), Clock().seconds)
        self.guide = Guide(self.coordination, "n2", self.clock)
        self.taken: list[tuple[Digest, int]] = []
        self.depths: dict[Digest, int] = {}
        self.door = self.make_door()

    def make_door(self, *, certified: bool = False) -> PeerDoor:
        """
        Make a door.

        @param certified: whether peers need certificates.
        """
        return PeerDoor(
            Prover(Secrets(SECRET), TWO, self.clock.seconds),
            self.jobs.held,
            self.coordination,
            self.depths,
            self.guide,
            prefetch=lambda *_: "",
            taken=lambda *taken: self.taken.append(taken),
            clock=self.clock,
            max_followers=self.max_followers,
            upload_rate=self.upload_rate,
            certified=certified,
        )

    def ask(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        digest: Digest | None = None,
        partial: bool = True,
        avoided: tuple[str, ...] = (),
    ) -> tuple[PeerAnswer, Proof]:
        """
        Make a request with a proof.
        """
        digest = digest or self.digest
        path = path_of(digest)
        challenge = self.door.answer(PeerRequest("GET", path, "", digest))
        nonce = challenged(dict(challenge.headers)["WWW-Authenticate"])
        assert nonce is not None
        proof = self.asking.prove("GET", path, TWO, nonce)
        answer = self.door.answer(PeerRequest("GET", path, str(proof), digest, start, stop, partial, avoided))
        if answer.blob is not None:
            self.addCleanup(answer.blob.close)
        return answer, proof


class DoorTests(DoorCase):
    """
    Tests for L{PeerDoor}.
    """

    def test_interface(self) -> None:
        """
        It is an L{IPeerDoor}.
        """
        self.assertTrue(verifyObject(IPeerDoor, self.door))

    def test_without_proof(self) -> None:
        """
        Without a proof there is a challenge, and no word of what is here.
        """
        self.pulled()
        for digest in (self.digest, Digest.of(b"unknown")):
            for proof in ("", "Basic YTpi", "Xferd-Peer"):
                answer = self.door.answer(PeerRequest("GET", path_of(digest), proof, digest))
                self.assertEqual((answer.status, answer.blob), (401, None))
                self.assertEqual(len(answer.headers), 1)

    def test_certified(self) -> None:
        """
        Where peers need certificates, a proof counts only with one for the host of the
        peer's URL.
        """
        self.pulled()
        self.door = self.make_door(certified=True)
        authority, path = Authority(), path_of(self.digest)
        for hosts, status in (((), 401), (("10.0.0.2", "n1"), 401), (("10.0.0.1",), 200)):
            pem = authority.issue(*hosts)[0] if hosts else None
            der = None if pem is None else load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)
            challenge = dict(self.door.answer(PeerRequest("GET", path, "", self.digest)).headers)
            nonce = challenged(challenge["WWW-Authenticate"])
            assert nonce is not None
            proof = str(self.asking.prove("GET", path, TWO, nonce))
            answer = self.door.answer(PeerRequest("GET", path, proof, self.digest, certificate=der))
            self.assertEqual(answer.status, status)
            if answer.blob is not None:
                answer.blob.close()
            self.assertEqual(self.door.admit("GET", path, proof, der).status, 401)

    def guided(self, digest: Digest, avoided: tuple[str, ...] = (), *, proved: bool = True) -> PeerAnswer:
        """
        Ask as a node that the coordination does not answer.
        """
        path = path_of(digest)
        nonce = challenged(
            dict(self.door.answer(PeerRequest("GET", path, "", digest)).headers)["WWW-Authenticate"]
        )
        assert nonce is not None
        proof = str(self.asking.prove("GET", path, TWO, nonce)) if proved else ""
        asking = self.door.guide(PeerRequest("GET", path, proof, digest, avoided=avoided, size=self.size))
        self.settle()
        return self.successResultOf(asking)

    def test_guide(self) -> None:
        """
        A node that the coordination does not answer gets what is here, is sent on to a
        node that has the blob, or is to fetch it.
        """
        self.pulled()
        answer = self.guided(self.digest, ("n2",))
        self.assertEqual(answer.status, 200)
        assert answer.blob is not None
        answer.blob.close()
        elsewhere, nowhere = Digest.of(b"elsewhere"), Digest.of(b"nowhere")
        self.third.announce([elsewhere])
        self.settle()
        answer = self.guided(elsewhere)
        self.assertEqual((answer.status, dict(answer.headers)["Xferd-Node"]), (307, "n3"))
        self.assertEqual(self.guided(nowhere).status, 404)
        self.assertEqual(self.guided(nowhere, proved=False).status, 401)
        self.guide.stop()

    def test_warned(self) -> None:
        """
        Whoever sends wrong proofs does not fill the log: it has each reason once a minute.
        """
        stranger = Prover(
            Secrets(b"another secret.."), Peer("n1", "http://10.0.0.1:5000"), self.clock.seconds
        )
        path = path_of(self.digest)
        wrong = str(stranger.prove("GET", path, TWO, "n" * 32))
        with capturedLogs() as events:
            for proof in ("Basic YTpi", wrong) * 50:
                self.assertEqual(self.door.answer(PeerRequest("GET", path, proof, self.digest)).status, 401)
            self.assertEqual(len(events), 2)
            self.clock.advance(WARN_SECONDS)
            self.door.answer(PeerRequest("GET", path, wrong, self.digest))
            self.assertEqual(len(events), 3)

    def test_stored(self) -> None:
        """
        A blob of the store is sent, with its origin and a nonce for the next request.
        """
        self.pulled()
        answer, proof = self.ask(1000)
        headers = dict(answer.headers)
        self.assertEqual((answer.status, answer.start, answer.stop), (206, 1000, self.size))
        self.assertEqual(headers["Content-Range"], f"bytes 1000-{self.size - 1}/{self.size}")
        (origin,) = self.store.catalog.origins(self.digest)
        self.assertEqual((headers["Xferd-Origin"], headers["Xferd-Depth"]), (origin, WHOLE))
        facts = answer_facts(self.digest, 206, [headers["Content-Range"]], WHOLE, [origin])
        self.assertTrue(self.asking.check_answer(proof, "n2", facts, headers["Xferd-Proof"]))
        again = self.asking.prove("GET", path_of(self.digest), TWO, headers["Xferd-Nonce"])
        answer = self.door.answer(PeerRequest("GET", path_of(self.digest), str(again), self.digest))
        self.assertEqual((answer.status, answer.start, answer.stop), (200, 0, self.size))
        assert answer.blob is not None
        answer.blob.close()

    def test_range(self) -> None:
        """
        A part is sent; what lies behind the end is refused.
        """
        self.pulled()
        answer, _ = self.ask(10, 20)
        self.assertEqual((answer.start, answer.stop), (10, 20))
        self.assertEqual(self.ask(self.size - 5, self.size + 5)[0].stop, self.size)
        self.assertEqual(self.ask(self.size)[0].status, 416)

    def test_absent(self) -> None:
        """
        A blob that is not here is not fetched, and no longer announced.
        """
        self.coordination.announce([self.digest])
        self.settle()
        self.assertEqual(self.ask()[0].status, 404)
        self.settle()
        self.assertEqual(self.gets(self.digest), 0)
        looking = self.third.look([self.digest])
        self.settle()
        self.assertEqual(self.successResultOf(looking)[self.digest].holders, ())

    def test_growing(self) -> None:
        """
        A blob that arrives is sent, with the number of peers that its bytes pass.
        """
        self.registry.stall(self.digest)
        self.pull()
        self.settle()
        self.depths[self.digest] = 2
        answer, _ = self.ask()
        self.assertEqual((answer.status, dict(answer.headers)["Xferd-Depth"]), (206, "2"))

    def test_behind(self) -> None:
        """
        A peer that has much more than this node has to look elsewhere.
        """
        large = self.add(sample_image(1, size=BEHIND + 500_000, seed=3), "large")
        digest = large.layers[0].blob.digest
        self.registry.stall(digest)
        self.pull("large")
        self.settle()
        self.registry.feed(digest, 100_000)
        self.settle()
        self.assertEqual(self.ask(BEHIND + 100_000, digest=digest)[0].status, 206)
        self.assertEqual(self.ask(BEHIND + 100_001, digest=digest)[0].status, 503)

    def test_full(self) -> None:
        """
        With as many followers as it may have, it sends a peer on to one of them.
        """
        self.pulled()
        sending = self.door.sending(self.digest, Peer("a", "http://10.0.0.8:5000/"), 500)
        self.assertTrue(verifyObject(IPeerSending, sending))
        self.door.sending(self.digest, Peer("b", "http://10.0.0.9:5000"), 100)
        answer, proof = self.ask(200)
        headers = dict(answer.headers)
        location = f"http://10.0.0.8:5000{path_of(self.digest)}"
        self.assertEqual((answer.status, headers["Location"], headers["Xferd-Node"]), (307, location, "a"))
        facts = redirect_facts(self.digest, location, "a")
        self.assertTrue(self.asking.check_answer(proof, "n2", facts, headers["Xferd-Proof"]))
        self.assertEqual(self.ask(600)[0].status, 503)
        self.assertEqual(self.ask(200, avoided=("a",))[0].status, 503)
        sending.end()
        self.assertEqual(self.ask(600)[0].status, 206)


class RateTests(DoorCase):
    """
    With a limit on the bytes for all peers together.
    """

    upload_rate = 1000

    def test_window(self) -> None:
        """
        The bytes that are sent at once are few, where the rate is limited.
        """
        peer = Peer("a", "http://10.0.0.8:5000/")
        self.assertEqual(self.door.sending(self.digest, peer, 0).window, LEAST_WINDOW)
        self.door._bandwidth.rate = 64_000_000
        self.assertEqual(self.door.sending(self.digest, peer, 0).window, 1_000_000)
        self.door._bandwidth.rate = 0
        self.assertGreater(self.door.sending(self.digest, peer, 0).window, 1 << 40)

    def test_paid(self) -> None:
        """
        Bytes are paid for by waiting.
        """
        waiting = self.door.sending(self.digest, Peer("a", "http://10.0.0.8:5000/"), 0).sent(2000)
        assert waiting is not None
        self.clock.advance(1.5)
        self.assertNoResult(waiting)
        self.clock.advance(0.6)
        self.successResultOf(waiting)
        self.assertEqual(self.door.sent, 2000)
