"""
Tests for L{xferd.transfer.slots}: limits, and slots as a C{DeferredSemaphore}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.slots_case import HOST, OTHER, SlotsCase, acquire, turn
from xferd.transfer.host_limits import HostLimits
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


class LimitTests(SlotsCase):
    """
    The limits change while slots are held.
    """

    def test_raised(self) -> None:
        """
        With one running and five queued, a limit of three starts two more at
        once, in order, from a clean turn.  (A4)
        """
        requests = [self.queue(str(n), turn()) for n in range(5)]
        self.slots.limit = 3
        self.assertEqual(self.started, [])
        self.clock.advance(0)
        self.assertEqual(self.started, ["0", "1"])
        self.assertEqual((self.slots.in_use, self.slots.queued, self.slots.limit), (3, 3, 3))
        self.drain(*requests)

    def test_lowered(self) -> None:
        """
        With the limit lowered from three to one, none starts until none runs.
        (A4)
        """
        self.slots.limit = 3
        running = [self.queue(f"running {n}", turn()) for n in range(2)]
        waiting = self.queue("waiting", turn())
        self.slots.limit = 1
        for request in (self.holder, *running):
            self.clock.advance(0)
            self.assertEqual(self.started, [])
            request.release()
        self.clock.advance(0)
        self.assertEqual(self.started, ["waiting"])
        self.assertEqual((self.slots.in_use, self.slots.tokens), (1, 0))
        waiting.release()

    def test_lowered_while_waking(self) -> None:
        """
        A holder that lowers the limit as it is granted its slot keeps the next
        one waiting.
        """
        acquire(self.slots, [turn()], HOST, lambda: setattr(self.slots, "limit", 1))
        self.queue("next", turn())
        self.slots.limit = 3
        self.clock.advance(0)
        self.assertEqual((self.started, self.slots.in_use), ([], 2))

    def test_no_slots(self) -> None:
        """
        A limit of less than one slot is refused.
        """
        self.assertRaises(ValueError, Slots, 0, self.clock)
        self.assertRaises(ValueError, setattr, self.slots, "limit", 0)
        self.assertRaises(ValueError, setattr, self.slots, "per_host", -1)
        self.assertEqual(self.slots.limit, 1)

    def test_per_host(self) -> None:
        """
        A host that holds all its slots is passed over; its limit may change.
        """
        self.slots.limit = 4
        self.slots.per_host = 1
        same, other = self.queue("same", turn()), self.queue("other", turn(), host=OTHER)
        self.assertEqual((same.held, other.held), (False, True))
        self.assertEqual(same.reason(), Reason(Obstacle.HOST_LIMIT, 1, HOST))
        self.assertTrue(self.slots.hosts.closed(HOST))
        self.assertEqual(self.slots.per_host, 1)
        self.slots.per_host = 2
        self.clock.advance(0)
        self.assertEqual(self.started, ["same"])

    def test_per_host_free_again(self) -> None:
        """
        The release of a host's slot wakes the host's next request.
        """
        self.slots.limit = 4
        self.slots.per_host = 1
        request = self.queue("next", turn())
        self.holder.release()
        self.clock.advance(0)
        self.assertTrue(request.held)

    def test_by_host(self) -> None:
        """
        A host may have a limit of its own, lower or higher than that of each; it may change.
        """
        self.slots.limit = 9
        self.slots.per_host = 2
        self.slots.by_host = {HOST: 1, OTHER: 3}
        same = self.queue("same", turn())
        self.assertFalse(same.held)
        self.assertEqual(same.reason(), Reason(Obstacle.HOST_LIMIT, 1, HOST))
        others = [self.queue("other", turn(), host=OTHER).held for _ in range(4)]
        self.assertEqual(others, [True, True, True, False])
        thirds = [self.queue("third", turn(), host="third.example").held for _ in range(3)]
        self.assertEqual(thirds, [True, True, False])
        self.slots.by_host = {}
        self.clock.advance(0)
        self.assertEqual((self.started, self.slots.by_host), (["same"], {}))

    def test_no_host(self) -> None:
        """
        A request for no host has no limit and no pause.
        """
        self.slots.limit = 4
        self.slots.per_host = 1
        self.slots.pause("", 10)
        self.assertTrue(all(self.queue("any", turn(), host="").held for _ in range(3)))
        self.assertFalse(self.slots.hosts.closed(""))


class SemaphoreTests(SynchronousTestCase):
    """
    Slots without requests are a C{DeferredSemaphore}.
    """

    def setUp(self) -> None:
        """
        Make two slots.
        """
        self.clock = Clock()
        self.slots = Slots(2, self.clock)

    def test_acquire_release(self) -> None:
        """
        The third one waits until one of two is released.
        """
        first, second, third = (self.slots.acquire() for _ in range(3))
        self.assertIs(self.successResultOf(first), self.slots)
        self.successResultOf(second)
        self.assertNoResult(third)
        self.slots.release()
        self.assertNoResult(third)
        self.clock.advance(0)
        self.assertIs(self.successResultOf(third), self.slots)
        self.assertEqual(self.slots.tokens, 0)

    def test_released_too_often(self) -> None:
        """
        A slot that was not acquired cannot be released, even while a request
        holds one.
        """
        request = acquire(self.slots, [turn()], HOST, self.fail)
        self.assertRaises(AssertionError, self.slots.release)
        self.assertTrue(request.held)

    def test_cancelled(self) -> None:
        """
        Cancelling leaves the queue.
        """
        self.slots.limit = 1
        d1, d2 = self.slots.acquire(), self.slots.acquire()
        d2.cancel()
        self.failureResultOf(d2, CancelledError)
        self.assertEqual(self.slots.queued, 0)
        self.successResultOf(d1)
        self.slots.release()
        self.assertEqual(self.slots.in_use, 0)

    def test_run(self) -> None:
        """
        C{run} and C{async with} hold a slot while the work runs.
        """
        work: Deferred[int] = Deferred()
        d = self.slots.run(lambda: work)

        async def hold() -> int:
            async with self.slots:
                return self.slots.in_use

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(hold())), 2)
        self.assertEqual(self.slots.in_use, 1)
        work.callback(5)
        self.assertEqual(self.successResultOf(d), 5)
        self.assertEqual(self.slots.in_use, 0)

    def test_ten_thousand(self) -> None:
        """
        Ten thousand short works on one slot all run, one at a time, without
        recursion, and the slot is free in the end.
        """
        self.slots.limit = 1
        ran: list[int] = []

        async def short(n: int) -> None:
            async with self.slots:
                self.assertEqual(self.slots.in_use, 1)
                ran.append(n)

        held = self.slots.acquire()
        work = [Deferred.fromCoroutine(short(n)) for n in range(10_000)]
        self.assertEqual(self.slots.queued, 10_000)
        self.successResultOf(held)
        self.slots.release()
        self.clock.advance(0)
        self.assertEqual(ran, list(range(10_000)))
        for d in work:
            self.successResultOf(d)
        self.assertEqual((self.slots.in_use, self.slots.tokens), (0, 1))

    def test_many_clients(self) -> None:
        """
        With ten thousand clients for two hosts, one of which is full, a step
        does not cost ten thousand steps.
        """
        looks = 0
        held: list[SlotRequest] = []

        is_open = HostLimits.is_open

        def counted(hosts: HostLimits, host: str) -> bool:
            nonlocal looks
            looks += 1
            return is_open(hosts, host)

        self.patch(HostLimits, "is_open", counted)

        def ask(slots: Slots, n: int) -> None:
            host = HOST if n < 5_000 else OTHER
            request = acquire(slots, [turn(str(n), n)], host, lambda: held.append(request))
            if request.held:
                held.append(request)

        slots = Slots(2, self.clock, per_host=1)
        for n in range(10_000):
            ask(slots, n)
        served = 0
        while held:
            held.pop().release()
            served += 1
            self.clock.advance(0)
        self.assertEqual((served, slots.in_use), (10_000, 0))
        self.assertLess(looks, 10 * served)
