"""
Tests for L{xferd.jobs.blobs.ranged_download}: the number of streams.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.jobs.blobs.ranged_case import DATA, DIGEST, HOST, POLICY, RATE, RangedDownloadCase
from xferd.errors import (
    ConnectionFailed,
    DiskFull,
    SizeMismatch,
    TooManyRequests,
)
from xferd.jobs.blobs.ranged_download import held
from xferd.transfer.adaptive_streams import RangePolicy
from xferd.transfer.fair_queue import Turn
from xferd.transfer.slot_request import SlotRequest


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
