"""
Tests for L{xferd.transfer.alarm}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.alarm import Alarm


class AlarmTests(SynchronousTestCase):
    """
    A timer that keeps the earliest time.
    """

    def setUp(self) -> None:
        """
        Make an alarm that records its calls.
        """
        self.clock = Clock()
        self.calls: list[float] = []
        self.alarm = Alarm(self.clock, lambda: self.calls.append(self.clock.seconds()))

    def test_earliest(self) -> None:
        """
        The earliest time counts, whenever it is set, and once.
        """
        for seconds in (5, 3, 4):
            self.alarm.set(seconds)
        self.clock.pump([1] * 10)
        self.assertEqual(self.calls, [3])

    def test_again(self) -> None:
        """
        It can be set again after a call, also within it.
        """

        def again() -> None:
            self.calls.append(self.clock.seconds())
            if len(self.calls) < 3:
                alarm.set(1)

        alarm = Alarm(self.clock, again)
        alarm.set(0)
        self.clock.pump([0, 1, 1, 1])
        self.assertEqual((self.calls, self.clock.getDelayedCalls()), ([0, 1, 2], []))

    def test_cancelled(self) -> None:
        """
        After it is cancelled, once or twice, it calls nothing, and can be set.
        """
        self.alarm.set(1)
        self.alarm.cancel()
        self.alarm.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.alarm.set(2)
        self.clock.advance(2)
        self.assertEqual(self.calls, [2])
