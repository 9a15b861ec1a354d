"""
A daemon with few file descriptors and many transfers.
"""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.programs import Xferd
from tests.integration.test_daemon import API, DaemonCase, reactor
from xferd.testing.images import sample_image

IMAGES, LAYERS = 50, 20
LIMIT = 256


class FewDescriptorsTests(DaemonCase):
    """
    1,000 layers, and 256 descriptors.
    """

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon with a limit on open files.
        """
        before = ["prlimit", f"--nofile={LIMIT}:{LIMIT}"]
        daemon = self.daemon = Xferd(reactor, str(self.place / "x"), *options, before=before)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        self.api = API(daemon)
        return daemon

    async def test_all_complete(self) -> None:
        """
        All of 1,000 queued layers are downloaded and unpacked; a queued layer
        has no descriptor.
        """
        open_files = f"/proc/{self.daemon.pid}/fd"
        jobs = []
        for n in range(IMAGES):
            self.registry.add(sample_image(LAYERS, 100, seed=n), f"team/app{n}", "1")
            reference = f"{self.registry.host}/team/app{n}:1"
            jobs.append(await self.api.pull(reference))
        most = 0
        waiting = set(jobs)
        while waiting:
            most = max(most, len(os.listdir(open_files)))
            listed = await self.api("GET", "jobs?limit=200")
            ended = {job["id"]: job for job in listed if job["id"] in waiting and job["finished"]}
            for job in ended.values():
                self.assertEqual((job["state"], job["error"]), ("done", None))
            waiting -= set(ended)
            await deferLater(reactor, 0.2)
        self.assertLess(most, LIMIT)
