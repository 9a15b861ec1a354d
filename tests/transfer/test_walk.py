"""
Transfers under random watchers, sources and work.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tests.transfer.case import EngineTests, Recorder, Source
from xferd.errors import BadLayer, ConnectionFailed, Denied, DigestMismatch, TooManyRequests, XferdError
from xferd.interfaces.transfer import ISource
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import Obstacle
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

sources = st.builds(
    Source, st.sampled_from(["one.example", "two.example"]), st.sampled_from(["alice", "bob"])
)
picks = st.integers(0, 1000)
endings = st.sampled_from(
    [
        None,
        ConnectionFailed("cut"),
        Denied("no"),
        DigestMismatch("wrong"),
        TooManyRequests("slow down", retry_after=3),
        BadLayer("a bomb"),
    ]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.sampled_from("abc"), sources),
        st.tuples(st.just("request"), st.sampled_from("abc"), sources),
        st.tuples(st.just("release"), picks),
        st.tuples(st.just("end"), picks, endings),
        st.tuples(st.just("end"), picks, endings),
        st.tuples(st.just("clean"), picks),
        st.tuples(st.just("limit"), st.integers(1, 3)),
        st.tuples(st.just("pass"), st.sampled_from([0, 0.5, 1, 5, 30])),
    ),
    max_size=60,
)


class WalkTests(EngineTests):
    """
    Whatever happens, each key has one work at a time, each watcher gets one
    result, and no slot is lost.
    """

    @settings(max_examples=150, deadline=None)
    @given(steps)
    def test_walk(self, walk: list[tuple[Any, ...]]) -> None:
        """
        Requests, releases, failures, slow ends and time, in any order.
        """
        self.limit = 2
        self.setUp()
        self.working: list[Transfer] = []
        self.attempting: list[Deferred[Any]] = []
        self.cleaning: list[Deferred[None]] = []
        self.watchers: list[tuple[Watcher[Any], Deferred[Any], Recorder]] = []
        for name, *arguments in walk:
            getattr(self, f"step_{name}")(*arguments)
            self.check()
        while self.watchers:
            self.step_release(0)
        while self.cleaning:
            self.step_clean(0)
        self.step_pass(0)
        self.assertEqual(self.working, [])
        self.assert_idle()

    def check(self) -> None:
        """
        Assert what holds at any time.
        """
        # Cancelled work may be left behind while it cleans up.
        keys = [t.key for t in self.working if not t.over]
        self.assertEqual(len(keys), len(set(keys)))
        for watcher, result, sink in self.watchers:
            over = watcher.transfer.over
            self.assertEqual(result.called, over)
            self.assertEqual(sink.finals(), int(over))
        self.assertLessEqual(len(self.attempting), self.slots.in_use)
        states = [t.state for t in self.manager.transfers() if not t.over]
        self.assertEqual(self.slots.queued, states.count("queued"))
        if self.slots.in_use < self.slots.limit:
            idle = [t for t in self.manager.transfers() if t.state == "queued"]
            self.assertTrue(all(t.reason().obstacle is Obstacle.PAUSE for t in idle))

    async def work(self, transfer: Transfer) -> None:
        """
        Make attempts, and clean up slowly.
        """
        self.working.append(transfer)
        try:
            await transfer.attempts(self.attempt)
        finally:
            cleaned: Deferred[None] = Deferred()
            if transfer.over:
                self.cleaning.append(cleaned)
                await cleaned
            self.working.remove(transfer)

    async def attempt(self, source: ISource) -> None:
        """
        Wait for the test to end it.
        """
        end: Deferred[None] = Deferred()
        self.attempting.append(end)
        try:
            await end
        finally:
            self.attempting.remove(end)

    def step_request(self, key: str, source: Source) -> None:
        """
        A watcher arrives.
        """
        self.jobs += 1
        sink = Recorder()
        turn = Turn(source.user, 0, self.jobs, 0)
        watcher = self.manager.request(key, self.work, digest=key, source=source, turn=turn, sink=sink)
        self.watchers.append((watcher, watcher.result(), sink))
        self.turn()

    def step_release(self, pick: int) -> None:
        """
        A watcher is released.
        """
        if self.watchers:
            watcher, result, _ = self.watchers.pop(pick % len(self.watchers))
            watcher.release()
            self.turn()
            if isinstance(result.result, Failure):
                self.failureResultOf(result, CancelledError, XferdError)

    def step_end(self, pick: int, error: Exception | None) -> None:
        """
        An attempt ends.
        """
        if self.attempting:
            end = self.attempting[pick % len(self.attempting)]
            if error is None:
                end.callback(None)
            else:
                end.errback(error)
            self.turn()

    def step_clean(self, pick: int) -> None:
        """
        Work that was cancelled ends.
        """
        if self.cleaning:
            self.cleaning.pop(pick % len(self.cleaning)).callback(None)
            self.turn()

    def step_limit(self, limit: int) -> None:
        """
        The number of slots changes.
        """
        self.slots.limit = limit
        self.turn()

    def step_pass(self, seconds: float) -> None:
        """
        Time passes.
        """
        self.clock.advance(seconds)
        self.turn()
