"""
Tests for L{xferd.jobs.mirror.upstream_manifests}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, JobsCase
from tests.jobs.mirror.case import APP
from xferd.errors import ConnectionFailed, DiskFull, ManifestUnknown
from xferd.hosts.memory import HostMemory
from xferd.jobs.mirror.questions import Questions
from xferd.jobs.mirror.upstream_manifests import UpstreamManifests
from xferd.names import Digest
from xferd.oci import Document
from xferd.testing.images import sample_image
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.retry import RetryPolicy


class UpstreamManifestsTests(JobsCase):
    """
    Questions to an upstream that has one image.
    """

    def setUp(self) -> None:
        """
        Add the image.
        """
        super().setUp()
        self.image = self.add(sample_image(1))
        self.source = self.registries.repository(APP)
        self.transfers = TransferManager(
            self.clock,
            wall_clock=self.wall_clock,
            slots=None,
            retry=RetryPolicy(attempts=2, base=0.25, jitter=0.0),
            kind="document",
        )
        self.upstreams = UpstreamManifests(
            self.store,
            Questions(
                self.transfers,
                hosts=HostMemory(self.clock, wall_clock=self.wall_clock),
                clock=self.clock,
            ),
            clock=self.clock,
            wall_clock=self.wall_clock,
        )

    def ask(self, wanted: str = "latest", held: Digest | None = None) -> Deferred[Document | None]:
        """
        Ask.
        """
        asking = self.upstreams.ask(self.source, wanted, held, Turn("ci", 0, 1, 0))
        self.settle()
        return asking

    def test_kept(self) -> None:
        """
        An answer is in the store and in the catalog, and the upstream has answered.
        """
        self.assertFalse(self.upstreams.answered(self.source))
        self.assertEqual(self.successResultOf(self.ask()), self.image.manifest)
        self.assertTrue(self.store.blobs.has(self.image.digest))
        self.assertEqual(self.store.catalog.tags(APP), ["latest"])
        self.assertTrue(self.upstreams.answered(self.source))
        self.clock.advance(61)
        self.assertFalse(self.upstreams.answered(self.source))

    def test_same(self) -> None:
        """
        What is here is only confirmed.
        """
        self.successResultOf(self.ask())
        self.clock.advance(100)
        self.assertIsNone(self.successResultOf(self.ask(held=self.image.digest)))
        tagged = self.store.catalog.tag(APP, "latest")
        assert tagged is not None
        self.assertEqual(tagged.checked, self.wall_clock())
        self.assertEqual(self.registry.count("manifest", "latest"), 1)

    def test_full(self) -> None:
        """
        On a full disk, the client gets the manifest all the same.
        """
        self.store.blobs.gate.fail("blobs.put", DiskFull("full"))
        self.assertEqual(self.successResultOf(self.ask()), self.image.manifest)
        self.assertFalse(self.store.blobs.has(self.image.digest))

    def test_another_try(self) -> None:
        """
        A connection that was lost is made again, once.
        """
        self.registry.gate.fail("manifest", ConnectionFailed("reset", host=HOST))
        asking = self.ask()
        self.wait(0.25)
        self.assertEqual(self.successResultOf(asking), self.image.manifest)

    def test_unknown_again(self) -> None:
        """
        What is remembered is an error of its own for each client, in the words of the
        first one.
        """
        first, second = (self.failureResultOf(self.ask("none"), ManifestUnknown).value for _ in range(2))
        self.assertIsNot(first, second)
        self.assertEqual(str(first), str(second))
        self.assertEqual(self.registry.count("manifest", "none"), 1)

    def test_unknown_by_credentials(self) -> None:
        """
        That one client does not find a manifest says nothing to another.
        """
        self.failureResultOf(self.ask("none"), ManifestUnknown)
        other = self.registries.registry(HOST, "ann")
        image = sample_image(2)
        other.add(image, "app", "none")
        self.source = other.repository("app")
        self.assertEqual(self.successResultOf(self.ask("none")), image.manifest)

    def test_stopped(self) -> None:
        """
        At the end nothing is asked any more.
        """
        self.registry.gate.hold("manifest")
        asking = self.ask()
        stopping = self.transfers.stop()
        self.settle()
        self.successResultOf(stopping)
        self.failureResultOf(asking)
