"""
Tests for L{xferd.transfer.attempts}, as work functions use it.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.transfer.case import Attempt, EngineTests, Recorder, Source, Steered
from xferd.errors import (
    BadLayer,
    BlobUnknown,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    DiskFull,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.interfaces.transfer import ISource
from xferd.real_progress import REAL_PROGRESS
from xferd.transfer.attempts import Postponed, Unusable
from xferd.transfer.fair_queue import Turn
from xferd.transfer.progress import Mailbox
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

ONE, TWO = Source("one.example"), Source("two.example")
ALICE = Source("one.example", "alice")


class AttemptsTests(EngineTests):
    """
    Sources, slots and back-off.
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
        second = self.request("a", attempt.work(), Source("one.example", "alice"))
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

    def test_retry_after(self) -> None:
        """
        C{Retry-After} delays the source and all other transfers at its host.
        (A14, as far as the engine goes)
        """
        attempt, other, elsewhere = (
            Attempt(TooManyRequests("slow down", retry_after=30)),
            Attempt(),
            Attempt(),
        )
        watcher = self.request("a", attempt.work(), ONE)
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.BACK_OFF, 30, "slow down"))
        queued = self.request("b", other.work(), ONE)
        self.assertEqual(queued.transfer.reason(), Reason(Obstacle.PAUSE, 30, "one.example"))
        self.request("c", elsewhere.work(), TWO)
        elsewhere.ends[0].callback(None)
        self.clock.advance(29)
        self.assertEqual((len(attempt.sources), len(other.sources)), (1, 0))
        self.clock.advance(1)
        self.turn()
        self.assertEqual(len(attempt.sources) + len(other.sources), 2)

    def test_retry_after_beyond_patience(self) -> None:
        """
        A source that asks for a delay of a day has failed; nothing is paused
        for it.
        """
        attempt, other = Attempt(TooManyRequests("tomorrow", retry_after=86_400)), Attempt()
        watcher = self.request("a", attempt.work(), ONE)
        self.failureResultOf(watcher.result(), TooManyRequests)
        self.assertEqual(self.slots.hosts.paused("one.example", "anonymous"), 0)
        self.request("b", other.work(), ONE)
        self.assertEqual(other.sources, [ONE])

    def test_rate_limit_of_an_account(self) -> None:
        """
        The rate limit of one client pauses no other client of the host.
        """
        bob = Source("one.example", "bob")
        hers, his, also_hers = Attempt(TooManyRequests("slow down", retry_after=30)), Attempt(), Attempt()
        self.request("a", hers.work(), ALICE)
        queued = self.request("b", also_hers.work(), ALICE)
        self.assertEqual(queued.transfer.reason(), Reason(Obstacle.PAUSE, 30, "one.example"))
        self.request("c", his.work(), bob)
        self.assertEqual((also_hers.sources, his.sources), ([], [bob]))
        his.ends[0].callback(None)
        self.clock.advance(30)
        self.turn()
        self.assertEqual(len(hers.sources) + len(also_hers.sources), 2)

    def test_rate_limit_in_a_shared_transfer(self) -> None:
        """
        A transfer goes on at once with the credentials of another watcher,
        whether it met the limit itself or waits for another transfer's pause.
        """
        bob = Source("one.example", "bob")
        attempt, queued = Attempt(), Attempt()
        first = self.request("a", attempt.work(), ALICE)
        self.request("a", attempt.work(), bob)
        second = self.request("b", queued.work(), ALICE)
        self.request("b", queued.work(), bob)
        attempt.ends[0].errback(TooManyRequests("slow down", retry_after=30))
        self.turn()
        self.assertEqual(attempt.sources, [ALICE, bob])
        attempt.ends[1].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(first.result()), "blob")
        self.assertEqual(queued.sources, [bob])
        queued.ends[0].callback("another")
        self.turn()
        self.assertEqual(self.successResultOf(second.result()), "another")

    def test_recalled(self) -> None:
        """
        An attempt in a lent slot that moves no bytes is broken off for another
        host; it is not counted, and is made again in a slot of its own.
        """
        holder, mute, healthy = Attempt(), Attempt(), Attempt("blob")
        self.request("a", holder.work(), ONE)
        stuck = self.request("b", mute.work(), TWO)
        self.clock.advance(10)
        self.assertEqual(mute.sources, [TWO])
        watcher = self.request("c", healthy.work(), Source("three.example"))
        self.turn()
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual((stuck.transfer.state, stuck.transfer.snapshot()["attempt"]), ("queued", 0))
        holder.ends[0].callback(None)
        self.turn()
        self.assertEqual(mute.sources, [TWO, TWO])
        mute.ends[1].callback("late")
        self.turn()
        self.assertEqual(self.successResultOf(stuck.result()), "late")
        self.assertEqual(self.slots.in_use, 0)

    def test_not_recalled_at_the_end(self) -> None:
        """
        An attempt that has moved all bytes keeps its slot until they are
        confirmed.
        """
        holder, last, waiting = Attempt(), Attempt(), Attempt()
        self.request("a", holder.work(), ONE)
        watcher = self.request("b", last.work(), TWO)
        watcher.transfer.report(bytes_done=1_000, bytes_total=1_000)
        self.request("c", waiting.work(), Source("three.example"))
        self.clock.pump([1] * 20)
        self.assertEqual(waiting.sources, [])
        last.ends[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual(len(waiting.sources), 1)

    def test_full_disk_does_not_count(self) -> None:
        """
        An attempt that held a slot for long and failed because the disk is full
        does not count against its host; one that timed out does.
        """
        for error, allowed in ((DiskFull("full"), True), (TimedOut("late", phase="headers"), False)):
            self.manager = self.managed(self.slots)
            attempt = Attempt()
            watcher = self.request(str(error), attempt.work(), ONE)
            self.clock.advance(10)
            attempt.ends[0].errback(error)
            self.turn()
            self.assertEqual(self.slots.reputation.rank("one.example") is not None, allowed)
            watcher.release()
            self.turn()

    def test_recalled_and_cancelled(self) -> None:
        """
        A transfer without watchers ends, whether its slot was recalled or not.
        """
        holder, mute = Attempt(), Attempt()
        self.request("a", holder.work(), ONE)
        stuck = self.request("b", mute.work(), TWO)
        self.clock.advance(10)
        waiting = self.request("c", Attempt().work(), Source("three.example"))
        stuck.release()
        self.turn()
        self.turn()
        waiting.release()
        holder.ends[0].callback(None)
        self.turn()
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))

    def test_outage_pauses_the_host(self) -> None:
        """
        A 503 with C{Retry-After} pauses the host for every account.
        """
        first, second = Attempt(RegistryUnavailable("down", status=503, retry_after=30)), Attempt()
        self.request("a", first.work(), ALICE)
        watcher = self.request("b", second.work(), Source("one.example", "bob"))
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.PAUSE, 30, "one.example"))

    def test_pause_moves_the_others(self) -> None:
        """
        A queued transfer turns to its other source when the host that it
        waits for is paused.
        """
        self.slots.limit = 2
        self.slots.per_host = 1
        first, second, busy = Attempt(), Attempt(), Attempt()
        self.request("a", first.work(), ONE)
        self.request("busy", busy.work(), TWO)
        watcher = self.request("b", second.work(), ONE)
        self.request("b", second.work(), TWO)
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.HOST_LIMIT, 1, "one.example"))
        first.ends[0].errback(RegistryUnavailable("down", status=503, retry_after=60))
        self.turn()
        busy.ends[0].callback(None)
        self.turn()
        self.assertEqual(second.sources, [TWO])

    def test_pause_ends_same_slot(self) -> None:
        """
        A slot is not used further for a host that was paused meanwhile.
        """
        self.slots.limit = 2
        first, second = Attempt(), Attempt()
        self.request("a", first.work(), ONE)
        self.request("a", first.work(), Source("one.example", "alice"))
        self.request("b", second.work(), ONE)
        second.ends[0].errback(RegistryUnavailable("down", status=503, retry_after=5))
        first.ends[0].errback(Denied("no"))
        self.assertEqual(len(first.sources), 1)
        self.assertEqual(self.slots.in_use, 0)
        self.clock.advance(5)
        self.assertEqual(first.sources[1:], [Source("one.example", "alice")])

    def test_held_host_is_not_full(self) -> None:
        """
        The slot that a transfer holds at a host does not count against it
        there.
        """
        self.slots.per_host = 1
        attempt = Attempt(DigestMismatch("wrong"))
        self.request("a", attempt.work(), ONE)
        self.request("a", attempt.work(), TWO)
        self.assertEqual(attempt.sources, [ONE, ONE])

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

    def breaking(self, step: int, total: int | None = None, attempts: int = 3) -> Watcher[None]:
        """
        Request a transfer that moves C{step} bytes with each attempt, up to
        C{total}, and then fails; attempts are one second apart.
        """
        self.manager.retry = RetryPolicy(attempts=attempts, jitter=0, cap=1)
        self.step, position = step, 0

        async def work(transfer: Transfer) -> None:
            async def attempt(source: ISource) -> None:
                nonlocal position
                transfer.report(bytes_done=position, bytes_total=total)
                position = position + self.step if total is None else min(total, position + self.step)
                transfer.report(bytes_done=position)
                raise ConnectionFailed("cut")

            await transfer.attempts(attempt)

        return self.request("a", work, ONE)

    def test_progress_resets(self) -> None:
        """
        A line that breaks repeatedly, but moves 64 KiB each time, is tried
        without end; once it moves none, only for its attempts.
        """
        watcher = self.breaking(REAL_PROGRESS, attempts=2)
        self.clock.pump([1] * 20)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 21)
        self.step = 0
        self.clock.pump([1, 2])
        self.failureResultOf(watcher.result(), ConnectionFailed)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 22)

    def test_little_progress(self) -> None:
        """
        A source that sends one byte for each connection has only its attempts.
        """
        watcher = self.breaking(1, 1_000_000)
        self.clock.pump([1] * 20)
        self.failureResultOf(watcher.result(), ConnectionFailed)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 3)

    def test_progress_of_several_attempts(self) -> None:
        """
        The bytes of several attempts together count as progress.
        """
        watcher = self.breaking(REAL_PROGRESS // 2)
        self.clock.pump([1] * 20)
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 21)

    def test_the_rest_is_progress(self) -> None:
        """
        The rest of a blob is progress, however little it is: the last bytes may
        have been wrong.
        """
        watcher = self.breaking(1_000, 2_000)
        self.clock.pump([1] * 20)
        self.failureResultOf(watcher.result(), ConnectionFailed)
        # The second attempt brought the rest, and was counted as the first.
        self.assertEqual(watcher.transfer.snapshot()["attempt"], 4)

    def test_same_bytes_again_are_no_progress(self) -> None:
        """
        A source that cannot resume and always breaks at the same byte has only
        its attempts.
        """

        async def work(transfer: Transfer) -> None:
            async def attempt(source: ISource) -> None:
                for position in (0, 100, 200):
                    transfer.report(bytes_done=position)
                raise ConnectionFailed("cut")

            await transfer.attempts(attempt)

        watcher = self.request("a", work, ONE)
        self.clock.pump([1, 2, 4, 8])
        self.failureResultOf(watcher.result(), ConnectionFailed)
        self.assertEqual(len(self.records), 5)

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
