"""
Tests for L{xferd.jobs.upkeep}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.errors import BadReference, Interrupted, NotFound, StoreError
from xferd.interfaces import Image, IUpkeep
from xferd.names import Digest, Reference, Repository
from xferd.testing.images import sample_image


class TagTests(JobsCase):
    """
    Other names.
    """

    def tag(self, reference: str, name: str) -> Deferred[Image]:
        """
        Give an image another name.
        """
        tagging = self.jobs.upkeep.tag(reference, name)
        self.settle()
        return tagging

    def test_interface(self) -> None:
        """
        It is what it says.
        """
        self.assertTrue(verifyObject(IUpkeep, self.jobs.upkeep))

    def test_tag(self) -> None:
        """
        The same image has both names; the new one is told to who follows, and
        remembers where the image came from.
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
        What is no name, or names a digest, or nothing in the store, is told.
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
        self.failureResultOf(early.upkeep.tag("app", "other"), Interrupted)
        self.stop(self.jobs)
        self.failureResultOf(self.tag("app", "other"), Interrupted)

    def test_push_of_a_tag(self) -> None:
        """
        What the store lacks of an image is asked of where it came from, also
        under another name.
        """
        image = self.add(sample_image(1))
        self.pulled()
        self.successResultOf(self.tag(f"{HOST}/app", f"{OTHER}/mine:1"))
        del self.store.blobs.contents[image.layers[0].blob.digest]
        job_id = str(self.jobs.push(f"{OTHER}/mine:1", None, (), None, "ci", 0)["id"])
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(image.layers[0].blob.digest), 2)
