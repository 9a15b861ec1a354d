"""
Tests for L{xferd.transfer.manager}, L{xferd.transfer.transfer} and
L{xferd.transfer.watcher}.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.transfer.case import Attempt, EngineTests, Recorder, Source, Steered
from xferd.errors import BadLayer, Denied, Interrupted
from xferd.interfaces.transfer import IProgressSink
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.progress import PULSE, Mailbox
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

ONE = Source("one.example")


class UseTests(EngineTests):
    """
    The use of the store by transfers.
    """

    def setUp(self) -> None:
        """
        Count the uses.
        """
        super().setUp()
        self.using = 0
        self.manager = TransferManager(
            self.clock,
            wall_clock=self.clock.seconds,
            slots=None,
            retry=self.policy,
            kind="test",
            use=self.use,
        )

    def use(self) -> Callable[[], None]:
        """
        Begin a use.
        """
        self.using += 1

        def end() -> None:
            self.using -= 1

        return end

    def test_watched(self) -> None:
        """
        The use lasts from the first request to the last release, whether the
        transfer is done or not.
        """
        work = Steered()
        watchers = [self.request("a", work) for _ in range(2)]
        self.assertEqual(self.using, 1)
        watchers[0].release()
        work.ends[-1].callback("it")
        self.turn()
        self.assertEqual((watchers[1].transfer.state, self.using), ("done", 1))
        watchers[1].release()
        self.assertEqual(self.using, 0)

    def test_failed(self) -> None:
        """
        The use of a failed transfer ends at once, whether it is watched or not.
        """
        work = Steered()
        watcher = self.request("a", work)
        work.ends[-1].errback(BadLayer("no"))
        self.turn()
        self.failureResultOf(watcher.result(), BadLayer)
        self.assertEqual(self.using, 0)

    def test_cancelled(self) -> None:
        """
        The use of a cancelled transfer ends with its work; without begun work,
        at once.
        """
        work = Steered(stubborn=True)
        watcher = self.request("a", work)
        watcher.release()
        self.turn()
        self.assertEqual(self.using, 1)
        successor = self.request("a", Steered())
        self.assertEqual(self.using, 2)
        successor.release()
        self.assertEqual(self.using, 1)
        work.ends[-1].callback(None)
        self.turn()
        self.assertEqual(self.using, 0)

    def test_predecessor_does_not_end(self) -> None:
        """
        Work that does not end within ten seconds of its cancellation is left
        behind: its successor begins, and its use lasts until it has ended.
        """
        old, new = Steered(stubborn=True), Steered()
        first = self.request("a", old)
        first.release()
        self.clock.pump([1.0] * 4)
        second = self.request("a", new)
        self.clock.pump([1.0] * 5)
        self.assertEqual(new.calls, [])
        self.clock.advance(1)
        self.turn()
        self.assertEqual((new.calls, second.transfer.state), ([second.transfer], "running"))
        self.assertEqual(self.manager.transfers(), [second.transfer, first.transfer])
        new.ends[0].callback(5)
        self.turn()
        second.release()
        self.assertEqual(self.using, 1)
        old.ends[1].callback(None)
        self.turn()
        self.assertEqual((self.using, self.manager.transfers()), (0, []))
        self.assertEqual(len(new.calls), 1)


class SingleFlightTests(EngineTests):
    """
    One key, one work.
    """

    def test_begins_from_a_clean_turn(self) -> None:
        """
        The caller of C{request} has its watcher before the work begins.
        """
        work = Steered()
        watcher = self.manager.request("a", work, digest="d", turn=Turn("c", 0, 0, 0))
        self.assertEqual((work.calls, watcher.transfer.state), ([], "queued"))
        self.turn()
        self.assertEqual((work.calls, watcher.transfer.state), ([watcher.transfer], "running"))

    def test_joined(self) -> None:
        """
        A second request of a key joins; its own work function is not called.
        """
        first, second = Steered(), Steered()
        watchers = [self.request("a", first), self.request("a", second)]
        self.assertIs(watchers[0].transfer, watchers[1].transfer)
        self.assertEqual((len(first.calls), second.calls), (1, []))
        self.assertEqual(watchers[0].transfer.snapshot()["watchers"], 2)

    def test_other_keys(self) -> None:
        """
        Other keys are other work.
        """
        work = Steered()
        self.request("a", work)
        self.request(("a", 1), work)
        self.assertEqual(len(work.calls), 2)
        self.assertEqual([t.snapshot()["key"] for t in self.manager.transfers()], ["a", "a 1"])

    def test_result_for_every_watcher(self) -> None:
        """
        The result lives on the transfer: each watcher gets it, however often it
        asks, also one that arrives after the end.  (docker's #18785)
        """
        work = Steered()
        creator, joiner = self.request("a", work), self.request("a", Steered())
        results = [creator.result(), joiner.result(), joiner.result()]
        work.ends[0].callback("layer")
        creator.release()
        self.turn()
        self.failureResultOf(results[0], CancelledError)
        late = self.request("a", Steered())
        for d in [*results[1:], joiner.result(), late.result()]:
            self.assertEqual(self.successResultOf(d), "layer")
        self.assertIs(late.transfer, joiner.transfer)
        self.assertEqual(late.transfer.state, "done")
        late.release()
        joiner.release()
        self.assert_idle()

    def test_forgotten(self) -> None:
        """
        A finished transfer is forgotten with its last watcher: the next request
        does the work again.
        """
        work = Steered()
        first = self.request("a", work)
        work.ends[0].callback(1)
        first.release()
        second = self.request("a", work)
        self.assertEqual(len(work.calls), 2)
        self.assertIsNot(first.transfer, second.transfer)

    def test_failed_is_not_joined(self) -> None:
        """
        A failed transfer passes its error to its watchers, and the next request
        makes a new transfer.
        """
        work = Steered()
        first = self.request("a", work)
        work.ends[0].errback(Denied("no"))
        second = self.request("a", work)
        self.failureResultOf(first.result(), Denied)
        self.assertNoResult(second.result())
        self.assertEqual(first.transfer.reason(), Reason(Obstacle.FAILURE, detail="no"))
        self.assertEqual(len(work.calls), 2)
        first.release()
        self.assertEqual(self.manager.transfers(), [second.transfer])

    def test_work_that_is_a_deferred(self) -> None:
        """
        Work may return a Deferred instead of being a coroutine.
        """
        d: Deferred[int] = Deferred()
        watcher = self.request("a", lambda transfer: d)
        d.callback(5)
        self.assertEqual(self.successResultOf(watcher.result()), 5)

    def test_bug(self) -> None:
        """
        An unexpected error is logged once, and is the result.
        """

        def work(transfer: Transfer) -> Deferred[None]:
            raise ZeroDivisionError

        watcher = self.request("a", work)
        self.failureResultOf(watcher.result(), ZeroDivisionError)
        self.failureResultOf(watcher.result(), ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_delivered_from_a_clean_turn(self) -> None:
        """
        The callbacks of a result do not run inside the work that returns it.
        """
        work = Steered()
        d = self.request("a", work).result()
        work.ends[0].callback(1)
        self.assertNoResult(d)
        self.turn()
        self.assertEqual(self.successResultOf(d), 1)


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


class ReportTests(EngineTests):
    """
    Progress.
    """

    def test_snapshot(self) -> None:
        """
        A snapshot has exactly the promised fields.
        """
        attempt = Attempt()
        watcher = self.request(("v2", "a"), attempt.work(), ONE)
        watcher.transfer.report(bytes_done=1000, bytes_total=5000)
        self.clock.advance(2)
        watcher.transfer.report(bytes_done=2000, phase="unpacking")
        self.assertEqual(
            watcher.transfer.snapshot(),
            {
                "id": watcher.transfer.id,
                "key": "v2 a",
                "kind": "download",
                "digest": "sha256:('v2', 'a')",
                "state": "running",
                "watchers": 1,
                "bytes_done": 2000,
                "bytes_total": 5000,
                "rate": 500.0,
                "attempt": 1,
                "streams": 0,
                "source": "one.example/anonymous",
                "until": None,
            },
        )
        self.assertEqual(watcher.transfer.extra, {"phase": "unpacking"})

    def test_no_rate_when_nothing_moves(self) -> None:
        """
        A transfer that does not run has no rate.
        """
        work = Steered()
        watcher = self.request("a", work)
        watcher.transfer.report(bytes_done=0)
        self.clock.advance(1)
        watcher.transfer.report(bytes_done=10)
        self.assertEqual(watcher.transfer.snapshot()["rate"], 10)
        work.ends[0].callback(None)
        self.assertEqual(watcher.transfer.snapshot()["rate"], 0)

    def test_reports_are_gathered(self) -> None:
        """
        A thousand reports put one item, soon after the first.
        """
        sink = Recorder()
        watcher = self.request("a", Steered(), sink=sink)
        before = len(sink.items)
        for n in range(1000):
            watcher.transfer.report(bytes_done=n)
        self.assertEqual(len(sink.items), before)
        self.clock.advance(PULSE)
        self.assertEqual([i["bytes_done"] for i in sink.items[before:]], [999])

    def test_late_watcher(self) -> None:
        """
        A late watcher gets the present state at once.
        """
        watcher = self.request("a", Steered())
        watcher.transfer.report(bytes_done=77)
        sink = Recorder()
        self.manager.request("a", Steered(), digest="d", turn=Turn("c", 0, 0, 0), sink=sink)
        self.assertEqual([i["bytes_done"] for i in sink.items], [77])

    def test_watchers_are_reported(self) -> None:
        """
        Watchers are notified soon when others arrive and leave.
        """
        sink = Recorder()
        self.request("a", Steered(), sink=sink)
        others = [self.request("a", Steered()) for _ in range(3)]
        self.clock.advance(PULSE)
        self.assertEqual(sink.items[-1]["watchers"], 4)
        others[0].release()
        self.clock.advance(PULSE)
        self.assertEqual(sink.items[-1]["watchers"], 3)

    def test_late_report(self) -> None:
        """
        A report after the end changes nothing.
        """
        work = Steered()
        watcher = self.request("a", work)
        work.ends[0].callback(None)
        watcher.transfer.report(bytes_done=5, bytes_total=6, phase="late")
        self.assertEqual((watcher.transfer.bytes_done, watcher.transfer.extra), (0, {}))

    def test_final_once(self) -> None:
        """
        Each watcher gets the final item once, also one that arrives later; no
        item follows it, and no timer is left.
        """
        work = Steered()
        sinks = [Recorder() for _ in range(3)]
        watcher = self.request("a", work, sink=sinks[0])
        self.request("a", work, sink=sinks[1])
        watcher.transfer.report(bytes_done=5)
        work.ends[0].callback(None)
        watcher.transfer.report(bytes_done=5)
        watcher.transfer.enter("running")
        self.request("a", work, sink=sinks[2])
        self.clock.advance(1)
        self.assertEqual([s.finals() for s in sinks], [1, 1, 1])
        self.assertTrue(all(s.items[-1]["state"] == "done" for s in sinks))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_released_watcher_is_not_notified(self) -> None:
        """
        After its release the sink of a watcher gets nothing more.
        """
        work, sink = Steered(), Recorder()
        self.request("a", work)
        self.request("a", work, sink=sink).release()
        before = len(sink.items)
        work.ends[0].callback(None)
        self.turn()
        self.assertEqual(len(sink.items), before)

    def test_bad_sink(self) -> None:
        """
        A sink that raises is logged; the others get their items.
        """

        @implementer(IProgressSink)
        class Bad:
            def put(self, key: Hashable, item: Any) -> None:
                raise ZeroDivisionError

        sink = Recorder()
        verifyObject(IProgressSink, sink)
        self.request("a", Steered(), sink=Bad())
        self.request("a", Steered(), sink=sink)
        self.assertEqual(sink.states(), ["running"])
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_made_when_first_used(self) -> None:
        """
        A transfer that makes no attempts, holds no slot and reports no bytes,
        as a registration, has no objects for them.
        """
        watcher = self.request("a", Steered(), Source())
        transfer = watcher.transfer
        self.assertEqual((transfer._attempts, transfer._request, transfer._rate), (None, None, None))
        snapshot = transfer.snapshot()
        self.assertEqual(
            (snapshot["source"], snapshot["attempt"], snapshot["rate"]), ("one.example/anonymous", 0, 0.0)
        )
        self.assertEqual(transfer.sources, [Source()])

    def test_mailbox(self) -> None:
        """
        The reader of a mailbox gets snapshots.
        """
        work, mailbox = Steered(), Mailbox(self.clock)
        watcher = self.request("a", work, sink=mailbox)
        self.assertEqual(self.successResultOf(mailbox.get()), [watcher.transfer.snapshot()])
        d = mailbox.get()
        work.ends[0].callback(None)
        self.turn()
        self.assertEqual([i["state"] for i in self.successResultOf(d)], ["done"])

    def test_wait(self) -> None:
        """
        Work that waits reports its reason, and is in its former state
        afterwards, however the wait ended.
        """
        parent: Deferred[None] = Deferred()

        async def work(transfer: Transfer) -> None:
            try:
                with transfer.wait("waiting for the parent layer"):
                    await parent
            except BadLayer:
                await Deferred()

        watcher = self.request("a", work)
        self.assertEqual(watcher.transfer.state, "waiting")
        self.assertEqual(
            watcher.transfer.reason(), Reason(Obstacle.WORK, detail="waiting for the parent layer")
        )
        parent.errback(BadLayer("a bomb"))
        self.assertEqual((watcher.transfer.state, watcher.transfer.reason()), ("running", NO_REASON))


class ChainTests(EngineTests):
    """
    Transfers that wait for transfers.
    """

    def chain(self, first: Steered) -> list[Watcher[Any]]:
        """
        A thousand transfers, each of which waits for the one before.
        """
        watchers: list[Watcher[Any]] = [self.request(0, first)]

        def following(n: int) -> Watcher[Any]:
            parent = self.manager.request(n - 1, first, digest="d", turn=Turn("c", 0, 0, n))

            async def work(transfer: Transfer) -> Any:
                try:
                    with transfer.wait("waiting for the parent layer"):
                        return await parent.result()
                finally:
                    parent.release()

            return self.manager.request(n, work, digest="d", turn=Turn("c", 0, 0, n))

        watchers.extend(following(n) for n in range(1, 1000))
        self.turn()
        return watchers

    def test_done(self) -> None:
        """
        A result passes through a thousand transfers without recursion.
        """
        first = Steered()
        watchers = self.chain(first)
        top = watchers[-1].result()
        first.ends[0].callback("bottom")
        self.turn()
        self.assertEqual(self.successResultOf(top), "bottom")
        for watcher in watchers:
            watcher.release()
        self.assert_idle()

    def test_failed(self) -> None:
        """
        So does an error.
        """
        first = Steered()
        watchers = self.chain(first)
        first.ends[0].errback(Denied("no"))
        self.turn()
        self.failureResultOf(watchers[-1].result(), Denied)

    def test_cancelled(self) -> None:
        """
        When the top one is released, all below end, without recursion.
        """
        first = Steered()
        watchers = self.chain(first)
        for watcher in watchers:
            watcher.release()
        self.turn()
        self.assertEqual(first.cancelled, 1)
        self.assert_idle()


class StopTests(EngineTests):
    """
    The manager stops.
    """

    def test_idle(self) -> None:
        """
        A manager without transfers has stopped in the next turn.
        """
        d = self.manager.stop()
        self.turn()
        self.successResultOf(d)

    def test_stops_all(self) -> None:
        """
        All work is cancelled, once; watchers get the error; the end is waited
        for.
        """
        stubborn, running, queued = Steered(stubborn=True), Attempt(), Attempt()
        self.slots.limit = 1
        watchers = [
            self.request("stubborn", stubborn),
            self.request("running", running.work(), ONE),
            self.request("queued", queued.work(), ONE),
        ]
        results = [w.result() for w in watchers]
        first, second = self.manager.stop(), self.manager.stop()
        self.turn()
        for d in results:
            self.failureResultOf(d, Interrupted)
        self.assertEqual([w.transfer.state for w in watchers], ["cancelled"] * 3)
        self.assertNoResult(first)
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        stubborn.ends[1].callback(None)
        self.turn()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(stubborn.cancelled, 1)
        for watcher in watchers:
            watcher.release()
        self.assert_idle()

    def test_delivered_before_it_has_stopped(self) -> None:
        """
        Results are delivered before the manager has stopped.
        """
        order: list[str] = []
        watcher = self.request("a", Steered())
        told = watcher.result().addErrback(lambda _: order.append("watcher"))
        stopped = self.manager.stop().addCallback(lambda _: order.append("manager"))
        self.turn()
        self.assertEqual(order, ["watcher", "manager"])
        self.successResultOf(told)
        self.successResultOf(stopped)

    def test_nothing_new(self) -> None:
        """
        A manager that is stopping refuses requests, also of known keys.
        """
        self.request("a", Steered(stubborn=True))
        stopped = self.manager.stop()
        for key in "ab":
            self.assertRaises(Interrupted, self.request, key, Steered())
        self.turn()
        self.assertNoResult(stopped)

    def test_not_begun(self) -> None:
        """
        Transfers that had not begun never begin.
        """
        work = Steered()
        watcher = self.manager.request("a", work, digest="d", turn=Turn("c", 0, 0, 0))
        d = self.manager.stop()
        self.turn()
        self.successResultOf(d)
        self.failureResultOf(watcher.result(), Interrupted)
        self.assertEqual(work.calls, [])

    def test_done_stays_done(self) -> None:
        """
        Transfers that were done before still return their results.
        """
        work = Steered()
        watcher = self.request("a", work)
        work.ends[0].callback(1)
        d = self.manager.stop()
        self.turn()
        self.successResultOf(d)
        self.assertEqual(self.successResultOf(watcher.result()), 1)
