"""
Tests for L{xferd.transfer.attempts}: the source of each attempt.
"""

from __future__ import annotations

from tests.transfer.case import ALICE, ONE, TWO, Attempt, EngineTests
from xferd.errors import (
    BlobUnknown,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    TooManyRequests,
)
from xferd.transfer.attempts import Unusable
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import Obstacle, Reason


class AttemptSourceTests(EngineTests):
    """
    Transfers with several sources, which change while they run.
    """

    limit = 1

    def test_next_source_at_once(self) -> None:
        """
        A source that refuses is followed by the next one at once, in the same
        slot, before other transfers that wait.
        """
        attempt, other = Attempt(), Attempt()
        watcher = self.request("a", attempt.work(), ONE)
        self.request("a", attempt.work(), TWO)
        self.request("b", other.work(), ONE)
        attempt.ends[0].errback(Denied("no"))
        self.assertEqual(attempt.sources, [ONE, TWO])
        self.assertEqual(other.sources, [])
        attempt.ends[1].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")

    def test_another_source(self) -> None:
        """
        A work function learns whether another source could begin now: not one
        that has just failed, is held, or is paused.
        """
        attempt = Attempt()
        transfer = self.request("a", attempt.work(), ONE).transfer
        self.assertFalse(transfer.has_another(ONE))
        self.request("a", attempt.work(), TWO)
        self.assertTrue(transfer.has_another(ONE))
        self.slots.pause("two.example", 5)
        self.assertFalse(transfer.has_another(ONE))
        self.clock.advance(5)
        self.assertTrue(transfer.has_another(ONE))
        attempt.ends[0].errback(ConnectionFailed("cut"))
        self.turn()
        self.assertFalse(transfer.has_another(TWO))

    def test_unusable(self) -> None:
        """
        A source that has become unusable is not tried again; no other one is
        concerned, and nothing is paused.
        """
        reason = TooManyRequests("slow down", host="three.example", retry_after=40)
        attempt = Attempt(Unusable(reason), Unusable(Denied("no")))
        first = self.request("a", Attempt().work(), ONE)
        first.release()
        first = self.request("b", attempt.work(), ONE)
        self.assertEqual(self.slots.hosts.paused("one.example"), 0)
        self.failureResultOf(first.result(), TooManyRequests)
        first.release()
        attempt = Attempt()
        watchers = [self.request("c", attempt.work(), source) for source in (ONE, ALICE)]
        attempt.ends[0].errback(Unusable(reason))
        self.assertEqual(attempt.sources, [ONE, ALICE])
        attempt.ends[1].errback(Unusable(Denied("no")))
        self.turn()
        self.failureResultOf(watchers[0].result(), TooManyRequests)
        self.failureResultOf(watchers[1].result(), Denied)
        for watcher in watchers:
            watcher.release()
        self.assert_idle()

    def test_each_its_own_error(self) -> None:
        """
        When all sources failed, each watcher gets the error of its own.
        """
        attempt = Attempt()
        first = self.request("a", attempt.work(), ONE)
        second = self.request("a", attempt.work(), TWO)
        third = self.request("a", attempt.work())
        attempt.ends[0].errback(Denied("no"))
        attempt.ends[1].errback(BlobUnknown("what?"))
        self.turn()
        self.failureResultOf(first.result(), Denied)
        self.failureResultOf(second.result(), BlobUnknown)
        self.failureResultOf(third.result(), BlobUnknown)
        for watcher in (first, second, third):
            watcher.release()
        self.assert_idle()

    def test_wrong_bytes(self) -> None:
        """
        Wrong bytes are fetched once more at once; then the transfer fails.
        """
        attempt = Attempt(DigestMismatch("wrong"), DigestMismatch("still wrong"))
        watcher = self.request("a", attempt.work(), ONE)
        self.assertEqual(len(attempt.sources), 2)
        failure = self.failureResultOf(watcher.result(), DigestMismatch)
        self.assertEqual(str(failure.value), "still wrong")

    def test_new_source_in_back_off(self) -> None:
        """
        A source that arrives during the back-off of the only other is tried at
        once.
        """
        attempt = Attempt(ConnectionFailed("cut"))
        first = self.request("a", attempt.work(), ONE)
        self.assertEqual(first.transfer.state, "backing-off")
        self.request("a", attempt.work(), TWO)
        self.assertEqual(attempt.sources, [ONE, TWO])
        attempt.ends[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(first.result()), "blob")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_known_source_in_back_off(self) -> None:
        """
        A watcher with a source equal to the one in back-off changes nothing.
        """
        attempt = Attempt(ConnectionFailed("cut"))
        self.request("a", attempt.work(), ONE)
        self.request("a", attempt.work(), ONE)
        self.assertEqual(attempt.sources, [ONE])
        self.clock.advance(1)
        self.assertEqual(attempt.sources, [ONE, ONE])

    def test_source_leaves_in_back_off(self) -> None:
        """
        When the source in back-off is removed, the outcomes of the others
        decide.
        """
        attempt = Attempt()
        first = self.request("a", attempt.work(), ONE)
        second = self.request("a", attempt.work(), TWO)
        attempt.ends[0].errback(Denied("no"))
        attempt.ends[1].errback(ConnectionFailed("cut"))
        self.assertEqual(first.transfer.state, "backing-off")
        second.release()
        self.turn()
        self.failureResultOf(first.result(), Denied)

    def test_source_leaves_in_attempt(self) -> None:
        """
        An attempt whose source is removed goes on, and its result is the result
        of all.
        """
        attempt = Attempt()
        first = self.request("a", attempt.work(), ONE)
        second = self.request("a", attempt.work(), TWO)
        first.release()
        self.turn()
        self.assertEqual(second.transfer.sources, [TWO])
        attempt.ends[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(second.result()), "blob")

    def test_source_leaves_in_attempt_that_fails(self) -> None:
        """
        If that attempt fails, its source is not tried again.
        """
        attempt = Attempt()
        first = self.request("a", attempt.work(), ONE)
        self.request("a", attempt.work(), TWO)
        first.release()
        attempt.ends[0].errback(ConnectionFailed("cut"))
        self.assertEqual(attempt.sources, [ONE, TWO])

    def test_source_leaves_in_the_queue(self) -> None:
        """
        A queued transfer turns to the source that is left, and to its host.
        """
        self.slots.limit = 2
        self.slots.per_host = 1
        blocking, attempt = Attempt(), Attempt()
        self.request("b", blocking.work(), ONE)
        first = self.request("a", attempt.work(), ONE)
        second = self.request("a", attempt.work(), ALICE)
        self.assertEqual(second.transfer.reason(), Reason(Obstacle.HOST_LIMIT, 1, "one.example"))
        self.request("a", attempt.work(), TWO)
        self.assertEqual(attempt.sources, [TWO])
        first.release()

    def test_queued_turns(self) -> None:
        """
        A queued transfer waits in the best of its watchers' turns.
        """
        blocking, early, shared = Attempt(), Attempt(), Attempt()
        self.request("x", blocking.work(), ONE)
        self.request("early", early.work(), ONE, turn=Turn("client", 0, 5, 0))
        self.request("shared", shared.work(), ONE, turn=Turn("client", 0, 9, 0))
        best = self.request("shared", shared.work(), ONE, turn=Turn("client", 0, 1, 0))
        again = self.request("shared", shared.work(), ONE, turn=Turn("client", 0, 1, 0))
        self.assertEqual(best.transfer.reason(), Reason(Obstacle.QUEUE, 1))
        best.release()
        self.assertEqual(best.transfer.reason(), Reason(Obstacle.QUEUE, 1))
        again.release()
        self.assertEqual(best.transfer.reason(), Reason(Obstacle.QUEUE, 2))

    def test_host_full(self) -> None:
        """
        When the host of the next source is full, the slot is released and the
        transfer is queued there.
        """
        self.slots.limit = 2
        self.slots.per_host = 1
        attempt, busy = Attempt(), Attempt()
        self.request("busy", busy.work(), TWO)
        watcher = self.request("a", attempt.work(), ONE)
        self.request("a", attempt.work(), TWO)
        attempt.ends[0].errback(Denied("no"))
        self.assertEqual((watcher.transfer.state, self.slots.in_use), ("queued", 1))
        busy.ends[0].callback(None)
        self.turn()
        self.assertEqual(attempt.sources, [ONE, TWO])
