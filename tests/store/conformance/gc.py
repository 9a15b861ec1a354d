"""
Tests for providers of L{IGarbageCollector}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail

from tests.store.conformance.base import DATA, DIGEST, Conformance
from tests.store.support import LayerUser, Sample, pull, sample
from xferd.errors import StoreError
from xferd.interfaces.blobs import IPartial
from xferd.interfaces.catalog import CatalogManifest
from xferd.interfaces.collection import Freed, KeptFor
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Reference, Repository, chain_id
from xferd.oci import Descriptor


class GarbageCollectorConformance(Conformance):
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
        Named content stays, and an empty store stays empty.
        """
        self.assertEqual(self.collect(), Freed())
        wanted = self.pulled("alpine", b"one", b"two")
        self.assertEqual(self.collect(), Freed())
        self.assert_whole(wanted)

    def test_shared(self) -> None:
        """
        Content that two images share is removed with the second.
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
        return [reference.familiar().partition(":")[0] for reference in gone.images]

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

    def mirror(
        self, name: str, blob: bytes, repository: str = "registry.example/app"
    ) -> tuple[Repository, Digest]:
        """
        List a manifest with one blob in a repository.
        """
        digest, data = Digest.of(name.encode()), name.encode()
        self.result(self.store.blobs.put(digest, data))
        self.result(self.store.blobs.put(Digest.of(blob), blob))
        manifest = CatalogManifest(
            Descriptor(OCI_MANIFEST, digest, len(data)), (Descriptor("", Digest.of(blob), len(blob)),)
        )
        found = Reference.parse(repository).repository
        self.result(self.store.catalog.put_manifest(found, manifest, [name], 0.0))
        return found, digest

    def test_evict_mirrored(self) -> None:
        """
        Mirrored manifests go in the order of their last use, among images; those
        that a rule keeps stay, and what was pushed to xferd.
        """
        one = self.mirror("one", b"1" * 1000)
        self.pulled("image", b"x" * 1000)
        two, three = self.mirror("two", b"2" * 1000), self.mirror("three", b"3" * 1000)
        own = self.mirror("own", b"4" * 1000, "localhost/local/app")
        self.store.catalog.note_use(*one)
        gone = self.result(self.store.gc.evict(1))
        self.assertEqual(([r.familiar() for r in gone.images], gone.manifests), (["image:latest"], ()))
        gone = self.result(self.store.gc.evict(1))
        self.assertEqual((gone.images, gone.manifests), ((), (two,)))
        gone = self.result(self.store.gc.evict(1_000_000, keeps=lambda *name: name == three))
        self.assertEqual(gone.manifests, (one,))
        self.collect()
        here = [self.store.blobs.has(Digest.of(blob * 1000)) for blob in (b"1", b"2", b"3", b"4")]
        self.assertEqual(here, [False, False, True, True])
        self.assertIsNotNone(self.store.catalog.manifest(*own))

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

    def user(self) -> LayerUser:
        """
        Have an engine that uses layers.
        """
        user = LayerUser()
        self.store.gc.add_user(user)
        self.store.gc.add_user(user)
        return user

    def test_user(self) -> None:
        """
        What an engine needs stays without a name, until the engine does not
        need it any more: layers with all their parents and trees, and blobs.
        """
        wanted = self.pulled("alpine", b"one", b"two", b"three")
        user = self.user()
        middle, blob = chain_id(wanted.diff_ids[:2]), wanted.image.config.digest
        assert middle is not None
        user.needs = {middle: ["container 1"], blob: ["image 1"], DIGEST: ["unknown"]}
        self.result(self.store.images.remove(wanted.image.reference))
        freed = self.collect(dry_run=True)
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (1, 1, 4))
        self.assertEqual(self.collect(), freed)
        self.assertIsNotNone(self.store.layers.get(middle))
        self.assertTrue(self.store.trees.has(wanted.diff_ids[1]))
        self.assertEqual(self.store.gc.used_by(middle), ["engine one: container 1"])
        self.assertEqual(self.store.gc.used_by(wanted.image.chain_id), [])
        self.assertEqual(self.store.gc.kept_for(), [KeptFor("engine one", 2, 6, ("container 1",))])
        del user.needs[middle]
        freed = self.collect()
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (2, 2, 0))
        self.assertTrue(self.store.blobs.has(blob))
        user.needs.clear()
        self.assertEqual(self.collect().blobs, 1)

    def test_user_refreshes(self) -> None:
        """
        Nothing is removed before an engine has read what it needs, which ends
        with the collection.
        """
        wanted = self.pulled("alpine", b"one")
        user = self.user()
        self.result(self.store.images.remove(wanted.image.reference))
        reading: Deferred[None] = Deferred()
        user.reading = lambda: reading
        collecting = self.store.gc.collect(False)
        self.assertNoResult(collecting)
        assert wanted.image.chain_id is not None
        user.needs[wanted.image.chain_id] = ["container 1"]
        reading.callback(None)
        freed = self.result(collecting)
        # The chain ID of the only layer is the digest of its blob, too.
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (0, 0, 2))
        for begin in (lambda: self.store.gc.collect(False), lambda: self.store.gc.evict(1)):
            reading = Deferred()
            work = begin()
            work.cancel()
            self.failure(work, CancelledError)

    def test_user_unknown(self) -> None:
        """
        If an engine cannot find out what it needs, nothing is removed, and the
        error names the engine.
        """
        wanted = self.pulled("alpine", b"one")
        user = self.user()
        user.reading = lambda: fail(OSError("no such file"))
        for work in (self.store.gc.evict(1), self.store.gc.collect(True), self.store.gc.collect(False)):
            error = self.failure(work, StoreError).value
            self.assertEqual(
                str(error),
                "no content is freed, since it is unknown which layers engine one needs: no such file",
            )
        self.assert_whole(wanted)

    def test_evict_used(self) -> None:
        """
        Images stay whose layers an engine needs, also below others.
        """
        one = self.pulled("one", b"base")
        two = self.pulled("two", b"base", b"top")
        self.pulled("three", b"base", b"other")
        user = self.user()
        assert two.image.chain_id is not None
        user.needs = {two.image.chain_id: ["container 1"], DIGEST: ["unknown"]}
        self.assertEqual(self.evict(10_000_000), ["three"])
        user.needs.clear()
        self.assertEqual(self.evict(10_000_000), ["one", "two"])
        self.collect()
        self.assert_gone(one)
