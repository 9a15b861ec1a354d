"""
Shared by the tests of downloads by several streams.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.interfaces.blobs import IPartial
from xferd.interfaces.registry import IBlobBody
from xferd.jobs.blobs.ranged_download import RangedDownload
from xferd.names import Digest, Repository
from xferd.testing.fakes import FakeRegistry, FakeStore
from xferd.transfer.adaptive_streams import RangePolicy, StreamTrials
from xferd.transfer.fair_queue import Turn
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

T = TypeVar("T")
HOST = "registry.example"
DATA = random.Random(0).randbytes(400_000)
DIGEST = Digest.of(DATA)
RATE = 4_000
"""Bytes per second of each stream."""

POLICY = RangePolicy(least=10_000, lasting=1.0, part=2_000)


class LateRegistry(FakeRegistry):
    """
    A registry that leaves out some bytes.
    """

    async def open(
        self, repository: Repository, digest: Digest, offset: int, end: int | None = None
    ) -> IBlobBody:
        """
        Begin later than requested.
        """
        return await super().open(repository, digest, offset + 5, end)


class RangedDownloadCase(SynchronousTestCase):
    """
    One blob, whose download begins with one stream, and three free slots.
    """

    data = DATA
    policy = POLICY

    def setUp(self) -> None:
        """
        Begin.
        """
        self.clock = Clock()
        self.store = FakeStore(self.clock, self.mktemp())
        self.registry = FakeRegistry(HOST, self.clock)
        self.registry.put_blob("app", DIGEST, self.data)
        self.registry.stall(DIGEST)
        self.slots = Slots(4, self.clock)
        self.request = SlotRequest([Turn("ci", 0, 1, 0)], HOST)
        self.successResultOf(self.slots.acquire(self.request))
        self.trials = StreamTrials()
        self.arrived = 0
        self.counts: list[int] = []
        self.partial: IPartial = self.result(self.store.blobs.partial(DIGEST, len(DATA)))
        self.running = self.run_streams()
        self.addCleanup(self.end)

    def end(self) -> None:
        """
        End the streams of a test.
        """
        if not self.running.called:
            self.running.cancel()
            self.failureResultOf(self.running, CancelledError)

    def result(self, waiting: Deferred[T]) -> T:
        """
        A result that needs no time.
        """
        self.settle()
        return self.successResultOf(waiting)

    def run_streams(self) -> Deferred[None]:
        """
        Begin to fill the gaps.
        """

        def arrived(size: int) -> None:
            self.arrived += size

        streams = RangedDownload(
            self.partial,
            self.registry.repository("app"),
            clock=self.clock,
            slots=self.slots,
            policy=self.policy,
            trials=self.trials,
            arrived=arrived,
            changed=self.counts.append,
        )
        running = Deferred.fromCoroutine(streams.run())
        self.settle()
        return running

    def settle(self) -> None:
        """
        Let happen what needs no time.
        """
        self.clock.advance(0)

    def flow(self, seconds: float, rate: Callable[[int], float] = lambda _: RATE) -> None:
        """
        Let each stream receive some bytes a second.

        @param rate: returns these, by the number of streams.
        """
        for _ in range(int(seconds * 4)):
            bodies = self.registry.open_bodies()
            for body in bodies:
                if not body.ended:
                    body.feed(int(rate(len(bodies)) / 4))
            self.clock.advance(0.25)
            self.settle()

    @property
    def streams(self) -> int:
        """
        The number of streams.
        """
        return len(self.registry.open_bodies())

    def assert_over(self) -> None:
        """
        Only the transfer's own slot is held.
        """
        self.settle()
        self.assertEqual((self.streams, self.slots.in_use), (0, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assert_whole(self) -> None:
        """
        The blob is complete and right.
        """
        self.successResultOf(self.running)
        self.result(self.partial.commit())
        self.assertEqual(self.store.blobs.contents[DIGEST], DATA)
        self.assert_over()
