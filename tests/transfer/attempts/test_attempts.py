"""
Tests for L{xferd.transfer.attempts}, as work functions use it: slots, back-off,
results and cancellation.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.transfer.case import ONE, TWO, Attempt, EngineTests, Recorder, Steered
from xferd.errors import (
    BadLayer,
    ConnectionFailed,
    Denied,
    SourceError,
)
from xferd.transfer.attempts import Postponed
from xferd.transfer.progress import Mailbox
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots
from xferd.transfer.transfer import Transfer


class AttemptsTests(EngineTests):
    """
    The slots, states and results of attempts.
    """

    limit = 1

    def test_success(self) -> None:
        """
        An attempt that succeeds has its result returned and its slot released.
        """
        attempt = Attempt("blob")
        watcher = self.request("a", attempt.work(), ONE)
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual(attempt.sources, [ONE])
        watcher.release()
        self.assert_idle()

    def test_slot_held_and_given_back(self) -> None:
        """
        An attempt holds a slot; a queued transfer begins when it ends.
        """
        first, second = Attempt(), Attempt()
        self.request("a", first.work(), ONE)
        watcher = self.request("b", second.work(), ONE)
        self.assertEqual((len(first.ends), len(second.ends)), (1, 0))
        snapshot = watcher.transfer.snapshot()
        self.assertEqual(
            (snapshot["state"], watcher.transfer.reason()), ("queued", Reason(Obstacle.QUEUE, 1))
        )
        first.ends[0].callback(None)
        self.turn()
        self.assertEqual(len(second.ends), 1)
        self.assertEqual((self.slots.in_use, self.slots.queued), (1, 0))

    def test_no_slot_in_back_off(self) -> None:
        """
        Between two attempts other transfers may use the slot; then the transfer
        is queued again.
        """
        first, second = Attempt(ConnectionFailed("cut"), "late"), Attempt()
        watcher = self.request("a", first.work(), ONE)
        snapshot = watcher.transfer.snapshot()
        self.assertEqual(snapshot["state"], "backing-off")
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.BACK_OFF, 1, "cut"))
        self.request("b", second.work(), ONE)
        self.assertEqual(self.slots.in_use, 1)
        self.clock.advance(1)
        self.assertEqual(watcher.transfer.state, "queued")
        second.ends[0].callback(None)
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "late")

    def test_no_slots(self) -> None:
        """
        A manager without slots limits nothing.
        """
        self.manager = self.managed(None)
        attempts = [Attempt() for _ in range(20)]
        for n, attempt in enumerate(attempts):
            self.request(n, attempt.work(), ONE)
        self.assertTrue(all(attempt.ends for attempt in attempts))

    def test_no_source(self) -> None:
        """
        Without a source there is no attempt.
        """
        watcher = self.request("a", Attempt().work())
        self.failureResultOf(watcher.result(), SourceError)

    def test_postponed(self) -> None:
        """
        A postponed attempt releases its slot, has its reason reported, and is
        not counted.
        """
        ready: Deferred[None] = Deferred()
        attempt, other = Attempt(Postponed("waiting for rain", ready), "blob"), Attempt()
        watcher = self.request("a", attempt.work(), ONE)
        snapshot = watcher.transfer.snapshot()
        self.assertEqual(snapshot["state"], "waiting")
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.WORK, detail="waiting for rain"))
        self.assertEqual((snapshot["attempt"], self.records), (0, []))
        self.request("b", other.work(), ONE)
        self.assertEqual(len(other.ends), 1)
        ready.callback(None)
        self.turn()
        self.assertEqual(watcher.transfer.state, "queued")
        other.ends[0].callback(None)
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 1)

    def test_postponed_with_another_source(self) -> None:
        """
        Meanwhile another source is tried, also one that arrives later.
        """
        for late in (False, True):
            ready: Deferred[None] = Deferred()
            attempt = Attempt(Postponed("waiting for rain", ready), "blob")
            first = self.request("a", attempt.work(), ONE)
            if late:
                self.clock.advance(5)
            second = self.request("a", attempt.work(), TWO)
            self.assertEqual(self.successResultOf(second.result()), "blob")
            self.assertEqual(attempt.sources, [ONE, TWO])
            first.release()
            second.release()
            self.assert_idle()

    def test_postponed_and_cancelled(self) -> None:
        """
        The release of the watcher ends the wait.
        """
        cancelled: list[object] = []
        ready: Deferred[None] = Deferred(cancelled.append)
        watcher = self.request("a", Attempt(Postponed("waiting for rain", ready)).work(), ONE)
        watcher.release()
        self.assert_idle()
        self.assertEqual(cancelled, [ready])

    def test_work_s_own_error(self) -> None:
        """
        When the work raises an error of its own instead, all watchers get that
        one.
        """

        async def work(transfer: Transfer) -> None:
            try:
                await transfer.attempts(Attempt(Denied("no")))
            except Denied as e:
                raise BadLayer("no layer") from e

        watcher = self.request("a", work, ONE)
        self.failureResultOf(watcher.result(), BadLayer)

    def test_final_error(self) -> None:
        """
        An error that no source can mend fails at once, for all watchers.
        """
        attempt = Attempt()
        first = self.request("a", attempt.work(), ONE)
        second = self.request("a", attempt.work(), TWO)
        attempt.ends[0].errback(BadLayer("a bomb"))
        self.turn()
        self.assertEqual(attempt.sources, [ONE])
        self.failureResultOf(first.result(), BadLayer)
        self.failureResultOf(second.result(), BadLayer)
        self.assertEqual(self.slots.in_use, 0)

    def test_policy_is_live(self) -> None:
        """
        A changed policy holds for transfers that run.
        """
        attempt = Attempt(ConnectionFailed("cut"), ConnectionFailed("cut"))
        watcher = self.request("a", attempt.work(), ONE)
        self.manager.retry = RetryPolicy(attempts=2)
        self.clock.advance(1)
        self.failureResultOf(watcher.result(), ConnectionFailed)

    def test_attempt_cancelled_from_within(self) -> None:
        """
        An attempt whose Deferred is cancelled by its own code fails the
        transfer, which does not hang.
        """
        attempt = Attempt()
        watcher = self.request("a", attempt.work(), ONE)
        attempt.ends[0].cancel()
        self.turn()
        self.failureResultOf(watcher.result(), CancelledError)
        self.assertEqual((watcher.transfer.state, self.slots.in_use), ("failed", 0))

    def test_abandoned_work_attempts_nothing(self) -> None:
        """
        Work that goes on after its cancellation gets no further attempt and no
        further slot.
        """
        attempt = Attempt()
        refused: list[BaseException] = []

        async def work(transfer: Transfer) -> None:
            try:
                await Deferred()
            except CancelledError:
                try:
                    await transfer.attempts(attempt)
                except CancelledError as e:
                    refused.append(e)
                async with transfer.slot():
                    attempt.sources.append(ONE)

        self.request("a", work, ONE).release()
        self.turn()
        self.assertEqual((len(refused), attempt.sources), (1, []))
        self.assert_idle()

    def test_cancelled_in_queue_of_slot(self) -> None:
        """
        Work that waits for a slot leaves the queue when it is cancelled.
        """
        self.request("a", Attempt().work(), ONE)

        async def work(transfer: Transfer) -> None:
            async with transfer.slot():
                raise AssertionError("it should not have begun")

        watcher = self.request("b", work, ONE)
        self.assertEqual((watcher.transfer.state, self.slots.queued), ("queued", 1))
        watcher.release()
        self.assertEqual(self.slots.queued, 0)
        self.turn()
        self.assertEqual(len(self.manager.transfers()), 1)

    def test_failure_in_slot(self) -> None:
        """
        Work that fails in a slot releases it.
        """

        async def work(transfer: Transfer) -> None:
            async with transfer.slot():
                raise BadLayer("a bomb")

        watcher = self.request("a", work)
        self.failureResultOf(watcher.result(), BadLayer)
        self.assertEqual(self.slots.in_use, 0)

    def test_states(self) -> None:
        """
        A sink sees the states in their order.
        """
        sink = Recorder()
        self.request("b", Steered(), ONE)
        attempt = Attempt(ConnectionFailed("cut"), "blob")
        self.request("a", attempt.work(), ONE, sink)
        self.clock.advance(1)
        self.assertEqual(sink.states(), ["queued", "running", "backing-off", "running", "done"])


class SharedSlotsTests(EngineTests):
    """
    Two managers on the same slots.
    """

    def test_shared(self) -> None:
        """
        Managers may share their slots.
        """
        slots = Slots(1, self.clock)
        first, second = self.managed(slots, "download"), self.managed(slots, "upload")
        attempts = [Attempt(), Attempt()]
        self.manager = first
        self.request("a", attempts[0].work(), ONE)
        self.manager = second
        watcher = self.request("a", attempts[1].work(), ONE)
        self.assertEqual((watcher.transfer.kind, watcher.transfer.state), ("upload", "queued"))


class BackOffReasonTests(EngineTests):
    """
    The reason for a back-off, as the reader of a mailbox sees it.
    """

    def test_countdown(self) -> None:
        """
        The seconds that are left count down as often as the reason is read.
        """
        self.manager.retry = RetryPolicy(base=5, jitter=0)
        mailbox = Mailbox(self.clock)
        watcher = self.request("a", Attempt(ConnectionFailed("cut")).work(), ONE, mailbox)
        self.assertEqual(self.successResultOf(mailbox.get())[0]["state"], "backing-off")
        seen = [watcher.transfer.reason()]
        for _ in range(4):
            self.clock.advance(1)
            seen.append(watcher.transfer.reason())
        self.assertEqual(seen, [Reason(Obstacle.BACK_OFF, n, "cut") for n in (5, 4, 3, 2, 1)])
