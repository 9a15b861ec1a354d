"""
Tests for L{xferd.registry.transport.watchdog}, on a clock.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import TimedOut
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.watchdog import Watchdog


class WatchdogTests(SynchronousTestCase):
    """
    L{Watchdog} fails a body that is silent or slow, once.
    """

    def setUp(self) -> None:
        """
        Start one.
        """
        self.clock = Clock()
        self.errors: list[TimedOut] = []
        self.watchdog = Watchdog(
            self.errors.append,
            host="h.example",
            verb="sent",
            clock=self.clock,
            timeouts=Timeouts(silence=5, window=60, floor=100),
        )
        self.watchdog.start()

    def _assert_failed(self, phase: str, text: str) -> None:
        (error,) = self.errors
        self.assertEqual((error.phase, error.host, error.retryable), (phase, "h.example", True))
        self.assertIn(text, str(error))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silence(self) -> None:
        """
        Silence is measured from the last time that it was armed.
        """
        self.watchdog.arm()
        self.clock.advance(4)
        self.watchdog.arm()
        self.clock.advance(4)
        self.assertEqual(self.errors, [])
        self.clock.advance(1)
        self._assert_failed("silence", "h.example sent nothing for 5 s")

    def test_disarmed(self) -> None:
        """
        Silence is not measured while it is disarmed, which may be done twice.
        """
        self.watchdog.arm()
        self.watchdog.disarm()
        self.watchdog.disarm()
        self.watchdog.count(6000)
        self.clock.advance(59)
        self.assertEqual(self.errors, [])
        self.watchdog.arm()
        self.clock.pump([1, 4])
        self._assert_failed("silence", "nothing for 5 s")

    def test_floor(self) -> None:
        """
        Each window has to reach the floor by itself.
        """
        self.watchdog.count(1_000_000)
        self.clock.advance(60)
        self.watchdog.count(6000)
        self.clock.advance(60)
        self.assertEqual(self.errors, [])
        self.watchdog.count(5999)
        self.clock.advance(60)
        self._assert_failed("rate", "h.example sent 100 bytes/s over 60 s; 100 are the least")

    def test_suspended(self) -> None:
        """
        Suspended time is left out of the window, across its end, too.
        """
        self.watchdog.suspend()
        self.clock.advance(20)
        self.watchdog.resume()
        self.watchdog.resume()
        self.watchdog.count(4000)
        self.clock.advance(30)
        self.watchdog.suspend()
        self.watchdog.suspend()
        self.clock.advance(10)
        self.assertEqual(self.errors, [])
        # The second window: 25 s suspended, 35 s with 3499 bytes.
        self.clock.advance(25)
        self.watchdog.resume()
        self.watchdog.count(3499)
        self.clock.advance(35)
        self._assert_failed("rate", "over 35 s")

    def test_mostly_suspended(self) -> None:
        """
        A window with no more than half its time is not judged.
        """
        self.watchdog.suspend()
        self.clock.advance(30)
        self.watchdog.resume()
        self.clock.advance(30)
        self.assertEqual(self.errors, [])
        self.watchdog.stop()

    def test_stopped(self) -> None:
        """
        Once stopped it has no timers, and may be stopped again.
        """
        self.watchdog.arm()
        self.watchdog.stop()
        self.watchdog.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(600)
        self.assertEqual(self.errors, [])
