"""
Tests for L{xferd.transfer.bandwidth}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.bandwidth import BURST, Bandwidth


class BandwidthTests(SynchronousTestCase):
    """
    A bucket that fills at 1000 bytes a second.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.clock = Clock()
        self.bandwidth = Bandwidth(1000, self.clock)

    def waits(self, size: int) -> Deferred[None]:
        """
        Take bytes, and have to wait.
        """
        waiting = self.bandwidth.take(size)
        assert waiting is not None
        return waiting

    def test_no_limit(self) -> None:
        """
        Without a limit nobody waits and nothing is counted.
        """
        self.bandwidth.rate = 0
        self.assertIsNone(self.bandwidth.take(10**9))
        self.bandwidth.rate = 1000
        self.successful_after(self.waits(500), 0.5)

    def successful_after(self, waiting: Deferred[None], seconds: float) -> None:
        """
        Check that a wait takes just so long.
        """
        self.clock.advance(seconds - 0.01)
        self.assertNoResult(waiting)
        self.clock.advance(0.01)
        self.successResultOf(waiting)

    def test_wait(self) -> None:
        """
        Who moved bytes waits until they are paid for.
        """
        self.successful_after(self.waits(2000), 2.0)

    def test_binding(self) -> None:
        """
        The limit is binding while somebody waits for it, and a second longer.
        """
        self.assertFalse(self.bandwidth.binding)
        waiting = self.waits(2000)
        self.assertTrue(self.bandwidth.binding)
        self.successful_after(waiting, 2.0)
        self.clock.advance(1)
        self.assertTrue(self.bandwidth.binding)
        self.clock.advance(0.01)
        self.assertFalse(self.bandwidth.binding)
        _ = self.waits(2000)
        self.bandwidth.rate = 0
        self.assertFalse(self.bandwidth.binding)

    def test_order(self) -> None:
        """
        Several share the rate, in the order of their coming.
        """
        first, second = self.waits(1000), self.waits(1000)
        self.successful_after(first, 1.0)
        self.successful_after(second, 1.0)

    def test_burst(self) -> None:
        """
        After a pause a little may move at once, and no more than that.
        """
        self.clock.advance(1000)
        self.assertIsNone(self.bandwidth.take(int(1000 * BURST)))
        self.successful_after(self.waits(1000), 1.0)

    def test_raised(self) -> None:
        """
        A higher rate counts at once for those who wait.
        """
        waiting = self.waits(10_000)
        self.clock.advance(1.0)
        self.bandwidth.rate = 9000
        self.successful_after(waiting, 1.0)

    def test_lowered(self) -> None:
        """
        A lower rate does, too; what is paid for stays so.
        """
        waiting = self.waits(10_000)
        self.clock.advance(9.0)
        self.bandwidth.rate = 100
        self.successful_after(waiting, 10.0)

    def test_lifted(self) -> None:
        """
        Without a limit, all who wait go on, from a clean turn.
        """
        waiting = [self.waits(10**9), self.waits(10**9)]
        self.bandwidth.rate = 0
        self.assertNoResult(waiting[0])
        self.clock.advance(0)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_negative(self) -> None:
        """
        A rate below nothing is refused.
        """
        self.assertRaises(ValueError, setattr, self.bandwidth, "rate", -1)

    def test_cancelled(self) -> None:
        """
        Who goes leaves its bytes on the bill, and no timer.
        """
        first, second = self.waits(1000), self.waits(1000)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.successful_after(second, 2.0)
        third = self.waits(1000)
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_by_another(self) -> None:
        """
        One who is woken may cancel another who would be woken with it.
        """
        first, second = self.waits(1000), self.waits(0)
        _ = first.addCallback(lambda _: second.cancel())
        _ = second.addErrback(lambda failure: failure.trap(CancelledError))
        self.clock.advance(1.0)
        self.successResultOf(first)
        self.successResultOf(second)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(1, 200_000), min_size=1, max_size=40), st.integers(1000, 10**6))
    def test_rate(self, pieces: list[int], rate: int) -> None:
        """
        Whatever the pieces, they take as long as the rate says.
        """
        clock = Clock()
        bandwidth = Bandwidth(rate, clock)
        for piece in pieces:
            waiting = bandwidth.take(piece)
            while waiting is not None and not waiting.called:
                (timer,) = clock.getDelayedCalls()
                clock.advance(timer.getTime() - clock.seconds())
        self.assertAlmostEqual(clock.seconds(), sum(pieces) / rate, delta=BURST + 0.01)
