"""
Tests for L{xferd.transfer.slot_request}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.transfer.slots_case import HOST, OTHER, SlotsCase, acquire, turn
from xferd.interfaces.transfer import HostAccount
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest


class RequestTests(SlotsCase):
    """
    No slot is lost, and none is released twice.
    """

    def test_acquired(self) -> None:
        """
        A request is granted from a clean turn, released by itself or by the
        slots, and may be used again.
        """
        request = SlotRequest([turn()], HOST)
        acquired = self.slots.acquire(request)
        self.assertRaises(RuntimeError, self.slots.acquire, request)
        self.holder.release()
        self.assertNoResult(acquired)
        self.clock.advance(0)
        self.assertIs(self.successResultOf(acquired), self.slots)
        self.assertRaises(RuntimeError, self.slots.acquire, request)
        self.slots.release(request)
        self.slots.release(request)
        self.assertEqual(self.slots.in_use, 0)
        self.successResultOf(self.slots.acquire(request))
        self.assertEqual(self.slots.in_use, 1)

    def test_cancelled(self) -> None:
        """
        Cancelling the wait leaves the queue; afterwards it does nothing.
        """
        request = SlotRequest([turn()], HOST)
        acquired = self.slots.acquire(request)
        acquired.cancel()
        self.failureResultOf(acquired, CancelledError)
        self.assertEqual((request.waiting, self.slots.queued), (False, 0))
        self.holder.release()
        held = self.slots.acquire(request)
        held.cancel()
        self.successResultOf(held)
        self.assertTrue(request.held)

    def test_released_while_waiting(self) -> None:
        """
        A request that is released leaves the queue at once; its Deferred is
        cancelled from a clean turn, and a new wait of the request goes on.
        """
        request = SlotRequest([turn()], HOST)
        first = self.slots.acquire(request)
        request.release()
        self.assertEqual(self.slots.queued, 0)
        self.assertNoResult(first)
        second = self.slots.acquire(request)
        self.clock.advance(0)
        self.failureResultOf(first, CancelledError)
        self.assertEqual((request.waiting, self.slots.queued), (True, 1))
        self.holder.release()
        self.clock.advance(0)
        self.successResultOf(second)

    def test_changed_while_idle(self) -> None:
        """
        Changes of an idle request count when it is made.
        """
        request = SlotRequest([turn("late", 9)], HOST)
        self.assertTrue(request.move(OTHER, "alice"))
        request.add(turn("early", 1))
        request.discard(turn("late", 9))
        request.sample()
        self.assertEqual(request.reason(), NO_REASON)
        self.slots.pause(OTHER, 5)
        _ = self.slots.acquire(request)
        self.assertEqual(request.reason(), Reason(Obstacle.PAUSE, 5, OTHER))
        self.assertEqual(
            (dict(request.turns), request.host_account), ({turn("early", 1): 1}, HostAccount(OTHER, "alice"))
        )

    def test_released_twice(self) -> None:
        """
        A second release does nothing.
        """
        self.holder.release()
        self.holder.release()
        self.assertEqual((self.slots.in_use, self.slots.tokens), (0, 1))

    def test_cancelled_while_waiting(self) -> None:
        """
        A request that is released leaves its place at once; the others keep
        theirs.
        """
        requests = [self.queue(str(n), turn()) for n in range(4)]
        requests[1].release()
        self.assertEqual(self.slots.queued, 3)
        self.assertEqual(self.drain(*requests), ["0", "2", "3"])

    def test_cancelled_between(self) -> None:
        """
        A slot that was released for a request that leaves goes to the next one.
        """
        first, second = self.queue("first", turn()), self.queue("second", turn())
        self.holder.release()
        first.release()
        self.clock.advance(0)
        self.assertEqual(self.started, ["second"])
        second.release()
        self.assertEqual(self.slots.in_use, 0)

    def test_given_back_as_it_is_granted(self) -> None:
        """
        A slot that is released as soon as it is granted goes to the next
        request.
        """
        first = acquire(self.slots, [turn()], HOST, lambda: first.release())
        second = self.queue("second", turn())
        self.holder.release()
        self.clock.advance(0)
        self.assertTrue(second.held)

    def test_cancels_another_as_it_is_granted(self) -> None:
        """
        The callback of a grant may release waiting requests, and make others.
        """

        def start() -> None:
            second.release()
            self.queue("third", turn())

        first = acquire(self.slots, [turn()], HOST, start)
        second = self.queue("second", turn())
        self.holder.release()
        self.clock.advance(0)
        first.release()
        self.clock.advance(0)
        self.assertEqual(self.started, ["third"])

    def test_error_as_it_is_granted(self) -> None:
        """
        A request whose callback fails keeps its slot until it releases it, and
        keeps no other from being granted.
        """
        broken = SlotRequest([turn()], HOST)
        d = self.slots.acquire(broken).addCallback(lambda _: 1 / 0)
        second = self.queue("second", turn())
        self.slots.limit = 3
        self.clock.advance(0)
        self.failureResultOf(d, ZeroDivisionError)
        self.assertEqual((broken.held, second.held), (True, True))
        broken.release()
        self.assertEqual(self.slots.in_use, 2)

    def test_move_waiting(self) -> None:
        """
        A waiting request may move to another host, keeps its client's place in
        the rotation, and is granted at once if it can be.
        """
        self.slots.limit = 2
        self.slots.per_host = 1
        mine, theirs = self.queue("mine", turn("a")), self.queue("theirs", turn("b"))
        self.assertTrue(mine.move(OTHER))
        self.clock.advance(0)
        self.assertEqual((self.started, mine.host), (["mine"], OTHER))
        self.assertTrue(theirs.move(HOST))
        self.assertTrue(theirs.waiting)

    def test_move_waiting_to_a_paused_host(self) -> None:
        """
        A request that moves to a paused host waits for the end of that pause.
        """
        self.slots.limit = 2
        self.slots.pause(OTHER, 5)
        self.slots.pause(HOST, 50)
        request = self.queue("moved", turn())
        request.move(OTHER)
        self.clock.advance(5)
        self.assertEqual(self.started, ["moved"])

    def test_move_held(self) -> None:
        """
        A holder may use its slot for another host, unless nothing may start
        there.
        """
        self.slots.per_host = 1
        self.slots.limit = 3
        waiting = self.queue("waiting", turn())
        self.assertTrue(self.holder.move(OTHER))
        self.clock.advance(0)
        self.assertEqual((waiting.held, self.slots.in_use), (True, 2))
        self.assertFalse(self.holder.move(HOST))
        self.assertTrue(self.holder.move(OTHER))
        self.slots.pause(OTHER, 1)
        self.assertFalse(self.holder.move(OTHER))
        self.assertEqual(self.holder.host, OTHER)

    def test_move_ended(self) -> None:
        """
        A released request holds nothing, wherever it is moved.
        """
        self.holder.release()
        self.holder.move(OTHER)
        self.assertEqual(self.slots.in_use, 0)
        self.assertFalse(self.slots.hosts.closed(OTHER))
