"""
Jobs that continue after a restart of the daemon, with real daemons.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.integration.programs import Xferd
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.registry import Registry


class RestartCase(DaemonCase):
    """
    A daemon without patience, and a slow registry.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Slow the registry down.
        """
        await super().setUp()
        self.registry = Registry(reactor, rate=200_000)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon that interrupts jobs half a second after SIGTERM.
        """
        config = self.place / "xferd.toml"
        config.write_text("grace = 0.5")
        return await super().start("--config", str(config), *options)


class DetachedTests(RestartCase):
    """
    A detached pull in mid-work.
    """

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


class WaitingTests(RestartCase):
    """
    xferctl waits for its job while the daemon is restarted.
    """

    async def job_id(self) -> str:
        """
        Wait for the only job.
        """
        (job,) = await self.until(lambda: self.api("GET", "jobs"))
        return str(job["id"])

    async def rides_out(self, signal: str) -> None:
        """
        A pull says so in one line, and ends with 0.
        """
        _, reference = self.add(1, 1_000_000)
        pulling = Deferred.fromCoroutine(self.daemon.try_ctl("pull", reference))
        job_id = await self.job_id()
        await self.fetched(job_id, 300_000)
        await self.daemon.stop(signal)
        await self.start()
        output, errors, status = await pulling
        self.assertEqual((errors, status), ("", 0))
        lines = output.splitlines()
        self.assertEqual(len([line for line in lines if "waiting up to 60 s for its restart" in line]), 1)
        self.assertIn(reference, lines[-1])
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["restart"]), ("done", "rejoin"))
        self.assertLess(self.registry.bytes_sent, 1_600_000)

    async def test_stopped(self) -> None:
        """
        After SIGTERM.
        """
        await self.rides_out("TERM")

    async def test_killed(self) -> None:
        """
        After C{kill -9}.
        """
        await self.rides_out("KILL")
