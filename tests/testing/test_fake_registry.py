"""
Tests for L{xferd.testing.fake_registry}.
"""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.registry.conformance import HERE, RepositoryConformance
from xferd.credentials import Credentials, Secret
from xferd.errors import BlobUnknown, ConnectionFailed, Denied, DigestMismatch, ManifestUnknown, SizeMismatch
from xferd.interfaces.registry import IBlobBody, IRegistries, IRepository
from xferd.media_types import OCI_MANIFEST
from xferd.names import Repository
from xferd.oci import Document
from xferd.testing.fake_body import PIECE, FakeBody
from xferd.testing.fake_registries import FakeRegistries
from xferd.testing.fake_registry import Request
from xferd.testing.images import SampleImage, sample_image

T = TypeVar("T")

REPOSITORY = Repository("registry.test", "library/sample")


class FakeRepositoryTests(RepositoryConformance, SynchronousTestCase):
    """
    A L{FakeRepository<xferd.testing.fake_registry.FakeRepository>} does what its Interface asks.
    """

    def make(self, image: SampleImage) -> IRegistries:
        """
        Make fake registries.
        """
        self.clock = Clock()
        registries = FakeRegistries(self.clock)
        registries.registry(HERE.host).add(image, HERE.path, "1")
        return registries

    def wait(self, work: Deferred[T]) -> T:
        """
        Pass one turn.
        """
        self.clock.advance(0)
        return self.successResultOf(work)

    def fails(self, kind: type[Exception], work: Deferred[T]) -> None:
        """
        Expect an error in the next turn.
        """
        self.clock.advance(0)
        self.failureResultOf(work, kind)


class FakeRegistryTests(SynchronousTestCase):
    """
    A fake registry, and its faults.
    """

    def setUp(self) -> None:
        """
        Put an image into a fake registry.
        """
        self.clock = Clock()
        self.registries = FakeRegistries(self.clock)
        self.registry = self.registries.registry("registry.test")
        self.image = sample_image(2, size=100_000)
        self.registry.add(self.image, "library/sample", "1.0")
        self.blob = self.image.layers[0].blob
        self.repository = self.registries.repository(REPOSITORY)

    def open(self, offset: int = 0) -> FakeBody:
        """
        Open the bottom layer's blob.
        """
        opened = self.repository.open(self.blob.digest, offset)
        self.clock.advance(0)
        body = self.successResultOf(opened)
        assert isinstance(body, FakeBody)
        return body

    def deliver(self, body: FakeBody) -> tuple[list[bytes], Deferred[None]]:
        """
        Begin to read a body.
        """
        pieces: list[bytes] = []
        delivered = body.deliver(pieces.append)
        self.clock.advance(0)
        return pieces, delivered

    def test_clients(self) -> None:
        """
        A client with credentials of its own has content of its own.
        """
        hers = self.registries.seen_by({"registry.test": Credentials("ann", Secret("p"))})
        verifyObject(IRegistries, hers)
        ann = self.registries.registry("registry.test", "ann")
        other = Repository("other.test", "library/sample")
        self.assertEqual(hers.repository(REPOSITORY).identity, ann.repository("library/sample").identity)
        self.assertEqual(hers.repository(other).identity, self.registries.repository(other).identity)
        his = hers.seen_by({"registry.test": Credentials("bob", Secret("p"))})
        checked = his.check("registry.test")
        bob = self.registries.registry("registry.test", "bob")
        self.assertEqual(bob.requests, [Request("check", "", "bob")])
        closed = his.close()
        self.clock.advance(0)
        self.successResultOf(checked)
        self.successResultOf(closed)
        self.assertTrue(self.registries.closed)

    def test_anonymous(self) -> None:
        """
        An anonymous client has the same content, except private repositories.
        """
        nobody = self.registries.anonymous()
        verifyObject(IRegistries, nobody)
        here = nobody.anonymous().repository(REPOSITORY)
        self.assertNotEqual(here.identity, self.repository.identity)
        self.registry.private.add(REPOSITORY.path)
        reading = here.manifest("latest")
        self.clock.advance(0)
        self.failureResultOf(reading, Denied)
        hers = nobody.seen_by({"registry.test": Credentials("ann", Secret("p"))})
        ann = self.registries.registry("registry.test", "ann")
        self.assertEqual(hers.repository(REPOSITORY).identity, ann.repository("library/sample").identity)

    def test_interfaces(self) -> None:
        """
        Each fake provides its Interface.
        """
        verifyObject(IRegistries, self.registries)
        verifyObject(IRepository, self.repository)
        verifyObject(IBlobBody, self.open())

    def test_one_registry_per_host(self) -> None:
        """
        A host's registry is the same each time; sources that would behave
        alike are equal.
        """
        self.assertIs(self.registry, self.registries.registry("registry.test"))
        self.assertEqual(self.repository.identity, self.registry.repository("library/sample").identity)
        other = self.registries.repository(Repository("other.test", "library/sample"))
        self.assertNotEqual(self.repository.identity, other.identity)
        self.assertEqual("registry.test/library/sample", self.repository.label)

    def test_manifest_by_tag_and_digest(self) -> None:
        """
        The manifest is found by its tag and by its digest, in the next turn.
        """
        for wanted in ("1.0", str(self.image.digest)):
            answer = self.repository.manifest(wanted)
            self.assertNoResult(answer)
            self.clock.advance(0)
            self.assertEqual(self.image.manifest, self.successResultOf(answer))
        self.assertEqual(1, self.registry.count("manifest", "1.0"))

    def test_unknown_manifest(self) -> None:
        """
        A manifest that was not added is unknown.
        """
        answer = self.repository.manifest("2.0")
        self.clock.advance(0)
        self.failureResultOf(answer, ManifestUnknown)

    def test_added_document(self) -> None:
        """
        Any document can be put under a tag.
        """
        document = Document.verified(OCI_MANIFEST, b"{}")
        self.registry.add_document(document, "library/sample", "odd")
        answer = self.repository.manifest("odd")
        self.clock.advance(0)
        self.assertEqual(document, self.successResultOf(answer))

    def test_untagged(self) -> None:
        """
        An image without a tag is found by its digest only.
        """
        self.registry.add(self.image, "library/other", None)
        answer = self.registry.repository("library/other").manifest(str(self.image.digest))
        missing = self.registry.repository("library/other").manifest("latest")
        self.clock.advance(0)
        self.successResultOf(answer)
        self.failureResultOf(missing, ManifestUnknown)

    def test_config(self) -> None:
        """
        A config is returned whole.
        """
        answer = self.repository.config(self.image.config.descriptor)
        self.clock.advance(0)
        self.assertEqual(self.image.config.content, self.successResultOf(answer))

    def test_config_of_other_size(self) -> None:
        """
        A config that differs from its descriptor is refused.
        """
        lying = self.image.config.descriptor.__class__("x/y", self.image.config.digest, 1)
        answer = self.repository.config(lying)
        self.clock.advance(0)
        self.failureResultOf(answer, DigestMismatch)

    def test_whole_body(self) -> None:
        """
        By default a body arrives in the turn after its request, in pieces of limited
        size.
        """
        body = self.open()
        self.assertEqual((0, self.blob.descriptor.size), (body.start, body.total))
        pieces, delivered = self.deliver(body)
        self.successResultOf(delivered)
        self.assertEqual(self.blob.content, b"".join(pieces))
        self.assertLessEqual(max(map(len, pieces)), PIECE)
        self.assertEqual([], self.registry.open_bodies())

    def test_offset(self) -> None:
        """
        A body begins at the requested offset, which is recorded.
        """
        body = self.open(1000)
        pieces, _ = self.deliver(body)
        self.assertEqual(1000, body.start)
        self.assertEqual(self.blob.read()[1000:], b"".join(pieces))
        self.assertEqual(
            [Request("blob", "library/sample", str(self.blob.digest), 1000)], self.registry.requests
        )

    def test_offset_behind_end(self) -> None:
        """
        An offset behind the end is refused.
        """
        opened = self.repository.open(self.blob.digest, self.blob.descriptor.size)
        self.clock.advance(0)
        self.assertEqual(416, self.failureResultOf(opened, SizeMismatch).value.status)

    def test_range_ignored(self) -> None:
        """
        A registry may ignore a range, as often as it is told to.
        """
        self.registry.ignore_range(self.blob.digest)
        self.assertEqual(0, self.open(1000).start)
        self.assertEqual(1000, self.open(1000).start)

    def test_corrupt(self) -> None:
        """
        Other bytes arrive as often as they are planted.
        """
        self.registry.corrupt(self.blob.digest, b"other")
        self.assertEqual([b"other"], self.deliver(self.open())[0])
        self.assertEqual(self.blob.content, b"".join(self.deliver(self.open())[0]))

    def test_removed_blob(self) -> None:
        """
        A removed blob is unknown.
        """
        self.registry.remove_blob("library/sample", self.blob.digest)
        opened = self.repository.open(self.blob.digest, 0)
        self.clock.advance(0)
        self.failureResultOf(opened, BlobUnknown)

    def test_planted_refusal(self) -> None:
        """
        Opening fails as planted; the request is recorded.
        """
        self.registry.gate.fail("open", Denied("no"), key=self.blob.digest)
        opened = self.repository.open(self.blob.digest, 0)
        self.clock.advance(0)
        self.failureResultOf(opened, Denied)
        self.assertEqual(1, self.registry.count("blob", self.blob.digest))

    def test_open_cancelled(self) -> None:
        """
        A cancelled request opens no body.
        """
        opened = self.repository.open(self.blob.digest, 0)
        opened.cancel()
        self.failureResultOf(opened, CancelledError)
        self.clock.advance(0)
        self.assertEqual([], self.registry.bodies)

    def test_fed(self) -> None:
        """
        A stalled blob arrives as it is fed, until it is finished.
        """
        self.registry.stall(self.blob.digest)
        pieces, delivered = self.deliver(self.open())
        self.assertEqual([], pieces)
        self.registry.feed(self.blob.digest, 10)
        self.registry.feed(self.blob.digest, 20)
        self.assertEqual([10, 20], list(map(len, pieces)))
        self.assertNoResult(delivered)
        self.registry.finish(self.blob.digest)
        self.successResultOf(delivered)
        self.assertEqual(self.blob.content, b"".join(pieces))

    def test_stalled_on_its_way(self) -> None:
        """
        An open body can be stalled, and bytes fed before its delivery are kept.
        """
        body = self.open()
        self.registry.stall(self.blob.digest)
        self.registry.feed(self.blob.digest, 7)
        self.assertEqual([7], list(map(len, self.deliver(body)[0])))

    def test_fed_without_reader(self) -> None:
        """
        To feed a blob without a reader is an error of the test.
        """
        self.assertRaises(AssertionError, self.registry.feed, self.blob.digest, 1)

    def test_cut(self) -> None:
        """
        A body that is cut ends after the delivered bytes, without an error.
        """
        self.registry.stall(self.blob.digest)
        pieces, delivered = self.deliver(self.open())
        self.registry.feed(self.blob.digest, 5)
        self.registry.cut(self.blob.digest)
        self.successResultOf(delivered)
        self.assertEqual(5, len(b"".join(pieces)))

    def test_broken(self) -> None:
        """
        A lost connection fails the body after the bytes before it.
        """
        self.registry.stall(self.blob.digest)
        pieces, delivered = self.deliver(self.open())
        self.registry.feed(self.blob.digest, 5)
        self.registry.fail(self.blob.digest)
        self.failureResultOf(delivered, ConnectionFailed)
        self.assertEqual(5, len(b"".join(pieces)))
        self.assertEqual([], self.registry.open_bodies())

    def test_body_cancelled(self) -> None:
        """
        A cancelled body frees its connection at once and delivers no more.
        """
        self.registry.stall(self.blob.digest)
        body = self.open()
        pieces, delivered = self.deliver(body)
        self.assertEqual([body], self.registry.open_bodies(self.blob.digest))
        delivered.cancel()
        self.failureResultOf(delivered, CancelledError)
        self.assertTrue(body.ended)
        body.finish()
        self.assertEqual([], pieces)

    def test_cancelled_by_sink(self) -> None:
        """
        A sink may cancel the body.
        """
        body = self.open()
        pieces: list[bytes] = []

        def sink(piece: bytes) -> None:
            pieces.append(piece)
            delivered.cancel()

        delivered = body.deliver(sink)
        self.clock.advance(0)
        self.failureResultOf(delivered, CancelledError)
        self.assertEqual(1, len(pieces))

    def test_sink_fails(self) -> None:
        """
        An exception of the sink fails the body.
        """
        body = self.open()

        def sink(piece: bytes) -> None:
            raise ZeroDivisionError

        delivered = body.deliver(sink)
        self.clock.advance(0)
        self.failureResultOf(delivered, ZeroDivisionError)
        self.assertTrue(body.ended)

    def test_abandoned(self) -> None:
        """
        An abandoned body has ended, may be abandoned again, and is not delivered.
        """
        body = self.open()
        body.abandon()
        body.abandon()
        self.assertTrue(body.ended)
        self.failureResultOf(body.deliver(lambda _: None), AssertionError)

    def test_abandoned_on_its_way(self) -> None:
        """
        Abandoning a body cancels its delivery.
        """
        self.registry.stall(self.blob.digest)
        body = self.open()
        _, delivered = self.deliver(body)
        body.abandon()
        self.failureResultOf(delivered, CancelledError)

    def test_close(self) -> None:
        """
        Closing is recorded.
        """
        closed = self.registries.close()
        self.clock.advance(0)
        self.successResultOf(closed)
        self.assertTrue(self.registries.closed)
