"""
Tests for the memory of hosts, as the jobs use it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import ConnectionFailed, TooManyRequests
from xferd.hosts.memory import HostMemory
from xferd.interfaces.hosts import Availability, Quota
from xferd.jobs.manager import Jobs
from xferd.testing.images import sample_image


class HostsCase(JobsCase):
    """
    Jobs with a memory of hosts in the store's journal.
    """

    def make_hosts(self) -> HostMemory:
        """
        Make the memory of the next daemon, which is started with it.
        """
        self.hosts = HostMemory(self.clock, wall_clock=self.wall_clock, journal=self.store.journal)
        return self.hosts

    def start(self) -> None:
        """
        Load the memory before the jobs start.
        """
        self.finish(Deferred.fromCoroutine(self.hosts.start()))
        super().start()

    def finish(self, work: Deferred[Any]) -> Any:
        """
        The result of something that takes no time.
        """
        self.settle()
        return self.successResultOf(work)

    def restart(self) -> None:
        """
        Stop the daemon and start the next one.
        """
        self.stop(self.jobs)
        self.finish(self.hosts.stop())
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.start()

    def make_jobs(self) -> Jobs:
        """
        Give them a memory.
        """
        return self.build_jobs(hosts=self.make_hosts())


class HostsTests(HostsCase):
    """
    Pauses, quotas and throughput.
    """

    def setUp(self) -> None:
        """
        Put an image into the registry.
        """
        super().setUp()
        self.image = self.add(sample_image(1, 50_000))

    def limit(self, point: str, seconds: float) -> None:
        """
        Have the registry refuse one request because of a limit.
        """
        error = TooManyRequests("slow down", host=HOST, status=429, retry_after=seconds)
        self.registry.gate.fail(point, error)

    def test_pause_outlives_daemon(self) -> None:
        """
        The time that a registry asked to wait holds in the next daemon: it
        makes no request before its end.
        """
        self.limit("manifest", 600)
        self.pull()
        self.settle()
        self.wait(1)
        self.restart()
        job = self.pull()
        self.settle()
        requests = len(self.registry.requests)
        (transfer,) = [t for t in self.jobs.transfers() if t["kind"] == "document"]
        self.assertEqual((transfer["state"], transfer["why"]), ("queued", f"{HOST} asked to wait 599 s"))
        self.wait(598)
        self.assertEqual(len(self.registry.requests), requests)
        self.wait(2)
        self.assert_done(job)
        self.assert_idle()

    def test_cleared(self) -> None:
        """
        When a host is cleared, jobs that wait for it continue: the one that was
        refused, and the one that queued behind its pause.
        """
        self.limit("manifest", 600)
        first = self.pull()
        self.wait(1)
        self.add(sample_image(2, 50_000), "other")
        second = self.pull("other")
        self.wait(1)
        self.assertIs(self.hosts.state(HOST).availability, Availability.PAUSED)
        self.assertTrue(self.finish(self.hosts.clear(HOST)))
        for job in (first, second):
            self.assert_done(job)
        self.assertTrue(self.hosts.state(HOST).ok)
        self.assert_idle()

    def test_low_quota(self) -> None:
        """
        While the quota is low, documents are requested at intervals, and blobs
        at once.
        """
        self.hosts.answered(HOST, None, Quota(5, 100, 40.0))
        self.wait(8)
        job = self.pull()
        self.settle()
        self.wait(1)
        (transfer,) = [t for t in self.jobs.transfers() if t["kind"] == "document"]
        self.assertEqual(transfer["why"], f"{HOST} permits few more requests; the next one is made in 7 s")
        self.assertEqual(self.job(job)["state"], "running")
        self.wait(7.5)
        self.assert_done(job)
        self.assert_idle()

    def test_throughput(self) -> None:
        """
        The throughput of downloads and of uploads is known by host.
        """
        blob = self.image.layers[0].blob
        self.registry.stall(blob.digest)
        self.pull()
        self.settle()
        self.registry.feed(blob.digest, 10_000)
        self.wait(5)
        self.registry.gate.fail("open", ConnectionFailed("cut", host=HOST), times=9)
        self.registry.fail(blob.digest, ConnectionFailed("cut", host=HOST))
        self.settle()
        (host,) = self.hosts.hosts()
        self.assertEqual(host.host, HOST)
        self.assertAlmostEqual(host.rate or 0, 2000)
