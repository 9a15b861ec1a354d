"""
Tests for L{xferd.transfer.attempts}: paused hosts and accounts, and slots that
are recalled.
"""

from __future__ import annotations

from tests.transfer.case import ALICE, ONE, TWO, Attempt, EngineTests, Source
from xferd.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    DiskFull,
    RegistryUnavailable,
    TimedOut,
    TooManyRequests,
)
from xferd.transfer.reason import Obstacle, Reason


class PausedAttemptTests(EngineTests):
    """
    Attempts after C{Retry-After}, and on hosts that are paused or held.
    """

    limit = 1

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

    def test_retry_now(self) -> None:
        """
        A back-off ends at once when its host is to be tried again; one at
        another host goes on.
        """
        first = Attempt(TooManyRequests("slow down", retry_after=300.0), "early")
        second = Attempt(ConnectionFailed("cut"), "late")
        one, two = self.request("a", first.work(), ONE), self.request("b", second.work(), TWO)
        self.assertEqual([w.transfer.state for w in (one, two)], ["backing-off"] * 2)
        self.slots._pauses.clear(ONE.host)
        self.manager.retry_now(ONE.host)
        self.turn()
        self.assertEqual(self.successResultOf(one.result()), "early")
        self.assertEqual(two.transfer.state, "backing-off")

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
        self.request("a", first.work(), ALICE)
        self.request("b", second.work(), ONE)
        second.ends[0].errback(RegistryUnavailable("down", status=503, retry_after=5))
        first.ends[0].errback(Denied("no"))
        self.assertEqual(len(first.sources), 1)
        self.assertEqual(self.slots.in_use, 0)
        self.clock.advance(5)
        self.assertEqual(first.sources[1:], [ALICE])

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


class RecallTests(EngineTests):
    """
    Attempts in lent slots, and those that count against their host.
    """

    limit = 1

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
