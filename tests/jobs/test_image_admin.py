"""
Tests for L{xferd.jobs.image_admin}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, OTHER, JobsCase
from tests.store.support import StoreTestCase, pull, sample
from xferd.errors import BadReference, Interrupted, NotFound, StoreError
from xferd.interfaces.jobs import IImageAdmin
from xferd.interfaces.store import Freed, Image
from xferd.jobs.events.broker import Broker
from xferd.jobs.image_admin import ImageAdmin
from xferd.jobs.images.naming import Naming
from xferd.names import Digest, Reference, Repository
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image, sample_layer
from xferd.transfer.eventual import Eventual


class TagTests(JobsCase):
    """
    Other names.
    """

    def tag(self, reference: str, name: str) -> Deferred[Image]:
        """
        Give an image another name.
        """
        tagging = self.jobs.image_admin.tag(reference, name)
        self.settle()
        return tagging

    def test_interface(self) -> None:
        """
        It provides L{IImageAdmin}.
        """
        self.assertTrue(verifyObject(IImageAdmin, self.jobs.image_admin))

    def test_tag(self) -> None:
        """
        The same image has both names; streams get the new one, which records
        the repository that the image came from.
        """
        self.add(sample_image(1))
        self.pulled()
        stream = self.jobs.events(None)
        self.settle()
        self.successResultOf(stream.get())
        self.clock.advance(60)
        tagged = self.successResultOf(self.tag(f"{HOST}/app", "team/app:2"))
        image = self.store.images.get(Reference.parse(f"{HOST}/app"))
        assert image is not None
        self.assertEqual(self.store.images.get(Reference.parse("team/app:2")), tagged)
        self.assertEqual((tagged.manifest, tagged.chain_id), (image.manifest, image.chain_id))
        self.assertEqual((image.origin, tagged.source), (None, Repository(HOST, "app")))
        self.assertGreater(tagged.created, image.created)
        (event,) = self.successResultOf(stream.get())
        self.assertEqual((event.kind, event.data["reference"]), ("image", "docker.io/team/app:2"))

    def test_home(self) -> None:
        """
        A name in the repository that the image came from needs no note of it.
        """
        self.add(sample_image(1))
        self.pulled()
        self.successResultOf(self.tag(f"{HOST}/app", "other/app:2"))
        tagged = self.successResultOf(self.tag("other/app:2", f"{HOST}/app:3"))
        self.assertEqual((tagged.origin, tagged.source), (None, Repository(HOST, "app")))

    def test_refused(self) -> None:
        """
        A malformed name, a digest, or a name that the store does not have is
        refused.
        """
        self.add(sample_image(1))
        self.pulled()
        self.failureResultOf(self.tag("no/such", "app"), NotFound)
        for name in ("A B", f"app@{Digest.of(b'x')}"):
            self.failureResultOf(self.tag(f"{HOST}/app", name), BadReference)
        self.store.gate.fail("images.put", StoreError("the disk is read-only"))
        self.failureResultOf(self.tag(f"{HOST}/app", "new"), StoreError)
        self.assertEqual(len(self.store.images.all()), 1)

    def test_not_ready(self) -> None:
        """
        Before the store was read, and at the end, nothing is changed.
        """
        early = self.make_jobs()
        self.failureResultOf(early.image_admin.tag("app", "other"), Interrupted)
        self.stop(self.jobs)
        self.failureResultOf(self.tag("app", "other"), Interrupted)

    def test_push_of_a_tag(self) -> None:
        """
        Blobs that the store lacks are fetched from the repository that the
        image came from, also under another name.
        """
        image = self.add(sample_image(1))
        self.pulled()
        self.successResultOf(self.tag(f"{HOST}/app", f"{OTHER}/mine:1"))
        del self.store.blobs.contents[image.layers[0].blob.digest]
        job_id = str(self.jobs.push(f"{OTHER}/mine:1", None, (), None, "ci", 0)["id"])
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(image.layers[0].blob.digest), 2)


class PinTests(JobsCase):
    """
    Images that are to stay.
    """

    def pin(self, name: str, pinned: bool = True) -> Deferred[Image]:
        """
        Pin an image, or unpin it.
        """
        pinning = self.jobs.image_admin.pin(name, pinned)
        self.settle()
        return pinning

    def test_pin(self) -> None:
        """
        Streams get it, also when the name is given again.
        """
        self.add(sample_image(1))
        self.pulled()
        stream = self.jobs.events(None)
        self.settle()
        self.successResultOf(stream.get())
        for pinned in (True, False, True):
            self.assertEqual(self.successResultOf(self.pin(f"{HOST}/app", pinned)).pinned, pinned)
            self.wait(1)
            (event,) = self.successResultOf(stream.get())
            self.assertEqual((event.kind, event.data["pinned"]), ("image", pinned))
        self.add(sample_image(1, seed="newer"))
        self.pulled()
        self.wait(1)
        named = [event for event in self.successResultOf(stream.get()) if event.kind == "image"]
        self.assertEqual([event.data["pinned"] for event in named], [True])
        tagging = self.jobs.image_admin.tag(f"{HOST}/app", "mine:1")
        self.settle()
        self.assertFalse(self.successResultOf(tagging).pinned)

    def test_refused(self) -> None:
        """
        An image that is not here cannot be pinned, nor can any before the
        store is known.
        """
        self.failureResultOf(self.pin("no/such"), NotFound)
        self.failureResultOf(self.pin("A B"), BadReference)
        self.failureResultOf(self.make_jobs().image_admin.pin("a", True), Interrupted)


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
        self.failureResultOf(removing, NotFound)
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
        Let everything happen, and collect after each step.
        """
        for _ in range(100):
            self.clock.advance(0)
            collecting = self.store.gc.collect(dry_run=False)
            self.clock.advance(0)
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
                self.clock.advance(0)
            second = self.pull(name, client="b")
            self.clock.advance(0)
            self.jobs.cancel(first)
            self.settle()
            self.assert_done(second)
            self.assertTrue(all(self.store.blobs.has(blob.digest) for blob in image.blobs))
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


class LeavingTests(StoreTestCase):
    """
    Clients that leave while the disk works for them.
    """

    def setUp(self) -> None:
        """
        Have an image, and a stream of everything.
        """
        super().setUp()
        self.run_now(pull(self.store, sample("app", b"one")))
        news = Broker(self.reactor, Eventual(self.reactor))
        naming = Naming(self.store, news.named)
        self.image_admin = ImageAdmin(self.store, news, lambda: True, naming=naming, wall_clock=lambda: 0.0)
        self.stream = news.follow_all([], [], [])

    def leave(self, asking: Deferred[Any], steps: int) -> None:
        """
        Cancel after some steps of the disk; then the disk continues.
        """
        for _ in range(steps):
            self.pools.disk.step()
        asking.cancel()
        _ = asking.addErrback(lambda reason: reason.trap(CancelledError))
        self.pools.disk.release()

    def told(self) -> list[tuple[str, bool]]:
        """
        The names that the stream gets, and whether they were removed.
        """
        getting = self.stream.get()
        self.reactor.advance(1)
        if not getting.called:
            getting.cancel()
            self.failureResultOf(getting, CancelledError)
            return []
        events = self.successResultOf(getting)
        return [(e.data["reference"].rpartition("/")[2], "removed" in e.data) for e in events]

    def names(self) -> list[str]:
        """
        The names in the store.
        """
        return [image.reference.familiar() for image in self.store.images.all()]

    def test_remove(self) -> None:
        """
        A removal that has begun is reported to the others, and what only the
        image needed is freed.
        """
        self.pools.disk.held = True
        self.leave(self.image_admin.remove("app"), 0)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.told(), [("app:latest", True)])
        self.assertFalse(self.store.blobs.has(Digest.of(b"one")))

    def test_remove_late(self) -> None:
        """
        It is the same where the client cancels while the rest is being freed.
        """
        self.pools.disk.held = True
        self.leave(self.image_admin.remove("app"), 1)
        self.assertEqual(self.told(), [("app:latest", True)])
        self.assertFalse(self.store.blobs.has(Digest.of(b"one")))

    def test_remove_early(self) -> None:
        """
        A removal that has not begun does not begin.
        """
        self.pools.database.held = True
        asking = self.image_admin.remove("app")
        asking.cancel()
        self.pools.database.release()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual((self.names(), self.told()), (["app:latest"], []))

    def test_tag(self) -> None:
        """
        A name that is being given is reported to the streams.
        """
        self.pools.disk.held = True
        self.leave(self.image_admin.tag("app", "other"), 0)
        self.assertEqual(self.names(), ["app:latest", "other:latest"])
        self.assertEqual(self.told(), [("other:latest", False)])

    def test_collect(self) -> None:
        """
        A removal that has begun completes; a dry run ends.
        """
        self.successResultOf(self.store.images.remove(Reference.parse("app")))
        for dry_run in (True, False):
            self.pools.disk.held = True
            asking = self.image_admin.collect(dry_run)
            self.leave(asking, 0)
            self.assertEqual(self.store.blobs.has(Digest.of(b"one")), dry_run)
