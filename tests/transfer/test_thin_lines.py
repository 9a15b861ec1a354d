"""
Tests for L{xferd.transfer.thin_lines}.
"""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent

from tests.transfer.case import ONE, TWO, Attempt, EngineTests
from xferd.errors import ConnectionFailed, Denied, TimedOut, Truncated
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.slots import Slots
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher


class ThinLineTests(EngineTests):
    """
    Five transfers of one host that share a line.
    """

    def setUp(self) -> None:
        """
        Begin them.
        """
        super().setUp()
        self.attempts = [Attempt() for _ in range(5)]
        self.watchers: list[Watcher[Transfer]] = [
            self.request(n, attempt.work(), ONE) for n, attempt in enumerate(self.attempts)
        ]
        self.elsewhere = Attempt()

    def move(self, seconds: int, rate: int) -> None:
        """
        Have each transfer that runs move bytes.
        """
        for _ in range(seconds):
            self.clock.advance(1)
            for watcher in self.watchers:
                if watcher.transfer.state == "running":
                    watcher.transfer.report(watcher.transfer.bytes_done + rate)

    def break_off(self, error: Exception) -> None:
        """
        Break all off that run, and let the next attempts begin.
        """
        running = [n for n, watcher in enumerate(self.watchers) if watcher.transfer.state == "running"]
        for n in running:
            self.attempts[n].ends[-1].errback(error)
        self.clock.pump([1] * 10)

    def running(self) -> int:
        """
        The number of transfers that run.
        """
        return sum(watcher.transfer.state == "running" for watcher in self.watchers)

    def check_starved(self, error: Exception) -> None:
        """
        An error of slow streams halves the streams of the host.
        """
        self.move(10, 20_000)
        self.break_off(error)
        self.assertEqual(self.running(), 2)

    def test_silence(self) -> None:
        """
        Streams that were silent for too long are too many.
        """
        self.check_starved(TimedOut("it was silent", phase="silence"))

    def test_floor(self) -> None:
        """
        So are streams below the least rate.
        """
        self.check_starved(TimedOut("it was too slow", phase="rate"))

    def test_truncated(self) -> None:
        """
        And those that the registry ended early.
        """
        self.check_starved(Truncated("it sent too few bytes"))

    def test_other_direction(self) -> None:
        """
        Uploads to the host have a line of their own: slow downloads leave them alone.
        """
        uploads = Slots(self.limit, self.clock)
        manager = self.managed(uploads, "upload")
        attempts = [Attempt() for _ in range(5)]
        for n, attempt in enumerate(attempts):
            turn = Turn("client", 0, n, 0)
            manager.request(n, attempt.work(), digest=f"sha256:{n}", source=ONE, turn=turn)
        self.turn()
        self.check_starved(Truncated("it sent too few bytes"))
        self.assertEqual([len(attempt.ends) for attempt in attempts], [1] * 5)
        self.assertEqual((uploads.in_use, uploads.hosts.most("one.example")), (5, 0))

    def test_starved(self) -> None:
        """
        Where slow streams break off, half of them are used from then on, and the others wait
        with that reason.  Other hosts use the free slots.
        """
        self.move(10, 20_000)
        self.assertEqual(self.running(), 5)
        self.break_off(ConnectionFailed("it closed the connection"))
        self.assertEqual(self.running(), 2)
        waiting = [w.transfer.reason() for w in self.watchers if w.transfer.state == "queued"]
        self.assertEqual(waiting, [Reason(Obstacle.THIN_LINE, 2, "one.example")] * 3)
        self.request("elsewhere", self.elsewhere.work(), TWO)
        self.assertEqual(len(self.elsewhere.ends), 1)

    def test_grows(self) -> None:
        """
        One more stream is tried after a while, and kept while it makes all of them faster.
        """
        self.move(10, 20_000)
        with capturedLogs() as events:
            self.break_off(ConnectionFailed("it closed the connection"))
            self.move(35, 50_000)
            self.assertEqual(self.running(), 3)
            self.move(35, 50_000)
            self.assertEqual(self.running(), 3)
            self.move(35, 50_000)
            self.assertEqual(self.running(), 4)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "5 streams are too slow at one.example, which has 2 from now on",
                "one.example has 3 streams from now on",
                "one.example has 4 streams from now on",
            ],
        )

    def test_gains_nothing(self) -> None:
        """
        A further stream that makes them no faster is given up, and the log has this.
        """
        self.move(10, 20_000)
        with capturedLogs() as events:
            self.break_off(ConnectionFailed("it closed the connection"))
            self.move(30, 30_000)
            self.assertEqual(self.running(), 3)
            self.move(40, 5_000)
        self.assertEqual(
            [formatEvent(event) for event in events[1:]],
            ["one.example has 3 streams from now on", "one.example has 2 streams from now on"],
        )

    def test_other_errors(self) -> None:
        """
        Fast streams that break off, and refusals, change nothing.
        """
        self.move(10, 1_000_000)
        self.break_off(ConnectionFailed("it closed the connection"))
        self.assertEqual(self.running(), 5)
        self.move(10, 20_000)
        self.attempts[0].ends[-1].errback(Denied("no"))
        self.failureResultOf(self.watchers[0].result(), Denied)
        self.assertEqual(self.slots.hosts.most("one.example"), 0)

    def test_ends(self) -> None:
        """
        Nothing is left when all have ended.
        """
        self.move(10, 20_000)
        self.break_off(ConnectionFailed("it closed the connection"))
        for _ in range(5):
            for attempt in self.attempts:
                for end in attempt.ends:
                    if not end.called:
                        end.callback(None)
            self.turn()
        for watcher in self.watchers:
            watcher.release()
        self.assert_idle()
