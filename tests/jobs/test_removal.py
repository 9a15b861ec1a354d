"""
Tests for L{xferd.jobs.image_admin}: removal and garbage collection.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, OTHER, JobsCase
from tests.turns import is_due, turn
from xferd.errors import BadReference, Interrupted, NotFound, StoreError
from xferd.interfaces.collection import Freed
from xferd.names import Digest
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image, sample_layer


class RemovalTests(JobsCase):
    """
    Names that are taken away, and what goes with them.
    """

    def remove(self, name: str) -> Freed:
        """
        Take a name away.
        """
        removing = self.jobs.image_admin.remove(f"{HOST}/{name}")
        self.settle()
        return self.successResultOf(removing)

    def collect(self, dry_run: bool = False) -> Freed:
        """
        Free what nothing needs.
        """
        collecting = self.jobs.image_admin.collect(dry_run)
        self.settle()
        return self.successResultOf(collecting)

    def test_remove(self) -> None:
        """
        Content that only the image used is freed at once, and streams get the
        removal.
        """
        base = sample_layer(seed="base")
        one = self.add(image_of([base, sample_layer(seed=1)]), "one")
        two = self.add(image_of([base, sample_layer(seed=2)]), "two")
        for name in ("one", "two"):
            self.pulled(name)
        stream = self.jobs.events(None)
        self.settle()
        self.successResultOf(stream.get())
        self.clock.advance(60)
        freed = self.remove("one")
        self.assertEqual((freed.blobs, freed.trees, freed.layers), (3, 1, 1))
        (event,) = self.successResultOf(stream.get())
        self.assertEqual((event.kind, event.final), ("image", True))
        self.assertEqual(event.data, {"reference": f"{HOST}/one:latest", "removed": True})
        self.assertFalse(self.store.blobs.has(one.digest))
        self.assertTrue(all(self.store.blobs.has(blob.digest) for blob in two.blobs))
        self.remove("two")
        self.assertEqual((self.store.blobs.contents, self.store.trees.unpacked), ({}, {}))
        self.assertEqual(self.collect(), Freed())

    def test_dry_run(self) -> None:
        """
        A dry run reports what the removal of some images would free, together, and removes
        nothing.
        """
        base = sample_layer(seed="base")
        for name in ("one", "two", "three"):
            self.add(image_of([base, sample_layer(seed=name)]), name)
            self.pulled(name)
        self.clock.advance(60)

        def would(*names: str) -> Freed:
            asking = self.jobs.image_admin.collect(True, False, [f"{HOST}/{name}" for name in names])
            self.settle()
            return self.successResultOf(asking)

        self.assertEqual(would(), Freed())
        one, two, all_ = would("one"), would("one", "two"), would("one", "two", "three")
        self.assertEqual((one.blobs, one.trees, one.layers), (3, 1, 1))
        self.assertEqual((two.blobs, two.trees, two.layers), (6, 2, 2))
        # The last one has the base, too.
        self.assertEqual((all_.blobs, all_.trees, all_.layers), (10, 4, 4))
        self.assertEqual(len(self.store.images.all()), 3)
        self.assertEqual(self.remove("one"), one)
        self.assertEqual(would("two", "three").bytes, all_.bytes - one.bytes)
        for name, error in (("one", NotFound), ("A B", BadReference)):
            asking = self.jobs.image_admin.collect(True, False, [f"{HOST}/{name}"])
            self.settle()
            self.failureResultOf(asking, error)

    def test_no_image(self) -> None:
        """
        A malformed name, or one that the store does not have, is refused;
        nothing is freed for it.
        """
        self.successResultOf(self.store_stray())
        for name, error in (("no/such", NotFound), ("A B", BadReference)):
            removing = self.jobs.image_admin.remove(name)
            self.settle()
            self.failureResultOf(removing, error)
        self.assertEqual(len(self.store.blobs.contents), 1)

    def store_stray(self) -> Deferred[None]:
        """
        Put a blob into the store that nothing names.
        """
        putting = self.store.blobs.put(Digest.of(b"stray"), b"stray")
        self.settle()
        return putting

    def test_collect(self) -> None:
        """
        Unused content is removed, or reported by a dry run.
        """
        self.successResultOf(self.store_stray())
        self.assertEqual(self.collect(dry_run=True), Freed(blobs=1, bytes=5))
        self.assertEqual(self.collect(), Freed(blobs=1, bytes=5))
        self.assertEqual(self.store.blobs.contents, {})

    def interrupted(self, name: str, moved: int = 10_000) -> Digest:
        """
        Begin a pull, and cancel it; returns the blob that was in transit.
        """
        blob = self.add(sample_image(1, size=50_000, seed=name), name).layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull(name)
        self.settle()
        self.registry.feed(blob, moved)
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        return blob

    def test_partials(self) -> None:
        """
        Partial blobs of interrupted jobs are removed on request.
        """
        blob = self.interrupted("app")
        self.collect()
        self.assertIn(blob, self.store.blobs.partials)
        collecting = self.jobs.image_admin.collect(False, partials=True)
        self.settle()
        self.assertEqual(self.successResultOf(collecting), Freed(partials=1, bytes=10_000))

    def test_remove_interrupted(self) -> None:
        """
        The partial blobs of interrupted jobs for a name are removed with it,
        and no others; also where the name has no image.
        """
        self.pulled_and_moved()
        newer, other = self.interrupted("app"), self.interrupted("other")
        self.assertEqual(self.remove("app").partials, 1)
        self.assertEqual(self.store.blobs.partials.keys() - {newer}, {other})
        self.assertEqual(self.remove("other"), Freed(partials=1, bytes=10_000))
        removing = self.jobs.image_admin.remove(f"{HOST}/other")
        self.settle()
        self.failureResultOf(removing, NotFound)

    def pulled_and_moved(self) -> None:
        """
        Pull an image whose tag then moves.
        """
        self.add(sample_image(1, seed="older"))
        self.pulled()

    def test_remove_after_a_kill(self) -> None:
        """
        It is the same with partial blobs of a daemon that was killed.
        """
        blob = self.add(sample_image(1, size=50_000)).layers[0].blob.digest
        self.registry.stall(blob)
        self.pull()
        self.settle()
        (record,) = self.store.journal.recorded.values()
        self.assertEqual([layer["digest"] for layer in record["layers"]], [str(blob)])

    def test_remove_without_the_journal(self) -> None:
        """
        A journal that cannot be read keeps no image from being removed.
        """
        self.pulled_and_moved()
        self.store.gate.fail("journal.unfinished", StoreError("damaged"))
        self.assertEqual(self.remove("app").trees, 1)

    def test_remove_spares_what_runs(self) -> None:
        """
        A removal takes nothing from a pull of the same name.
        """
        blob = self.interrupted("app")
        self.registry.stall(blob)
        job_id = self.pull("app")
        self.settle()
        removing = self.jobs.image_admin.remove(f"{HOST}/app")
        self.settle()
        self.assertIn(f"'xferctl cancel {job_id}'", str(self.failureResultOf(removing, NotFound).value))
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(len(self.store.blobs.partials[blob]), 10_000)

    def test_not_ready(self) -> None:
        """
        No file is collected before the store was read, when it seems to have no
        names.
        """
        early = self.make_jobs()
        self.failureResultOf(early.image_admin.remove("app"), Interrupted)
        self.failureResultOf(early.image_admin.collect(False), Interrupted)

    def test_pull_leaves(self) -> None:
        """
        Partial blobs of a cancelled pull are removed; those that another pull
        shares stay, also the bytes fetched before it began.
        """
        image = self.add(sample_image(2, size=50_000))
        last = image.layers[1].blob.digest
        self.registry.stall(last)
        first = self.pull(client="a")
        self.settle()
        second = self.pull(client="b")
        self.settle()
        self.jobs.cancel(first)
        self.settle()
        self.assertEqual(self.collect(), Freed())
        self.registry.finish(last)
        self.settle()
        self.assert_done(second)
        self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [1, 1])
        self.registry.stall(self.add(sample_image(2, seed="x"), "x").layers[1].blob.digest)
        third = self.pull("x")
        self.settle()
        self.assertEqual(self.collect(), Freed())
        self.jobs.cancel(third)
        self.settle()
        self.assertGreater(self.collect().blobs, 0)
        self.assertEqual(self.collect(), Freed())
        self.assert_idle()

    def test_removed_while_it_is_pushed(self) -> None:
        """
        A push continues with the image that it found, although the name was
        removed.
        """
        image = self.add(sample_image(2))
        self.pulled()
        self.other.uploads.stall(image.layers[0].blob.digest)
        job_id = self.push()
        self.settle()
        self.assertEqual(self.remove("app"), Freed())
        self.other.uploads.finish(image.layers[0].blob.digest)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [1, 1])
        self.assertGreater(self.collect().blobs, 0)
        self.assertEqual(self.store.blobs.contents, {})


class RestlessTests(JobsCase):
    """
    A store that is collected in every turn of the reactor.
    """

    def settle(self) -> None:
        """
        Let everything happen, and collect in each turn.
        """
        while is_due(self.clock):
            turn(self.clock)
            collecting = self.store.gc.collect(dry_run=False)
            while not collecting.called:
                self.assertTrue(is_due(self.clock))
                turn(self.clock)
            self.successResultOf(collecting)

    def test_pull_and_pull_again(self) -> None:
        """
        Repeated pulls lose nothing, whether the store has none, some or all of
        the blobs.
        """
        base = sample_layer(seed="base")
        for name in ("one", "two", "one"):
            image = self.add(image_of([base, sample_layer(seed=name), base]), name)
            self.pulled(name)
            self.assertTrue(self.has_image(name))
            self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [1, 1, 1])
        self.assert_idle()

    def test_shared_in_the_middle(self) -> None:
        """
        A client that joins a transfer whose first client is cancelled keeps
        the bytes fetched before.
        """
        for step in range(40):
            name = f"app{step}"
            image = self.add(sample_image(3, seed=name), name)
            first = self.pull(name, client="a")
            for _ in range(step):
                turn(self.clock)
            second = self.pull(name, client="b")
            turn(self.clock)
            self.jobs.cancel(first)
            self.settle()
            self.assert_done(second)
            self.assertTrue(self.store.blobs.has(image.config.digest))
            for layer in image.layers:
                # A collection that meets it unpacked, and its blob without a client, leaves its tree alone.
                has_blob = self.store.blobs.has(layer.blob.digest)
                self.assertTrue(has_blob or self.store.trees.has(layer.diff_id))
        self.assert_idle()

    def test_push_and_copy(self) -> None:
        """
        Blobs that a push or copy sends are not removed, whether the store has
        them or they arrive meanwhile.
        """
        images = {p: sample_image(1, seed=str(p), platform=p) for p in (Platform.local(), Platform("a", "b"))}
        self.registry.add(index_of(images), "app")
        self.pulled()
        for job_id in (
            self.push(platform="all"),
            self.push("app", f"{OTHER}/b"),
            self.copy("app", f"{OTHER}/c"),
        ):
            self.settle()
            self.assert_done(job_id)
        self.settle()
        self.assertEqual(
            {*self.store.blobs.contents} & {b.digest for b in images[Platform("a", "b")].blobs}, set()
        )
        self.assert_idle()
