"""
Tests for L{xferd.testing.fake_store}.

The module is long because the fake has all parts of a store.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.store.conformance.blobs import BlobsConformance
from tests.store.conformance.incoming import IncomingConformance
from tests.store.conformance.journal import JournalConformance
from xferd.errors import DigestMismatch, DiskFull, NotFound, SizeMismatch, StoreError
from xferd.interfaces.blobs import IBlobs, IFollower, IPartial
from xferd.interfaces.journal import IJournal
from xferd.interfaces.store import IImages, ILayers, Image, IStore, ITrees, Unpacked
from xferd.names import Digest, Reference
from xferd.oci import MAX_DOCUMENT, Descriptor
from xferd.testing.fake_blobs import FakePartial
from xferd.testing.fake_store import FakeStore
from xferd.testing.images import sample_image

T = TypeVar("T")

DATA = b"some bytes of a layer"
DIGEST = Digest.of(DATA)
BLOB = Descriptor("x/y", DIGEST, len(DATA))


@implementer(IFollower)
class Follower:
    """
    A follower that records its calls.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def grown(self, path: str, size: int) -> None:
        """
        Record the call.
        """
        self.told.append(("grown", path, size))

    def restarted(self) -> None:
        """
        Record the call.
        """
        self.told.append(("restarted",))

    def sealed(self, path: str, size: int) -> None:
        """
        Record the call.
        """
        self.told.append(("sealed", path, size))


class Conforming(SynchronousTestCase):
    """
    A fake store, for the tests of an Interface.
    """

    def setUp(self) -> None:
        """
        Make an empty store.
        """
        self.clock = Clock()
        self.store = FakeStore(self.clock, self.mktemp())

    def result(self, waiting: Deferred[T]) -> T:
        """
        Wait for a result.
        """
        self.clock.pump([0] * 10)
        return self.successResultOf(waiting)

    def failure(self, waiting: Deferred[Any], *expected: type[Exception]) -> Any:
        """
        Wait for a failure.
        """
        self.clock.pump([0] * 10)
        return self.failureResultOf(waiting, *expected)


class ConformingBlobsTests(Conforming, BlobsConformance):
    """
    The fake's blobs conform to L{IBlobs}.
    """


class ConformingIncomingTests(Conforming, IncomingConformance):
    """
    The fake's upload sessions conform to L{IIncomingBlobs}.
    """


class ConformingJournalTests(Conforming, JournalConformance):
    """
    The fake's journal conforms to L{IJournal}.
    """


class StoreTestCase(SynchronousTestCase):
    """
    The common part of the tests of the fake store.
    """

    def setUp(self) -> None:
        """
        Make an empty store.
        """
        self.clock = Clock()
        self.store = FakeStore(self.clock)

    def done(self, work: Deferred[T]) -> T:
        """
        Let work pass, and return its result.
        """
        self.clock.advance(0)
        return self.successResultOf(work)

    def partial(self, size: int | None = len(DATA)) -> FakePartial:
        """
        Open the partial file of C{DATA}.
        """
        partial = self.done(self.store.blobs.partial(DIGEST, size))
        assert isinstance(partial, FakePartial)
        return partial


class PartialTests(StoreTestCase):
    """
    Partial blobs.
    """

    def test_interface(self) -> None:
        """
        A fake partial provides L{IPartial}, and the tests' follower
        L{IFollower}.
        """
        verifyObject(IPartial, self.partial())
        verifyObject(IFollower, Follower())

    def test_commit(self) -> None:
        """
        The right bytes become a blob, at the path of C{sealed}.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.write(DATA[:5])
        partial.write(DATA[5:])
        committed = partial.commit()
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.done(committed)
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.assertEqual(len(DATA), self.store.blobs.size(DIGEST))
        self.assertEqual(["grown", "grown", "sealed"], [told[0] for told in follower.told])
        _, path, size = follower.told[-1]
        self.assertEqual(self.store.blobs.path(DIGEST), path)
        self.assertEqual(DATA, self.store.blobs.open_path(path)[:size])
        self.assertEqual(DATA, self.store.blobs.open_path(follower.told[0][1]), "an open file stays valid")
        self.assertEqual({}, self.store.blobs.opened)
        partial.close()

    def test_closed_and_opened_again(self) -> None:
        """
        The next attempt has the bytes of an earlier one, and reports them to followers.
        """
        partial = self.partial()
        partial.write(DATA[:5])
        partial.close()
        partial.close()
        self.assertRaises(StoreError, partial.write, b"x")
        again, follower = self.partial(), Follower()
        self.assertEqual(5, again.offset)
        again.follow(follower)
        self.assertEqual([("grown", 5)], [(told[0], told[2]) for told in follower.told])
        again.write(DATA[5:])
        self.done(again.commit())

    def test_too_much(self) -> None:
        """
        More bytes than the size are not written.
        """
        partial = self.partial(3)
        partial.write(b"abc")
        self.assertRaises(SizeMismatch, partial.write, b"d")
        self.assertEqual(3, partial.offset)

    def test_too_little(self) -> None:
        """
        Fewer bytes than the size are discarded, and the partial can begin again.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.write(DATA[:-1])
        committed = partial.commit()
        self.clock.advance(0)
        self.failureResultOf(committed, SizeMismatch)
        self.assertEqual((0, ("restarted",)), (partial.offset, follower.told[-1]))
        partial.write(DATA)
        self.done(partial.commit())

    def test_wrong(self) -> None:
        """
        Wrong bytes are discarded; the next ones are written to another file.
        """
        partial, follower = self.partial(None), Follower()
        partial.follow(follower)
        partial.write(b"wrong")
        committed = partial.commit()
        self.clock.advance(0)
        self.failureResultOf(committed, DigestMismatch)
        partial.write(DATA)
        first, restarted, second = follower.told
        self.assertEqual(("restarted",), restarted)
        self.assertNotEqual(first[1], second[1])
        self.assertFalse(self.store.blobs.has(DIGEST))

    def test_restart(self) -> None:
        """
        The owner may discard the bytes.
        """
        partial, follower = self.partial(), Follower()
        partial.write(b"x")
        partial.follow(follower)
        partial.restart()
        self.assertEqual(0, partial.offset)
        self.assertEqual(("restarted",), follower.told[-1])

    def test_disk_full(self) -> None:
        """
        A planted failure of the disk keeps the bytes.
        """
        partial = self.partial()
        partial.write(DATA[:5])
        self.store.gate.fail("partial.write", DiskFull("full"))
        self.assertRaises(DiskFull, partial.write, DATA[5:])
        self.assertEqual(5, partial.offset)

    def test_commit_fails(self) -> None:
        """
        A failed commit keeps the partial open, with its bytes.
        """
        partial = self.partial()
        partial.write(DATA)
        self.store.gate.fail("partial.commit", StoreError("no"))
        committed = partial.commit()
        self.clock.advance(0)
        self.failureResultOf(committed, StoreError)
        self.assertEqual(len(DATA), partial.offset)
        self.done(partial.commit())

    def test_commit_cancelled(self) -> None:
        """
        A cancelled commit waits for the disk, and then fails although the blob is stored.
        """
        partial = self.partial()
        partial.write(DATA)
        self.store.gate.hold("partial.commit")
        committed = partial.commit()
        committed.cancel()
        self.clock.advance(0)
        self.assertNoResult(committed)
        self.assertRaises(StoreError, partial.write, b"x")
        self.store.gate.release("partial.commit")
        self.clock.advance(0)
        self.failureResultOf(committed, CancelledError)
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_follow_late(self) -> None:
        """
        A follower of a complete blob receives C{sealed} at once.
        """
        partial, follower = self.partial(), Follower()
        partial.write(DATA)
        self.done(partial.commit())
        partial.follow(follower)
        self.assertEqual([("sealed", self.store.blobs.path(DIGEST), len(DATA))], follower.told)

    def test_unfollow(self) -> None:
        """
        A removed follower receives no more calls.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.unfollow(follower)
        partial.unfollow(follower)
        partial.write(DATA)
        self.assertEqual([], follower.told)


class BlobsTests(StoreTestCase):
    """
    The blobs.
    """

    def test_interface(self) -> None:
        """
        The fakes provide their Interfaces.
        """
        verifyObject(IStore, self.store)
        verifyObject(IBlobs, self.store.blobs)

    def test_put_and_read(self) -> None:
        """
        A document that was put is read again.
        """
        self.assertIsNone(self.store.blobs.size(DIGEST))
        self.done(self.store.blobs.put(DIGEST, DATA))
        self.assertEqual(DATA, self.done(self.store.blobs.read(DIGEST)))

    def test_put_wrong(self) -> None:
        """
        Bytes with another digest are not stored.
        """
        put = self.store.blobs.put(DIGEST, b"x")
        self.clock.advance(0)
        self.failureResultOf(put, DigestMismatch)
        self.assertFalse(self.store.blobs.has(DIGEST))

    def test_read_missing_damaged_and_large(self) -> None:
        """
        A missing, damaged or large blob cannot be read.
        """
        large = bytes(MAX_DOCUMENT + 1)
        self.store.blobs.contents[Digest.of(large)] = large
        self.store.blobs.contents[DIGEST] = b"damaged"
        for digest, error in (
            (Digest.of(b"?"), NotFound),
            (DIGEST, StoreError),
            (Digest.of(large), StoreError),
        ):
            read = self.store.blobs.read(digest)
            self.clock.advance(0)
            self.failureResultOf(read, error)

    def test_no_such_file(self) -> None:
        """
        An unknown path is no file.
        """
        self.store.blobs.contents[DIGEST] = DATA
        self.assertRaises(FileNotFoundError, self.store.blobs.open_path, "/memory/other")

    def test_held(self) -> None:
        """
        The gate can hold the work of the disk.
        """
        self.store.gate.hold("blobs.put", DIGEST)
        put = self.store.blobs.put(DIGEST, DATA)
        self.clock.advance(0)
        self.assertNoResult(put)
        self.store.gate.release("blobs.put", DIGEST)
        self.done(put)


class LayersTests(StoreTestCase):
    """
    Trees, layers and images.
    """

    def setUp(self) -> None:
        """
        Make an image to fill the store with.
        """
        super().setUp()
        self.image = sample_image(2)

    def unpack(self, number: int) -> None:
        """
        Bring the tree of a layer into the store.
        """
        layer = self.image.layers[number]
        staged = self.done(self.store.trees.stage())
        unpacked = Unpacked(layer.diff_id, layer.tar_size, 1, 1)
        self.done(self.store.trees.commit(staged, unpacked, layer.blob.digest))

    def record(self) -> Image:
        """
        The image as the store records it.
        """
        return Image(
            Reference.parse("sample"),
            self.image.manifest.descriptor,
            self.image.config.descriptor,
            self.image.digest,
            tuple(layer.blob.descriptor for layer in self.image.layers),
            self.image.chain_ids[-1],
            self.image.size,
            "2026-01-01T00:00:00Z",
        )

    def test_interfaces(self) -> None:
        """
        The fakes provide their Interfaces.
        """
        verifyObject(ITrees, self.store.trees)
        verifyObject(ILayers, self.store.layers)
        verifyObject(IImages, self.store.images)

    def test_tree(self) -> None:
        """
        A committed tree is found by its diff ID and by its blob.
        """
        layer = self.image.layers[0]
        self.assertIsNone(self.store.trees.diff_id_of(layer.blob.digest))
        self.unpack(0)
        self.assertTrue(self.store.trees.has(layer.diff_id))
        self.assertEqual(layer.diff_id, self.store.trees.diff_id_of(layer.blob.digest))
        self.assertEqual(set(), self.store.trees.staged)

    def test_tree_discarded(self) -> None:
        """
        A discarded tree is removed, and cannot be committed.
        """
        staged = self.done(self.store.trees.stage())
        self.done(self.store.trees.discard(staged))
        self.assertEqual(set(), self.store.trees.staged)
        committed = self.store.trees.commit(staged, Unpacked(DIGEST, 1, 1, 1), DIGEST)
        self.failureResultOf(committed, StoreError)

    def test_tree_discard_cancelled(self) -> None:
        """
        A tree is removed although the removal is cancelled.
        """
        discarding = self.store.trees.discard(self.done(self.store.trees.stage()))
        discarding.cancel()
        self.clock.advance(0)
        self.failureResultOf(discarding, CancelledError)
        self.assertEqual(set(), self.store.trees.staged)

    def test_tree_refused(self) -> None:
        """
        A tree is removed if its commit fails.
        """
        self.store.gate.fail("trees.commit", DiskFull("full"))
        staged = self.done(self.store.trees.stage())
        committed = self.store.trees.commit(staged, Unpacked(DIGEST, 1, 1, 1), DIGEST)
        self.clock.advance(0)
        self.failureResultOf(committed, DiskFull)
        self.assertEqual(set(), self.store.trees.staged)
        self.assertFalse(self.store.trees.has(DIGEST))

    def test_register(self) -> None:
        """
        Layers have parents; a repeated registration returns the same layer.
        """
        parent = None
        for number, layer in enumerate(self.image.layers):
            self.unpack(number)
            registered = self.done(self.store.layers.register(parent, layer.diff_id, layer.blob.descriptor))
            self.assertEqual(self.image.chain_ids[number], registered.chain_id)
            self.assertEqual(parent, registered.parent)
            again = self.done(self.store.layers.register(parent, layer.diff_id, BLOB))
            self.assertIs(registered, again)
            self.assertEqual({layer.blob.digest, DIGEST}, self.store.layers.blobs[registered.chain_id])
            parent = registered.chain_id
        self.assertEqual(list(self.image.chain_ids), list(self.store.layers.registered))

    def test_register_refused(self) -> None:
        """
        A layer needs its parent and its tree.
        """
        self.unpack(1)
        for parent, number in ((self.image.chain_ids[0], 1), (None, 0)):
            registered = self.store.layers.register(parent, self.image.diff_ids[number], BLOB)
            self.clock.advance(0)
            self.failureResultOf(registered, StoreError)

    def test_image(self) -> None:
        """
        An image is named once all its parts are stored.
        """
        image = self.record()

        def refused() -> None:
            put = self.store.images.put(image)
            self.clock.advance(0)
            self.failureResultOf(put, StoreError)
            self.assertIsNone(self.store.images.get(image.reference))

        refused()
        self.done(self.store.blobs.put(self.image.digest, self.image.manifest.data))
        refused()
        self.done(self.store.blobs.put(self.image.config.digest, self.image.config.read()))
        refused()
        self.test_register()
        self.done(self.store.images.put(image))
        self.assertEqual(image, self.store.images.get(image.reference))
        self.assertEqual([image], self.store.images.all())

    def test_image_of_other_depth(self) -> None:
        """
        An image with layers has a chain ID.
        """
        self.store.blobs.contents |= {self.image.digest: b"", self.image.config.digest: b""}
        image = self.record()
        put = self.store.images.put(
            Image(
                image.reference,
                image.manifest,
                image.config,
                image.resolved,
                image.layers,
                None,
                0,
                "",
            )
        )
        self.clock.advance(0)
        self.failureResultOf(put, StoreError)


class JournalTests(StoreTestCase):
    """
    The journal.
    """

    def test_interface(self) -> None:
        """
        The fake provides L{IJournal}.
        """
        verifyObject(IJournal, self.store.journal)

    def test_jobs(self) -> None:
        """
        A job has its last record; the newest jobs are first.
        """
        journal = self.store.journal
        for name, state in (("a", "queued"), ("b", "queued"), ("c", "queued"), ("a", "done")):
            self.done(journal.record_job({"id": name, "state": state}))
        self.assertEqual(["c", "b"], [job["id"] for job in self.done(journal.jobs(2))])
        self.assertEqual("done", self.done(journal.jobs(9))[-1]["state"])
        self.assertEqual(4, len(journal.history))

    def test_interrupted(self) -> None:
        """
        The jobs unfinished at the end of a daemon are known to the next one only.
        """
        journal = self.store.journal
        for name, state in (("a", "queued"), ("b", "running"), ("c", "done")):
            self.done(journal.record_job({"id": name, "state": state}))
        self.assertEqual([], self.done(journal.interrupted()))
        journal.restart()
        self.assertEqual(["a", "b"], [job.record["id"] for job in self.done(journal.interrupted())])

    def test_attempts(self) -> None:
        """
        Attempts are recorded in order, and recording may fail.
        """
        self.done(self.store.journal.record_attempt({"attempt": 1}))
        self.store.gate.fail("journal.attempt", StoreError("no"))
        refused = self.store.journal.record_attempt({"attempt": 2})
        self.clock.advance(0)
        self.failureResultOf(refused, StoreError)
        self.assertEqual([{"attempt": 1}, {"attempt": 2}], self.store.journal.recorded_attempts)
