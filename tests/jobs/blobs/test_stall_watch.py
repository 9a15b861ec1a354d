"""
Tests for L{xferd.jobs.blobs.stall_watch}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.jobs.blobs.stall_watch import CONNECTING, LEAST, PATIENCE, StallWatch


class StallWatchTests(SynchronousTestCase):
    """
    Whether a source stalls.
    """

    def setUp(self) -> None:
        """
        Begin to watch one that could be replaced.
        """
        self.clock = Clock()
        self.given_up = 0
        self.replaceable = True
        self.watch = StallWatch(self.clock, lambda: self.replaceable)
        self.watch.start(self.give_up)
        self.addCleanup(self.watch.stop)

    def give_up(self) -> None:
        """
        Count it.
        """
        self.given_up += 1

    def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.clock.pump([0.5] * int(2 * seconds))

    def test_first_byte(self) -> None:
        """
        Until the first byte it has the time of a connection more.
        """
        self.wait(CONNECTING + PATIENCE - 1)
        self.assertFalse(self.watch.stalled)
        self.wait(1)
        self.assertTrue(self.watch.stalled)
        self.wait(60)
        self.assertEqual(self.given_up, 1)

    def test_silence(self) -> None:
        """
        After its last bytes it has five seconds.
        """
        self.watch.moved(LEAST, None)
        self.wait(PATIENCE - 1)
        self.watch.moved(LEAST, None)
        self.wait(PATIENCE - 1)
        self.assertFalse(self.watch.stalled)
        self.wait(1)
        self.assertTrue(self.watch.stalled)

    def test_trickle(self) -> None:
        """
        A few bytes each second are silence; as many as the floor are not.
        """
        for _ in range(20):
            self.watch.moved(LEAST // 4, None)
            self.wait(1)
        self.assertFalse(self.watch.stalled)
        for _ in range(10):
            self.watch.moved(10, None)
            self.wait(1)
        self.assertTrue(self.watch.stalled)

    def test_no_other(self) -> None:
        """
        Without another source it may be silent; another one that is added is
        noticed soon.
        """
        self.replaceable = False
        self.wait(100)
        self.assertFalse(self.watch.stalled)
        self.replaceable = True
        self.wait(1)
        self.assertTrue(self.watch.stalled)

    def test_held(self) -> None:
        """
        While reading is held nothing can come, and for five seconds after.
        """
        hold: Deferred[None] = Deferred()
        self.watch.moved(LEAST, hold)
        self.wait(100)
        hold.callback(None)
        self.wait(PATIENCE - 1)
        self.assertFalse(self.watch.stalled)
        self.wait(1)
        self.assertTrue(self.watch.stalled)

    def test_stopped(self) -> None:
        """
        Stopped, it does nothing more.
        """
        self.watch.stop()
        self.watch.stop()
        self.watch.moved(1, None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
