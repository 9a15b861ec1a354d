"""
Tests for the rights of clients of a node, where a peer sends the bytes: see
L{xferd.jobs.mirror.provenance}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.fleet.case import HOST, FleetCase, Node
from xferd.errors import BlobUnknown, XferdError
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.registry import IRepository
from xferd.names import Repository
from xferd.realms import PUBLIC
from xferd.testing.fakes import FakeRegistry

OTHER = "other.example"


class RightsCase(FleetCase):
    """
    Two nodes, and another upstream that names the same blob.
    """

    size = 1_500_000

    def setUp(self) -> None:
        """
        Start them.
        """
        super().setUp()
        self.other: FakeRegistry = self.registries.registry(OTHER)
        self.other.add(self.image, "app")
        self.one, self.two = self.node(), self.node()
        self.account: IRepository = self.registries.repository(Repository(HOST, "app"))
        self.public = self.registries.anonymous().repository(Repository(HOST, "app"))
        self.naming = self.registries.anonymous().repository(Repository(OTHER, "app"))

    def open(self, node: Node, source: IRepository) -> Deferred[IBlobReader]:
        """
        Open the blob for a client of an upstream.
        """
        mirror = node.jobs.mirror
        asking = mirror.manifest(source, "latest", "ci")
        self.settle()
        self.successResultOf(asking)
        opening = mirror.blob(source, self.digest, "ci")
        self.wait(2)
        return opening

    def read(self, opening: Deferred[IBlobReader]) -> bytes:
        """
        What a client gets before its answer ends or breaks off.
        """
        reader, found = self.successResultOf(opening), bytearray()
        while True:
            reading = reader.read(len(found), 1 << 20)
            self.wait(1)
            try:
                piece = self.successResultOf(reading.addErrback(self.broken))
            except AssertionError:
                break
            if not piece:
                break
            found += piece
        reader.close()
        return bytes(found)

    def broken(self, failure: object) -> bytes:
        """
        The answer breaks off.
        """
        trap = getattr(failure, "trap", None)
        assert trap is not None
        trap(XferdError)
        return b""


class MirrorTests(RightsCase):
    """
    Clients of the registry.
    """

    def test_public(self) -> None:
        """
        What an upstream sends to anybody comes from a peer, and upstream is not asked for
        its bytes again.
        """
        for node in (self.one, self.two):
            self.assertTrue(self.read(self.open(node, self.public)) == self.data)
            self.assertEqual(node.store.catalog.origins(self.digest), {PUBLIC})
        self.assertEqual(self.requests(), [0])

    def test_frozen(self) -> None:
        """
        A client does not notice that a peer with the blob is frozen: upstream sends it in
        time.
        """
        self.read(self.open(self.one, self.public))
        self.network.freeze(self.one.address)
        opening = self.open(self.two, self.public)
        self.wait(4)
        self.assertTrue(self.read(opening) == self.data)
        self.assertEqual(self.requests(), [0, 0])

    def test_account(self) -> None:
        """
        So does what came with the daemon's account.  It is no public blob because of
        that: a client without the account has to be confirmed.
        """
        for node in (self.one, self.two):
            self.assertTrue(self.read(self.open(node, self.account)) == self.data)
            self.assertEqual(node.store.catalog.origins(self.digest), {self.account.origin})
        self.assertEqual(self.requests(), [0])
        before = self.registry.count("confirm", self.digest)
        self.assertTrue(self.read(self.open(self.two, self.public)) == self.data)
        self.assertEqual(self.registry.count("confirm", self.digest), before + 1)

    def test_named_elsewhere(self) -> None:
        """
        An upstream that names the digest of another's private blob, and has other bytes,
        gets nothing of it by way of a peer.
        """
        self.read(self.open(self.one, self.account))
        self.other.put_blob("app", self.digest, bytes(len(self.data)))
        opening = self.open(self.two, self.naming)
        found = self.read(opening)
        self.assertNotIn(self.data[1000:1100], found)
        self.assertNotIn(PUBLIC, self.two.store.catalog.origins(self.digest))

    def test_lacks(self) -> None:
        """
        So does one that does not have the blob at all.
        """
        self.read(self.open(self.one, self.account))
        self.other.remove_blob("app", self.digest)
        opening = self.open(self.two, self.naming)
        self.failureResultOf(opening, BlobUnknown)

    def test_has(self) -> None:
        """
        The clients of an upstream that has the blob get it.
        """
        self.read(self.open(self.one, self.account))
        self.assertTrue(self.read(self.open(self.two, self.naming)) == self.data)

    def test_growing(self) -> None:
        """
        The same rules hold while the blob arrives at the peer.
        """
        self.registry.stall(self.digest)
        first = self.one.jobs.mirror.blob(self.account, self.digest, "ci")
        self.wait(1)
        self.registry.feed(self.digest, 500_000)
        self.wait(1)
        self.other.remove_blob("app", self.digest)
        second = self.open(self.two, self.account)
        stranger = self.open(self.two, self.naming)
        self.registry.finish(self.digest)
        self.wait(2)
        self.assertTrue(self.read(first) == self.data)
        self.assertTrue(self.read(second) == self.data)
        self.failureResultOf(stranger, BlobUnknown)
        self.assertEqual(self.requests(), [0])

    def test_earlier_bytes(self) -> None:
        """
        Where an earlier download left a part of a blob, the upstream has to prove that it
        has that, not the peer.
        """
        self.read(self.open(self.one, self.public))
        self.two.store.blobs.partials[self.digest] = self.data[:700_000]
        before = self.registry.count("confirm", self.digest)
        self.assertTrue(self.read(self.open(self.two, self.public)) == self.data)
        self.assertEqual(self.registry.count("confirm", self.digest), before + 1)
        self.assertEqual(self.two.fleet.figures.received, len(self.data) - 700_000)
