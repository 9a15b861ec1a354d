"""
Tests for L{xferd.store.gc.collector}.

The module is long because each part of an image can be in use, partly here, or damaged.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Set
from sys import setprofile
from types import FrameType
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.store.conformance.gc import GarbageCollectorConformance
from tests.store.support import (
    Sample,
    StoreTestCase,
    docker_sample,
    fetch,
    layer_descriptor,
    plant,
    pull,
    sample,
)
from xferd.errors import DiskFull, StoreError
from xferd.interfaces.collection import Freed, ICopies
from xferd.interfaces.fleet import MIN_SHARED
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Reference, chain_id
from xferd.store.gc import collector
from xferd.store.gc.survey import Survey, survey
from xferd.store.store import PARTIAL_AGE


@implementer(ICopies)
class Copies:
    """
    Copies on other machines.

    @ivar known: the blobs that these have.
    @ivar asked: the questions.
    @ivar gone: the blobs that were reported as removed.
    """

    def __init__(self) -> None:
        self.known: set[Digest] = set()
        self.asked: list[set[Digest]] = []
        self.gone: set[Digest] = set()

    def elsewhere(self, digests: Collection[Digest]) -> Deferred[Set[Digest]]:
        """
        The known ones.
        """
        self.asked.append(set(digests))
        return succeed(self.known & set(digests))

    def removed(self, digests: Collection[Digest]) -> None:
        """
        Note them.
        """
        self.gone.update(digests)


class CollectionTests(GarbageCollectorConformance, StoreTestCase):
    """
    On the disk.
    """

    def files(self) -> list[str]:
        """
        Every file below the directories of content, and every tree.
        """
        found: list[str] = []
        for name in ("content/blobs", "ingest", "layers", "trees"):
            for directory, _, files in os.walk(os.path.join(self.path, name)):
                found.extend(os.path.relpath(os.path.join(directory, file), self.path) for file in files)
        return sorted(found)

    def remove(self, wanted: Sample) -> None:
        """
        Take a name away.
        """
        self.successResultOf(self.store.images.remove(wanted.image.reference))

    def entries(self) -> list[dict[str, Any]]:
        """
        The entries of the index.
        """
        with open(os.path.join(self.path, "content", "index.json"), "rb") as file:
            found: list[dict[str, Any]] = json.load(file)["manifests"]
        return found

    def test_empty(self) -> None:
        """
        Nothing is left of what nothing names, also over a restart.
        """
        images = [self.pulled("one", b"base", b"one"), self.pulled("two", b"base", b"two")]
        for wanted in images:
            self.remove(wanted)
        self.assertEqual(self.collect().trees, 3)
        self.assertEqual((self.files(), self.entries()), ([], []))
        self.assertEqual(os.listdir(os.path.join(self.path, "staging")), [])
        self.reopen()
        self.assertEqual(self.store.images.all(), [])
        for wanted in images:
            self.run_now(pull(self.store, wanted))
            self.assert_whole(wanted)

    def test_docker_image(self) -> None:
        """
        The second form of Docker's manifest goes with the last name of its
        image, and not before.
        """
        wanted = docker_sample("alpine", b"one")
        self.run_now(pull(self.store, wanted))
        other = evolve(wanted.image, reference=Reference.parse("mine"))
        self.successResultOf(self.store.images.put(other))
        self.remove(wanted)
        self.assertEqual((self.collect(), len(self.entries())), (Freed(), 2))
        self.reopen()
        self.assertEqual(self.collect(), Freed())
        self.successResultOf(self.store.images.remove(other.reference))
        self.assertEqual(self.entries(), [])
        self.assertEqual(self.collect().blobs, 4)
        self.assertEqual(self.files(), [])

    def test_without_a_docker_image(self) -> None:
        """
        A dry run without some names finds what would be free without them, also the second
        form of Docker's manifest, and removes nothing.
        """
        wanted = docker_sample("alpine", b"one")
        self.run_now(pull(self.store, wanted))
        other = self.pulled("other", b"one", b"two")
        before = self.files()

        def would(*names: Reference) -> Freed:
            freed: Freed = self.result(self.store.gc.collect(True, without=frozenset(names)))
            return freed

        self.assertEqual(would(), Freed())
        # Their layers have one blob.
        self.assertEqual(would(wanted.image.reference).blobs, 3)
        self.assertEqual(would(other.image.reference).trees, 1)
        both = would(wanted.image.reference, other.image.reference)
        self.assertEqual((both.trees, both.layers, len(self.entries())), (2, 2, 3))
        self.assertEqual((self.files(), self.collect()), (before, Freed()))
        self.remove(wanted)
        self.remove(other)
        self.assertEqual(self.collect(), both)

    def test_strangers(self) -> None:
        """
        Content of another tool's entry stays, and the entry as well, also if
        it has the name of a removed one.
        """
        ours, theirs = self.pulled("alpine", b"one", b"two"), self.pulled("other", b"three")
        self.remove(theirs)
        entry = {**theirs.image.manifest.to_json(), "mediaType": OCI_MANIFEST}
        entry["annotations"] = {"org.opencontainers.image.ref.name": "theirs"}
        index = {"schemaVersion": 2, "manifests": [*self.entries(), entry]}
        with open(os.path.join(self.path, "content", "index.json"), "w") as file:
            json.dump(index, file)
        self.remove(ours)
        freed = self.collect()
        # Their blob is its own tar, so that its tree stays, too.
        self.assertEqual((freed.blobs, freed.trees, freed.layers), (4, 2, 2))
        self.assertEqual(self.entries(), [entry])
        for digest in (*theirs.documents, *theirs.diff_ids):
            self.assertTrue(self.store.blobs.has(digest))

    def test_lost_image(self) -> None:
        """
        Of an image that is no longer whole, the rest stays until its name is
        removed, for which it need not be whole.
        """
        wanted = self.pulled("alpine", b"one", b"two")
        os.unlink(self.store.blobs.path(wanted.image.config.digest))
        self.reopen()
        self.flushLoggedErrors()
        self.assertEqual((self.store.images.all(), self.collect()), ([], Freed()))
        self.remove(wanted)
        self.assertEqual(self.collect(), Freed(blobs=3, trees=2, layers=2, bytes=self.collected(wanted)))
        self.assertEqual((self.files(), self.entries()), ([], []))

    def collected(self, wanted: Sample) -> int:
        """
        The bytes of an image without its config, with its trees.
        """
        layers = sum(len(blob) for blob in wanted.blobs)
        return 2 * layers + wanted.image.manifest.size

    def variants(self) -> tuple[Sample, Sample]:
        """
        Two images that have one tree, each with other attributes on a
        directory that its tar implies.
        """
        images = sample("one", b"bottom", b"top"), sample("two", b"other bottom", b"top")
        for wanted, mode in zip(images, (0o700, 0o750), strict=True):
            parent = None
            for digest, data in wanted.documents.items():
                self.successResultOf(self.store.blobs.put(digest, data))
            for blob in wanted.blobs:
                self.run_now(fetch(self.store, blob)) if not self.store.blobs.has(Digest.of(blob)) else None
                self.run_now(plant(self.store, blob, b"etc"))
                layer = self.successResultOf(
                    self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob))
                )
                if parent is None:
                    os.chmod(os.path.join(layer.path, "etc"), mode)
                parent = layer.chain_id
            self.successResultOf(self.store.images.put(wanted.image))
        return images

    def assert_tree(self, wanted: Sample, mode: int) -> None:
        """
        The top tree of an image is whole, and fits.
        """
        assert wanted.image.chain_id is not None
        layer = self.store.layers.get(wanted.image.chain_id)
        assert layer is not None
        self.assertEqual(os.stat(os.path.join(layer.path, "etc")).st_mode & 0o777, mode)
        with open(os.path.join(layer.path, "content"), "rb") as file:
            self.assertEqual(file.read(), b"top")

    def test_hard_links(self) -> None:
        """
        A tree made of hard links goes with its layer; the files that it shares
        stay for the others.
        """
        one, two = self.variants()
        self.remove(two)
        freed = self.collect()
        # The second tree of "top" has two directories of its own, and no files.
        documents = sum(len(data) for data in two.documents.values())
        self.assertEqual(freed, Freed(3, 2, 2, 0, documents + 2 * len(b"other bottom") + 2 * 4096))
        self.assert_tree(one, 0o700)
        self.reopen()
        self.assert_tree(one, 0o700)

    def test_the_first_of_hard_links(self) -> None:
        """
        The tree that the others were made of stays while one of them does:
        it has their facts.  A third that comes later is right, too.
        """
        one, two = self.variants()
        self.remove(one)
        self.assertEqual((freed := self.collect()).trees, 1, freed)
        self.assert_tree(two, 0o750)
        self.reopen()
        self.assert_tree(two, 0o750)
        self.assertTrue(self.store.trees.has(Digest.of(b"top")))
        self.run_now(pull(self.store, two))
        self.remove(two)
        self.assertEqual(self.collect().trees, 3)
        self.assertEqual(self.files(), [])
        one, two = self.variants()
        self.assert_tree(one, 0o700)
        self.assert_tree(two, 0o750)

    def partial(self, blob: bytes) -> Digest:
        """
        Leave half a blob behind.
        """
        digest = Digest.of(blob)
        partial = self.successResultOf(self.store.blobs.partial(digest, len(blob)))
        partial.write(blob[: len(blob) // 2])
        partial.close()
        os.utime(os.path.join(self.path, "ingest", f"sha256-{digest.hex}"), (1000, 1000))
        return digest

    def test_partials(self) -> None:
        """
        A partial blob that has been unused for long is removed, unless a
        transfer has just begun to use it.
        """
        self.partial(b"0123456789")
        self.reactor.advance(500 + PARTIAL_AGE)
        self.assertEqual(self.collect(), Freed())
        self.reactor.advance(1)
        end = self.store.gc.lease()
        self.partial(b"another one")
        self.assertEqual(self.collect(), Freed(partials=1, bytes=5))
        end()
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(b"another one"), 11))
        self.assertEqual((partial.offset, self.collect()), (5, Freed()))

    def test_partials_age_by_the_wall_clock(self) -> None:
        """
        A partial blob has the age that its file's time and the time of day
        make, also after the clock was set.
        """
        self.partial(b"0123456789")
        self.wall_clock.set(900)
        self.assertEqual(self.collect(), Freed())
        self.wall_clock.set(1001 + PARTIAL_AGE)
        self.assertEqual(self.collect(), Freed(partials=1, bytes=5))

    def test_partial_with_gaps(self) -> None:
        """
        With a partial blob goes the note of which bytes are there.
        """
        data = b"0123456789"
        partial = self.successResultOf(self.store.blobs.partial(Digest.of(data), len(data)))
        partial.write_at(7, data[7:])
        partial.close()
        place = os.path.join(self.path, "ingest")
        self.assertEqual(len(os.listdir(place)), 2)
        os.utime(os.path.join(place, f"sha256-{Digest.of(data).hex}"), (1000, 1000))
        self.reactor.advance(501 + PARTIAL_AGE)
        self.assertEqual(self.collect().partials, 1)
        self.assertEqual(os.listdir(place), [])

    def test_mounted(self) -> None:
        """
        A tree that is mounted stays, and a chain that is.
        """
        wanted = self.pulled("alpine", b"one", b"two", b"three")
        self.remove(wanted)
        one, three = wanted.diff_ids[0], wanted.diff_ids[2]
        chain = chain_id(wanted.diff_ids[:2])
        assert chain is not None

        def mounted_survey(*args: Any) -> Survey:
            found = survey(*args)
            mounted = frozenset({f"sha256/{three.hex}"})
            return evolve(found, reached=found.reached | {chain}, mounted=mounted)

        patch = self.patch(collector, "survey", mounted_survey)
        freed = self.collect()
        self.assertEqual((freed.layers, freed.trees), (1, 0))
        self.assertIsNotNone(self.store.layers.get(chain))
        self.assertTrue(self.store.trees.has(one))
        patch.restore()
        freed = self.collect()
        self.assertEqual((freed.layers, freed.trees), (2, 3))

    def test_evict_mounted(self) -> None:
        """
        An image that is mounted stays, by the tree on top or by its chain.
        """
        one, two = self.pulled("one", b"base", b"one"), self.pulled("two", b"base", b"two")
        chain = two.image.chain_id
        assert chain is not None

        def mounted_survey(*args: Any) -> Survey:
            mounted = frozenset({f"sha256/{one.diff_ids[1].hex}"})
            return evolve(survey(*args), mounted=mounted, chains=frozenset({chain}))

        patch = self.patch(collector, "survey", mounted_survey)
        self.assertEqual(self.evict(10_000_000), [])
        patch.restore()
        self.assertEqual(self.evict(10_000_000), ["one", "two"])

    def test_copies(self) -> None:
        """
        Of what was not used for long, that goes first which others have; what is removed is
        reported.
        """
        copies = Copies()
        self.assertTrue(verifyObject(ICopies, copies))
        self.store.gc.use_copies(copies)
        large = (b"%d" % number * MIN_SHARED for number in range(1, 4))
        one, two, three = (self.pulled(f"i{n}", blob) for n, blob in enumerate(large, 1))
        copies.known = {two.image.layers[0].digest}
        self.assertEqual(self.evict(1_000_000), ["i2"])
        (asked,) = copies.asked
        self.assertEqual(asked, {each.image.layers[0].digest for each in (one, two, three)})
        self.assertEqual(copies.gone, set())
        self.collect()
        self.assertIn(two.image.layers[0].digest, copies.gone)
        self.assertNotIn(one.image.layers[0].digest, copies.gone)
        self.assertEqual(self.evict(1), ["i1"])

    def test_many(self) -> None:
        """
        Many things are collected in many turns; what was begun to be used in
        between is spared, with what it stands on.
        """
        wanted = self.pulled("alpine", *(b"%d" % n for n in range(200)))
        self.remove(wanted)
        collecting = self.store.gc.collect()
        left = len(self.store.layers.all())
        self.assertTrue(0 < left < 200, left)
        end = self.store.gc.lease()
        chain = chain_id(wanted.diff_ids[: left - 10])
        assert chain is not None
        self.assertIsNotNone(self.store.layers.get(chain))
        for _ in range(30):
            self.reactor.advance(0)
        freed = self.successResultOf(collecting)
        self.assertEqual((freed.layers, freed.trees), (200 - left + 10, 200 - left + 10))
        self.assertIsNotNone(self.store.layers.get(chain))
        end()
        self.reopen()
        self.assertEqual(self.store.layers.depth(chain), left - 10)

    def test_each_once(self) -> None:
        """
        The batches of one collection do not look at everything again: each layer and
        each blob is checked once, and the names are read once.
        """
        self.pulled("kept", b"kept")
        self.remove(self.pulled("alpine", *(b"%d" % n for n in range(130))))
        blobs = [name for name in self.files() if name.startswith("content/blobs")]
        looks = len(self.store.layers.all()) + len(blobs)
        counted: Counter[str] = Counter()

        def count(frame: FrameType, event: str, _: object) -> None:
            counted[frame.f_code.co_qualname] += event == "call"

        setprofile(count)
        try:
            collecting = self.store.gc.collect()
            for _ in range(30):
                self.reactor.advance(0)
        finally:
            setprofile(None)
        self.assertEqual(self.successResultOf(collecting).layers, 130)
        self.assertEqual(counted["GarbageCollector._is_wanted"], looks)
        self.assertEqual(counted["Image.parts"], 1)

    def test_use_ends_in_between(self) -> None:
        """
        A layer stays if a layer on top of it was spared a moment ago, although
        that is no longer in use.
        """
        wanted = self.pulled("alpine", *(b"%d" % n for n in range(100)))
        self.remove(wanted)
        end = self.store.gc.lease()
        assert wanted.image.chain_id is not None
        self.store.layers.get(wanted.image.chain_id)
        collecting = self.store.gc.collect()
        end()
        for _ in range(30):
            self.reactor.advance(0)
        self.assertEqual(self.successResultOf(collecting).layers, 0)
        self.reopen()
        self.assertEqual(self.store.layers.depth(wanted.image.chain_id), 100)

    def test_named_in_between(self) -> None:
        """
        A name that is given while the store is looked through keeps what it
        stands for.
        """
        wanted = self.pulled("alpine", b"one")
        docker = docker_sample("docker", b"two")
        self.run_now(pull(self.store, docker))
        for one in (wanted, docker):
            self.remove(one)
        self.pools.disk.held = True
        collecting = self.store.gc.collect()
        naming = [self.store.images.put(one.image) for one in (wanted, docker)]
        self.pools.disk.step()
        # It knows all that is there, and goes on when the names are written.
        self.assertNoResult(collecting)
        self.pools.disk.release()
        for waiting in naming:
            self.successResultOf(waiting)
        self.assertEqual(self.successResultOf(collecting), Freed())
        self.assert_whole(wanted)
        self.reopen()
        self.assertEqual(len(self.store.images.all()), 2)
        self.assertEqual(self.collect(), Freed())

    def test_named_too_late(self) -> None:
        """
        A name that is given after what it stands for went is refused.
        """
        wanted = self.pulled("alpine", b"one")
        self.remove(wanted)
        self.collect()
        self.failureResultOf(self.store.images.put(wanted.image), StoreError)

    def test_one_after_the_other(self) -> None:
        """
        Two collections do not get into each other's way.
        """
        self.remove(self.pulled("alpine", b"one"))
        self.pools.disk.held = True
        collecting = [self.store.gc.collect() for _ in range(2)]
        self.assertEqual(len(self.pools.disk.waiting), 1)
        self.pools.disk.release()
        self.assertEqual([self.successResultOf(c).layers for c in collecting], [1, 0])

    def test_cancel(self) -> None:
        """
        A collection that is cancelled ends, and the next one does the rest.
        """
        self.remove(self.pulled("alpine", *(b"%d" % n for n in range(100))))
        self.pools.disk.held = True
        early = self.store.gc.collect()
        early.cancel()
        self.pools.disk.release()
        self.failureResultOf(early, CancelledError)
        late = self.store.gc.collect()
        self.assertEqual(len(self.store.layers.all()), 36)
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        collecting = self.store.gc.collect()
        for _ in range(30):
            self.reactor.advance(0)
        self.assertEqual(self.successResultOf(collecting).layers, 36)
        self.assertEqual(self.files(), [])

    def test_disk_refuses(self) -> None:
        """
        A disk that refuses ends it; what was freed is freed.
        """
        self.remove(self.pulled("alpine", b"one"))
        self.patch(self.store.trees, "forget", self.refuse)
        self.failureResultOf(self.store.gc.collect(), DiskFull)
        self.assertEqual(len(self.store.layers.all()), 0)
        self.assertTrue(self.store.trees.has(Digest.of(b"one")))

    def refuse(self, _: Digest) -> None:
        """
        Have no room.
        """
        raise DiskFull("no space is left")

    def test_not_open(self) -> None:
        """
        A store that is not known yet, or any more, is not collected: it would
        look as if nothing were named.
        """
        store = self.make()
        self.failureResultOf(store.gc.collect(), StoreError)
        self.remove(self.pulled("alpine", *(b"%d" % n for n in range(100))))
        collecting = self.store.gc.collect()
        stopping = self.store.stop()
        self.assertNoResult(stopping)
        self.reactor.advance(0)
        self.failureResultOf(collecting, StoreError)
        self.successResultOf(stopping)
        self.failureResultOf(self.store.gc.collect(), StoreError)

    def test_while_a_tree_changes(self) -> None:
        """
        A tree is left alone while its files are changed, used or not.
        """
        self.run_now(plant(self.store, b"top", b"etc"))
        self.pools.layers.held = True
        registering: Deferred[Any] = self.store.layers.register(
            None, Digest.of(b"top"), layer_descriptor(b"top")
        )
        collecting = self.store.gc.collect()
        self.assertEqual(self.successResultOf(collecting), Freed())
        self.pools.layers.release()
        self.successResultOf(registering)
