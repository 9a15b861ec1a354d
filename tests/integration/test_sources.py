"""
The daemon with several registries that have the same bytes: one continues where
another one failed, and isolated clients receive only bytes to which their own
registry grants access.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.integration.test_daemon import DaemonCase, reactor
from xferd.jobs.blobs.possession import PARTS
from xferd.testing.answers import problem
from xferd.testing.faults import Instead, Stall
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.registry import Registry

PART = 300_000
"""Bytes after which the first registry stalls."""


class SourcesCase(DaemonCase):
    """
    Tests with two registries and one image; the first registry stalls.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        await super().setUp()
        self.second = Registry(reactor)
        await self.second.listen(reactor)
        self.addCleanup(self.second.stop)
        self.image: SampleImage = sample_image(1, 1_000_000)
        self.layer = self.image.layers[0].blob
        for registry in (self.registry, self.second):
            registry.add(self.image, "team/app", "1")
        self.registry.faults.plant(Stall(PART), str(self.layer.digest))

    async def pull(self, registry: Registry) -> str:
        """
        Start a pull.
        """
        return await self.api.pull(f"{registry.host}/team/app:1")

    async def ended(self, job_id: str) -> Mapping[str, Any]:
        """
        Wait for a job's end.
        """
        return await self.state(job_id, "done", "failed")

    async def download(self, check: str, value: int) -> None:
        """
        Wait until the downloads of the layer have transferred some bytes in
        total.
        """

        async def there() -> Any:
            found = [t for t in await self.api("GET", "transfers") if t["digest"] == str(self.layer.digest)]
            return sum(t[check] for t in found if t["kind"] == "download") == value

        await self.until(there)


class SharedTests(SourcesCase):
    """
    Clients that know a digest share its download.
    """

    async def test_dies_in_mid_blob(self) -> None:
        """
        The first registry fails within the blob: both clients receive their
        image, and the second registry has sent only the rest.
        """
        first = await self.pull(self.registry)
        await self.download("bytes_done", PART)
        second = await self.pull(self.second)
        await self.download("watchers", 2)
        await self.registry.stop()
        for job_id in (first, second):
            job = await self.ended(job_id)
            self.assertEqual((job["state"], job["error"]), ("done", None))
        (asked,) = self.second.exchanges("GET", self.layer.digest)
        size = self.layer.descriptor.size
        self.assertEqual((asked.range, asked.bytes_sent), (f"bytes={PART}-", size - PART))
        (broken,) = self.registry.exchanges("GET", self.layer.digest)
        self.assertEqual(broken.bytes_sent, PART)


class IsolatedTests(SourcesCase):
    """
    A client's own registry has to grant access to every byte.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Restrict the layer of the second registry.
        """
        await super().setUp()
        await self.daemon.stop()
        config = self.place / "xferd.toml"
        config.write_text('sharing = "isolated"\n')
        await self.start("--config", str(config))
        self.refusal = Instead(problem(403, "DENIED", "not yours").answer)
        self.second.faults.plant(self.refusal, f"/blobs/{self.layer.digest}", times=None)

    async def test_denied(self) -> None:
        """
        A client without access receives neither a running transfer nor the
        local blob; for a client with access, some parts are downloaded and
        compared.
        """
        first = await self.pull(self.registry)
        await self.download("bytes_done", PART)
        second = await self.pull(self.second)
        await self.download("watchers", 2)
        self.registry.resume()
        self.assertEqual((await self.ended(first))["state"], "done")
        for job_id in (second, await self.pull(self.second)):
            job = await self.ended(job_id)
            self.assertEqual((job["state"], job["error"]["code"]), ("failed", "DENIED"))
        self.assertEqual(self.second.count("GET", self.layer.digest), 0)
        self.second.faults.clear()
        self.assertEqual((await self.ended(await self.pull(self.second)))["state"], "done")
        self.assertEqual(self.second.count("GET", self.layer.digest), PARTS)
        self.assertEqual(self.second.count("HEAD", self.layer.digest), 3)

    async def test_same_identity(self) -> None:
        """
        Clients with the same identity in one repository share a transfer.
        """
        jobs = [await self.pull(self.registry) for _ in range(3)]
        await self.download("bytes_done", PART)
        await self.download("watchers", 3)
        self.registry.resume()
        for job_id in jobs:
            self.assertEqual((await self.ended(job_id))["state"], "done")
        self.assertEqual(self.registry.count("GET", self.layer.digest), 1)
