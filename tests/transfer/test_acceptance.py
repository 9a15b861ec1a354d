"""
The acceptance cases of the transfer engine which the docker engine tests (T1 to
T6 of transfers, D1 to D3 of downloads), and those of downloads that it fails
(A9 to A16), in terms of keys, time and slots.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults, succeed

from tests.transfer.case import ONE, Attempt, EngineTests, Recorder, SlotWork, Steered
from xferd.errors import BadLayer, ConnectionFailed
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.progress import PULSE, Mailbox
from xferd.transfer.reason import Obstacle
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher


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
            with transfer.wait(Obstacle.WORK, "waiting for the parent layer"):
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
                with transfer.wait(Obstacle.WORK, "waiting for the blob"):
                    content = await blob.result()
                if below is not None:
                    with transfer.wait(Obstacle.WORK, "waiting for the parent layer"):
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
