"""
Tests for L{xferd.jobs.limits}, and for limits that change under jobs at work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.case import HOST, JobsCase
from xferd.errors import BadInput, ConnectionFailed
from xferd.jobs.limits import HostLimits, Limits, bounds
from xferd.jobs.live_limits import LiveLimits
from xferd.testing.images import sample_image
from xferd.transfer.bandwidth import HOST as OF_HOST
from xferd.transfer.bandwidth import JOB, Bandwidth
from xferd.transfer.slots import Slots

if TYPE_CHECKING:
    from xferd.jobs.blobs.download import DownloadManager


class LimitTests(JobsCase):
    """
    The limits, shown and changed.
    """

    downloads = 1

    def test_present(self) -> None:
        """
        Every limit is shown.
        """
        expected = {
            "downloads": 1,
            "downloads_per_host": 0,
            "ranges": 4,
            "uploads": 5,
            "workers": 2,
            "download_rate": 0,
            "upload_rate": 0,
        }
        self.assertEqual(list(bounds()), list(expected))
        more: dict[str, Any] = {"timetables": {}, "hosts": {}, "clients": {}, "kept": {}}
        self.assertEqual(self.jobs.limits(), {**expected, **more, "binding": {"download": [], "upload": []}})

    def test_change(self) -> None:
        """
        Each limit can be set, to its least and to its most.
        """
        for name, (least, most) in bounds().items():
            for value in (least, most):
                limits: Mapping[str, Any] = self.jobs.change_limits({name: value})
                self.assertEqual(limits, self.jobs.limits())
                if (name, value) != ("workers", 0):
                    self.assertEqual(limits[name], value)
        self.assertEqual(self.unpacker.workers, bounds()["workers"].most)

    def test_workers(self) -> None:
        """
        No number of workers is one for each core.
        """
        cores = len(os.sched_getaffinity(0))
        self.assertEqual(self.jobs.change_limits({"workers": 0})["workers"], cores)
        self.assertEqual(self.unpacker.workers, cores)

    def test_refused(self) -> None:
        """
        Where one limit is wrong, none is set.
        """
        before = self.jobs.limits()
        for name, (least, most) in bounds().items():
            for value in (least - 1, most + 1, True):
                error = self.assertRaises(
                    BadInput, self.jobs.change_limits, {"downloads": 2, "uploads": 9, name: value}
                )
                self.assertIn(f"'{name}' must be a whole number from {least} to {most}", str(error))
        error = self.assertRaises(BadInput, self.jobs.change_limits, {"downloads": 2, "speed": 3})
        self.assertIn("no limit 'speed'; there are downloads, ", str(error))
        self.assertEqual(self.jobs.limits(), before)

    def running(self) -> int:
        """
        The number of downloads that hold a slot.
        """
        in_use: int = self.jobs.status()["slots"]["download"]["in_use"]
        return in_use

    def test_raised_and_lowered(self) -> None:
        """
        When a limit is raised, waiting transfers start at once; when it is
        lowered, running ones continue, and none starts until fewer run than
        the limit.
        """
        image = self.add(sample_image(4))
        self.registry.gate.hold("open")
        job = self.pull()
        self.settle()
        self.assertEqual(self.running(), 1)
        self.jobs.change_limits({"downloads": 3})
        self.settle()
        self.assertEqual(self.running(), 3)
        self.jobs.change_limits({"downloads": 1})
        self.settle()
        self.assertEqual(self.running(), 3)
        self.registry.gate.release("open")
        self.settle()
        self.assert_done(job)
        self.assertEqual(sum(self.gets(layer.blob.digest) for layer in image.layers), 4)

    def test_download_rate(self) -> None:
        """
        Downloads take the time that the rate requires; without a limit, they
        end at once.
        """
        image = self.add(sample_image(2, 100_000))
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.jobs.change_limits({"download_rate": size // 10})
        slow = self.pull()
        self.settle()
        self.wait(5)
        self.assertEqual(self.job(slow)["state"], "running")
        self.jobs.change_limits({"download_rate": 0})
        self.settle()
        self.assert_done(slow)
        self.assert_idle()

    def test_cancelled_while_held(self) -> None:
        """
        A job that waits for bandwidth is cancelled at once.
        """
        self.add(sample_image(2, 100_000))
        self.jobs.change_limits({"download_rate": 1})
        job = self.pull()
        self.settle()
        self.jobs.cancel(job)
        self.settle()
        self.assertEqual(self.job(job)["state"], "cancelled")
        self.assert_idle()


class OwnLimitTests(JobsCase):
    """
    Limits of single hosts and clients.
    """

    def test_host(self) -> None:
        """
        A host has limits of its own; a change leaves the other members alone, and null
        removes all.
        """
        found = self.jobs.change_limits({"hosts": {HOST: {"downloads": 1, "download_rate": "2kB/s"}}})
        entry = {"downloads": 1, "uploads": 0, "download_rate": 2000, "upload_rate": 0, "timetables": {}}
        self.assertEqual(found["hosts"], {HOST: entry})
        found = self.jobs.change_limits({"hosts": {HOST: {"uploads": 2}}})
        self.assertEqual(found["hosts"], {HOST: {**entry, "uploads": 2}})
        found = self.jobs.change_limits({"hosts": {HOST: {"uploads": 0, "downloads": 0, "download_rate": 0}}})
        self.assertEqual(found["hosts"], {})
        self.jobs.change_limits({"hosts": {HOST: {"downloads": 1}, "index.docker.io": {"uploads": 1}}})
        self.assertEqual(set(self.jobs.change_limits({"hosts": {HOST: None}})["hosts"]), {"docker.io"})

    def test_host_slots(self) -> None:
        """
        A host's number of downloads holds while they run, and its change at once.
        """
        self.add(sample_image(4))
        self.registry.gate.hold("open")
        self.jobs.change_limits({"downloads": 3, "hosts": {HOST: {"downloads": 1}}})
        job = self.pull()
        self.settle()
        in_use = self.jobs.status()["slots"]["download"]["in_use"]
        reasons = {each["reason"]["what"] for each in self.jobs.transfers() if each["reason"]}
        self.assertEqual((in_use, reasons & {"host-limit", "queue"}), (1, {"host-limit"}))
        self.jobs.change_limits({"hosts": {HOST: None}})
        self.settle()
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 3)
        self.registry.gate.release("open")
        self.settle()
        self.assert_done(job)

    def test_host_rate(self) -> None:
        """
        A host's rate holds its downloads; reason, status and verdict say whose it is.
        """
        image = self.add(sample_image(1, 100_000))
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.jobs.change_limits({"hosts": {HOST: {"download_rate": size // 10}}})
        job = self.pull()
        self.settle()
        self.wait(5)
        (transfer,) = [each for each in self.jobs.transfers() if each["kind"] == "download"]
        assert transfer["reason"] is not None
        self.assertEqual(transfer["why"], f"slowed by the download limit of {HOST}")
        self.assertEqual(
            (transfer["reason"]["what"], transfer["reason"]["whom"]), ("bandwidth", f"host {HOST}")
        )
        binding = {"download": [f"host {HOST}"], "upload": []}
        self.assertEqual((self.jobs.limits()["binding"], self.jobs.status()["binding"]), (binding, binding))
        self.wait(6)
        self.assert_done(job)
        timing = self.job(job)["timing"]
        assert timing is not None
        assert timing["bound"] is not None
        self.assertEqual((timing["bound"]["by"], timing["bound"]["whom"]), ("limit", f"host {HOST}"))
        self.assertIn(f": the limit download_rate of {HOST}, ", timing["bound"]["text"])

    def test_job(self) -> None:
        """
        A job has rates of its own, until it ends.
        """
        image = self.add(sample_image(1, 100_000))
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        job = self.pull()
        rates = {"download_rate": size // 10, "upload_rate": {"00:00-24:00": "5k"}}
        found = self.jobs.steering.change(job, rates=rates, by="someone")
        self.assertEqual((found["download_rate"], found["upload_rate"]), (size // 10, 5000))
        self.settle()
        self.wait(2)
        found = self.jobs.get(job)
        self.assertEqual((found["state"], found["download_rate"]), ("running", size // 10))
        whose = [f"job {job}"]
        self.assertEqual(self.jobs.limits()["binding"], {"download": whose, "upload": []})
        (transfer,) = [each for each in self.jobs.transfers() if each["kind"] == "download"]
        self.assertEqual(transfer["why"], f"slowed by the download limit of job {job}")
        for wrong in ({"download_rate": "fast"}, {"speed": 1}):
            self.assertRaises(BadInput, self.jobs.steering.change, job, rates=wrong, by="someone")
        found = self.jobs.steering.change(job, rates={"download_rate": 0}, by="someone")
        self.assertEqual((found["download_rate"], found["upload_rate"]), (0, 5000))
        self.settle()
        self.wait(1)
        self.assert_done(job)
        self.assertEqual((self.job(job)["download_rate"], self.clock.getDelayedCalls()), (0, []))

    def test_refused(self) -> None:
        """
        A wrong entry is refused, with its name, and nothing is set.
        """
        before = self.jobs.limits()
        for changes, expected in (
            ({"hosts": {HOST: {"downloads": -1}}}, f"'hosts.{HOST}.downloads' must be a whole number from 0"),
            ({"hosts": {HOST: {"download_rate": "fast"}}}, f"'hosts.{HOST}.download_rate' must be bytes per"),
            ({"hosts": {HOST: {"weight": 1}}}, "the limits in 'hosts' are downloads, uploads, "),
            ({"hosts": {HOST: 3}}, "the limits in 'hosts' are downloads, uploads, "),
            ({"hosts": {"no host": {"downloads": 1}}}, '"no host" is not a registry'),
            ({"hosts": 3}, "'hosts' must be an object with an entry for each of the hosts"),
            ({"clients": {"ci": {"weight": 0}}}, "'clients.ci.weight' must be a whole number from 1 to 1000"),
            ({"clients": {"c i": {"weight": 2}}}, "'clients' must have names of 1 to 64 letters"),
            ({"download_rate": {"08:00-18:00": 1, "09:00-10:00": 2}}, "'download_rate' has 08:00-18:00 and"),
            ({"clients": {str(n): {"weight": 2} for n in range(1001)}}, "'clients' must have at most 1000"),
        ):
            error = self.assertRaises(BadInput, self.jobs.change_limits, {"downloads": 2, **changes})
            self.assertIn(expected, str(error))
        self.assertEqual(self.jobs.limits(), before)

    def test_configured(self) -> None:
        """
        Null restores the configured value; a configuration that is read again replaces
        what was set for this run, and what is kept stays above it.
        """
        self.assertEqual(self.jobs.change_limits({"downloads": 9})["downloads"], 9)
        self.assertEqual(self.jobs.change_limits({"downloads": None})["downloads"], 3)
        self.jobs.change_limits({"uploads": 9, "clients": {"ci": {"weight": 2}}})
        kept = {"downloads": 7, "hosts": {HOST: {"uploads": 1}}}
        self.assertEqual(self.jobs.change_limits(kept, keep=True)["kept"], kept)
        self.jobs.change_limits({"downloads": 8})
        configured = Limits(downloads=4, uploads=6, hosts={"r.example": HostLimits(downloads=5)}, workers=2)
        self.jobs.configure_limits(configured)
        found = self.jobs.limits()
        self.assertEqual((found["downloads"], found["uploads"], found["clients"]), (7, 6, {}))
        self.assertEqual(
            {host: each["uploads"] for host, each in found["hosts"].items()}, {HOST: 1, "r.example": 0}
        )
        gone = self.jobs.change_limits(
            {"downloads": None, "hosts": {HOST: None, "r.example": None}}, keep=True
        )
        self.assertEqual((gone["downloads"], gone["hosts"]), (4, {}))
        self.assertEqual(gone["kept"], {"hosts": {"r.example": None}})
        self.jobs.configure_limits(configured)
        self.assertEqual(self.jobs.limits()["hosts"], {})

    def restart(self) -> None:
        """
        Stop the daemon, and start the next one.
        """
        self.stop(self.jobs)
        self.jobs = self.make_jobs()
        self.start()

    def test_kept(self) -> None:
        """
        What is kept holds in the next daemon.
        """
        rate = {"08:00-18:00": "20MB/s", "else": 0}
        self.jobs.change_limits({"downloads": 7, "clients": {"ci": {"upload_rate": rate}}}, keep=True)
        self.jobs.change_limits({"uploads": 9})
        self.restart()
        found = self.jobs.limits()
        self.assertEqual((found["downloads"], found["uploads"]), (7, 5))
        self.assertEqual(
            found["clients"]["ci"]["timetables"], {"upload_rate": {"08:00-18:00": 20_000_000, "else": 0}}
        )
        self.jobs.change_limits({"downloads": None, "clients": {"ci": None}}, keep=True)
        self.restart()
        self.assertEqual((self.jobs.limits()["downloads"], self.jobs.limits()["kept"]), (3, {}))


class TimetableTests(SynchronousTestCase):
    """
    Rates that follow the time of day.
    """

    def setUp(self) -> None:
        """
        Make limits at eight o'clock, less half a second.
        """
        self.clock = Clock()
        self.day = datetime(2026, 5, 4, 7, 59, 59, 500_000, tzinfo=UTC).timestamp()
        self.download, self.upload = Bandwidth(0, self.clock), Bandwidth(0, self.clock)
        self.limits = LiveLimits(
            Limits(workers=1),
            downloads=Slots(3, self.clock),
            uploads=Slots(5, self.clock),
            layers=cast("DownloadManager", SimpleNamespace(ranges=4, workers=1)),
            download=self.download,
            upload=self.upload,
            weights={},
            clock=self.clock,
            wall_clock=lambda: self.day + self.clock.seconds(),
            minute_of_day=lambda seconds: int(seconds) // 60 % 1440,
        )

    def test_time_passes(self) -> None:
        """
        The rate changes within a second of its time, and there is no timer without one.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.limits.change({"download_rate": {"08:00-18:00": 500, "else": 9}})
        self.assertEqual((self.download.rate, self.upload.rate), (9, 0))
        self.clock.advance(1)
        self.assertEqual((self.download.rate, self.limits.present()["download_rate"]), (500, 500))
        for _ in range(10 * 3600):
            self.clock.advance(1)
        self.assertEqual(self.download.rate, 9)
        self.limits.change({"download_rate": 0})
        self.assertEqual((self.clock.getDelayedCalls(), self.download.rate), ([], 0))

    def test_clock_jumps(self) -> None:
        """
        A wall clock that is set counts within a second, forwards and backwards.
        """
        self.limits.change({"hosts": {"r.example": {"upload_rate": {"22:00-06:00": 7}}}})
        self.assertEqual(self.upload.rate_of(OF_HOST, "r.example"), 0)
        for hours, rate in ((16, 7), (-4, 0), (-15, 7), (2, 0), (16, 7)):
            self.day += hours * 3600
            self.clock.advance(1)
            self.assertEqual(self.upload.rate_of(OF_HOST, "r.example"), rate, hours)
        self.limits.change({"hosts": {"r.example": None}})
        self.assertEqual((self.upload.limited, self.clock.getDelayedCalls()), (False, []))

    def test_job(self) -> None:
        """
        A job's rate may depend on the time, too, and ends with it.
        """
        now = self.limits.limit_job(17, "f00d", {"download_rate": {"08:00-09:00": 5}, "upload_rate": "3"})
        self.assertEqual(now, {"download_rate": 0, "upload_rate": 3})
        self.clock.advance(1)
        self.assertEqual(now, {"download_rate": 5, "upload_rate": 3})
        self.assertEqual((self.download.rate_of(JOB, 17), self.upload.rate_of(JOB, 17)), (5, 3))
        self.assertEqual(self.limits.limit_job(17, "f00d", {}), {})
        self.assertEqual((self.download.rate_of(JOB, 17), self.upload.rate_of(JOB, 17)), (0, 0))
        self.assertEqual((self.download.limited, self.clock.getDelayedCalls()), (False, []))


class FigureTests(JobsCase):
    """
    The figures of jobs.
    """

    def test_figures(self) -> None:
        """
        Jobs, transfers, bytes, retries and waits are counted.
        """
        image = self.add(sample_image(2))
        self.registry.gate.fail("open", ConnectionFailed("reset", host="r"), times=1)
        job = self.pull()
        self.wait(5)
        self.assert_done(job)
        figures = self.jobs.figures()
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertEqual(figures.ended, {("pull", "done"): 1})
        self.assertEqual((figures.jobs, figures.transfers), ({}, {}))
        self.assertEqual((figures.fetched, figures.sent, figures.delivered), ({HOST: size}, {}, size))
        self.assertEqual(figures.retries, {"CONNECTION_FAILED": 1})
        self.assertEqual(figures.failures, {(HOST, "CONNECTION_FAILED"): 1})
        self.assertEqual(set(figures.waiting.values()), {0})
        self.assertEqual(figures.slots["download"], {"limit": 3, "in_use": 0, "queued": 0})
        buckets, _ = figures.waits["download"]
        self.assertEqual(buckets[-1], ("+Inf", 3))

    def test_running(self) -> None:
        """
        Running jobs and transfers are counted by kind and state.
        """
        self.add(sample_image(2))
        self.registry.gate.hold("open")
        self.pull()
        self.settle()
        figures = self.jobs.figures()
        self.assertEqual(figures.jobs, {("pull", "running"): 1})
        self.assertEqual(figures.transfers["download", "running"], 2)
        self.assertEqual(figures.workers_busy, self.unpacker.busy)
        self.registry.gate.release("open")

    def test_waiting(self) -> None:
        """
        Transfers that wait are counted by reason.  A cancelled attempt is no failure.
        """
        self.jobs.change_limits({"downloads": 1})
        self.add(sample_image(3))
        self.registry.gate.hold("open")
        job = self.pull()
        self.settle()
        waiting = {reason: count for reason, count in self.jobs.figures().waiting.items() if count}
        self.assertEqual(waiting["queue"], self.jobs.figures().transfers["download", "queued"])
        self.jobs.cancel(job)
        self.settle()
        self.registry.gate.release("open")
        self.assertEqual(self.jobs.figures().failures, {})
