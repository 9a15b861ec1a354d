"""
Tests for L{xferd.transfer.standings}.
"""

from __future__ import annotations

from tests.transfer.slots_case import HOST, SlotsCase, acquire, turn
from xferd.transfer.reason import PLACES, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


class WhyTests(SlotsCase):
    """
    The reasons of waiting requests.
    """

    def test_places(self) -> None:
        """
        Each request has its place in the order of the grants.
        """
        requests = [self.queue(str(n), turn("a", n)) for n in range(12)]
        requests.append(self.queue("both", turn("a", 99), turn("b", 99)))
        reasons = [t.reason() for t in requests]
        self.assertEqual(reasons[0], Reason(Obstacle.QUEUE, 1))
        self.assertEqual(reasons[12], Reason(Obstacle.QUEUE, 2))
        self.assertEqual(reasons[1], Reason(Obstacle.QUEUE, 3))
        self.assertEqual(reasons[9], Reason(Obstacle.QUEUE, 11))
        requests[0].release()
        self.assertEqual(requests[1].reason(), Reason(Obstacle.QUEUE, 1))

    def test_far_behind(self) -> None:
        """
        Places far behind are not counted.
        """
        requests = [self.queue(str(n), turn("a", n)) for n in range(200)]
        self.assertEqual(requests[-1].reason(), Reason(Obstacle.QUEUE, PLACES + 1))

    def test_shared_by_all(self) -> None:
        """
        A request of many clients has one place, not one for each client.
        """
        clients = [f"client {n}" for n in range(50)]
        requests = [
            self.queue(str(layer), *(turn(c, job, layer) for job, c in enumerate(clients)))
            for layer in range(5)
        ]
        self.assertEqual(requests[4].reason(), Reason(Obstacle.QUEUE, 5))
        self.assertEqual(self.drain(*requests), ["0", "1", "2", "3", "4"])

    def reported(self, *requests: SlotRequest) -> list[list[Reason]]:
        """
        Collect the reasons of each request as it is called.
        """
        seen: list[list[Reason]] = []
        for request in requests:
            reasons: list[Reason] = []
            seen.append(reasons)
            request.reason_changed = lambda t=request, x=reasons: x.append(t.reason())  # type: ignore[misc]
        return seen

    def test_places_are_reported(self) -> None:
        """
        A request that moves up is called within a second, once for all changes;
        a request that keeps its place is not called.
        """
        first, second, third = (self.queue(str(n), turn("a", n)) for n in range(3))
        seen = self.reported(first, second, third)
        self.clock.advance(1)
        self.assertEqual([reasons[-1] for reasons in seen], [Reason(Obstacle.QUEUE, n) for n in (1, 2, 3)])
        first.release()
        second.release()
        self.clock.advance(0.9)
        self.assertEqual([len(reasons) for reasons in seen], [1, 1, 1])
        self.clock.advance(0.1)
        self.assertEqual([reasons[1:] for reasons in seen], [[], [], [Reason(Obstacle.QUEUE, 1)]])
        self.queue("behind", turn("a", 9))
        self.clock.advance(1)
        self.assertEqual(len(seen[2]), 2)

    def test_pauses_are_reported(self) -> None:
        """
        A request is called when its host is paused, with the end of the pause,
        and when the pause has ended, though no slot is free then.
        """
        request = self.queue("a", turn())
        (seen,) = self.reported(request)
        self.assertIsNone(request.reason().until)
        self.slots.pause(HOST, 10)
        self.assertEqual(request.reason().until, 10)
        self.clock.advance(1)
        self.clock.advance(9)
        self.clock.advance(1)
        self.assertEqual(seen, [Reason(Obstacle.PAUSE, 9, HOST), Reason(Obstacle.QUEUE, 1)])
        self.assertIsNone(request.reason().until)

    def test_no_timer_is_left(self) -> None:
        """
        When no request waits any more, no timer is left.
        """
        request = self.queue("a", turn())
        request.release()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_host_limit(self) -> None:
        """
        The reason for waiting at a full host has the number of its slots.
        """
        slots = Slots(2, self.clock, per_host=2)
        for _ in range(2):
            acquire(slots, [turn()], HOST, self.fail)
        third = acquire(slots, [turn()], HOST, self.fail)
        self.assertEqual(third.reason(), Reason(Obstacle.HOST_LIMIT, 2, HOST))
        slots.per_host = 0
        self.assertEqual(third.reason(), Reason(Obstacle.QUEUE, 1))
