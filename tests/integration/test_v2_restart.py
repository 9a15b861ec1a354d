"""
Fills of the mirror that continue after a restart of the daemon, with Debian's
docker-registry.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.peers import DockerRegistry
from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_job_restarts import SPARE, fill
from tests.integration.test_v2_pull import MirrorCase, reactor
from xferd.testing.images import sample_image

SIZE = 4 * 1024 * 1024
"""Bytes of the image's only layer."""

RATE = 1_000_000.0
"""Bytes per second of each stream."""


class FillTests(MirrorCase):
    """
    A client requests a blob, and leaves when the daemon dies.
    """

    settings = "[limits]\nranges = 1\n"

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Put a slow proxy before a registry, and mirror it.
        """
        directory = Path(self.mktemp()).absolute()
        self.registry = DockerRegistry(reactor, str(directory))
        await self.registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.stop()))
        self.image = sample_image(1, SIZE, compression="tar")
        fill(directory, "app", self.image)
        self.proxy = SlowProxy(self.registry.host, RATE)
        self.addCleanup(self.proxy.stop)
        await self.start(self.proxy.address)

    async def continues(self, *signals: str) -> None:
        """
        The next daemon fetches the rest of the blob without any client, and the upstream sends no
        byte twice but those of a chunk and of the sockets.
        """
        blob = self.image.layers[0].blob
        path = f"/v2/app/blobs/{blob.digest}"
        await self.get("/v2/app/manifests/1")
        download = await self.client.open(path)
        for number, signal in enumerate(signals, 1):
            await self.received(number * SIZE // (len(signals) + 1))
            await self.daemon.stop(signal)
            self.daemon = await self.run_daemon()
        self.assertFalse((await download.ended).whole)
        file = Path(self.daemon.data, "content/blobs/sha256", blob.digest.hex)
        while not file.exists():
            await deferLater(reactor, 0.05)
        self.assertLess(self.proxy.received["app"], SIZE + len(signals) * SPARE)
        await self.registry.stop()
        answer = await self.get(path)
        self.assertEqual((answer.status, answer.body), (200, blob.read()))

    async def received(self, size: int) -> None:
        """
        Wait until the daemon has got so many bytes of the repository.
        """
        while self.proxy.received["app"] < size:
            await deferLater(reactor, 0.02)

    async def test_stopped(self) -> None:
        """
        After SIGTERM.
        """
        await self.continues("TERM")

    async def test_killed(self) -> None:
        """
        After C{kill -9}, twice.
        """
        await self.continues("KILL", "KILL")
