"""
What every provider of the store's Interfaces must do, whatever it keeps its
bytes in.  A test case that mixes one of these in says what C{store} is and how
to wait for it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.store.support import Follower, Sample, fetch, layer_descriptor, plant, pull, sample
from xferd.errors import DigestMismatch, NotFound, SizeMismatch, StoreError
from xferd.interfaces.blobs import IAnonymousBlob, IBlobs, IPartial
from xferd.interfaces.journal import IdempotencyKey, IJournal
from xferd.interfaces.registry import UploadSession
from xferd.interfaces.store import Freed, IGarbageCollector, IImages, ILayers, IStore, ITrees, Unpacked
from xferd.names import Digest, Reference, Repository, chain_id
from xferd.oci import MAX_DOCUMENT

T = TypeVar("T")

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

DATA = b"some bytes of a blob"
DIGEST = Digest.of(DATA)


class Conformance(_Base):
    """
    What the tests of a provider need to know.
    """

    store: Any
    """The L{IStore}; a test case of its own may know it better."""

    def result(self, waiting: Deferred[T]) -> T:
        """
        Wait for a result.
        """
        return self.successResultOf(waiting)

    def failure(self, waiting: Deferred[Any], *expected: type[Exception]) -> Any:
        """
        Wait for a failure, as a L{twisted.python.failure.Failure}.
        """
        return self.failureResultOf(waiting, *expected)

    def do(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """
        Wait for a coroutine.
        """
        return self.result(Deferred.fromCoroutine(work))


class StoreConformance(Conformance):
    """
    L{IStore}.
    """

    def test_store(self) -> None:
        """
        A store has all its parts.
        """
        verifyObject(IStore, self.store)
        verifyObject(IBlobs, self.store.blobs)
        verifyObject(ITrees, self.store.trees)
        verifyObject(ILayers, self.store.layers)
        verifyObject(IImages, self.store.images)
        verifyObject(IJournal, self.store.journal)
        verifyObject(IGarbageCollector, self.store.gc)


class BlobsConformance(Conformance):
    """
    L{IBlobs} and L{IPartial}.
    """

    def partial(self, size: int | None = len(DATA), digest: Digest = DIGEST) -> IPartial:
        """
        Open a partial blob.
        """
        partial: IPartial = self.result(self.store.blobs.partial(digest, size))
        return partial

    def test_absent(self) -> None:
        """
        A blob that is not here has no size and cannot be read.
        """
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.assertIsNone(self.store.blobs.size(DIGEST))
        self.failure(self.store.blobs.read(DIGEST), NotFound)

    def test_put(self) -> None:
        """
        A document is here once it was put, and can be put again.
        """
        for _ in range(2):
            self.result(self.store.blobs.put(DIGEST, DATA))
            self.assertTrue(self.store.blobs.has(DIGEST))
            self.assertEqual(self.store.blobs.size(DIGEST), len(DATA))
            self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_put_something_else(self) -> None:
        """
        A document with another digest is refused.
        """
        self.failure(self.store.blobs.put(DIGEST, b"other"), DigestMismatch)
        self.assertFalse(self.store.blobs.has(DIGEST))

    def test_read_what_is_too_large(self) -> None:
        """
        A blob that is larger than a document may be is not read.
        """
        data = bytes(MAX_DOCUMENT + 1)
        self.do(fetch(self.store, data))
        self.failure(self.store.blobs.read(Digest.of(data)), StoreError)

    def test_partial(self) -> None:
        """
        A partial blob begins empty, grows, and is a blob when committed, not
        before.
        """
        partial = self.partial()
        verifyObject(IPartial, partial)
        self.assertEqual((partial.digest, partial.size, partial.offset), (DIGEST, len(DATA), 0))
        partial.write(DATA[:5])
        partial.write(DATA[5:])
        self.assertEqual(partial.offset, len(DATA))
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.result(partial.commit())
        self.assertEqual(self.store.blobs.size(DIGEST), len(DATA))
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)
        partial.close()

    def test_sha512(self) -> None:
        """
        Blobs may be named by SHA-512.
        """
        digest = Digest.of(DATA, "sha512")
        partial = self.partial(digest=digest)
        partial.write(DATA)
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(digest))

    def test_size_unknown(self) -> None:
        """
        Without a size, the digest alone decides.
        """
        partial = self.partial(size=None)
        partial.write(DATA)
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_empty(self) -> None:
        """
        The empty blob is a blob.
        """
        partial = self.partial(size=0, digest=Digest.of(b""))
        self.result(partial.commit())
        self.assertEqual(self.store.blobs.size(Digest.of(b"")), 0)

    def test_unnamed(self) -> None:
        """
        A blob may come without its digest, and is found under it, also where
        it was here before.
        """
        for _ in range(2):
            unnamed = self.result(self.store.blobs.anonymous())
            verifyObject(IAnonymousBlob, unnamed)
            unnamed.write(DATA[:5])
            unnamed.write(memoryview(DATA)[5:])
            self.assertEqual(unnamed.size, len(DATA))
            self.assertEqual(self.result(unnamed.commit()), DIGEST)
            unnamed.close()
            self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_unnamed_closed(self) -> None:
        """
        A blob without a name that is closed is gone, and takes no more.
        """
        unnamed = self.result(self.store.blobs.anonymous())
        unnamed.write(DATA)
        unnamed.close()
        unnamed.close()
        self.assertRaises(StoreError, unnamed.write, DATA)
        self.failure(unnamed.commit(), StoreError)
        self.assertFalse(self.store.blobs.has(DIGEST))

    def test_two_at_once(self) -> None:
        """
        A partial blob has one owner at a time; the next one waits until the
        previous one has closed it, and can cancel the wait.
        """
        partial = self.partial()
        second, third = self.store.blobs.partial(DIGEST, None), self.store.blobs.partial(DIGEST, None)
        self.assertNoResult(second)
        second.cancel()
        self.failure(second, CancelledError)
        self.assertNoResult(third)
        partial.close()
        self.result(third).close()
        self.partial().close()

    def test_resume(self) -> None:
        """
        Bytes that were written before a close are there at the next attempt.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.close()
        partial.close()
        again = self.partial()
        self.assertEqual(again.offset, 7)
        again.write(DATA[7:])
        self.result(again.commit())
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_rest(self) -> None:
        """
        A suspended partial blob refuses bytes; resumed, it continues at its
        offset, with its spans.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.write(DATA[:3])
        partial.write_at(5, DATA[5:7])
        partial.suspend()
        partial.suspend()
        self.assertRaises(StoreError, partial.write, DATA[3:])
        partial.resume()
        partial.resume()
        self.assertEqual((partial.offset, [*partial.spans]), (3, [(5, 7)]))
        partial.write(DATA[3:5])
        partial.write(DATA[7:])
        self.result(partial.commit())
        self.assertNotIn(("restarted",), follower.told)
        for call in (partial.suspend, partial.resume, partial.close):
            call()
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_closed_at_rest(self) -> None:
        """
        Closed at rest, its bytes are there for the next who opens it.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        partial.suspend()
        partial.close()
        partial.resume()
        again = self.partial()
        self.assertEqual(again.offset, 7)
        again.close()

    def test_too_much(self) -> None:
        """
        More bytes than there may be are refused, all of them.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        self.assertRaises(SizeMismatch, partial.write, DATA[7:] + b"!")
        self.assertEqual(partial.offset, 7)
        partial.write(DATA[7:])
        self.result(partial.commit())

    def test_too_little(self) -> None:
        """
        Fewer bytes than there must be are thrown away when they are called
        all.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        self.failure(partial.commit(), SizeMismatch)
        self.assertEqual(partial.offset, 0)
        partial.write(DATA)
        self.result(partial.commit())

    def test_wrong(self) -> None:
        """
        Wrong bytes are discarded, followers are notified, and the next attempt
        begins at 0.
        """
        partial = self.partial()
        follower = Follower()
        partial.write(DATA[::-1])
        partial.follow(follower)
        self.failure(partial.commit(), DigestMismatch)
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.assertEqual(partial.offset, 0)
        self.assertEqual(follower.told[-1], ("restarted",))
        partial.write(DATA)
        self.result(partial.commit())
        self.assertEqual(follower.told[-1][0], "sealed")
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_restart(self) -> None:
        """
        A restart discards the bytes and notifies followers.
        """
        partial = self.partial()
        follower = Follower()
        partial.follow(follower)
        self.assertEqual(follower.told, [])
        partial.write(DATA[::-1])
        partial.restart()
        self.assertEqual(partial.offset, 0)
        self.assertEqual(follower.told[-1], ("restarted",))
        partial.write(DATA)
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_parts(self) -> None:
        """
        Bytes may come behind a gap; followers hear of them when it is filled.
        """
        partial, follower = self.partial(), Follower()
        partial.follow(follower)
        partial.write(DATA[:3])
        partial.write_at(10, DATA[10:12])
        partial.write_at(15, DATA[15:])
        partial.write_at(12, DATA[12:13])
        self.assertEqual((partial.offset, list(partial.spans)), (3, [(10, 13), (15, len(DATA))]))
        self.assertTrue(all(what[-1] <= 3 for what in follower.told))
        partial.write_at(3, DATA[3:10])
        self.assertEqual((partial.offset, list(partial.spans)), (13, [(15, len(DATA))]))
        partial.write_at(13, DATA[13:15])
        self.assertEqual((partial.offset, list(partial.spans)), (len(DATA), []))
        self.result(partial.commit())
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_parts_over_a_try(self) -> None:
        """
        What is behind a gap is there for the next try, too.
        """
        partial = self.partial()
        partial.write_at(10, DATA[10:])
        partial.close()
        again = self.partial()
        self.assertEqual((again.offset, list(again.spans)), (0, [(10, len(DATA))]))
        again.write(DATA[:10])
        self.result(again.commit())
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_parts_in_the_wrong_place(self) -> None:
        """
        Bytes that are here already, or lie behind the end, are refused.
        """
        partial = self.partial()
        partial.write(DATA[:3])
        partial.write_at(10, DATA[10:12])
        self.assertRaises(StoreError, partial.write_at, 2, DATA[2:4])
        self.assertRaises(StoreError, partial.write, DATA[3:11])
        self.assertRaises(SizeMismatch, partial.write_at, 15, DATA[15:] + b"!")
        self.assertEqual((partial.offset, list(partial.spans)), (3, [(10, 12)]))

    def test_parts_thrown_away(self) -> None:
        """
        What is behind a gap can be thrown away without the rest, or with it.
        """
        partial = self.partial()
        partial.write(DATA[:3])
        for throw, left in ((partial.trim, 3), (partial.restart, 0)):
            partial.write_at(10, DATA[10:12])
            throw()
            throw()
            self.assertEqual((partial.offset, list(partial.spans)), (left, []))
        partial.close()
        self.assertEqual(self.partial().offset, 0)

    def test_parts_missing(self) -> None:
        """
        A blob with a gap is not committed; all its bytes are discarded.
        """
        partial = self.partial()
        partial.write_at(10, DATA[10:])
        self.failure(partial.commit(), SizeMismatch)
        self.assertEqual((partial.offset, list(partial.spans)), (0, []))

    def test_follow(self) -> None:
        """
        Who follows hears at once of what is there, and at the end where the
        blob is; who follows late hears the end.
        """
        partial = self.partial()
        partial.write(DATA[:7])
        early, gone, late = Follower(), Follower(), Follower()
        partial.follow(early)
        partial.follow(gone)
        self.assertEqual([(what[0], what[-1]) for what in early.told], [("grown", 7)])
        partial.unfollow(gone)
        partial.unfollow(gone)
        partial.write(DATA[7:])
        self.result(partial.commit())
        partial.follow(late)
        sealed = ("sealed", self.store.blobs.path(DIGEST), len(DATA))
        self.assertEqual(early.told[-1], sealed)
        self.assertEqual(late.told, [sealed])
        self.assertEqual(len(gone.told), 1)


class TreesConformance(Conformance):
    """
    L{ITrees}.
    """

    def unpacked(self, data: bytes) -> Unpacked:
        """
        The facts of an unpacked layer.
        """
        return Unpacked(Digest.of(data), len(data), len(data), 1)

    def test_commit(self) -> None:
        """
        A tree is here once it was committed, and known by its blob.
        """
        blob = Digest.of(b"compressed")
        staged = self.result(self.store.trees.stage())
        self.assertFalse(self.store.trees.has(DIGEST))
        self.assertIsNone(self.store.trees.diff_id_of(blob))
        self.result(self.store.trees.commit(staged, self.unpacked(DATA), blob))
        self.assertTrue(self.store.trees.has(DIGEST))
        self.assertEqual(self.store.trees.diff_id_of(blob), DIGEST)

    def test_commit_again(self) -> None:
        """
        The same tree out of another blob is the tree that is here already,
        known by both.
        """
        blobs = [Digest.of(b"gzip"), Digest.of(b"zstd"), Digest.of(b"zstd")]
        for blob in blobs:
            staged = self.result(self.store.trees.stage())
            self.result(self.store.trees.commit(staged, self.unpacked(DATA), blob))
        self.assertEqual([self.store.trees.diff_id_of(blob) for blob in blobs], [DIGEST] * 3)

    def test_discard(self) -> None:
        """
        A discarded tree never was; and it can be discarded again.
        """
        staged = self.result(self.store.trees.stage())
        self.result(self.store.trees.discard(staged))
        self.result(self.store.trees.discard(staged))
        self.assertFalse(self.store.trees.has(DIGEST))

    def test_stages_differ(self) -> None:
        """
        Everybody gets a directory of their own.
        """
        staged = {self.result(self.store.trees.stage()) for _ in range(3)}
        self.assertEqual(len(staged), 3)


class LayersConformance(Conformance):
    """
    L{ILayers}.
    """

    def test_register(self) -> None:
        """
        A layer is a tree on top of a chain, and is here once it was
        registered.
        """
        parent = None
        for depth, blob in enumerate((b"one", b"two", b"three"), 1):
            self.do(plant(self.store, blob))
            expected = chain_id([Digest.of(b) for b in (b"one", b"two", b"three")[:depth]])
            assert expected is not None
            self.assertIsNone(self.store.layers.get(expected))
            layer = self.result(self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob)))
            self.assertEqual((layer.chain_id, layer.parent), (expected, parent))
            self.assertEqual((layer.diff_id, layer.size), (Digest.of(blob), len(blob)))
            self.assertEqual(self.store.layers.get(expected), layer)
            parent = expected

    def test_again(self) -> None:
        """
        What is registered already is returned, also for another blob.
        """
        self.do(plant(self.store, DATA))
        blobs = [DATA, DATA, b"the same, compressed"]
        layers = [
            self.result(self.store.layers.register(None, DIGEST, layer_descriptor(blob))) for blob in blobs
        ]
        self.assertEqual(layers, [layers[0]] * 3)

    def test_two_parents(self) -> None:
        """
        One tree under two parents is two layers.
        """
        for blob in (b"one", b"two", DATA):
            self.do(plant(self.store, blob))
        layers = []
        for below in (b"one", b"two"):
            base = self.result(self.store.layers.register(None, Digest.of(below), layer_descriptor(below)))
            layers.append(
                self.result(self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA)))
            )
        self.assertNotEqual(layers[0].chain_id, layers[1].chain_id)
        self.assertEqual(layers[0].path, layers[1].path)

    def test_no_tree(self) -> None:
        """
        A layer without a tree cannot be.
        """
        self.failure(self.store.layers.register(None, DIGEST, layer_descriptor(DATA)), StoreError)
        self.assertIsNone(self.store.layers.get(DIGEST))

    def test_no_parent(self) -> None:
        """
        A layer on nothing cannot be.
        """
        self.do(plant(self.store, DATA))
        parent = Digest.of(b"nobody")
        self.failure(self.store.layers.register(parent, DIGEST, layer_descriptor(DATA)), StoreError)


class ImagesConformance(Conformance):
    """
    L{IImages}.
    """

    async def prepare(self, wanted: Any, keep_blobs: bool = True) -> None:
        """
        Bring all that an image needs, but its name.
        """
        parent = None
        for digest, data in wanted.documents.items():
            await self.store.blobs.put(digest, data)
        for blob in wanted.blobs:
            if keep_blobs:
                await fetch(self.store, blob)
            await plant(self.store, blob)
            layer = await self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob))
            parent = layer.chain_id

    def test_none(self) -> None:
        """
        At first there are no images.
        """
        self.assertEqual(list(self.store.images.all()), [])
        self.assertIsNone(self.store.images.get(Reference.parse("alpine")))

    def test_put(self) -> None:
        """
        An image is found by its name, and images are listed by name.
        """
        for name in ("busybox", "alpine"):
            wanted = sample(name, b"one", b"two")
            self.do(self.prepare(wanted))
            self.result(self.store.images.put(wanted.image))
            self.assertEqual(self.store.images.get(Reference.parse(name)), wanted.image)
        self.assertEqual(
            [i.reference.familiar() for i in self.store.images.all()], ["alpine:latest", "busybox:latest"]
        )

    def test_replace(self) -> None:
        """
        A name that is set again refers to the new image.
        """
        for blob in (b"old", b"new"):
            wanted = sample("alpine", blob)
            self.do(self.prepare(wanted))
            self.result(self.store.images.put(wanted.image))
            self.assertEqual(list(self.store.images.all()), [wanted.image])

    def test_no_layers(self) -> None:
        """
        An image need not have layers.
        """
        wanted = sample("scratch")
        self.do(self.prepare(wanted))
        self.result(self.store.images.put(wanted.image))
        self.assertEqual(list(self.store.images.all()), [wanted.image])

    def test_tree_is_enough(self) -> None:
        """
        A layer's blob may be absent where its layer is registered.
        """
        wanted = sample("alpine", b"one", b"two")
        self.do(self.prepare(wanted, keep_blobs=False))
        self.result(self.store.images.put(wanted.image))
        self.assertEqual(list(self.store.images.all()), [wanted.image])

    def test_incomplete(self) -> None:
        """
        A name is not given to what is not all here.
        """
        wanted = sample("alpine", b"one")
        self.failure(self.store.images.put(wanted.image), StoreError)
        for digest, data in wanted.documents.items():
            self.result(self.store.blobs.put(digest, data))
        reason = self.failure(self.store.images.put(wanted.image), StoreError)
        self.assertIn(str(wanted.image.layers[0].digest), str(reason.value))
        self.assertEqual(list(self.store.images.all()), [])

    def test_pin(self) -> None:
        """
        A name is pinned and unpinned; one that is pinned stays so when it is
        given to another image, until it is removed.
        """
        one, two = sample("alpine", b"one"), sample("alpine", b"two")
        images = self.store.images
        for wanted in (one, two):
            self.do(self.prepare(wanted))
        self.failure(images.pin(one.image.reference, True), NotFound)
        self.result(images.put(one.image))
        pinned = evolve(one.image, pinned=True)
        self.assertEqual(self.result(images.pin(one.image.reference, True)), pinned)
        self.assertEqual(list(images.all()), [pinned])
        self.result(images.put(two.image))
        self.assertEqual(list(images.all()), [evolve(two.image, pinned=True)])
        self.assertEqual(self.result(images.pin(one.image.reference, False)), two.image)
        self.result(images.pin(one.image.reference, True))
        self.result(images.remove(one.image.reference))
        self.result(images.put(one.image))
        self.assertEqual(list(images.all()), [one.image])

    def test_no_config(self) -> None:
        """
        A config that is not here is named.
        """
        wanted = sample("alpine", b"one")
        self.do(self.prepare(wanted))
        image = evolve(wanted.image, config=layer_descriptor(b"absent"))
        reason = self.failure(self.store.images.put(image), StoreError)
        self.assertIn("config", str(reason.value))

    def test_remove(self) -> None:
        """
        Removing a name leaves the others; an unknown name is not found.
        """
        one, two = sample("alpine", b"one"), sample("busybox", b"one")
        for wanted in (one, two):
            self.do(self.prepare(wanted))
            self.result(self.store.images.put(wanted.image))
        self.result(self.store.images.remove(one.image.reference))
        self.assertIsNone(self.store.images.get(one.image.reference))
        self.assertEqual(list(self.store.images.all()), [two.image])
        self.failure(self.store.images.remove(one.image.reference), NotFound)
        self.assertTrue(self.store.blobs.has(one.image.manifest.digest))


class CollectionConformance(Conformance):
    """
    L{IGarbageCollector}.
    """

    def pulled(self, name: str, *blobs: bytes) -> Sample:
        """
        Put a whole image into the store.
        """
        wanted = sample(name, *blobs)
        self.do(pull(self.store, wanted))
        return wanted

    def collect(self, dry_run: bool = False) -> Freed:
        """
        Collect.
        """
        freed: Freed = self.result(self.store.gc.collect(dry_run))
        return freed

    def assert_whole(self, wanted: Sample) -> None:
        """
        All is here of an image.
        """
        for digest in (*wanted.documents, *wanted.diff_ids):
            self.assertTrue(self.store.blobs.has(digest))
        parent = None
        for diff_id in wanted.diff_ids:
            self.assertTrue(self.store.trees.has(diff_id))
            parent = chain_id([diff_id], parent)
            assert parent is not None
            self.assertIsNotNone(self.store.layers.get(parent))

    def assert_gone(self, wanted: Sample) -> None:
        """
        Nothing is here of an image.
        """
        self.assertFalse(any(map(self.store.blobs.has, (*wanted.documents, *wanted.diff_ids))))
        self.assertFalse(any(map(self.store.trees.has, wanted.diff_ids)))
        assert wanted.image.chain_id is not None
        self.assertIsNone(self.store.layers.get(wanted.image.chain_id))

    def test_nothing(self) -> None:
        """
        What is named stays, and a store that is empty stays so.
        """
        self.assertEqual(self.collect(), Freed())
        wanted = self.pulled("alpine", b"one", b"two")
        self.assertEqual(self.collect(), Freed())
        self.assert_whole(wanted)

    def test_shared(self) -> None:
        """
        What two images share goes with the second.
        """
        one, two = self.pulled("one", b"base", b"one"), self.pulled("two", b"base", b"two")
        self.result(self.store.images.remove(one.image.reference))
        sizes = sum(len(data) for data in one.documents.values()) + 2 * len(b"one")
        expected = Freed(blobs=3, trees=1, layers=1, bytes=sizes)
        self.assertEqual(self.collect(dry_run=True), expected)
        self.assert_whole(one)
        self.assertEqual(self.collect(), expected)
        self.assert_whole(two)
        self.assertFalse(self.store.trees.has(Digest.of(b"one")))
        self.result(self.store.images.remove(two.image.reference))
        self.assertEqual(self.collect().layers, 2)
        for wanted in (one, two):
            self.assert_gone(wanted)
        self.do(pull(self.store, one))
        self.assert_whole(one)

    def test_partials(self) -> None:
        """
        A partial blob that is new goes when it is asked for, by its digest or
        with all others, but not one that is open, or that a use asked about.
        """
        blobs = [b"zero", b"one", b"two", b"three"]
        digests = [Digest.of(blob) for blob in blobs]
        partials = []
        for blob, digest in zip(blobs, digests, strict=True):
            partial: IPartial = self.result(self.store.blobs.partial(digest, len(blob)))
            partial.write(blob[:2])
            partials.append(partial)
        for partial in partials[1:]:
            partial.close()
        self.assertEqual([self.store.blobs.partial_size(digest) for digest in digests], [2, 2, 2, 2])
        self.assertEqual(self.store.blobs.partial_size(Digest.of(b"absent")), 0)
        self.assertEqual(self.collect(), Freed())
        collection = self.store.gc
        abandoned = frozenset((digests[0], digests[1]))
        self.assertEqual(
            self.result(collection.collect(False, abandoned=abandoned)), Freed(partials=1, bytes=2)
        )
        end = collection.lease()
        self.assertFalse(self.store.blobs.has(digests[2]))
        self.assertEqual(self.result(collection.collect(True, partials=True)), Freed(partials=1, bytes=2))
        self.assertEqual(self.result(collection.collect(False, partials=True)), Freed(partials=1, bytes=2))
        end()
        self.assertEqual(self.result(collection.collect(False, partials=True)), Freed(partials=1, bytes=2))
        self.result(collection.removed())
        again: IPartial = self.result(self.store.blobs.partial(digests[3], len(blobs[3])))
        self.assertEqual((again.offset, partials[0].offset), (0, 2))
        again.close()
        partials[0].close()

    def evict(self, excess: int, *spare: Sample, enough: bool = False) -> list[str]:
        """
        Take the names of images away.
        """
        spared = frozenset(wanted.image.reference for wanted in spare)
        gone = self.result(self.store.gc.evict(excess, spared, enough))
        return [reference.familiar().partition(":")[0] for reference in gone]

    def test_evict(self) -> None:
        """
        The image that was used least goes first, and no more of them than
        necessary; then they can be collected.
        """
        one, two, _ = (self.pulled(name, name.encode() * 1000) for name in ("one", "two", "three"))
        self.store.images.get(one.image.reference)
        self.assertEqual(self.evict(0), [])
        self.assertEqual(self.evict(1), ["two"])
        self.collect()
        self.assert_gone(two)
        self.assertEqual(self.evict(10_000_000, one), ["three"])
        self.assertEqual(self.evict(10_000_000, enough=True), [])
        self.assertEqual(self.evict(3000, enough=True), ["one"])

    def test_evict_more(self) -> None:
        """
        As many go as are needed.
        """
        wanted = [self.pulled(str(number), b"x" * 1000 + bytes([number])) for number in range(4)]
        self.assertEqual(self.evict(wanted[0].image.size + 1001 + 1), ["0", "1"])

    def test_evict_held(self) -> None:
        """
        Pinned images, and images in use, stay.
        """
        one, two, _ = (self.pulled(name, name.encode()) for name in ("one", "two", "three"))
        self.result(self.store.images.pin(one.image.reference, True))
        end = self.store.gc.lease()
        self.store.images.get(two.image.reference)
        self.assertEqual(self.evict(10_000_000), ["three"])
        end()
        self.assertEqual(self.evict(10_000_000), ["two"])
        self.result(self.store.images.pin(one.image.reference, False))
        self.assertEqual(self.evict(10_000_000), ["one"])

    def test_another_name(self) -> None:
        """
        An image stays while one of its names does.
        """
        wanted = self.pulled("alpine", b"one")
        self.result(self.store.images.put(evolve(wanted.image, reference=Reference.parse("mine"))))
        self.result(self.store.images.remove(wanted.image.reference))
        self.assertEqual(self.collect(), Freed())
        self.assert_whole(wanted)

    def test_used(self) -> None:
        """
        Content that was requested or added under a lease stays until the lease
        is released: a blob, a tree, a layer with all its parents.
        """
        wanted = sample("alpine", b"one", b"two", b"three")
        self.do(pull(self.store, wanted))
        self.result(self.store.images.remove(wanted.image.reference))
        end = self.store.gc.lease()
        two = chain_id(wanted.diff_ids[:2])
        assert two is not None
        self.store.layers.get(two)
        self.store.blobs.has(wanted.diff_ids[0])
        self.store.trees.diff_id_of(wanted.diff_ids[2])
        self.result(self.store.blobs.put(DIGEST, DATA))
        freed = self.collect()
        # The top blob is its own tar, so that it is in use with its tree.
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (1, 0, 3))
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.assertTrue(all(map(self.store.trees.has, wanted.diff_ids)))
        end()
        freed = self.collect()
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (2, 3, 3))

    def test_named_and_used(self) -> None:
        """
        A request for an image by its name keeps all its parts, also after the
        name is removed.
        """
        wanted = self.pulled("alpine", b"one", b"two")
        end = self.store.gc.lease()
        self.store.images.get(wanted.image.reference)
        self.result(self.store.images.remove(wanted.image.reference))
        self.assertEqual(self.collect(), Freed())
        end()
        self.assertEqual(self.collect().layers, 2)
        self.assert_gone(wanted)

    def test_arriving(self) -> None:
        """
        A blob that is on its way is not touched.
        """
        partial = self.result(self.store.blobs.partial(DIGEST, len(DATA)))
        partial.write(DATA[:5])
        self.assertEqual(self.collect(), Freed())
        partial.write(DATA[5:])
        self.result(partial.commit())
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.assertEqual(self.collect(), Freed(blobs=1, bytes=len(DATA)))


def job(number: int, state: str = "running") -> dict[str, Any]:
    """
    A job, as far as the journal looks at it.
    """
    return {
        "id": f"job-{number}",
        "state": state,
        "created": f"2026-01-01T00:00:{number:02}Z",
        "kind": "pull",
    }


class JournalConformance(Conformance):
    """
    L{IJournal}.
    """

    def test_jobs(self) -> None:
        """
        The newest jobs come first, and so many as are asked for.
        """
        for number in (2, 1, 3):
            self.result(self.store.journal.record_job(job(number)))
        self.assertEqual(self.result(self.store.journal.jobs(2)), [job(3), job(2)])

    def test_one_job(self) -> None:
        """
        A job is found by its id, as it was recorded last.
        """
        self.assertIsNone(self.result(self.store.journal.job("job-1")))
        self.result(self.store.journal.record_job(job(1)))
        self.result(self.store.journal.record_job(job(1, "done")))
        self.assertEqual(self.result(self.store.journal.job("job-1")), job(1, "done"))
        self.assertIsNone(self.result(self.store.journal.job("job-2")))

    def test_older_jobs(self) -> None:
        """
        Jobs come page by page: those that are older than one, of which the id
        decides where they were created together.
        """
        jobs = [{**job(number), "created": job(number // 2)["created"]} for number in range(7)]
        for each in jobs:
            self.result(self.store.journal.record_job(each))
        found = []
        before = None
        while page := self.result(self.store.journal.jobs(2, before)):
            found += page
            before = (page[-1]["created"], page[-1]["id"])
        self.assertEqual(found, jobs[::-1])

    def test_keys(self) -> None:
        """
        Idempotency keys are remembered for each client, in their order; one
        that is recorded again replaces the first.
        """
        journal = self.store.journal
        keys = [
            IdempotencyKey("ci", "a", b"\x00\xff", "job-1", 10.0),
            IdempotencyKey("me", "a", b"1", "job-2", 20.5),
            IdempotencyKey("ci", "b", b"2", "job-3", 30.0),
        ]
        for key in keys:
            self.result(journal.record_key(key))
        self.assertEqual(self.result(journal.keys(0.0)), keys)
        self.assertEqual(self.result(journal.keys(10.0)), keys[1:])
        again = IdempotencyKey("ci", "a", b"3", "job-4", 40.0)
        self.result(journal.record_key(again))
        self.assertEqual(self.result(journal.keys(0.0)), [*keys[1:], again])

    def test_replace(self) -> None:
        """
        What was remembered of a job is replaced, and it keeps its place.
        """
        for number in (1, 2):
            self.result(self.store.journal.record_job(job(number)))
        self.result(self.store.journal.record_job(job(1, "done")))
        self.assertEqual(self.result(self.store.journal.jobs(9)), [job(2), job(1, "done")])

    def test_remembered_as_it_was(self) -> None:
        """
        Changing a record after it was handed over changes nothing.
        """
        record = job(1)
        self.result(self.store.journal.record_job(record))
        record["state"] = "done"
        self.assertEqual(self.result(self.store.journal.jobs(9)), [job(1)])

    def test_not_interrupted(self) -> None:
        """
        What this daemon runs was not interrupted.
        """
        self.result(self.store.journal.record_job(job(1)))
        self.assertEqual(self.result(self.store.journal.interrupted()), [])

    def test_attempt(self) -> None:
        """
        An attempt is recorded; what is not known of it is L{None}.
        """
        known = {"transfer": "t1", "kind": "download", "attempt": 1, "bytes_done": 3}
        self.result(self.store.journal.record_attempt(known))
        unknown = dict.fromkeys(("digest", "source", "started", "finished", "code", "error"))
        self.assertEqual(self.result(self.store.journal.attempts(["t1"], 9)), [{**known, **unknown}])

    def test_attempts_of_some(self) -> None:
        """
        The attempts of some transfers are returned in their order, and above
        the limit only the newest.
        """
        facts = {
            "kind": "download",
            "digest": str(DIGEST),
            "source": "r.example/app",
            "started": "2026-01-02T03:04:05.000Z",
            "finished": "2026-01-02T03:04:06.000Z",
            "bytes_done": 3,
            "code": None,
            "error": None,
        }
        tried = [
            {"transfer": transfer, "attempt": n, **facts} for n in (1, 2) for transfer in ("t1", "t2", "it's")
        ]
        for attempt in tried:
            self.result(self.store.journal.record_attempt(attempt))
        journal = self.store.journal
        self.assertEqual(self.result(journal.attempts(["t1"], 9)), [tried[0], tried[3]])
        self.assertEqual(
            self.result(journal.attempts(["it's", "t1", "t4"], 3)), [tried[2], tried[3], tried[5]]
        )
        self.assertEqual(self.result(journal.attempts([], 9)), [])

    def test_uploads(self) -> None:
        """
        The latest session of an upload is recorded until it is removed.
        """
        app, other = Repository("r.example", "app"), Repository("r.example", "other")
        journal = self.store.journal
        self.result(journal.record_upload(app, DIGEST, UploadSession("https://r.example/1", 0)))
        self.result(journal.record_upload(other, DIGEST, UploadSession("https://r.example/2", 5)))
        self.result(journal.record_upload(app, DIGEST, UploadSession("https://r.example/3", 7, 1e9, True)))
        self.assertEqual(
            self.result(journal.uploads()),
            {
                (app, DIGEST): UploadSession("https://r.example/3", 7),
                (other, DIGEST): UploadSession("https://r.example/2", 5),
            },
        )
        found = self.result(journal.uploads())
        self.assertEqual((found[app, DIGEST].used, found[app, DIGEST].isolated), (1e9, True))
        self.assertFalse(found[other, DIGEST].isolated)
        for repository in (app, other, other):
            self.result(journal.record_upload(repository, DIGEST, None))
        self.assertEqual(self.result(journal.uploads()), {})

    def test_holders(self) -> None:
        """
        The repositories that have a blob are recorded for each registry, the
        one seen last first, and each only once.
        """
        a, b = Repository("r.example", "a"), Repository("r.example", "b")
        for repository in (a, b, Repository("other.example", "a"), a):
            self.result(self.store.journal.record_holder(repository, DIGEST))
        self.result(self.store.journal.record_holder(b, Digest.of(b"another")))
        self.assertEqual(self.result(self.store.journal.holders("r.example", DIGEST)), [a, b])
        self.assertEqual(self.result(self.store.journal.holders("nobody.example", DIGEST)), [])
