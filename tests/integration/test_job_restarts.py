"""
Jobs that continue after a restart of the daemon, with real daemons.
"""

from __future__ import annotations

from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.registry import Registry


class PullTests(DaemonCase):
    """
    A detached pull in mid-work.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Slow the registry down.
        """
        await super().setUp()
        self.registry = Registry(reactor, rate=200_000)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)

    async def interrupted(self, signal: str) -> None:
        """
        The pull ends done under its ID, and each byte is sent once but for those that the
        sockets had.
        """
        image, reference = self.add(1, 1_000_000)
        job_id = (await self.daemon.ctl("pull", "--detach", reference)).strip()
        await self.fetched(job_id, 300_000)
        await self.daemon.stop(signal)
        await self.start()
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["restart"]), ("done", "always"))
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertLess(self.registry.bytes_sent, size + 256 * 1024 + 300_000)
        self.assertEqual([each["reference"] for each in await self.api("GET", "images")], [reference])

    async def test_stopped(self) -> None:
        """
        After SIGTERM.
        """
        await self.interrupted("TERM")

    async def test_killed(self) -> None:
        """
        After C{kill -9}.
        """
        await self.interrupted("KILL")
