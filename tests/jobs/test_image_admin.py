"""
Tests for L{xferd.jobs.image_admin}: tags and pins.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, OTHER, JobsCase
from tests.store.support import StoreTestCase, pull, sample
from xferd.errors import BadReference, Interrupted, NotFound, StoreError
from xferd.interfaces.jobs import IImageAdmin
from xferd.interfaces.store import Image
from xferd.jobs.events.broker import Broker
from xferd.jobs.image_admin import ImageAdmin
from xferd.jobs.images.naming import Naming
from xferd.names import Digest, Reference, Repository
from xferd.testing.images import sample_image
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
        self.assertEqual((image.pulled, tagged.pulled), (image.created, image.created))
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
