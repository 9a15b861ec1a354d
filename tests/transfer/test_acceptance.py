"""
The acceptance cases of the transfer engine: those that the docker engine tests
(T1 to T6 of transfers, D1 to D3 of downloads), and those that it fails (A1 to
A16), in terms of keys, time and slots.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults, succeed

from tests.transfer.case import Attempt, EngineTests, Recorder, SlotWork, Source, Steered
from xferd.errors import BadLayer, ConnectionFailed, Denied
from xferd.interfaces.transfer import ISource
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.progress import PULSE, Mailbox
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

ONE = Source("one.example")


class TransferCases(EngineTests):
    """
    The cases of docker's transfer manager.
    """

    async def steps(self, transfer: Transfer) -> None:
        """
        Report 0 to 10, ten milliseconds apart.
        """
        for n in range(11):
            transfer.report(bytes_done=n, bytes_total=10)
            await self.sleep(0.01)

    def sleep(self, seconds: float) -> Deferred[None]:
        """
        Wait.
        """
        d: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self.clock.callLater(seconds, d.callback, None)
        return d

    def wind(self, seconds: float) -> None:
        """
        Wind the clock, a millisecond at a time.
        """
        self.clock.pump([0.001] * round(seconds * 1000))

    def test_t1_transfer(self) -> None:
        """
        T1: below the limit every transfer begins at once; a sink sees its
        progress in order, repeats no item except for a new state, and sees its
        end.
        """
        mailbox = Mailbox(self.clock)
        begun: list[str] = []

        async def work(transfer: Transfer) -> None:
            async with transfer.slot():
                begun.append(str(transfer.key))
                await self.steps(transfer)

        watchers = [self.request(key, work, sink=mailbox) for key in ("id1", "id2", "id3")]
        self.assertEqual(begun, ["id1", "id2", "id3"])
        seen: dict[str, list[int]] = {}
        states: dict[str, str] = {}

        async def read() -> None:
            while items := await mailbox.get():
                for item in items:
                    seen.setdefault(item["key"], []).append(item["bytes_done"])
                    states[item["key"]] = item["state"]

        reading = Deferred.fromCoroutine(read())
        self.wind(0.3)
        mailbox.close()
        self.turn()
        self.successResultOf(reading)
        for key in ("id1", "id2", "id3"):
            self.assertEqual(seen[key], sorted(seen[key]))
            self.assertEqual((seen[key][-1], states[key]), (10, "done"))
        for watcher in watchers:
            self.assertIsNone(self.successResultOf(watcher.result()))
            watcher.release()
        self.assert_idle()

    def test_t2_limit(self) -> None:
        """
        T2: of eight transfers at most three hold a slot at once, and all end.
        """
        self.slots.limit = 3
        work = SlotWork()
        watchers = [self.request(n, work) for n in range(8)]
        for n in range(8):
            self.assertEqual(work.running, min(3, 8 - n))
            work.ends[n].callback(n)
            self.turn()
        self.assertEqual(work.most, 3)
        self.assertEqual([self.successResultOf(w.result()) for w in watchers], list(range(8)))

    def test_t3_slot_given_back_early(self) -> None:
        """
        T3: a transfer that has released its slot, though it is not done, keeps
        no other out: with three slots all eight hold one in turn while none of
        them is done.
        """
        self.slots.limit = 3
        waiting: list[Deferred[None]] = []
        passed: list[Transfer] = []

        async def work(transfer: Transfer) -> None:
            async with transfer.slot():
                self.assertLessEqual(self.slots.in_use, 3)
                await self.steps(transfer)
            passed.append(transfer)
            with transfer.wait("waiting for the parent layer"):
                waiting.append(Deferred())
                await waiting[-1]

        watchers = [self.request(n, work) for n in range(8)]
        self.wind(0.5)
        self.assertEqual([t.state for t in passed], ["waiting"] * 8)
        self.assertEqual([t.bytes_done for t in passed], [10] * 8)
        self.assertEqual(self.slots.in_use, 0)
        for d in waiting:
            d.callback(None)
        self.turn()
        self.assertEqual({w.transfer.state for w in watchers}, {"done"})

    def test_t4_watch_and_release(self) -> None:
        """
        T4: each of five watchers of one transfer sees it; only the release of
        the last one cancels it.
        """
        work = Steered()
        sinks = [Recorder() for _ in range(5)]
        watchers = [self.request("id1", work, sink=sink) for sink in sinks]
        work.calls[0].report(bytes_done=1)
        self.clock.advance(PULSE)
        self.assertTrue(all(sink.items[-1]["bytes_done"] == 1 for sink in sinks))
        for watcher in watchers:
            self.assertEqual(work.cancelled, 0)
            watcher.release()
            self.clock.advance(0.005)
        self.assertEqual(work.cancelled, 1)
        self.assert_idle()

    def test_t5_watch_what_is_done(self) -> None:
        """
        T5: a finished transfer can be watched, and its watchers are counted.
        """
        watchers = [self.request("id1", lambda transfer: succeed(5)) for _ in range(2)]
        watchers.append(self.request("id1", Steered()))
        for watcher in watchers:
            self.assertEqual(self.successResultOf(watcher.result()), 5)
            self.assertEqual(len(self.manager.transfers()), 1)
            watcher.release()
        self.assert_idle()

    def test_t6_duplicate(self) -> None:
        """
        T6: five requests of one key call its work once; each sees it.
        """
        work = Steered()
        sinks = [Recorder() for _ in range(5)]
        watchers = [self.request("id1", work, sink=sink) for sink in sinks]
        self.assertEqual(len(work.calls), 1)
        self.assertTrue(all(sink.items for sink in sinks))
        for watcher in watchers:
            watcher.release()
        self.assert_idle()


class Pull:
    """
    A client's pull, as the engine sees it: each layer is a registration, which
    waits for the download of its blob and then for its parent.
    """

    def __init__(
        self,
        downloads: TransferManager,
        registrations: TransferManager,
        blobs: list[str],
        work: Callable[[str], Callable[[Transfer], Awaitable[str]]],
        job: int = 1,
    ) -> None:
        self.registered: list[str] = []
        self.watchers: list[Watcher[str]] = []
        self._downloads = downloads
        self._job = job
        parent: Watcher[str] | None = None
        chain: tuple[str, ...] = ()
        for layer, blob in enumerate(blobs):
            chain = (*chain, blob)
            turn = Turn(f"client {job}", 0, job, layer)
            register = self._register(chain, work(blob), turn, parent, registrations)
            parent = registrations.request(chain, register, digest=blob, turn=turn)
            self.watchers.append(parent)
        self.result: Deferred[list[str]] = Deferred.fromCoroutine(self._run())

    def _register(
        self,
        chain: tuple[str, ...],
        work: Callable[[Transfer], Awaitable[str]],
        turn: Turn,
        parent: Watcher[str] | None,
        registrations: TransferManager,
    ) -> Callable[[Transfer], Awaitable[str]]:
        async def register(transfer: Transfer) -> str:
            below = None
            if parent is not None:
                below = registrations.request(chain[:-1], register, digest=chain[-2], turn=turn)
            blob = self._downloads.request(chain[-1], work, digest=chain[-1], source=ONE, turn=turn)
            try:
                with transfer.wait("waiting for the blob"):
                    content = await blob.result()
                if below is not None:
                    with transfer.wait("waiting for the parent layer"):
                        await below.result()
                self.registered.append("/".join(chain))
                return content
            finally:
                blob.release()
                if below is not None:
                    below.release()

        return register

    async def _run(self) -> list[str]:
        try:
            return await gatherResults([w.result() for w in self.watchers], consumeErrors=True)
        except FirstError as e:
            e.subFailure.raiseException()
        finally:
            self.release()

    def release(self) -> None:
        """
        Release all watchers.
        """
        for watcher in self.watchers:
            watcher.release()


class DownloadCases(EngineTests):
    """
    The cases of docker's download manager.
    """

    limit = 3

    def setUp(self) -> None:
        """
        Make a manager of downloads with three slots, and one of registrations
        without a limit.
        """
        super().setUp()
        self.registrations = self.managed(None, "registration")
        self.attempts: dict[str, Attempt] = {}

    def pull(self, *blobs: str, job: int = 1) -> Pull:
        """
        Pull an image.
        """
        pull = Pull(self.manager, self.registrations, list(blobs), self.work, job)
        self.turn()
        return pull

    def work(self, blob: str) -> Callable[[Transfer], Awaitable[str]]:
        """
        Download a blob, as its script says.
        """
        return self.attempts.setdefault(blob, Attempt()).work()

    def arrive(self, blob: str) -> None:
        """
        End the newest attempt of a blob with success.
        """
        self.attempts[blob].ends[-1].callback(f"bytes of {blob}")
        self.turn()

    def assert_all_idle(self) -> None:
        """
        Both managers are idle.
        """
        self.assert_idle()
        self.assertEqual(self.registrations.transfers(), [])

    def test_d1_download(self) -> None:
        """
        D1: six layers, one of which occurs twice and one of which fails once,
        are downloaded in three slots and registered from the bottom up.
        """
        self.attempts["id4"] = Attempt(ConnectionFailed("cut"))
        pull = self.pull("id1", "id2", "id3", "id2", "id4", "id5")
        self.assertEqual(sorted(b for b, a in self.attempts.items() if a.ends), ["id1", "id2", "id3"])
        self.assertEqual(self.slots.in_use, 3)
        for blob in ("id3", "id2", "id1"):
            self.arrive(blob)
        self.clock.advance(1)
        for blob in ("id5", "id4"):
            self.arrive(blob)
        result = self.successResultOf(pull.result)
        self.assertEqual(result, [f"bytes of id{n}" for n in (1, 2, 3, 2, 4, 5)])
        self.assertEqual(
            pull.registered,
            [
                "id1",
                "id1/id2",
                "id1/id2/id3",
                "id1/id2/id3/id2",
                "id1/id2/id3/id2/id4",
                "id1/id2/id3/id2/id4/id5",
            ],
        )
        self.assertEqual(len(self.attempts["id4"].sources), 2)
        self.assert_all_idle()

    def test_d2_cancelled(self) -> None:
        """
        D2: a pull that is cancelled ends with that error, and nothing is left.
        """
        pull = self.pull("id1", "id2", "id3", "id4", "id5")
        self.clock.advance(0.001)
        pull.result.cancel()
        self.turn()
        self.failureResultOf(pull.result, CancelledError)
        self.assert_all_idle()

    def test_d3_attempts(self) -> None:
        """
        D3: of at most m attempts, n failures end in success if n < m; else the
        error of the last attempt is the result.
        """
        for most, failing in [(5, 1), (5, 4), (5, 5), (1, 0), (1, 1)]:
            self.manager.retry = RetryPolicy(attempts=most, base=1, jitter=0)
            errors = [ConnectionFailed(f"simulated failure {n}/{failing}") for n in range(1, failing + 1)]
            attempt = Attempt(*errors, "blob")
            watcher = self.request("id4", attempt.work(), ONE)
            self.clock.pump([1] * 16)
            if failing < most:
                self.assertEqual(self.successResultOf(watcher.result()), "blob")
                self.assertEqual(len(attempt.sources), failing + 1)
            else:
                error = self.failureResultOf(watcher.result(), ConnectionFailed).value
                self.assertEqual(str(error), f"simulated failure {failing}/{failing}")
                self.assertEqual(len(attempt.sources), most)
            watcher.release()
            self.assert_all_idle()

    def test_a9_two_requests_share(self) -> None:
        """
        A9: two pulls share layers; one is cancelled, the other completes; when
        both have ended, nothing is held for either.
        """
        first, second = self.pull("a", "b", "c", job=1), self.pull("a", "b", "d", job=2)
        first.release()
        self.turn()
        self.failureResultOf(first.result, CancelledError)
        self.assertEqual(len(self.attempts["c"].ends), 1)
        self.assertEqual(self.records[-1]["code"], "CANCELLED")
        for blob in "abd":
            self.arrive(blob)
        self.assertEqual(self.successResultOf(second.result), ["bytes of a", "bytes of b", "bytes of d"])
        self.assertEqual([len(self.attempts[b].sources) for b in "abd"], [1, 1, 1])
        self.assert_all_idle()

    def test_a10_fails_fast(self) -> None:
        """
        A10: the bottom layer fails for good while others download: the pull
        fails at once with that error, and the transfers without another watcher
        are cancelled.
        """
        pull = self.pull("a", "b", "c", job=1)
        other = self.pull("c", job=2)
        self.attempts["a"].ends[0].errback(BadLayer("a bomb"))
        self.turn()
        self.failureResultOf(pull.result, BadLayer)
        self.assertEqual([t.key for t in self.manager.transfers()], ["c"])
        self.arrive("c")
        self.assertEqual(self.successResultOf(other.result), ["bytes of c"])
        self.assert_all_idle()

    def test_a12_duplicate_blob(self) -> None:
        """
        A12: a blob that an image has twice is downloaded once and registered
        twice.
        """
        pull = self.pull("a", "b", "a")
        for blob in "ab":
            self.arrive(blob)
        self.assertEqual(pull.registered, ["a", "a/b", "a/b/a"])
        self.assertEqual(len(self.successResultOf(pull.result)), 3)
        self.assertEqual(len(self.attempts["a"].sources), 1)
        self.assert_all_idle()

    def test_a12_no_layers(self) -> None:
        """
        A12: an image without layers needs no transfer.
        """
        self.assertEqual(self.successResultOf(self.pull().result), [])
        self.assert_all_idle()

    def test_a16_released_after_the_end(self) -> None:
        """
        A16: a later step fails after all layers are done: the release of the
        watchers releases every result.
        """
        watchers = [self.request(blob, self.work(blob), ONE) for blob in "abc"]
        for blob in "abc":
            self.arrive(blob)
        self.assertEqual({t.state for t in self.manager.transfers()}, {"done"})
        for watcher in watchers:
            watcher.release()
        self.assert_all_idle()


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
