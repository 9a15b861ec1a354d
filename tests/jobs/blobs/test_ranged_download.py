"""
Tests for L{xferd.jobs.blobs.ranged_download}: one blob by several streams, from
a registry in memory that sends as much as the test permits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.case import JobsCase
from xferd.errors import (
    ConnectionFailed,
    DigestMismatch,
    DiskFull,
    RegistryError,
    SizeMismatch,
    TooManyRequests,
    Truncated,
)
from xferd.interfaces.blobs import IPartial
from xferd.interfaces.registry import IBlobBody
from xferd.jobs.blobs.ranged_download import RangedDownload, held
from xferd.jobs.manager import Jobs
from xferd.names import Digest, Repository
from xferd.testing.fakes import FakeRegistry, FakeStore
from xferd.testing.images import sample_image
from xferd.transfer.adaptive_streams import RangePolicy, StreamTrials
from xferd.transfer.fair_queue import Turn
from xferd.transfer.retry import RetryPolicy
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
        for _ in range(20):
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


class WideTests(RangedDownloadCase):
    """
    A registry that limits the rate of each stream.
    """

    def test_whole(self) -> None:
        """
        The download soon has as many streams as the limit allows, until the
        end; each byte comes once, and followers hear of no bytes behind a gap.
        """
        self.flow(12)
        self.assertEqual((self.streams, self.slots.in_use), (4, 4))
        self.assertEqual(self.counts[-1], 4)
        self.flow(10)
        self.assertEqual(self.streams, 4)
        self.flow(10)
        self.assert_whole()
        self.assertEqual(self.arrived, sum(body.sent for body in self.registry.bodies))
        self.assertLess(self.arrived, len(DATA) * 1.02)
        self.assertEqual(self.counts[-1], 0)

    def test_no_slot(self) -> None:
        """
        Where no slot is free, there is one stream; when one becomes free,
        there are more.
        """
        self.slots.limit = 1
        self.flow(10)
        self.assertEqual(self.streams, 1)
        self.slots.limit = 2
        self.flow(10)
        self.assertEqual((self.streams, self.slots.in_use), (2, 2))

    def test_slot_wanted(self) -> None:
        """
        A transfer that waits for a slot gets a borrowed one at once; the
        download continues with the other streams, and borrows again later.
        """
        self.flow(12)
        other = SlotRequest([Turn("other", 0, 2, 0)], HOST)
        acquired = self.slots.acquire(other)
        self.settle()
        self.successResultOf(acquired)
        self.assertEqual((self.streams, self.slots.in_use), (3, 4))
        self.flow(4)
        self.assertEqual(self.streams, 3)
        other.release()
        self.flow(4)
        self.assertEqual(self.streams, 4)
        self.flow(30)
        self.assert_whole()

    def test_cancelled_early(self) -> None:
        """
        Cancelled before anything has come, nothing has.
        """
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.assert_over()
        self.registry.gate.hold("open")
        self.running = self.run_streams()
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.assert_over()

    def test_cancelled_late(self) -> None:
        """
        Cancelling closes all streams and releases all slots; received bytes
        stay.
        """
        self.flow(14)
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.assert_over()
        self.assertEqual(held(self.partial), self.arrived)
        self.assertEqual(len(self.partial.spans), 3)

    def test_cancelled_while_another_opens(self) -> None:
        """
        A request that was not answered yet is cancelled with the rest, and
        another transfer may try the host.
        """
        self.registry.gate.hold("open")
        self.flow(4)
        self.assertEqual((self.streams, self.slots.in_use), (1, 2))
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.assert_over()
        self.assertTrue(self.trials.may_try(HOST, self.clock.seconds()))

    def test_resumed(self) -> None:
        """
        Bytes that were here before, with gaps, are not requested again, by any
        number of streams.
        """
        self.flow(14)
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        before = self.arrived
        self.partial.close()
        self.partial = self.result(self.store.blobs.partial(DIGEST, len(DATA)))
        self.assertEqual(held(self.partial), before)
        self.running = self.run_streams()
        self.flow(40)
        self.assert_whole()
        self.assertLess(self.arrived, len(DATA) * 1.02)

    def test_nothing_twice(self) -> None:
        """
        Only the first response is ended early; those of the others end where
        their ranges do.
        """
        self.flow(60)
        self.assert_whole()
        self.assertGreater(len(self.registry.bodies), 4)
        self.assertEqual([body for body in self.registry.bodies[1:] if body._rest], [])
        self.assertLess(self.arrived, len(DATA) * 1.005)

    def test_part_breaks(self) -> None:
        """
        A further stream that breaks loses nothing: another stream fetches what
        it left, and later there are as many streams as before.
        """
        self.flow(14.5)
        body = next(body for body in reversed(self.registry.open_bodies()) if body.sent)
        body.fail(ConnectionFailed("broken", host=HOST))
        self.settle()
        self.assertEqual((self.streams, self.slots.in_use), (3, 3))
        self.flow(4)
        self.assertEqual(self.streams, 4)
        self.flow(30)
        self.assert_whole()
        self.assertLess(self.arrived, len(DATA) * 1.02)

    def test_front_breaks(self) -> None:
        """
        The stream in front fails as the whole attempt, and closes the others.
        """
        self.flow(14)
        self.registry.bodies[0].fail(ConnectionFailed("broken", host=HOST))
        self.settle()
        self.failureResultOf(self.running, ConnectionFailed)
        self.assert_over()
        self.running = self.run_streams()
        self.flow(40)
        self.assert_whole()

    def test_disk_full(self) -> None:
        """
        An error of the disk ends all streams.
        """
        self.flow(14)
        self.store.gate.fail("partial.write", DiskFull("no space is left"))
        self.registry.open_bodies()[-1].feed(100)
        self.settle()
        self.failureResultOf(self.running, DiskFull)
        self.assert_over()

    def test_part_ends_early(self) -> None:
        """
        A part that ends before its bytes are all there is fetched on by
        another.
        """
        self.flow(4)
        last = self.registry.open_bodies()[-1]
        last._rest = last._rest[:100]
        self.flow(1)
        self.assertEqual(self.streams, 1)
        self.flow(100)
        self.assert_whole()


class NarrowTests(RangedDownloadCase):
    """
    Registries that send no faster to several streams, or refuse them.
    """

    def test_one_line(self) -> None:
        """
        Where the streams share one bandwidth, the further one is closed and
        its slot released; none is tried for a while.
        """
        self.flow(6, lambda streams: RATE / streams)
        self.assertEqual((self.streams, self.slots.in_use), (1, 1))
        asked = len(self.registry.requests)
        self.flow(10, lambda streams: RATE / streams)
        self.assertEqual(len(self.registry.requests), asked)
        self.flow(100)
        self.assert_whole()
        self.assertLess(self.arrived, len(DATA) * 1.02)

    def test_refused(self) -> None:
        """
        A further stream that is refused, by any response, is not retried soon;
        the first one continues.
        """
        for error in (
            TooManyRequests("slow down", host=HOST),
            SizeMismatch("nothing there", host=HOST, status=416),
            ConnectionFailed("no route", host=HOST),
        ):
            self.registry.gate.fail("open", error)
            self.clock.advance(POLICY.memory)
            self.flow(5)
            self.assertEqual((self.streams, self.slots.in_use), (1, 1))
            asked = len(self.registry.requests)
            self.flow(10)
            self.assertEqual(len(self.registry.requests), asked)
        self.flow(100)
        self.assert_whole()

    def test_range_ignored(self) -> None:
        """
        A registry that sends all of the blob in place of a part stays with one
        stream, which does not notice.
        """
        self.registry.ignore_range(DIGEST, times=9)
        self.flow(20)
        self.assertEqual((self.streams, len(self.registry.requests)), (1, 2))
        self.assertEqual(self.registry.bodies[1].sent, 0)
        self.flow(100)
        self.assert_whole()

    def test_range_ignored_with_parts(self) -> None:
        """
        Where the registry sends the whole blob from now on, only the bytes
        before the first gap are skipped.
        """
        self.flow(14)
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.registry.ignore_range(DIGEST, times=9)
        prefix, before = self.partial.offset, self.arrived
        self.running = self.run_streams()
        self.assertEqual((self.partial.offset, list(self.partial.spans)), (prefix, []))
        self.flow(120)
        self.assert_whole()
        self.assertEqual(self.arrived - before, len(DATA))

    def test_one_only(self) -> None:
        """
        Where one stream is the limit, the rate is not measured.
        """
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.policy = RangePolicy(most=1, least=10)
        self.running = self.run_streams()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flow(101)
        self.assert_whole()
        self.assertEqual(len(self.registry.requests), 2)

    def test_paused(self) -> None:
        """
        No further stream begins at a host that is paused.
        """
        self.slots.pause(HOST, 10)
        self.flow(9)
        self.assertEqual(self.streams, 1)
        self.flow(2)
        self.assertEqual(self.streams, 2)


class WrongTests(RangedDownloadCase):
    """
    Registries that send wrong responses.
    """

    def test_too_early(self) -> None:
        """
        Bytes from a later offset than requested are refused.
        """
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        registry = LateRegistry(HOST, self.clock)
        registry.put_blob("app", DIGEST, DATA)
        self.registry = registry
        self.running = self.run_streams()
        self.failureResultOf(self.running, RegistryError)
        self.assert_over()

    def test_other_size(self) -> None:
        """
        A blob that has another size than was promised is refused.
        """
        self.running.cancel()
        self.failureResultOf(self.running, CancelledError)
        self.registry.put_blob("app", DIGEST, DATA + b"!")
        self.running = self.run_streams()
        self.failureResultOf(self.running, SizeMismatch)
        self.assert_over()

    def test_part_of_another_size(self) -> None:
        """
        A further stream of a blob with another size is closed, and the first
        one continues.
        """
        self.registry.corrupt(DIGEST, DATA + b"!")
        self.flow(120)
        self.assert_whole()
        self.assertEqual([body.sent > 0 for body in self.registry.bodies], [True, False])

    def test_ends_early(self) -> None:
        """
        A response that ends early was cut off, with or without a length, and
        with or without bytes behind it: the size is known.
        """
        body = self.registry.bodies[0]
        body.feed(100)
        body.cut()
        self.settle()
        self.failureResultOf(self.running, Truncated)
        self.assertEqual(self.partial.offset, 100)
        self.partial.write_at(200, DATA[200:300])
        self.running = self.run_streams()
        body = self.registry.open_bodies()[0]
        body._rest = body._rest[:50]
        body.finish()
        self.settle()
        self.failureResultOf(self.running, Truncated)
        self.assert_over()

    def test_wrong_bytes(self) -> None:
        """
        Parts that together are not the blob are all discarded.
        """
        self.registry.corrupt(DIGEST, DATA[::-1])
        self.flow(60)
        self.successResultOf(self.running)
        committing = self.partial.commit()
        self.settle()
        self.failureResultOf(committing, DigestMismatch)
        self.assertEqual(held(self.partial), 0)
        self.assert_over()


class JobTests(JobsCase):
    """
    Pulls of one large layer.
    """

    def make_jobs(self) -> Jobs:
        """
        Jobs that find a small blob large.
        """
        jobs = Jobs(
            self.store,
            self.registries,
            self.unpacker,
            clock=self.clock,
            wall_clock=self.wall_clock,
            ranges=POLICY,
            retry=RetryPolicy(attempts=3, jitter=0.0),
            small_blob=self.small_blob,
        )
        self.addCleanup(self.stop, jobs)
        return jobs

    def setUp(self) -> None:
        """
        Begin to pull, with as many streams as slots.
        """
        super().setUp()
        self.image = self.add(sample_image(1, size=200_000))
        self.blob = self.image.layers[0].blob.digest
        self.size = self.image.layers[0].blob.descriptor.size
        self.registry.stall(self.blob)
        self.job_id = self.pull()
        self.settle()
        self.flow(8)

    def flow(self, seconds: float) -> None:
        """
        Let each stream receive some bytes.
        """
        for _ in range(int(seconds * 4)):
            for body in self.registry.open_bodies():
                if not body.ended:
                    body.feed(RATE // 4)
            self.clock.advance(0.25)
            self.settle()

    def test_pulled(self) -> None:
        """
        The transfer shows its streams, and counts the bytes at all offsets;
        the image is complete in the end.
        """
        transfer = self.transfer("download", self.blob)
        self.assertEqual((transfer["streams"], transfer["state"]), (3, "running"))
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 3)
        self.assertEqual(transfer["bytes_done"], sum(b.sent for b in self.registry.bodies))
        self.flow(40)
        self.assert_done(self.job_id)
        self.assertLess(sum(b.sent for b in self.registry.bodies), self.size * 1.02)
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        A cancelled job leaves no stream, and its bytes are used by the next.
        """
        self.jobs.cancel(self.job_id)
        self.settle()
        self.assert_idle()
        self.job_id = self.pull()
        self.settle()
        self.flow(40)
        self.assert_done(self.job_id)
        self.assertLess(sum(b.sent for b in self.registry.bodies), self.size * 1.02)

    def test_other_job(self) -> None:
        """
        Another job's layers go before further streams.
        """
        other = self.add(sample_image(1, seed="other"), "other")
        self.pulled("other")
        self.assertEqual(self.gets(other.layers[0].blob.digest), 1)
        self.assertEqual(self.transfer("download", self.blob)["streams"], 2)

    def test_broken(self) -> None:
        """
        When all streams break, the next attempt fetches what is missing.
        """
        self.registry.fail(self.blob)
        self.wait(2)
        self.flow(40)
        self.assert_done(self.job_id)
        self.assertLess(sum(b.sent for b in self.registry.bodies), self.size * 1.02)
        self.assert_idle()

    def test_wrong_bytes(self) -> None:
        """
        Wrong bytes in one part make all of the blob be fetched once more.
        """
        self.registry.fail(self.blob)
        self.registry.corrupt(self.blob, b"\0" * self.size)
        self.registry.finish(self.blob)
        self.wait(10)
        self.assert_done(self.job_id)
        self.assert_idle()
