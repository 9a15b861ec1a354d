"""
Tests for transfers that run and do not move: silence, and the waits of their requests.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.transfer.case import ONE, EngineTests, Recorder, Source
from xferd.interfaces.transfer import ISource
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher
from xferd.waits import TOKEN, waiting_for


class SilenceTests(EngineTests):
    """
    A download, an upload and others, whose bytes the test moves.
    """

    def begin(self, kind: str = "download", total: int | None = 100) -> Watcher[None]:
        """
        Begin a transfer that has moved nothing yet.
        """
        self.manager = self.managed(self.slots, kind)
        self.end: Deferred[None] = Deferred()
        self.sink = Recorder()

        async def work(transfer: Transfer) -> None:
            async def attempt(_: ISource) -> None:
                transfer.report(bytes_done=0, bytes_total=total)
                await self.end

            await transfer.attempts(attempt)

        return self.request("a", work, ONE, self.sink)

    def finish(self, watcher: Watcher[None]) -> None:
        """
        End it.
        """
        self.end.callback(None)
        self.turn()
        watcher.release()
        self.assert_idle()

    def test_reported(self) -> None:
        """
        After three seconds without a byte that is the reason, since the last byte, and the
        rate is 0; bytes end it.
        """
        watcher = self.begin()
        transfer = watcher.transfer
        self.clock.advance(1)
        transfer.report(bytes_done=10)
        self.clock.pump([0.1] * 10)
        self.assertEqual(transfer.reason(), NO_REASON)
        self.assertGreater(transfer.snapshot()["rate"], 0)
        self.clock.pump([0.5] * 8)
        self.assertEqual(transfer.reason(), Reason(Obstacle.SILENCE, 4, "one.example"))
        self.assertEqual(transfer.reason().whom, "one.example")
        self.assertEqual(transfer.snapshot()["rate"], 0)
        self.assertAlmostEqual(transfer.moment(self.clock.seconds()) - transfer.since, 4.9, 3)
        transfer.report(bytes_done=20)
        self.clock.advance(0.2)
        self.assertEqual(transfer.reason(), NO_REASON)
        self.finish(watcher)

    def test_told(self) -> None:
        """
        Watchers get the falling rate, and the silence once: then nothing, however long it
        lasts.
        """
        watcher = self.begin()
        self.clock.advance(1)
        watcher.transfer.report(bytes_done=10)
        self.clock.advance(0.1)
        self.sink.items.clear()
        self.clock.pump([0.1] * 60)
        rates = [item["rate"] for item in self.sink.items]
        self.assertEqual(rates, sorted(rates, reverse=True))
        self.assertEqual(rates[-1], 0)
        told = len(rates)
        self.assertLess(told, 6)
        self.clock.pump([0.5] * 60)
        self.assertEqual(len(self.sink.items), told)
        self.finish(watcher)

    def test_moving(self) -> None:
        """
        A transfer that moves is told of as before.
        """
        watcher = self.begin()
        self.clock.advance(0.1)
        for n in range(1, 40):
            watcher.transfer.report(bytes_done=n)
            self.clock.advance(0.25)
            self.assertEqual(watcher.transfer.reason(), NO_REASON)
        self.assertLess(len(self.sink.items), 50)
        self.finish(watcher)

    def test_upload(self) -> None:
        """
        An upload whose bytes have all been sent waits for its confirmation.
        """
        watcher = self.begin("upload")
        watcher.transfer.report(bytes_done=100)
        self.clock.pump([0.5] * 8)
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.CONFIRMATION, detail="one.example"))
        self.finish(watcher)

    def test_complete(self) -> None:
        """
        A download whose bytes are all here waits for the disk.
        """
        watcher = self.begin()
        watcher.transfer.report(bytes_done=100)
        self.clock.pump([0.5] * 8)
        self.assertEqual(watcher.transfer.reason(), Reason(Obstacle.WRITING))
        self.finish(watcher)

    def test_without_bytes(self) -> None:
        """
        A registration moves no bytes, and is not silent.
        """
        watcher = self.begin("registration", None)
        self.clock.pump([0.5] * 8)
        self.assertEqual(watcher.transfer.reason(), NO_REASON)
        self.finish(watcher)

    def test_cancelled(self) -> None:
        """
        A silent transfer that is cancelled leaves no timer.
        """
        watcher = self.begin()
        self.clock.pump([0.5] * 8)
        watcher.release()
        self.turn()
        self.assert_idle()


class RequestTests(EngineTests):
    """
    What an attempt waits for.
    """

    def begin(self) -> Watcher[None]:
        """
        Begin a transfer whose attempt waits for a token.
        """
        self.token: Deferred[None] = Deferred()

        async def request_token() -> None:
            with waiting_for(TOKEN, "auth.example"):
                await self.token

        async def attempt(_: ISource) -> None:
            await Deferred.fromCoroutine(request_token())

        async def work(transfer: Transfer) -> None:
            await transfer.attempts(attempt)

        return self.request("a", work, Source())

    def test_reason(self) -> None:
        """
        A request in its depth is the reason of the transfer, from its beginning until its end.
        """
        began = self.clock.seconds()
        watcher = self.begin()
        self.clock.pump([0.5] * 8)
        transfer = watcher.transfer
        self.assertEqual(transfer.state, "running")
        self.assertEqual(transfer.reason(), Reason(Obstacle.TOKEN, detail="auth.example"))
        self.assertAlmostEqual(transfer.since - transfer.moment(began), 0.0, 3)
        self.token.callback(None)
        self.turn()
        self.assertEqual(transfer.reason(), NO_REASON)
        self.successResultOf(watcher.result())
        watcher.release()
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        A transfer that is cancelled meanwhile has ended the request.
        """
        watcher = self.begin()
        result = watcher.result()
        watcher.release()
        self.turn()
        self.failureResultOf(result, CancelledError)
        self.assert_idle()
