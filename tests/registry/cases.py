"""
What several tests of the registry client begin with.
"""

from __future__ import annotations

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import MemoryRegistry, Sample
from xferd.credentials import Credentials, Secret
from xferd.interfaces.registry import IBlobBody, IRepository
from xferd.media_types import OCI_CONFIG
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.registry.client import Registries
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.fakes import FakeKeychain, FakeWallClock

HOST = "hub.example"
REPOSITORY = Repository(HOST, "team/a")
ME = Credentials("me", Secret("hunter2"))


class ClientCase(SynchronousTestCase):
    """
    A client, and a registry in memory that holds an image.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.clock = Clock()
        self.wall_clock = FakeWallClock(self.clock)
        self.server = MemoryRegistry()
        self.sample = Sample.of(b"0123456789" * 100)
        self.server.hold(self.sample)
        self.digest = Digest.of(self.sample.layer)
        self.credentials: Credentials | None = None
        self.agent = RequestTraversalAgent(self.server)
        self.registries = Registries(
            self.clock,
            wall_clock=self.wall_clock,
            hosts={},
            keychain=FakeKeychain(lambda: self.credentials),
            timeouts=Timeouts(),
            agent=self.agent,
        )

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @property
    def repository(self) -> IRepository:
        """
        The repository as the client sees it.
        """
        return self.registries.repository(REPOSITORY)

    def open_blob(self, offset: int = 0, end: int | None = None) -> Deferred[IBlobBody]:
        """
        Open the sample's layer.
        """
        return self.repository.open(self.digest, offset, end)

    def read_body(self, body: IBlobBody) -> bytes:
        """
        Read a body that is all here.
        """
        data = bytearray()
        self.successResultOf(body.deliver(data.extend))
        return bytes(data)

    def describe(self, data: bytes, size: int | None = None) -> Descriptor:
        """
        Describe some bytes, rightly or with another size.
        """
        return Descriptor(OCI_CONFIG, Digest.of(data), len(data) if size is None else size)
