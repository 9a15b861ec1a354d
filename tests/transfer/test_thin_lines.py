"""
Tests for L{xferd.transfer.thin_lines}.
"""

from __future__ import annotations

from tests.transfer.case import ONE, TWO, Attempt, EngineTests
from xferd.errors import ConnectionFailed, Denied
from xferd.transfer.reason import Obstacle, Reason
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
        self.break_off(ConnectionFailed("it closed the connection"))
        self.move(35, 50_000)
        self.assertEqual(self.running(), 3)
        self.move(35, 50_000)
        self.assertEqual(self.running(), 3)
        self.move(35, 50_000)
        self.assertEqual(self.running(), 4)

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
