"""
The acceptance cases A1 to A8 of the transfer engine, which the docker engine
fails, and its scale.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError

from tests.transfer.case import ONE, Attempt, EngineTests, Recorder, Steered
from xferd.errors import ConnectionFailed, Denied
from xferd.interfaces.transfer import ISource
from xferd.transfer.fair_queue import Turn
from xferd.transfer.progress import PULSE, Mailbox
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.transfer import Transfer


class DefectCases(EngineTests):
    """
    The cases that docker's engine fails.
    """

    def test_a1_successor_of_a_dying_transfer(self) -> None:
        """
        A1: a request of a key whose cancelled work has not ended gets a new
        transfer at once; its work begins when the old work has ended, whose end
        does not affect it.
        """
        old, new = Steered(stubborn=True), Steered()
        self.request("a", old).release()
        self.turn()
        watcher = self.request("a", new)
        self.assertEqual(self.manager.transfers()[0], watcher.transfer)
        old.ends[1].callback("old")
        self.turn()
        self.assertEqual(new.calls, [watcher.transfer])
        joined = self.request("a", Steered())
        self.assertIs(joined.transfer, watcher.transfer)
        new.ends[0].callback("new")
        self.turn()
        self.assertEqual(self.successResultOf(joined.result()), "new")

    def test_a1_wait_for_a_dying_transfer_ends_at_once(self) -> None:
        """
        A1: that wait can be cancelled at any time.
        """
        self.request("a", Steered(stubborn=True)).release()
        self.turn()
        watcher = self.request("a", Steered())
        d = watcher.result()
        watcher.release()
        self.turn()
        self.failureResultOf(d, CancelledError)

    def test_a2_sink_never_read(self) -> None:
        """
        A2: a client that never reads its mailbox blocks no other, and costs one
        item for each transfer.
        """
        stuck, other = Mailbox(self.clock), Recorder()
        work = Steered()
        stuck_watcher = self.request("a", work, sink=stuck)
        watcher = self.request("a", work, sink=other)
        for n in range(100):
            work.calls[0].report(bytes_done=n)
            self.clock.advance(PULSE)
        stuck_watcher.release()
        work.ends[0].callback("blob")
        self.turn()
        self.assertEqual(self.successResultOf(watcher.result()), "blob")
        self.assertEqual(other.states(), ["running", "done"])
        self.assertEqual(len(self.successResultOf(stuck.get())), 1)

    def test_a3_cancelled_in_the_queue(self) -> None:
        """
        A3: a queued transfer that is cancelled leaves its place at once, no
        attempt is made for it, and the others keep their order.
        """
        self.slots.limit = 1
        attempts = [Attempt() for _ in range(4)]
        watchers = [self.request(n, attempt.work(), ONE) for n, attempt in enumerate(attempts)]
        watchers[2].release()
        self.assertEqual(self.slots.queued, 2)
        for n in (0, 1, 3):
            self.assertEqual(len(attempts[n].ends), 1)
            attempts[n].ends[0].callback(n)
            self.turn()
        self.assertEqual(attempts[2].sources, [])
        for watcher in watchers:
            watcher.release()
        self.assert_idle()

    def test_a4_limit_changed(self) -> None:
        """
        A4: with one running and five queued, a limit of three starts two at
        once, in order; after it is lowered to one, none starts until none runs.
        """
        self.slots.limit = 1
        attempts = [Attempt() for _ in range(6)]
        for n, attempt in enumerate(attempts):
            self.request(n, attempt.work(), ONE)

        def running() -> list[int]:
            return [n for n, a in enumerate(attempts) if a.ends]

        self.slots.limit = 3
        self.turn()
        self.assertEqual(running(), [0, 1, 2])
        self.slots.limit = 1
        for n in range(3):
            self.assertEqual(running(), [0, 1, 2])
            attempts[n].ends[0].callback(None)
            self.turn()
        self.assertEqual(running(), [0, 1, 2, 3])

    def test_a5_late_and_quiet(self) -> None:
        """
        A5: a late watcher gets the present item first; the last item of a
        transfer that goes quiet arrives without a further event; the final item
        arrives once.
        """
        work, early, late = Steered(), Mailbox(self.clock), Recorder()
        self.request("a", work, sink=early)
        self.successResultOf(early.get())
        waiting = early.get()
        work.calls[0].report(bytes_done=98)
        work.calls[0].report(bytes_done=99)
        self.clock.advance(PULSE)
        self.turn()
        self.assertEqual([i["bytes_done"] for i in self.successResultOf(waiting)], [99])
        self.request("a", work, sink=late)
        self.assertEqual([i["bytes_done"] for i in late.items], [99])
        work.ends[0].callback(None)
        self.clock.advance(1)
        self.assertEqual(
            (late.finals(), [i["state"] for i in self.successResultOf(early.get())]), (1, ["done"])
        )
        quiet = early.get()
        self.clock.advance(100)
        self.assertNoResult(quiet)

    def test_a6_slow_reader(self) -> None:
        """
        A6: a slow reader sees some of the items, in order, and the last.
        """
        work, mailbox = Steered(), Mailbox(self.clock)
        self.request("a", work, sink=mailbox)
        seen: list[int] = []
        for n in range(100):
            work.calls[0].report(bytes_done=n)
            self.clock.advance(PULSE)
            if n % 7 == 0:
                seen += [item["bytes_done"] for item in self.successResultOf(mailbox.get())]
        work.ends[0].callback(None)
        final = self.successResultOf(mailbox.get())[-1]
        self.assertEqual(seen, list(range(0, 100, 7)))
        self.assertEqual((final["state"], final["bytes_done"]), ("done", 99))

    def test_a7_back_off(self) -> None:
        """
        A7: in back-off the seconds that are left and the error are reported,
        other transfers use the slot, and cancellation ends it in the same tick.
        """
        self.slots.limit = 1
        self.manager.retry = RetryPolicy(base=5, jitter=0)
        watcher = self.request("a", Attempt(ConnectionFailed("connection reset")).work(), ONE)
        seen = []
        for _ in range(10):
            seen.append(watcher.transfer.reason())
            self.clock.advance(0.499)
        seconds = [5, 5, 5, 4, 4, 3, 3, 2, 2, 1]
        self.assertEqual(seen, [Reason(Obstacle.BACK_OFF, n, "connection reset") for n in seconds])
        other = Attempt("meanwhile")
        self.assertEqual(self.successResultOf(self.request("b", other.work(), ONE).result()), "meanwhile")
        d = watcher.result()
        watcher.release()
        self.turn()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a8_attempts(self) -> None:
        """
        A8: a limit of one attempt means one; a final error is followed by no
        other attempt, even if it is wrapped.
        """
        wrapped = RuntimeError("while fetching")
        wrapped.__cause__ = Denied("no")
        for policy, error in [
            (RetryPolicy(attempts=1), ConnectionFailed("cut")),
            (RetryPolicy(attempts=5), Denied("no")),
            (RetryPolicy(attempts=5), wrapped),
        ]:
            self.manager.retry = policy
            attempt = Attempt(error)
            watcher = self.request("a", attempt.work(), ONE)
            self.assertIs(self.failureResultOf(watcher.result()).value, error)
            self.assertEqual(len(attempt.sources), 1)

    def test_ten_thousand_on_one_slot(self) -> None:
        """
        Ten thousand transfers of many clients on one slot all end, each once,
        without recursion and within a bounded number of turns.
        """
        self.slots.limit = 1
        order: list[int] = []

        def work(n: int) -> Callable[[Transfer], Awaitable[int]]:
            async def attempt(source: ISource) -> int:
                self.assertEqual(self.slots.in_use, 1)
                order.append(n)
                return n

            return lambda transfer: transfer.attempts(attempt)

        watchers = [
            self.manager.request(
                n, work(n), digest=n, source=ONE, turn=Turn(f"client {n % 50}", 0, n // 50, 0)
            )
            for n in range(10_000)
        ]
        self.turn()
        self.assertEqual(order, list(range(10_000)))
        self.assertEqual([self.successResultOf(w.result()) for w in watchers], list(range(10_000)))
        for watcher in watchers:
            watcher.release()
        self.assert_idle()

    def test_fifty_clients(self) -> None:
        """
        Fifty clients want one blob: it is fetched once; forty-nine leave, and
        it goes on; the last one leaves, and it ends at once and releases its
        slot.
        """
        attempt = Attempt()
        watchers = [
            self.request("a", attempt.work(), ONE, turn=Turn(f"client {n}", 0, n, 0)) for n in range(50)
        ]
        for watcher in watchers[:49]:
            watcher.release()
            self.turn()
        self.assertEqual((len(attempt.sources), self.slots.in_use), (1, 1))
        watchers[49].release()
        self.turn()
        self.assertEqual(self.slots.in_use, 0)
        self.assert_idle()
