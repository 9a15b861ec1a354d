"""
Tests for L{xferd.jobs.history}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.test_timing import AfterwardsCase
from xferd.jobs.history import INTERVAL, SAMPLES, ClientBytes, History
from xferd.testing.fakes import FakeWallClock
from xferd.testing.images import sample_image


class SampleTests(SynchronousTestCase):
    """
    Samples of counters.
    """

    def setUp(self) -> None:
        """
        Start one.
        """
        self.clock = Clock()
        self.counters = [1000, 50, 7]
        self.history = History(self.clock, FakeWallClock(self.clock), lambda: self.counters, ClientBytes())
        self.history.start()
        self.addCleanup(self.history.stop)

    def test_empty(self) -> None:
        """
        The history is empty before the first sample, and lacks what was counted before the start.
        """
        self.assertEqual(self.history.to_json()["received"], ())
        self.clock.advance(INTERVAL)
        self.assertEqual(self.history.to_json()["received"], (0,))

    def test_samples(self) -> None:
        """
        Each sample has the bytes of its interval, the newest one last.
        """
        before = self.history.to_json()["until"]
        self.counters[:] = [1600, 50, 10]
        self.clock.advance(INTERVAL)
        self.counters[:] = [1600, 90, 10]
        self.clock.advance(INTERVAL)
        shown = self.history.to_json()
        self.assertEqual((shown["received"], shown["sent"], shown["saved"]), ((600, 0), (0, 40), (3, 0)))
        self.assertGreater(shown["until"], before)

    def test_late(self) -> None:
        """
        If the reactor was late, the bytes are spread over the intervals that have passed, and none
        is lost.
        """
        self.counters[0] += 100
        self.clock.advance(3 * INTERVAL + 1)
        self.assertEqual(self.history.to_json()["received"], (33, 33, 34))
        self.counters[0] += 5
        self.clock.advance(INTERVAL - 1)
        self.assertEqual(self.history.to_json()["received"], (33, 33, 34, 5))

    def test_bounded(self) -> None:
        """
        An hour is kept.
        """
        for number in range(SAMPLES + 2):
            self.counters[0] += number
            self.clock.advance(INTERVAL)
        received = self.history.to_json()["received"]
        self.assertEqual((len(received), received[0], received[-1]), (SAMPLES, 2, SAMPLES + 1))

    def test_stop(self) -> None:
        """
        After a stop, which may come twice, no timer is left.
        """
        self.history.stop()
        self.history.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class JobTests(AfterwardsCase):
    """
    The bytes of jobs.
    """

    def start(self) -> None:
        """
        Count from the start of the jobs.
        """
        super().start()
        self.jobs.lately.start()
        self.addCleanup(self.jobs.lately.stop)

    def test_moved(self) -> None:
        """
        The samples have what came from the registry, and each client has all of a transfer that
        it shares; a minute later it has nothing.
        """
        (blob,) = self.image(size=500_000)
        one, two = self.pull(), self.pull(client="nightly")
        self.settle()
        self.flow(blob, 30, 2_000)
        shown = self.jobs.history()
        self.assertEqual(shown["clients"], {"ci": 60_000, "nightly": 60_000})
        self.assertEqual(len(shown["received"]), 3)
        self.assertApproximates(sum(shown["received"]), 60_000, 5_000)
        self.assertApproximates(sum(shown["saved"]), 60_000, 5_000)
        self.registry.finish(blob)
        self.wait(10)
        for job_id in (one, two):
            self.assert_done(job_id)
        size = self.job(one)["bytes_total"]
        shown = self.jobs.history()
        self.assertEqual(shown["clients"], {"ci": size, "nightly": size})
        self.assertApproximates(sum(shown["received"]), size, 5_000)
        self.assertApproximates(sum(shown["saved"]), size, 5_000)
        self.wait(60)
        self.assertEqual(self.jobs.history()["clients"], {})

    def test_saved(self) -> None:
        """
        What a second pull finds in the store is saved.
        """
        self.add(sample_image(2, 50_000))
        first = self.pulled()
        self.wait(10)
        self.pulled()
        self.wait(10)
        self.assertEqual(list(self.jobs.history()["saved"]), [0, first["bytes_total"]])
