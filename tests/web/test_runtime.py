"""
Tests for L{xferd.web.runtime}.
"""

from __future__ import annotations

import gc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.web.runtime import BOUNDS, INTERVAL, Runtime


class LateClock(Clock):
    """
    A reactor's time of which each turn may come late.
    """

    def turn(self, late: float) -> None:
        """
        Run the due calls, as much later.
        """
        due = min(call.getTime() for call in self.getDelayedCalls())
        self.rightNow = due + late
        self.advance(0)


class RuntimeTests(SynchronousTestCase):
    """
    Measurements of what keeps the daemon waiting.
    """

    def setUp(self) -> None:
        """
        Make one that measures with a clock.
        """
        self.clock = LateClock()
        self.now = 0.0
        self.runtime = Runtime(self.clock, lambda: self.now)
        self.addCleanup(self.runtime.stop)

    def test_lag(self) -> None:
        """
        The lag is how much later than due a timer ran; a late one makes no later one late.
        """
        self.runtime.start()
        for late in (0.0, 0.3, 0.0):
            self.clock.turn(late)
        self.assertAlmostEqual(self.runtime.lag.total, 0.3)
        buckets = dict(self.runtime.lag.buckets())
        self.assertEqual(buckets[str(BOUNDS[0])], 2)
        self.assertEqual((buckets["0.1"], buckets["0.5"], buckets["+Inf"]), (2, 3, 3))
        self.assertEqual(self.clock.seconds(), 3 * INTERVAL + 0.3)

    def test_collections(self) -> None:
        """
        The duration of each garbage collection is counted with its generation.
        """

        def slow(phase: str, _info: object) -> None:
            self.now += 0.25 if phase == "stop" else 0.0

        # Callbacks run in their order: the time passes before the measurement.
        gc.callbacks.append(slow)
        self.addCleanup(gc.callbacks.remove, slow)
        gc.disable()
        self.addCleanup(gc.enable)
        self.runtime.start()
        gc.collect(1)
        gc.collect(2)
        gc.collect(2)
        self.assertEqual([each.total for each in self.runtime.collections], [0.0, 0.25, 0.5])

    def test_stop(self) -> None:
        """
        Nothing is left after the stop, which may come twice, or without a start.
        """
        before = list(gc.callbacks)
        self.runtime.stop()
        self.runtime.start()
        self.assertEqual(len(gc.callbacks), len(before) + 1)
        self.runtime.stop()
        self.runtime.stop()
        self.assertEqual(gc.callbacks, before)
        self.assertEqual(self.clock.getDelayedCalls(), [])
