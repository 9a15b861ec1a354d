"""
Limits on bandwidth, on real sockets.
"""

from __future__ import annotations

from tests.integration.test_daemon import DaemonCase, reactor
from xferd.registry.transport.request_body import PIECE
from xferd.testing.images import SampleImage
from xferd.testing.registry import Registry

RATE = 800_000


class BandwidthTests(DaemonCase):
    """
    A daemon whose bandwidth limit changes while it runs.
    """

    def bytes_of(self, image: SampleImage) -> int:
        """
        The bytes of an image's layers.
        """
        return sum(layer.blob.descriptor.size for layer in image.layers)

    async def done(self, job_id: str) -> float:
        """
        Wait for a job's end.

        @return: the seconds until then.
        """
        began = reactor.seconds()
        job = await self.state(job_id, "done", "failed")
        self.assertEqual((job["state"], job["error"]), ("done", None))
        return reactor.seconds() - began

    async def test_download(self) -> None:
        """
        A pull of two layers at once takes the time of the limit.
        """
        image, reference = self.add(2, 500_000, compression="tar")
        await self.daemon.ctl("limits", f"download_rate={RATE}")
        took = await self.done(await self.api.pull(reference))
        least = self.bytes_of(image) / RATE
        self.assertGreater(took, least * 0.7)
        self.assertLess(took, least + 60)

    async def test_lifted(self) -> None:
        """
        A slow pull speeds up when the limit is lifted, and its connection stays
        open.
        """
        image, reference = self.add(2, 500_000, compression="tar")
        await self.api("PATCH", "limits", {"download_rate": 1000})
        job = await self.api.pull(reference)
        await self.fetched(job, 1)
        await self.api("PATCH", "limits", {"download_rate": 0})
        self.assertLess(await self.done(job), 100)
        for layer in image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)

    async def test_upload(self) -> None:
        """
        A push takes the time of the limit.
        """
        image, reference = self.add(2, 500_000, compression="tar")
        await self.done(await self.api.pull(reference))
        await self.api("PATCH", "limits", {"upload_rate": RATE})
        other = Registry(reactor)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        target = f"{other.host}/team/app:1"
        job = await self.api("POST", "jobs", {"kind": "push", "reference": reference, "target": target})
        took = await self.done(job["id"])
        # No delay follows the last piece of a blob.
        least = (self.bytes_of(image) - 2 * PIECE) / RATE
        self.assertGreater(took, least * 0.7)
        self.assertLess(took, least + 60)
