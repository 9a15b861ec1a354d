"""
Tests for L{xferd.fleet.proofs}.
"""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis.strategies import text
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet import proofs
from xferd.fleet.proofs import NONCE_SECONDS, Nonces, Proof, Prover, Secrets, challenge, challenged
from xferd.interfaces.fleet import Peer

SECRET = b"0123456789abcdef"
PATH = "/v2/_xferd/blobs/sha256:aa"
TWO = Peer("n2", "http://10.0.0.2:5000")


class ProverTests(SynchronousTestCase):
    """
    Tests for L{Prover}: node n1 asks node n2.
    """

    def setUp(self) -> None:
        """
        Make two nodes whose clocks differ by a day.
        """
        self.early, self.late = Clock(), Clock()
        self.late.advance(86400.0)
        self.asking = Prover(Secrets(SECRET), Peer("n1", "http://10.0.0.1:5000"), self.early.seconds)
        self.answering = Prover(Secrets(SECRET), TWO, self.late.seconds)

    def proof(self, nonce: str | None = None) -> Proof:
        """
        The proof of a request.
        """
        return self.asking.prove("GET", PATH, TWO, nonce or self.answering.challenge())

    def refused(self, text: str, why: str, method: str = "GET", path: str = PATH) -> None:
        """
        Check that a proof is refused.
        """
        with self.assertRaisesRegex(ValueError, why):
            self.answering.check(method, path, text)

    def test_good(self) -> None:
        """
        A proof is accepted whatever the clocks say, and names its sender.
        """
        proof = self.answering.check("GET", PATH, str(self.proof()))
        self.assertEqual(proof.sender, Peer("n1", "http://10.0.0.1:5000"))

    def test_many(self) -> None:
        """
        A proof is accepted once also where so many follow that its nonce is forgotten.  Of
        the nonces that were issued before that, none is accepted any more.
        """
        self.patch(proofs, "MOST_USED", 10)
        first, early = self.proof(), self.proof()
        self.answering.check("GET", PATH, str(first))
        for _ in range(12):
            self.late.advance(0.01)
            self.answering.check("GET", PATH, str(self.proof()))
        for each in (first, early):
            self.refused(str(each), "its nonce was used before, or is too old")
        self.answering.check("GET", PATH, str(self.proof()))

    def test_replaced(self) -> None:
        """
        While a secret is replaced, nodes of two following steps accept one another's
        requests and answers.
        """
        new = b"fedcba9876543210"
        steps = ([SECRET], [SECRET, new], [new, SECRET], [new])
        ours, theirs = Secrets(SECRET), Secrets(SECRET)
        self.asking = Prover(ours, Peer("n1", "http://10.0.0.1:5000"), self.early.seconds)
        self.answering = Prover(theirs, TWO, self.late.seconds)
        for n in range(len(steps) * 2 - 1):
            for asking, answering in ((n // 2, (n + 1) // 2), ((n + 1) // 2, n // 2)):
                ours.replace(steps[asking])
                theirs.replace(steps[answering])
                proof = self.proof()
                self.answering.check("GET", PATH, str(proof))
                tag = self.answering.prove_answer(proof, ["fact"])
                self.assertTrue(self.asking.check_answer(proof, "n2", ["fact"], tag))
        ours.replace(steps[0])
        self.refused(str(self.proof()), "secrets of the two nodes differ")

    def test_once(self) -> None:
        """
        It is accepted once.
        """
        text = str(self.proof())
        self.answering.check("GET", PATH, text)
        self.refused(text, "used before")

    def test_late(self) -> None:
        """
        It is accepted for a minute.
        """
        text = str(self.proof())
        self.late.advance(NONCE_SECONDS)
        self.refused(text, "too old")

    def test_other_request(self) -> None:
        """
        It is for one method, path, node, and sender.
        """
        text = str(self.proof())
        self.refused(text, "another request", method="HEAD")
        self.refused(text, "another request", path=PATH + "b")
        other = Prover(Secrets(SECRET), Peer("n3", "http://10.0.0.3:5000"), self.late.seconds)
        with self.assertRaises(ValueError):
            other.check("GET", PATH, text)
        self.refused(text.replace("10.0.0.1", "10.0.0.9"), "another request")
        # None of these has used the nonce.
        self.answering.check("GET", PATH, text)

    def test_relayed(self) -> None:
        """
        It is for one URL: a server in between, to which a wrong record led the asking node,
        cannot use it at the node itself.
        """
        nonce = self.answering.challenge()
        relay = Peer("n2", "http://10.0.0.66:5000")
        self.refused(str(self.asking.prove("GET", PATH, relay, nonce)), "another request")
        slash = Peer("n2", TWO.url + "/")
        self.answering.check("GET", PATH, str(self.asking.prove("GET", PATH, slash, nonce)))

    def test_other_secret(self) -> None:
        """
        A node with another secret proves nothing, and uses no nonce.
        """
        stranger = Prover(
            Secrets(b"another secret.."), Peer("n1", "http://10.0.0.1:5000"), self.early.seconds
        )
        nonce = self.answering.challenge()
        self.refused(str(stranger.prove("GET", PATH, TWO, nonce)), "secrets of the two nodes differ")
        self.answering.check("GET", PATH, str(self.proof(nonce)))

    def test_own_nonce(self) -> None:
        """
        A nonce of another node, or an invented one, is refused.
        """
        self.refused(str(self.proof(self.asking.challenge())), "used before")
        self.refused(str(self.proof("A" * 64)), "used before")

    def test_malformed(self) -> None:
        """
        Other headers are refused.
        """
        good = str(self.proof())
        for bad in (
            "",
            "Basic YTpi",
            "Xferd-Peer",
            "Xferd-Peer name",
            good.replace("own=", "other="),
            good.replace('name="n1"', 'name="../n1"'),
            good.replace('nonce="', 'nonce="\n'),
            good + ', tag="\x00"',
        ):
            with self.assertRaises(ValueError):
                self.answering.check("GET", PATH, bad)

    @given(text())
    def test_any(self, text: str) -> None:
        """
        No text is accepted or breaks it.
        """
        with self.assertRaises(ValueError):
            self.answering.check("GET", PATH, f"Xferd-Peer {text}")

    def test_answer(self) -> None:
        """
        The answer proves who sent it, and what it states.
        """
        proof = self.answering.check("GET", PATH, str(self.proof()))
        tag = self.answering.prove_answer(proof, ["200", "public"])
        self.assertTrue(self.asking.check_answer(proof, "n2", ["200", "public"], tag))
        self.assertFalse(self.asking.check_answer(proof, "n2", ["200", "other"], tag))
        self.assertFalse(self.asking.check_answer(proof, "n3", ["200", "public"], tag))
        self.assertFalse(self.asking.check_answer(evolve(proof, own="x" * 22), "n2", ["200", "public"], tag))
        self.assertFalse(self.asking.check_answer(proof, "n2", ["200", "public"], "é"))

    def test_short_secret(self) -> None:
        """
        A short secret is refused.
        """
        self.assertRaises(ValueError, Secrets, SECRET, b"short")
        self.assertRaises(ValueError, Secrets)

    def test_secret_hidden(self) -> None:
        """
        The proof's tag is in no representation.
        """
        proof = self.proof()
        self.assertNotIn(proof.tag, repr(proof))


class ChallengeTests(SynchronousTestCase):
    """
    Tests for L{challenge} and L{challenged}.
    """

    def test_round(self) -> None:
        """
        A nonce is read as it was written.
        """
        nonce = Nonces(Clock().seconds).issue()
        self.assertEqual(challenged(challenge(nonce)), nonce)

    def test_others(self) -> None:
        """
        Other challenges have no nonce.
        """
        for other in ("", 'Basic realm="x"', "Xferd-Peer", 'Xferd-Peer nonce="a b"', 'Xferd-Peer nonce="'):
            self.assertIsNone(challenged(other))


class NoncesTests(SynchronousTestCase):
    """
    Tests for L{Nonces}.
    """

    def test_memory(self) -> None:
        """
        Only used nonces are remembered, and those no longer than they count.
        """
        clock = Clock()
        nonces = Nonces(clock.seconds)
        for _ in range(100):
            nonces.issue()
        self.assertEqual(len(nonces), 0)
        for _ in range(5):
            self.assertTrue(nonces.use(nonces.issue()))
        self.assertEqual(len(nonces), 5)
        clock.advance(NONCE_SECONDS)
        self.assertTrue(nonces.use(nonces.issue()))
        self.assertEqual(len(nonces), 1)

    def test_changed(self) -> None:
        """
        A changed nonce is refused.
        """
        nonces = Nonces(Clock().seconds)
        nonce = nonces.issue()
        for changed in ("B" + nonce[1:], nonce[:-1], nonce + "AAAA", nonce + "=", ""):
            self.assertFalse(nonces.use(changed))
        self.assertTrue(nonces.use(nonce))
