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
    A bucket that fills with 1000 bytes per second.
    """

    def setUp(self) -> None:
        """
        Make the bucket.
        """
        self.clock = Clock()
        self.bandwidth = Bandwidth(1000, self.clock)

    def waits(self, size: int) -> Deferred[None]:
        """
        Take bytes, and get a Deferred.
        """
        waiting = self.bandwidth.take(size)
        assert waiting is not None
        return waiting

    def test_no_limit(self) -> None:
        """
        Without a limit there is no wait and no count.
        """
        self.bandwidth.rate = 0
        self.assertIsNone(self.bandwidth.take(10**9))
        self.bandwidth.rate = 1000
        self.successful_after(self.waits(500), 0.5)

    def successful_after(self, waiting: Deferred[None], seconds: float) -> None:
        """
        Assert that a wait takes exactly so long.
        """
        self.clock.advance(seconds - 0.01)
        self.assertNoResult(waiting)
        self.clock.advance(0.01)
        self.successResultOf(waiting)

    def test_wait(self) -> None:
        """
        A transfer waits until the bytes it moved are paid for.
        """
        self.successful_after(self.waits(2000), 2.0)

    def test_binding(self) -> None:
        """
        The limit is binding while a transfer waits for it, and a second longer.
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
        Several transfers share the rate, in the order of their arrival.
        """
        first, second = self.waits(1000), self.waits(1000)
        self.successful_after(first, 1.0)
        self.successful_after(second, 1.0)

    def test_burst(self) -> None:
        """
        After a pause some bytes may move at once, up to a bound.
        """
        self.clock.advance(1000)
        self.assertIsNone(self.bandwidth.take(int(1000 * BURST)))
        self.successful_after(self.waits(1000), 1.0)

    def test_raised(self) -> None:
        """
        A higher rate takes effect at once for those that wait.
        """
        waiting = self.waits(10_000)
        self.clock.advance(1.0)
        self.bandwidth.rate = 9000
        self.successful_after(waiting, 1.0)

    def test_lowered(self) -> None:
        """
        So does a lower rate; what is paid for stays paid for.
        """
        waiting = self.waits(10_000)
        self.clock.advance(9.0)
        self.bandwidth.rate = 100
        self.successful_after(waiting, 10.0)

    def test_lifted(self) -> None:
        """
        Without a limit, all that wait go on, from a clean turn.
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
        A negative rate is refused.
        """
        self.assertRaises(ValueError, setattr, self.bandwidth, "rate", -1)

    def test_cancelled(self) -> None:
        """
        A cancelled wait leaves its bytes counted, and no timer.
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
        A waiter that is woken may cancel another one that would be woken with
        it.
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
        Pieces of any size take as long as the rate says.
        """
        clock = Clock()
        bandwidth = Bandwidth(rate, clock)
        for piece in pieces:
            waiting = bandwidth.take(piece)
            while waiting is not None and not waiting.called:
                (timer,) = clock.getDelayedCalls()
                clock.advance(timer.getTime() - clock.seconds())
        self.assertAlmostEqual(clock.seconds(), sum(pieces) / rate, delta=BURST + 0.01)
