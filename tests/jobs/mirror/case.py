"""
A mirror over the jobs on fakes.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import ConnectionFailed
from xferd.hosts.memory import HostMemory
from xferd.interfaces.mirror import MirroredManifest, TagPolicy
from xferd.jobs.manager import Jobs
from xferd.names import Digest, Repository
from xferd.testing.images import sample_image

APP = Repository(HOST, "app")


class MirrorCase(JobsCase):
    """
    A mirror of a registry that has one image, C{app:latest}.
    """

    images = False

    policy = TagPolicy()

    def setUp(self) -> None:
        """
        Add the image.
        """
        super().setUp()
        self.mirror = self.jobs.mirror
        self.image = self.add(sample_image(1))
        self.source = self.registries.repository(APP)

    def make_jobs(self) -> Jobs:
        """
        Jobs whose memory of hosts the test has.
        """
        self.hosts = HostMemory(self.clock, wall_clock=self.wall_clock)
        return self.build_jobs(self.hosts)

    def ask(self, wanted: str = "latest", client: str = "ci") -> Deferred[MirroredManifest]:
        """
        Ask for a manifest.
        """
        asking = self.mirror.manifest(self.source, wanted, client, self.policy, images=self.images)
        self.settle()
        return asking

    def found(self, wanted: str = "latest") -> MirroredManifest:
        """
        A manifest that is there.
        """
        return self.successResultOf(self.ask(wanted))

    def fill(self) -> None:
        """
        Have all blobs of the image in the store.
        """
        self.found()
        for blob in self.image.blobs:
            reader = self.mirror.blob(self.source, blob.digest, "ci")
            self.settle()
            opened = self.successResultOf(reader)
            reading = opened.read(0, 10)
            self.settle()
            self.successResultOf(reading)
            opened.close()
        self.settle()

    def break_upstream(self) -> None:
        """
        Let no request to the upstream succeed.
        """
        for call in ("manifest", "resolve", "open", "confirm"):
            self.registry.gate.fail(call, ConnectionFailed("refused", host=HOST), times=1000)

    def asked(self, wanted: object = "latest") -> tuple[int, int]:
        """
        The numbers of HEADs and GETs of a manifest.
        """
        return self.registry.count("resolve", wanted), self.registry.count("manifest", wanted)

    def has(self, digest: Digest) -> bool:
        """
        Whether the store has a blob.
        """
        return self.store.blobs.has(digest)
