"""
Tests for L{xferd.fleet.etcd.coordination}.  The conformance suite runs on real etcd, in
L{tests.integration.test_etcd}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.fleet.etcd.cases import BLOB, OTHER, CoordinationCase
from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.messages import encoded
from xferd.interfaces.fleet import CALL_SECONDS, ICoordination
from xferd.names import Digest


class CoordinationTests(CoordinationCase):
    """
    Nodes at an etcd.
    """

    def hold(self) -> list[Any]:
        """
        Hold the requests that follow.
        """
        self.etcd.held = []
        return self.etcd.held

    def let_go(self) -> None:
        """
        End L{hold}.
        """
        held, self.etcd.held = self.etcd.held or [], None
        for each in held:
            each()

    def failed(self, work: Deferred[Any]) -> str:
        """
        The message of a failure.
        """
        self.passes(0.05)
        return str(self.failureResultOf(work, CoordinationUnavailable).value)

    def test_interface(self) -> None:
        """
        A node provides its Interface.
        """
        verifyObject(ICoordination, self.one)

    def test_one_request(self) -> None:
        """
        A look at all blobs of an image is one request, and so are the claims of all.
        """
        digests = [Digest.of(b"%d" % n) for n in range(30)]
        self.result(self.one.look(digests))
        self.assertEqual(["/v3/kv/txn"], self.etcd.paths())
        claims = [self.one.claim(digest, 1, "a") for digest in digests]
        self.assertTrue(all(self.result(each).mine for each in claims))
        self.assertEqual(["/v3/kv/txn"], self.etcd.paths())

    def test_slow(self) -> None:
        """
        A call fails after two seconds without an answer, and etcd is unavailable.
        """
        self.hold()
        looking = self.one.look([BLOB])
        self.passes(CALL_SECONDS - 0.1)
        self.assertNoResult(looking)
        self.passes(0.2)
        self.assertIn("did not answer", self.failed(looking))
        self.assertFalse(self.one.available)

    def test_cancelled(self) -> None:
        """
        A look or a claim may be cancelled before its request and during it.  A claim that
        etcd has nevertheless is given back.
        """
        early = self.one.claim(BLOB, 1, "a")
        early.cancel()
        looking = self.one.look([BLOB])
        looking.cancel()
        self.passes(0.05)
        self.hold()
        late = self.one.claim(OTHER, 1, "a")
        self.passes(0.05)
        late.cancel()
        self.let_go()
        for each in (early, late, looking):
            self.failureResultOf(each, CancelledError)
        self.passes(0.5)
        self.assertTrue(self.one.available)
        self.assertEqual((None, None), (self.look().claim, self.look(OTHER).claim))

    def test_claim_late(self) -> None:
        """
        A claim whose answer is late is given back, if etcd has it.
        """
        self.hold()
        claiming = self.one.claim(BLOB, 1, "a")
        self.passes(CALL_SECONDS + 0.1)
        self.failed(claiming)
        self.let_go()
        self.passes(3)
        self.assertTrue(self.one.available)
        self.assertIsNone(self.look().claim)

    def test_claimed_again(self) -> None:
        """
        Under a new lease a node claims again what it fetches, unless another one has
        claimed it meanwhile.
        """
        self.result(self.one.claim(BLOB, 1, "a"))
        self.result(self.one.claim(OTHER, 1, "a"))
        self.etcd.end_lease(min(self.etcd.leases))
        self.result(self.two.claim(OTHER, 2, "b"))
        self.passes(8)
        found = self.look().claim
        assert found is not None
        self.assertEqual("one", found.owner.name)
        found = self.look(OTHER).claim
        assert found is not None
        self.assertTrue(found.mine)
        self.one.release(found)
        self.passes(0.5)
        self.assertIsNotNone(self.look(OTHER).claim)

    def test_released_while_claimed_again(self) -> None:
        """
        A claim that is released while it is made again is not made once more with the next
        lease.
        """
        claim = self.result(self.one.claim(BLOB, 1, "a"))
        leases: list[int] = []

        def began(_: bool) -> None:
            leases.append(self.one._session.lease)
            if len(leases) == 1:
                self.one.release(claim)

        self.one._session.on_available(began)
        self.etcd.end_lease(self.one._session.lease)
        self.passes(8)
        self.assertIsNone(self.look().claim)
        self.etcd.end_lease(self.one._session.lease)
        self.passes(8)
        self.assertEqual(len(leases), 2)
        self.assertIsNone(self.look().claim)

    def test_lists(self) -> None:
        """
        Records that cannot be read are not listed.
        """
        self.result(self.one.claim(BLOB, 1, "a"))
        for key in ("/xferd/1/nodes/x", "/xferd/1/claims/x"):
            kind = self.etcd.keys["/xferd/1/nodes/one"]
            self.etcd.keys[key] = type(kind)(encoded("nothing"), kind.lease, 1, 1)
        self.assertEqual(["one", "two"], [node.peer.name for node in self.result(self.two.nodes())])
        self.assertEqual([BLOB], [claim.digest for claim in self.result(self.two.claims())])

    def test_unreadable_claim(self) -> None:
        """
        A blob whose claim cannot be read cannot be claimed; a look shows none.
        """
        self.result(self.one.claim(BLOB, 1, "a"))
        key = f"/xferd/1/claims/sha256-{BLOB.hex}"
        self.etcd.keys[key].value = encoded("nothing")
        self.assertIsNone(self.look().claim)
        self.assertIn("cannot be read", self.failed(self.two.claim(BLOB, 1, "a")))

    def test_hostile(self) -> None:
        """
        Answers that etcd does not send fail each call, and make etcd unavailable.
        """
        stranger = {"key": encoded("/other"), "value": "", "mod_revision": "1"}
        answer: Any
        for answer in (
            {},
            {"responses": 1},
            {"responses": [5]},
            {"responses": [{"response_range": {"kvs": [stranger]}}] * 2},
            {"responses": [{"response_range": {"kvs": [stranger | {"key": "!"}]}}] * 2},
            {"responses": [{"response_range": {"kvs": [{}] * 100}}] * 2},
        ):
            for call in (
                lambda: self.one.look([BLOB]),
                lambda: self.one.claim(BLOB, 1, "a"),
                self.one.nodes,
                self.one.claims,
            ):
                self.etcd.answers = {"/v3/kv/txn": answer}
                self.failed(call())
                self.assertFalse(self.one.available)
                self.assertIn("etcd", self.one.problem)
                self.etcd.answers = {}
                self.passes(10)
                self.assertTrue(self.one.available, self.one.problem)
