"""
Tests for L{xferd.jobs.limits}, and for limits that change under jobs at work.
"""

from __future__ import annotations

import os

from tests.jobs.case import HOST, JobsCase
from xferd.errors import BadInput, ConnectionFailed
from xferd.jobs.limits import bounds
from xferd.testing.images import sample_image


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
        self.assertEqual(self.jobs.limits(), expected)
        self.assertEqual(list(bounds()), list(expected))

    def test_change(self) -> None:
        """
        Each limit can be set, to its least and to its most.
        """
        for name, (least, most) in bounds().items():
            for value in (least, most):
                limits = self.jobs.change_limits({name: value})
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
