"""
Tests for L{xferd.transfer.slots}: the slots of small blobs, which use the large
ones as well.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.slots_case import HOST, OTHER, acquire, picks, turn
from xferd.transfer.pauses import Pauses
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


class BeyondTests(SynchronousTestCase):
    """
    Small slots, whose requests use the large ones as well while no request
    waits there.
    """

    def setUp(self) -> None:
        """
        Make two large slots and a small one.
        """
        self.clock = Clock()
        self.pauses = Pauses(self.clock)
        self.large = Slots(2, self.clock, pauses=self.pauses)
        self.small = Slots(1, self.clock, pauses=self.pauses, beyond=self.large)

    def ask(self, slots: Slots, host: str = HOST) -> SlotRequest:
        """
        Make a request.
        """
        return acquire(slots, [turn()], host, lambda: None)

    def test_own(self) -> None:
        """
        Small requests do not wait for the holders of all large slots.
        """
        large = [self.ask(self.large) for _ in range(3)]
        small = [self.ask(self.small) for _ in range(2)]
        self.clock.advance(0)
        self.assertEqual([t.held for t in large], [True, True, False])
        self.assertEqual([t.held for t in small], [True, False])
        self.assertEqual(small[1].reason(), Reason(Obstacle.QUEUE, 1))
        small[0].release()
        self.clock.advance(0)
        self.assertTrue(small[1].held)

    def test_others_as_well(self) -> None:
        """
        Small requests use free large slots, at once and later, and release them
        there; but large requests go first.
        """
        small = [self.ask(self.small) for _ in range(5)]
        self.assertEqual([t.held for t in small], [True, True, True, False, False])
        self.assertEqual((self.small.in_use, self.large.in_use), (1, 2))
        large = self.ask(self.large)
        small[1].release()
        self.clock.advance(0)
        self.assertEqual((large.held, small[3].held), (True, False))
        small[2].release()
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertTrue(small[3].held)
        for request in (large, *small):
            request.release()
        self.clock.advance(0)
        self.assertEqual((self.small.tokens, self.large.tokens), (1, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_last_waiter_leaves(self) -> None:
        """
        A slot that is released for a request that leaves goes to a request of
        the other slots.
        """
        holders = [self.ask(self.large) for _ in range(2)]
        small = [self.ask(self.small) for _ in range(2)]
        waiting = self.ask(self.large)
        self.clock.advance(0)
        holders[0].release()
        waiting.release()
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertTrue(small[1].held)

    def test_spare(self) -> None:
        """
        No spare slot is borrowed while small requests wait, and it is wanted
        back when they do.
        """
        wanted: list[str] = []
        self.assertIsNotNone(self.large.spare(HOST, lambda: wanted.append("first")))
        self.assertIsNotNone(self.large.spare(HOST, lambda: wanted.append("second")))
        small = [self.ask(self.small) for _ in range(2)]
        self.clock.advance(0)
        self.assertEqual([t.held for t in small], [True, False])
        self.assertIn("second", wanted)
        self.large.limit = 3
        self.assertIsNone(self.large.spare(HOST, self.fail))

    def test_per_host(self) -> None:
        """
        The limit of a host changes for both.
        """
        self.large.per_host = 2
        self.large.by_host = {HOST: 1}
        small = [self.ask(self.small) for _ in range(3)]
        self.assertEqual((self.small.per_host, self.small.by_host), (2, {HOST: 1}))
        self.assertEqual([t.held for t in small], [True, False, False])

    def test_hold(self) -> None:
        """
        A hold on the large slots holds the small ones, with its reason, until
        it ends.
        """
        self.large.hold = "the disk is full"
        request = self.ask(self.small)
        self.assertEqual(request.reason(), Reason(Obstacle.DISK, detail="the disk is full"))
        self.large.hold = ""
        self.clock.advance(0)
        self.assertTrue(request.held)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("slrrmp"), picks, st.sampled_from([HOST, OTHER])), max_size=60))
    def test_walk(self, walk: list[tuple[str, int, str]]) -> None:
        """
        Whatever happens, no slot is lost, and no request waits while one is
        free.
        """
        self.setUp()
        requests: list[SlotRequest] = []
        for step, pick, host in walk:
            if step in "sl":
                requests.append(self.ask(self.small if step == "s" else self.large, host))
            elif step == "p":
                self.pauses.pause(host, pick % 3)
                self.clock.advance(1)
            elif requests and step == "r":
                requests.pop(pick % len(requests)).release()
            elif requests:
                requests[pick % len(requests)].move(host)
            for _ in range(4):
                self.clock.advance(0)
            self.assertEqual(sum(t.held for t in requests), self.small.in_use + self.large.in_use)
            self.assertEqual(sum(t.waiting for t in requests), self.small.queued + self.large.queued)
            if self.large.tokens > 0:
                self.assertFalse(any(t.waiting and not self.pauses.left(t.host) for t in requests))
        for request in requests:
            request.release()
        self.clock.advance(0)
        self.assertEqual((self.small.tokens, self.large.tokens), (1, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])
