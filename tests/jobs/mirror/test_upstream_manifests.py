"""
Tests for L{xferd.jobs.mirror.upstream_manifests}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, JobsCase
from tests.jobs.mirror.case import APP
from xferd.errors import ConnectionFailed, DiskFull, ManifestUnknown
from xferd.hosts.memory import HostMemory
from xferd.interfaces.mirror import ISharedTags
from xferd.interfaces.registry import IRepository
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
            tags=self.make_tags(),
        )

    def make_tags(self) -> ISharedTags | None:
        """
        Make the tags of a fleet.
        """
        return None

    def ask(
        self, wanted: str = "latest", held: Digest | None = None, ttl: float = 0.0
    ) -> Deferred[Document | None]:
        """
        Ask.
        """
        asking = self.upstreams.ask(self.source, wanted, held, Turn("ci", 0, 1, 0), ttl)
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


@implementer(ISharedTags)
class Tags:
    """
    Tags that other nodes have checked.

    @ivar fresh: the fresh ones.
    @ivar told: what this node has checked.
    """

    def __init__(self) -> None:
        self.fresh: dict[str, Digest] = {}
        self.told: list[tuple[str, Digest, float]] = []

    def is_fresh(self, source: IRepository, tag: str, held: Digest) -> Deferred[bool]:
        """
        Whether the test has set it.
        """
        return succeed(self.fresh.get(tag) == held)

    def checked(self, source: IRepository, tag: str, digest: Digest, ttl: float) -> None:
        """
        Note it.
        """
        self.told.append((tag, digest, ttl))


class SharedTagsTests(UpstreamManifestsTests):
    """
    The same, in a fleet.
    """

    def make_tags(self) -> ISharedTags:
        """
        Make tags of a fleet.
        """
        self.tags = Tags()
        verifyObject(ISharedTags, self.tags)
        return self.tags

    def test_fresh(self) -> None:
        """
        What another node has checked is not requested, and not recorded as checked; another
        digest than the one that is here is checked.
        """
        self.successResultOf(self.ask())
        tagged = self.store.catalog.tag(APP, "latest")
        self.tags.told.clear()
        self.clock.advance(100)
        self.tags.fresh["latest"] = self.image.digest
        self.assertIsNone(self.successResultOf(self.ask(held=self.image.digest)))
        self.assertEqual(self.store.catalog.tag(APP, "latest"), tagged)
        self.assertEqual((self.registry.count("resolve", "latest"), self.tags.told), (0, []))
        self.tags.fresh["latest"] = Digest.of(b"another")
        self.assertIsNone(self.successResultOf(self.ask(held=self.image.digest)))
        self.assertEqual(self.registry.count("resolve", "latest"), 1)

    def test_told(self) -> None:
        """
        Each answer about a tag is made known, with the time for which it holds; those
        about digests are not.
        """
        self.successResultOf(self.ask())
        self.successResultOf(self.ask(held=self.image.digest, ttl=60.0))
        self.successResultOf(self.ask(str(self.image.digest)))
        self.assertEqual(
            self.tags.told, [("latest", self.image.digest, 0.0), ("latest", self.image.digest, 60.0)]
        )
