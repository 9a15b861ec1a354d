"""
Shared by the tests of pushing over real sockets: a registry with faults, and a
client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from xferd.credentials import Credentials, Secret
from xferd.errors import (
    XferdError,
)
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.registry import IContent, Pushed, UploadSession
from xferd.names import Digest, Repository
from xferd.registry.capabilities import Capabilities, ChunkSizes
from xferd.registry.client import Registries
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.fakes import FakeKeychain
from xferd.testing.faults import (
    Fault,
)
from xferd.testing.registry import Guard, Registry

KIB = 1024
SIZES = ChunkSizes(first=512 * KIB, largest=1024 * KIB, smallest=128 * KIB)
DATA = bytes(range(256)) * (12 * KIB)
DIGEST = Digest.of(DATA)
SMALL = b"a small blob" * 1000
ANN = Credentials("ann", Secret("secret"))


@implementer(IContent)
class Bytes:
    """
    Content that is all here.

    @ivar read_bytes: how many bytes were read.
    """

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.read_bytes = 0
        self._data = data

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        All bytes are available.
        """
        return succeed(min(size, self.size - offset))

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read.
        """
        data = self._data[offset : offset + most]
        self.read_bytes += len(data)
        return succeed(data)


class Pushing(TestCase):
    """
    A client and a registry.

    @cvar single_post: whether the registry accepts a blob in a single POST.
    """

    single_post = False

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        self.reactor = cast(IReactor, default_reactor)
        self.remembered: list[UploadSession | None] = []
        self.reported: list[int] = []
        self.credentials: Credentials | None = None
        self.registry = await self.serve()
        self.client = self.make_client()

    async def serve(self, guard: Guard | None = None, tls: CertificateOptions | None = None) -> Registry:
        """
        Start a registry.
        """
        registry = Registry(self.reactor, guard=guard)
        registry.single_post = self.single_post
        await registry.listen(self.reactor, tls=tls)
        self.addCleanup(registry.stop)
        return registry

    def make_client(self, timeouts: Timeouts | None = None) -> Registries:
        """
        Make a client.
        """
        client = Registries(
            self.reactor,
            wall_clock=self.reactor.seconds,
            keychain=FakeKeychain(lambda: self.credentials),
            timeouts=timeouts or Timeouts(),
            chunk_sizes=SIZES,
        )
        self.addCleanup(client.close)
        return client

    def push(
        self,
        data: bytes = DATA,
        *,
        digest: Digest | None = None,
        candidates: Sequence[str] = (),
        session: UploadSession | None = None,
        content: IContent | None = None,
        path: str = "team/a",
    ) -> Deferred[Pushed]:
        """
        Push a blob.
        """
        host = self.registry.host
        target = self.client.repository(Repository(host, path))
        return target.push(
            digest or Digest.of(data),
            content or Bytes(data),
            [Repository(host, c) for c in candidates],
            session,
            self.remembered.append,
            self.reported.append,
        )

    async def fails(self, kind: type[XferdError], data: bytes = DATA) -> XferdError:
        """
        Push, which fails.
        """
        try:
            await self.push(data)
        except kind as e:
            return e
        raise AssertionError(f"no {kind.__name__}")

    async def fails_with(self, work: Deferred[Pushed], kind: type[BaseException]) -> None:
        """
        Wait for a failure.
        """
        try:
            await work
        except kind:
            return
        raise AssertionError(f"no {kind.__name__}")

    def plant(self, fault: Fault, method: str | None = None, times: int | None = 1) -> None:
        """
        Plant a fault in uploads.
        """
        self.registry.faults.plant(fault, "/uploads/", method=method, times=times)

    def there(self, data: bytes = DATA, path: str = "team/a") -> None:
        """
        The registry has the blob, unchanged, and no session.
        """
        digest = Digest.of(data)
        self.assertIn(digest, self.registry.storage.repositories[path].blobs)
        self.assertEqual(self.registry.storage.blobs[digest].read(), data)
        self.assertEqual(self.registry.sessions, 0)
        if self.remembered:
            self.assertIsNone(self.remembered[-1])

    def methods(self) -> list[str]:
        """
        The methods of the requests for blobs.
        """
        return [e.method for e in self.registry.log if "/blobs/" in e.path]

    @property
    def capabilities(self) -> Capabilities:
        """
        The learned capabilities of the registry.
        """
        return self.client._context.capabilities.of(self.registry.host)

    def turn(self) -> Deferred[None]:
        """
        Let the reactor work.
        """
        turn: Deferred[None] = Deferred()
        self.reactor.callLater(0.001, turn.callback, None)
        return turn

    async def until(self, condition: Callable[[], object]) -> None:
        """
        Wait until something is so.
        """
        while not condition():
            await self.turn()
