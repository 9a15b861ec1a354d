"""
Pauses, priorities, drain and retries, with figures from the wire: a real daemon, and a registry
behind a slow proxy that counts bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import deferLater

from tests.integration.slow_proxy import SlowProxy
from tests.integration.test_daemon import DaemonCase, reactor
from xferd.testing.images import sample_image

RATE = 300_000.0
"""Bytes per second of each connection."""

SIZE = 900_000
"""Bytes of a layer."""

SPARE = 256 * 1024
"""Bytes of a stream that the sockets have when it is closed; heads and documents count, too."""

SOON = 1.0
"""Seconds within which a pause takes effect."""


class SteeringCase(DaemonCase):
    """
    A daemon, and a slow registry.
    """

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Put the proxy before the registry.
        """
        await super().setUp()
        self.proxy = self.proxied()

    def proxied(self) -> SlowProxy:
        """
        A slow way to the registry, which is another host to the daemon.
        """
        proxy = SlowProxy(self.registry.host, RATE)
        self.addCleanup(proxy.stop)
        return proxy

    def image(self, name: str, layers: int = 1, size: int = SIZE) -> str:
        """
        Put an image into the registry.

        @return: its reference at the proxy.
        """
        self.registry.add(sample_image(layers, size, seed=name, compression="tar"), f"team/{name}", "1")
        return f"{self.proxy.address}/team/{name}:1"

    async def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        await deferLater(reactor, seconds)

    async def moves(self, name: str, least: int = 100_000, *, up: bool = False) -> None:
        """
        Wait until bytes of a repository have passed.
        """
        counter = self.proxy.sent if up else self.proxy.received
        before = counter[f"team/{name}"]
        await self.until(lambda: counter[f"team/{name}"] >= before + least)

    def passed(self, name: str) -> int:
        """
        The bytes of a repository that have passed, in both directions.
        """
        return self.proxy.received[f"team/{name}"] + self.proxy.sent[f"team/{name}"]

    async def silent(self, *names: str, seconds: float = 1.5) -> None:
        """
        Check that L{SOON} seconds from now nothing of some repositories passes any more.
        """
        await self.wait(SOON)
        before = [self.passed(name) for name in names]
        await self.wait(seconds)
        self.assertEqual([self.passed(name) for name in names], before)

    async def change(self, job_id: str, **changes: Any) -> Mapping[str, Any]:
        """
        Change a job.
        """
        job: Mapping[str, Any] = await self.api("PATCH", f"jobs/{job_id}", changes)
        return job

    async def done(self, job_id: str) -> Mapping[str, Any]:
        """
        Wait until a job is done.
        """
        job = await self.state(job_id, "done", "failed", "cancelled")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        return job


class PausedJobTests(SteeringCase):
    """
    Jobs that are paused and continue.
    """

    async def test_pull(self) -> None:
        """
        A pull that is paused is silent within a second, says why, and continues by Range
        with no byte twice; the time of the pause is a phase of it.
        """
        job_id = await self.api.pull(self.image("app"))
        await self.moves("app")
        paused = await self.change(job_id, paused=True)
        self.assertEqual((paused["state"], paused["paused"]), ("running", True))
        await self.silent("app")
        job = await self.api("GET", f"jobs/{job_id}")
        self.assertRegex(job["why"], r"^paused by .*local")
        self.assertEqual((job["reason"]["what"], job["layers"][0]["reason"]["what"]), ("paused", "paused"))
        self.assertEqual(job["layers"][0]["why"], job["why"])
        slots = (await self.api("GET", "status"))["slots"]["small_download"]
        self.assertEqual(slots["in_use"], 0)
        await self.change(job_id, paused=False)
        job = await self.done(job_id)
        blob = job["layers"][0]["digest"]
        first, second = self.registry.exchanges("GET", blob)
        self.assertIsNone(first.range)
        self.assertRegex(str(second.range), r"bytes=[1-9][0-9]{4,}-")
        self.assertLess(self.proxy.received["team/app"], SIZE + SPARE)
        self.assertGreater(job["timing"]["phases"]["waiting"], 2)
        self.assertRegex(self.daemon.output, rf'PATCH /api/v1/jobs/{job_id}: 200.*"paused": true')
