"""
Tests for L{xferd.transfer.watcher}, and for the end of transfers without watchers.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.transfer.case import EngineTests, Steered
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.transfer import Transfer


class ReleaseTests(EngineTests):
    """
    Watchers are released.
    """

    def test_not_the_last(self) -> None:
        """
        The release of one watcher does not end the transfer.
        """
        work = Steered()
        first, second = self.request("a", work), self.request("a", work)
        first.release()
        first.release()
        self.turn()
        self.assertEqual((work.cancelled, second.transfer.state), (0, "running"))

    def test_the_last(self) -> None:
        """
        The release of the last watcher cancels the work, from a clean turn.
        """
        work = Steered()
        watcher = self.request("a", work)
        watcher.release()
        self.assertEqual((work.cancelled, watcher.transfer.state), (0, "cancelled"))
        self.turn()
        self.assertEqual(work.cancelled, 1)
        self.assert_idle()

    def test_before_it_began(self) -> None:
        """
        A transfer without watchers does not begin.
        """
        work = Steered()
        self.manager.request("a", work, digest="d", turn=Turn("c", 0, 0, 0)).release()
        self.turn()
        self.assertEqual(work.calls, [])
        self.assert_idle()

    def test_waiting_for_the_result(self) -> None:
        """
        A wait for the result fails when its watcher is released.
        """
        watcher = self.request("a", Steered())
        d = watcher.result()
        watcher.release()
        self.turn()
        self.failureResultOf(d, CancelledError)
        self.failureResultOf(watcher.result(), CancelledError)

    def test_cancelled_result(self) -> None:
        """
        Cancelling a result ends only that wait.
        """
        work = Steered()
        watcher = self.request("a", work)
        first, second = watcher.result(), watcher.result()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.turn()
        work.ends[0].callback(1)
        self.turn()
        self.assertEqual(self.successResultOf(second), 1)

    def test_cancelled_result_while_delivered(self) -> None:
        """
        A callback of a result may cancel another wait for it.
        """
        work = Steered()
        watcher = self.request("a", work)
        first, second = watcher.result(), watcher.result()
        cancelling = first.addCallback(lambda _: second.cancel())
        work.ends[0].callback(1)
        self.turn()
        self.failureResultOf(second, CancelledError)
        self.successResultOf(cancelling)

    def test_released_while_delivered(self) -> None:
        """
        A callback of a result may release its own watcher, and others.
        """
        work = Steered()
        watchers = [self.request("a", work) for _ in range(3)]
        results = [w.result() for w in watchers]

        def release_all(_: Any) -> None:
            for watcher in watchers:
                watcher.release()

        releasing = results[0].addCallback(release_all)
        work.ends[0].callback(1)
        self.turn()
        self.successResultOf(releasing)
        self.failureResultOf(results[1], CancelledError)
        self.failureResultOf(results[2], CancelledError)
        self.assert_idle()

    def test_work_that_succeeds_all_the_same(self) -> None:
        """
        The result of a cancelled transfer is dropped.
        """

        async def work(transfer: Transfer) -> int:
            try:
                await Deferred()
            except CancelledError:
                pass
            return 5

        self.request("a", work).release()
        self.assert_idle()

    def test_work_that_breaks_at_its_end(self) -> None:
        """
        An unexpected error in the cleanup of cancelled work is logged.
        """

        async def work(transfer: Transfer) -> None:
            try:
                await Deferred()
            finally:
                raise ZeroDivisionError

        self.request("a", work).release()
        self.assert_idle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_work_releases_its_last_watcher(self) -> None:
        """
        Work that releases its own last watcher before it first waits is
        cancelled.
        """
        cancelled: list[str] = []

        async def work(transfer: Transfer) -> None:
            watchers[0].release()
            try:
                await Deferred()
            except CancelledError:
                cancelled.append("a")
                raise

        turn = Turn("client", 0, 0, 0)
        watchers = [self.manager.request("a", work, digest="a", turn=turn)]
        self.turn()
        self.assertEqual(cancelled, ["a"])
        self.assert_idle()

    def test_successor_waits(self) -> None:
        """
        A new request of a key whose old work has not ended makes a new
        transfer, which reports its reason, and begins when the old work has
        ended.
        """
        old, new = Steered(stubborn=True), Steered()
        first = self.request("a", old)
        first.release()
        self.turn()
        second = self.request("a", new)
        self.assertEqual(second.transfer.state, "waiting")
        self.assertEqual(second.transfer.reason(), Reason(Obstacle.PREDECESSOR))
        self.assertEqual(first.transfer.reason(), Reason(Obstacle.CANCELLATION))
        self.assertEqual(self.manager.transfers(), [second.transfer, first.transfer])
        self.assertEqual(new.calls, [])
        old.ends[1].callback(None)
        self.turn()
        self.assertEqual((new.calls, second.transfer.state), ([second.transfer], "running"))

    def test_left_behind_is_not_waited_for(self) -> None:
        """
        A later transfer begins at once, and its end is its own.
        """
        old, new = Steered(stubborn=True), Steered()
        self.request("a", old).release()
        self.turn()
        self.clock.advance(10)
        second = self.request("a", new)
        self.turn()
        self.assertEqual(new.calls, [second.transfer])
        old.ends[1].callback(None)
        self.turn()
        self.assertEqual(self.manager.transfers(), [second.transfer])
        second.release()
        self.turn()
        self.assert_idle()

    def test_successor_abandoned(self) -> None:
        """
        A successor without watchers never begins, and its own successor still
        waits for the first.
        """
        old, new = Steered(stubborn=True), Steered()
        self.request("a", old).release()
        self.turn()
        self.request("a", new).release()
        third = self.request("a", new)
        self.assertEqual(new.calls, [])
        old.ends[1].callback(None)
        self.turn()
        self.assertEqual(new.calls, [third.transfer])

    def test_successor_replaced_in_the_same_turn(self) -> None:
        """
        A release and a new request in the turn in which the old work ends begin
        the newest work, once.
        """
        old, new = Steered(stubborn=True), Steered()
        self.request("a", old).release()
        self.turn()
        second = self.request("a", new)
        old.ends[1].callback(None)
        second.release()
        third = self.request("a", new)
        self.assertEqual(new.calls, [third.transfer])
