"""
The jobs on fakes: a registry, a store and an unpacker in memory, and a clock
that the test winds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.clocks import QuickClock
from xferd.errors import BadInput
from xferd.hosts.memory import HostMemory
from xferd.interfaces.registry import IRegistries
from xferd.jobs.kept_credentials import KeptCredentials
from xferd.jobs.limits import Limits
from xferd.jobs.manager import Jobs
from xferd.jobs.steering_settings import SteeringSettings
from xferd.names import Digest, Reference
from xferd.testing.fakes import FakeRegistries, FakeRegistry, FakeStore, FakeUnpacker, FakeWallClock
from xferd.testing.images import SampleImage
from xferd.transfer.retry import RetryPolicy

HOST = "registry.example"
OTHER = "other.example"


class JobsCase(SynchronousTestCase):
    """
    A daemon's jobs, from its start, with one registry that has what a test
    adds to it.  However few bytes a blob has, it is no small one.
    """

    downloads = 3
    steering: SteeringSettings | None = None
    sharing = "shared"
    small_blob = 0

    def setUp(self) -> None:
        """
        Start the jobs.
        """
        self.clock = QuickClock()
        self.wall_clock = FakeWallClock(self.clock)
        path = self.mktemp()
        os.makedirs(path)
        self.store = FakeStore(self.clock, path)
        self.registries = FakeRegistries(self.clock)
        self.registry: FakeRegistry = self.registries.registry(HOST)
        self.other: FakeRegistry = self.registries.registry(OTHER)
        self.unpacker = FakeUnpacker(self.clock, self.store.blobs.open_path)
        self.jobs = self.make_jobs()
        self.start()

    def make_jobs(self) -> Jobs:
        """
        The jobs of a daemon that has not started yet; they are stopped at the
        end of the test.
        """
        return self.build_jobs()

    def build_jobs(self, hosts: HostMemory | None = None) -> Jobs:
        """
        The same, with a memory of hosts.
        """
        jobs = Jobs(
            self.store,
            self.all_registries(),
            self.unpacker,
            clock=self.clock,
            wall_clock=self.wall_clock,
            limits=Limits(downloads=self.downloads),
            steering=self.steering,
            sharing=self.sharing,
            small_blob=self.small_blob,
            retry=RetryPolicy(attempts=3, jitter=0.0),
            hosts=hosts,
            kept=self.kept(),
        )
        self.addCleanup(self.stop, jobs)
        return jobs

    def kept(self) -> KeptCredentials | None:
        """
        The credentials of jobs that outlive the daemon.
        """
        return None

    def all_registries(self) -> IRegistries:
        """
        The registries of the jobs.
        """
        return self.registries

    def stop(self, jobs: Jobs) -> None:
        """
        Stop a daemon's jobs, and see that they end.
        """
        stopping = Deferred.fromCoroutine(jobs.stop(1.0))
        self.settle()
        self.successResultOf(stopping)

    def start(self) -> None:
        """
        Start them.
        """
        starting = Deferred.fromCoroutine(self.jobs.start())
        self.settle()
        self.successResultOf(starting)

    def settle(self) -> None:
        """
        Let everything happen that needs no time.
        """
        # Calls that are due make further ones due, which the clock makes, too.
        self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """
        Let some time pass, in small steps.
        """
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(0.25)
            self.settle()

    def add(self, image: SampleImage, name: str = "app", tag: str = "latest") -> SampleImage:
        """
        Put an image into the registry.
        """
        self.registry.add(image, name, tag)
        return image

    def pull(self, name: str = "app", client: str = "ci", platform: str | None = None) -> str:
        """
        Begin to pull; returns the job's id.
        """
        return str(self.jobs.pull(f"{HOST}/{name}", platform, client, 0)["id"])

    def job(self, job_id: str) -> Mapping[str, Any]:
        """
        The present state of a job.
        """
        return self.jobs.get(job_id)

    def pulled(self, name: str = "app", **how: Any) -> Mapping[str, Any]:
        """
        Pull an image, and check that the pull succeeded.
        """
        job_id = self.pull(name, **how)
        self.settle()
        self.assert_done(job_id)
        return self.job(job_id)

    def assert_done(self, job_id: str) -> None:
        """
        The job has ended well.
        """
        job = self.job(job_id)
        self.assertEqual((job["state"], job["error"]), ("done", None))

    def assert_failed(self, job_id: str, code: str) -> str:
        """
        The job has failed with this code; returns the message.
        """
        job = self.job(job_id)
        self.assertEqual(job["state"], "failed", job)
        self.assertEqual(job["error"]["code"], code, job["error"])
        return str(job["error"]["message"])

    def assert_idle(self) -> None:
        """
        The jobs have released everything: slots, transfers, open partial files,
        connections, unpacking and staging directories.
        """
        self.settle()
        for slots in self.jobs.status()["slots"].values():
            self.assertEqual((slots["in_use"], slots["queued"]), (0, 0))
        self.assertEqual(self.jobs.transfers(), [])
        self.assertEqual(self.store.blobs.opened, {})
        self.assertEqual(self.registry.open_bodies(), [])
        self.assertEqual(self.other.uploads.running(), [])
        self.assertEqual([u for u in self.unpacker.unpackings if u.state != "ended"], [])
        self.assertEqual(self.store.trees.staged, set())

    def push(
        self,
        name: str = "app",
        target: str | None = None,
        client: str = "ci",
        tags: Sequence[str] = (),
        platform: str | None = None,
    ) -> str:
        """
        Begin to push to another registry, or elsewhere; returns the job's id.
        """
        goal = f"{OTHER}/{name}" if target is None else target
        return str(self.jobs.push(f"{HOST}/{name}", goal, tags, platform, client, 0)["id"])

    def copy(self, name: str = "app", target: str | None = None, **how: Any) -> str:
        """
        Begin to copy to another registry; returns the job's id.
        """
        goal = f"{OTHER}/{name}" if target is None else target
        options = {"platform": None, "referrers": False, "client": "ci", "priority": 0, **how}
        return str(self.jobs.copy(f"{HOST}/{name}", goal, **options)["id"])

    def end_archive(self, job_id: str, size: int) -> None:
        """
        Report that an import's archive is complete; that fails if the job does.
        """
        _ = self.jobs.upload_stream(job_id).finish(size).addErrback(lambda failure: failure.trap(BadInput))

    def states(self, job_id: str) -> list[str]:
        """
        The states of a job's rows.
        """
        return [row["state"] for row in self.job(job_id)["layers"]]

    def gets(self, digest: Digest) -> int:
        """
        The number of requests for a blob.
        """
        return self.registry.count("blob", digest)

    def has_image(self, name: str = "app") -> bool:
        """
        Whether the store has the name.
        """
        return self.store.images.get(Reference.parse(f"{HOST}/{name}")) is not None

    def transfer(self, kind: str, digest: Digest) -> Mapping[str, Any]:
        """
        The one transfer of a kind on a blob.
        """
        (found,) = [t for t in self.jobs.transfers() if t["kind"] == kind and t["digest"] == str(digest)]
        return found


def every(check: Callable[[str], object], job_ids: list[str]) -> None:
    """
    Check every one of some jobs.
    """
    for job_id in job_ids:
        check(job_id)
