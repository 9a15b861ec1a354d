"""
Tests for L{xferd.engines.containers_storage.late_answers}.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tests.jobs.case import HOST, JobsCase
from xferd.engines.containers_storage.late_answers import LateAnswers
from xferd.errors import ConfigError, StoreError
from xferd.media_types import OCI_CONFIG
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, index_of, sample_image

REPOSITORY = Repository(HOST, "app")
PATIENCE = 60.0


@define(eq=False)
class FakeView:
    """
    A view that shows what is held, once it is written.

    @ivar held: the layers that are held, with the reasons.
    @ivar shown: the layers that it shows.
    @ivar writing: the result of C{refresh}.
    """

    held: dict[Digest, str] = field(factory=dict)
    shown: set[Digest] = field(factory=set)
    writing: Deferred[None] = field(factory=lambda: succeed(None))

    def hold(self, chain_id: Digest, reason: str) -> None:
        """
        Hold a layer.
        """
        self.held[chain_id] = reason

    def shows(self, chain_id: Digest) -> bool:
        """
        Whether a layer is shown.
        """
        return chain_id in self.shown

    def refresh(self) -> Deferred[None]:
        """
        Show what is held.
        """
        self.shown |= self.held.keys()
        return self.writing


class LateAnswersTests(JobsCase):
    """
    Manifests that wait for the view.
    """

    def setUp(self) -> None:
        """
        Make a view, with an engine of one user.
        """
        super().setUp()
        self.view = FakeView()
        self.late = self.make("root", "7")

    def make(self, *users: str) -> LateAnswers:
        """
        Have the engines of some users wait.
        """
        return LateAnswers(self.view, users, PATIENCE, store=self.store, jobs=self.jobs, clock=self.clock)

    def ask(self, image: SampleImage) -> Deferred[None]:
        """
        Wait for the layers of an image.
        """
        ready = Deferred.fromCoroutine(self.late.ready(REPOSITORY, image.manifest, "podman"))
        self.settle()
        return ready

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """
        All jobs.
        """
        return self.jobs.all()

    def test_clients(self) -> None:
        """
        podman, Buildah and CRI-O of the users that are named wait, and no other client.
        """
        agents = (
            "libpod/4.3.1",
            "Buildah/1.28.2",
            "cri-o/1.31.0 go/go1.23",
            "containers/5.42.1 (github.com/x)",
        )
        for agent in agents:
            self.assertEqual([self.late.waits(uid, agent) for uid in (0, 7, 8)], [True, True, False], agent)
        for agent in ("", "skopeo/1.9.3", "containerd/2.4.2", "docker/27 libpod/4.3.1", "curl/8"):
            self.assertFalse(self.late.waits(0, agent), agent)

    def test_users(self) -> None:
        """
        Users are named as the machine names them; an unknown one is an error.
        """
        own = self.make(pwd.getpwuid(os.geteuid()).pw_name)
        self.assertTrue(own.waits(os.geteuid(), "libpod/4"))
        self.assertFalse(self.make().waits(0, "libpod/4"))
        error = self.assertRaises(ConfigError, self.make, "no such user")
        self.assertIn("this machine has no such user", str(error))

    def test_pulled(self) -> None:
        """
        The layers of an image are pulled, without a name, and held in the view.
        """
        image = self.add(sample_image(2))
        self.successResultOf(self.ask(image))
        self.assertEqual(self.view.shown, {image.chain_ids[-1]})
        self.assertEqual([*self.view.held.values()], [f"podman, which pulls {REPOSITORY}@{image.digest}"])
        self.assertEqual((self.store.images.all(), self.late.answers), ([], {"pulled": 2}))
        (job,) = self.listed()
        self.assertEqual((job["client"], job["state"]), ("podman", "done"))

    def test_stored(self) -> None:
        """
        An image in the store begins no job.
        """
        image = self.add(sample_image(2))
        self.pulled()
        self.successResultOf(self.ask(image))
        self.assertEqual((self.view.shown, len(self.listed())), ({image.chain_ids[-1]}, 1))
        self.assertEqual(self.late.answers, {"stored": 2})

    def test_together(self) -> None:
        """
        Engines that want the same share a job; it goes on without those that leave.
        """
        image = self.add(sample_image(1))
        self.registry.stall(image.layers[0].blob.digest)
        asking = [self.ask(image) for _ in range(3)]
        self.assertEqual(len(self.listed()), 1)
        for each in asking[:2]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        self.successResultOf(asking[2])
        self.assertEqual(len(self.view.shown), 1)

    def test_all_leave(self) -> None:
        """
        A pull goes on when no engine waits any more.
        """
        image = self.add(sample_image(1))
        self.registry.stall(image.layers[0].blob.digest)
        asking = self.ask(image)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        (job,) = self.listed()
        self.assertEqual(job["state"], "done")

    def test_too_long(self) -> None:
        """
        After a while the manifest is sent; the pull goes on.
        """
        image = self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        asking = self.ask(image)
        self.clock.advance(PATIENCE - 1)
        self.assertNoResult(asking)
        self.clock.advance(1)
        self.successResultOf(asking)
        self.assertEqual((self.late.answers, self.view.held), ({"declined": 1}, {}))
        (job,) = self.listed()
        self.assertEqual(job["state"], "running")

    def test_failed(self) -> None:
        """
        When the pull fails, the manifest is sent: the engine fetches the blobs itself.
        """
        image = sample_image(1)
        self.successResultOf(self.ask(image))
        self.assertEqual((self.late.answers, self.view.held), ({"declined": 1}, {}))

    def test_cannot_begin(self) -> None:
        """
        So it is when no job can begin.
        """
        self.stop(self.jobs)
        self.successResultOf(self.ask(self.add(sample_image(1))))
        self.assertEqual(self.late.answers, {"declined": 1})

    def test_view_fails(self) -> None:
        """
        So it is when the view cannot be written.
        """
        image = self.add(sample_image(1))
        self.view.writing = fail(StoreError("a lock is held"))
        self.successResultOf(self.ask(image))
        self.assertEqual(self.late.answers, {"declined": 1})

    def test_bug(self) -> None:
        """
        An unexpected error is logged, and the manifest is sent.
        """
        image = self.add(sample_image(1))
        self.view.writing = fail(ZeroDivisionError())
        self.successResultOf(self.ask(image))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_outdated(self) -> None:
        """
        Trees of an older xferd are unpacked again first; where that fails, the engine
        fetches the blobs.
        """
        image = self.add(sample_image(1))
        self.pulled()
        self.store.trees.outdated.add(image.diff_ids[0])
        self.store.layers.outdated.add(image.chain_ids[0])
        self.successResultOf(self.ask(image))
        self.assertEqual(self.late.answers, {"pulled": 1})

    def test_index(self) -> None:
        """
        An index is ready at once: the engine asks for one of its manifests.
        """
        index = index_of({Platform.local(): sample_image(1)})
        self.successResultOf(Deferred.fromCoroutine(self.late.ready(REPOSITORY, index.document, "podman")))
        self.assertEqual((self.listed(), self.late.answers), ([], {}))

    def test_no_image(self) -> None:
        """
        What cannot be unpacked, or is no document at all, is ready at once.
        """
        image = sample_image(1)
        data = image.manifest.data.replace(OCI_CONFIG.encode(), b"application/x.chart+json")
        for document in (
            evolve(image.manifest, data=data, digest=Digest.of(data)),
            Document(image.manifest.media_type, b"{", Digest.of(b"{")),
        ):
            self.successResultOf(Deferred.fromCoroutine(self.late.ready(REPOSITORY, document, "podman")))
        self.assertEqual(self.listed(), [])

    def test_no_layers(self) -> None:
        """
        An image without layers is ready: there is nothing to fetch.
        """
        self.successResultOf(self.ask(self.add(sample_image(0))))
        self.assertEqual((self.view.held, self.listed()), ({}, []))
