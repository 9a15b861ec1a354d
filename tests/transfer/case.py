"""
What the tests of the transfer engine share: sources, sinks, work functions, and
a test case with an engine on a clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from random import Random
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.testing.fakes import FakeWallClock
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

T = TypeVar("T")


@implementer(ISource)
@frozen
class Source:
    """
    A source that consists of its name.
    """

    host: str = "one.example"
    user: str = "anonymous"
    repository: str = ""

    @property
    def label(self) -> str:
        """
        Host and user.
        """
        return f"{self.host}/{self.user}"

    @property
    def identity(self) -> Hashable:
        """
        Host, user and repository.
        """
        return self.host, self.user, self.repository

    @property
    def account(self) -> Hashable:
        """
        The user.
        """
        return self.user


ONE, TWO = Source("one.example"), Source("two.example")
ALICE = Source("one.example", "alice")


@implementer(IProgressSink)
class Recorder:
    """
    A sink that records a snapshot of each item when it is put.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def put(self, key: Hashable, item: Any) -> None:
        """
        Record a snapshot of the item.
        """
        self.items.append(item.snapshot())

    def states(self) -> list[str]:
        """
        The states in their order, without repetitions.
        """
        states: list[str] = []
        for item in self.items:
            if states[-1:] != [item["state"]]:
                states.append(item["state"])
        return states

    def finals(self) -> int:
        """
        How many final items were put.
        """
        return sum(item["state"] in ("done", "failed", "cancelled") for item in self.items)


class Steered:
    """
    A work function that the test steers.

    @ivar calls: the transfer of each call.

    @ivar ends: the Deferred that each call awaits and returns.

    @ivar cancelled: how many calls were cancelled.
    """

    def __init__(self, stubborn: bool = False) -> None:
        self.calls: list[Transfer] = []
        self.ends: list[Deferred[Any]] = []
        self.cancelled = 0
        self._stubborn = stubborn

    async def __call__(self, transfer: Transfer) -> Any:
        """
        Wait until the test ends it; if stubborn, once more after its
        cancellation.
        """
        self.calls.append(transfer)
        try:
            return await self._end()
        except CancelledError:
            self.cancelled += 1
            if self._stubborn:
                await self._end()
            raise

    def _end(self) -> Deferred[Any]:
        self.ends.append(Deferred())
        return self.ends[-1]


class SlotWork(Steered):
    """
    Work that holds a slot, without attempts, and counts how many do so at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most = 0

    async def __call__(self, transfer: Transfer) -> Any:
        """
        Acquire a slot, then wait until the test ends it.
        """
        async with transfer.slot():
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                return await super().__call__(transfer)
            finally:
                self.running -= 1


class Attempt:
    """
    Attempts with a script.

    @ivar sources: the source of each attempt.

    @ivar ends: the Deferred that each attempt awaits when the script has ended.
    """

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.sources: list[Source] = []
        self.ends: list[Deferred[Any]] = []

    async def __call__(self, source: ISource) -> Any:
        """
        Return or raise the next step of the script.
        """
        assert isinstance(source, Source)
        self.sources.append(source)
        if not self.script:
            self.ends.append(Deferred())
            return await self.ends[-1]
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def work(self) -> Callable[[Transfer], Awaitable[Any]]:
        """
        A work function that makes these attempts.
        """
        return lambda transfer: transfer.attempts(self)


class EngineTests(SynchronousTestCase):
    """
    Tests with a clock, slots and a manager.
    """

    policy = RetryPolicy(jitter=0)
    limit = 5

    def setUp(self) -> None:
        """
        Build an engine.
        """
        self.clock = Clock()
        self.slots = Slots(self.limit, self.clock)
        self.records: list[Any] = []
        self.jobs = 0
        self.manager = self.managed(self.slots)

    def managed(self, slots: Slots | None, kind: str = "download") -> TransferManager:
        """
        Make a manager.
        """
        return TransferManager(
            self.clock,
            wall_clock=FakeWallClock(self.clock),
            slots=slots,
            retry=self.policy,
            kind=kind,
            on_attempt=lambda record, _: self.records.append(record),
            random=Random(0),
        )

    def request(
        self,
        key: Hashable,
        work: Callable[[Transfer], Awaitable[T]],
        source: ISource | None = None,
        sink: IProgressSink | None = None,
        turn: Turn | None = None,
    ) -> Watcher[T]:
        """
        Request a transfer for the next job, and let it begin.
        """
        self.jobs += 1
        turn = turn or Turn("client", 0, self.jobs, 0)
        watcher = self.manager.request(key, work, digest=f"sha256:{key}", source=source, turn=turn, sink=sink)
        self.turn()
        return watcher

    def turn(self) -> None:
        """
        Run everything that is due now.
        """
        self.clock.advance(0)

    def assert_idle(self) -> None:
        """
        Nothing is held, queued or known, and no call is due.
        """
        self.turn()
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        self.assertEqual(self.manager.transfers(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
