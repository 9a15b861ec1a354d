"""
Tests for L{xferd.transfer.manager}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.transfer.case import ONE, Attempt, EngineTests, Steered
from xferd.errors import BadLayer, Denied, Interrupted
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher


class SharedTurnsTests(EngineTests):
    """
    Managers that share the turns of the reactor.
    """

    def test_order(self) -> None:
        """
        The works of two managers begin in the order of the requests.
        """
        eventual = Eventual(self.clock)
        managers = [
            TransferManager(
                self.clock,
                wall_clock=self.clock.seconds,
                slots=None,
                retry=self.policy,
                kind=kind,
                eventual=eventual,
            )
            for kind in ("one", "two")
        ]
        began: list[str] = []

        async def work(transfer: Transfer) -> None:
            began.append(f"{transfer.kind} {transfer.key}")

        watchers = [
            manager.request(key, work, digest=key, turn=Turn("ci", 0, 1, 0))
            for key in ("a", "b")
            for manager in managers
        ]
        self.turn()
        self.assertEqual(began, ["one a", "two a", "one b", "two b"])
        for watcher in watchers:
            watcher.release()


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

    def test_has(self) -> None:
        """
        A transfer can be joined from its first request to its last release, unless it
        fails.
        """
        works = {"done": Steered(), "failed": Steered()}
        watchers = {key: self.request(key, work) for key, work in works.items()}
        self.assertEqual([self.manager.has(key) for key in (*works, "other")], [True, True, False])
        works["done"].ends[0].callback(None)
        works["failed"].ends[0].errback(BadLayer("no tar"))
        self.turn()
        self.assertEqual([self.manager.has(key) for key in works], [True, False])
        watchers["done"].release()
        self.assertFalse(self.manager.has("done"))

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
                    with transfer.wait(Obstacle.WORK, "waiting for the parent layer"):
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

    def test_released_while_it_stops(self) -> None:
        """
        A watcher that is released while the work of a cancelled transfer ends changes
        nothing: the work is left behind once.
        """
        stubborn = Steered(stubborn=True)
        watcher = self.request("stubborn", stubborn)
        result = watcher.result()
        stopping = self.manager.stop()
        self.turn()
        self.failureResultOf(result, Interrupted)
        watcher.release()
        stubborn.ends[1].callback(None)
        self.turn()
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])

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
