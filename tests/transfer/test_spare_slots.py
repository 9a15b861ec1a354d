"""
Tests for L{xferd.transfer.spare_slots}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.slots_case import HOST, OTHER, acquire, turn
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


class SpareTests(SynchronousTestCase):
    """
    Slots are borrowed while no request waits for them.
    """

    def setUp(self) -> None:
        """
        Make three slots, of which one host may hold two.
        """
        self.clock = Clock()
        self.slots = Slots(3, self.clock, per_host=2)
        self.started: list[str] = []
        self.wanted: list[str] = []

    def ask(self, name: str, host: str = HOST) -> SlotRequest:
        """
        Make a request.
        """
        return acquire(self.slots, [turn(name)], host, lambda: self.started.append(name))

    def borrow(self, name: str, host: str = HOST) -> SlotRequest:
        """
        Borrow a slot, to be released as soon as it is wanted back.
        """

        borrowed: list[SlotRequest] = []

        def wanted() -> None:
            self.wanted.append(name)
            borrowed[0].release()

        request = self.slots.spare(host, wanted)
        assert request is not None
        self.assertTrue(request.held)
        borrowed.append(request)
        return request

    def assert_none(self, host: str = HOST) -> None:
        """
        Assert that no slot can be spared.
        """
        self.assertIsNone(self.slots.spare(host, self.fail))

    def test_limits(self) -> None:
        """
        A spare slot counts as any other, for all hosts together and for the
        one.
        """
        self.borrow("a")
        self.borrow("b")
        self.assert_none()
        self.borrow("c", OTHER)
        self.assert_none(OTHER)
        self.assertEqual((self.slots.in_use, self.slots.tokens), (3, 0))

    def test_paused(self) -> None:
        """
        A host that is paused gets none.
        """
        self.slots.pause(HOST, 5)
        self.assert_none()
        self.clock.advance(5)
        self.borrow("a")

    def test_wanted(self) -> None:
        """
        A request that finds no free slot gets the newest spare one, in the next
        turn; only as many are wanted back as are of use.
        """
        first = self.ask("first")
        self.borrow("a")
        self.borrow("b", OTHER)
        waiting = self.ask("second", OTHER)
        self.assertFalse(waiting.held)
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual((self.wanted, self.started), (["b"], ["second"]))
        self.assertTrue(first.held)
        self.clock.advance(9)
        self.assertEqual(self.wanted, ["b"])

    def test_only_what_helps(self) -> None:
        """
        The slot of a host that holds its share is wanted back, and no other;
        the requests of a paused host want none.
        """
        self.ask("first")
        self.borrow("a")
        self.borrow("b", OTHER)
        self.ask("second")
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual((self.wanted, self.started), (["a"], ["second"]))
        self.slots.pause(OTHER, 5)
        self.ask("third", OTHER)
        self.clock.advance(1)
        self.assertEqual(self.wanted, ["a"])
        self.clock.advance(5)
        self.clock.advance(0)
        self.assertEqual((self.wanted, self.started), (["a", "b"], ["second", "third"]))

    def test_no_overtaking(self) -> None:
        """
        No slot is spared while a request is about to be granted.
        """
        requests = [self.ask("first"), self.ask("second", OTHER), self.ask("third", OTHER)]
        self.ask("fourth", OTHER)
        requests[1].release()
        self.assert_none(OTHER)
        self.clock.advance(0)
        self.assertEqual(self.started, ["fourth"])

    def test_lowered(self) -> None:
        """
        When the limit is lowered, spare slots are released first.
        """
        self.ask("first")
        self.borrow("a")
        self.borrow("b", OTHER)
        self.slots.limit = 2
        self.clock.advance(0)
        self.assertEqual(self.wanted, ["b"])
        self.slots.per_host = 1
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual((self.wanted, self.slots.in_use), (["b", "a"], 1))

    def test_given_back(self) -> None:
        """
        A spare slot that was released is not wanted back, and no timer is left.
        """
        borrowed = self.borrow("a")
        borrowed.release()
        borrowed.release()
        requests = [self.ask(str(n), host) for n, host in enumerate((HOST, HOST, OTHER, OTHER))]
        requests.pop().release()
        self.clock.advance(1)
        self.assertEqual((self.wanted, self.started), ([], []))
        for request in requests:
            request.release()
        self.assertEqual((self.slots.in_use, self.clock.getDelayedCalls()), (0, []))

    def test_broken_borrower(self) -> None:
        """
        An error of the borrower is logged, and it is called again the next
        time.
        """

        def broken() -> None:
            raise RuntimeError("broken")

        request = self.slots.spare(HOST, broken)
        assert request is not None
        self.slots.limit = 1
        waiting = self.ask("first")
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        request.release()
        self.clock.advance(0)
        self.assertTrue(waiting.held)
