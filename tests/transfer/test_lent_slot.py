"""
Tests for L{xferd.transfer.lent_slot}, L{xferd.transfer.host_limits} and
L{xferd.transfer.slow_transfers}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.slots_case import HOST, OTHER, SlotsCase, acquire, turn
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


class ShareTests(SlotsCase):
    """
    No host keeps another one waiting.
    """

    def hold(self, host: str, many: int) -> list[SlotRequest]:
        """
        Make requests of one client for a host.
        """
        return [self.queue(f"{host} {n}", turn(host, n), host=host) for n in range(many)]

    def held(self, requests: list[SlotRequest]) -> int:
        """
        How many of them hold a slot.
        """
        return sum(request.held for request in requests)

    def test_alone(self) -> None:
        """
        A host alone gets all slots.
        """
        for limit in range(1, 9):
            self.slots = Slots(limit, self.clock)
            self.assertEqual(self.held(self.hold(HOST, 9)), limit)

    def test_share(self) -> None:
        """
        While another host waits, a host gets all slots but one, and half of
        four and more.
        """
        for limit, share in ((2, 1), (3, 2), (4, 2), (5, 3), (8, 4), (9, 5)):
            self.slots = Slots(limit, self.clock)
            block = self.hold("blocking", limit)
            first, second = self.hold(HOST, 20), self.hold(OTHER, 20)
            for request in block:
                request.release()
            for _ in range(3):
                self.clock.advance(0)
            most, least = sorted((self.held(first), self.held(second)), reverse=True)
            self.assertEqual((most, least), (share, limit - share))

    def test_share_of_a_priority(self) -> None:
        """
        A higher priority does not raise the share.
        """
        self.slots = Slots(4, self.clock)
        block = self.hold("blocking", 4)
        high = [self.queue("high", turn("high", n, priority=5)) for n in range(9)]
        low = self.hold(OTHER, 9)
        for request in block:
            request.release()
        self.clock.advance(0)
        self.assertEqual((self.held(high), self.held(low)), (2, 2))

    def test_closed_hosts_do_not_wait(self) -> None:
        """
        A host that is paused, or holds all its slots, does not count as one
        that waits.
        """
        self.slots = Slots(4, self.clock, per_host=3)
        self.slots.pause(OTHER, 60)
        waiting, first = self.hold(OTHER, 2), self.hold(HOST, 9)
        self.assertEqual((self.held(waiting), self.held(first)), (0, 3))

    def test_further_slot(self) -> None:
        """
        Where others hold all slots, one further slot in all is lent to a host
        that holds none; it ends when a slot is free.
        """
        self.slots = Slots(3, self.clock)
        first = self.hold(HOST, 12)
        second, third = self.hold(OTHER, 3), self.hold("three.example", 3)
        self.clock.advance(0)
        self.assertEqual([self.held(t) for t in (first, second, third)], [3, 1, 0])
        self.assertEqual((self.slots.in_use, self.slots.tokens), (4, -1))
        self.assertEqual(second[0].reason(), Reason(Obstacle.LENT, 3))
        first[0].release()
        self.clock.advance(0)
        self.assertEqual([self.held(t) for t in (first, second, third)], [2, 1, 1])
        self.assertEqual(second[0].reason(), NO_REASON)
        self.assertEqual(self.slots.in_use, 4)
        second[0].release()
        self.clock.advance(0)
        self.assertEqual([self.held(t) for t in (first, second, third)], [2, 1, 1])

    def test_further_slot_is_given_back(self) -> None:
        """
        When its holder releases it, the lent slot is lent to the next host.
        """
        self.slots = Slots(1, self.clock)
        first, second = self.hold(HOST, 2), self.hold(OTHER, 2)
        self.clock.advance(0)
        second[0].release()
        self.clock.advance(0)
        self.assertEqual((self.held(first), [t.held for t in second]), (1, [False, True]))

    def test_further_slot_moves_to_no_full_host(self) -> None:
        """
        A lent slot cannot be moved to a host that holds others.
        """
        self.hold(HOST, 2)
        (second,) = self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertFalse(second.move(HOST))
        self.assertTrue(second.move("three.example"))

    def test_three_mute_hosts(self) -> None:
        """
        Three hosts that hold a slot each keep no fourth one out; the slot is
        not lent to a host whose last attempt transferred nothing.
        """
        self.slots = Slots(3, self.clock)
        for n in range(3):
            self.hold(f"mute{n}.example", 1)
        (mute,) = self.hold("mute.example", 1)
        self.slots.reputation.record("mute.example", good=False)
        self.clock.advance(0)
        self.assertFalse(mute.held)
        (healthy,) = self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertEqual((mute.held, healthy.held), (False, True))
        healthy.release()
        self.slots.reputation.record("mute.example", good=True)
        self.clock.advance(0)
        self.assertTrue(mute.held)

    def test_reputation_recovers(self) -> None:
        """
        A host whose last attempt transferred nothing gets none for a minute;
        then others go first.
        """
        self.slots.reputation.record(OTHER, good=False)
        (request,) = self.hold(OTHER, 1)
        self.clock.pump([5] * 11)
        self.assertFalse(request.held)
        self.clock.advance(4.5)
        (clean,) = self.hold("three.example", 1)
        self.clock.advance(0.5)
        self.assertEqual((request.held, clean.held), (False, True))
        clean.release()
        self.clock.advance(5)
        self.assertTrue(request.held)

    def test_known_before_unknown(self) -> None:
        """
        Of the hosts that hold none, one that transferred something goes first,
        for half a minute.
        """
        (unknown,), known = self.hold("unknown.example", 1), self.hold(OTHER, 50)
        self.slots.reputation.record(OTHER, good=True)
        self.clock.advance(0)
        for request in known[:29]:
            self.assertEqual((unknown.held, request.held), (False, True))
            self.clock.advance(1)
            request.release()
            self.clock.advance(0)
        known[29].release()
        self.clock.advance(1)
        self.assertEqual((unknown.held, known[30].held), (True, False))

    def lend(self, host: str) -> tuple[SlotRequest, list[int]]:
        """
        Lend a slot, and count how often it is recalled.
        """
        recalled: list[int] = []

        def recall() -> bool:
            recalled.append(1)
            return True

        request = acquire(
            self.slots, [turn(host)], host, lambda: None, position=lambda: self.bytes, recalled=recall
        )
        self.clock.advance(0)
        self.assertTrue(request.held)
        return request, recalled

    def test_recalled(self) -> None:
        """
        A lent slot in which nothing moves is recalled when another host
        arrives, and its host gets none for a while.
        """
        self.bytes = 0
        lent, recalled = self.lend("mute.example")
        self.clock.advance(2)
        healthy = self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertEqual(recalled, [])
        self.clock.advance(1)
        self.assertEqual(recalled, [1])
        lent.release()
        self.clock.advance(0)
        again = self.hold("mute.example", 1)
        self.assertTrue(healthy[0].held)
        healthy[0].release()
        self.clock.pump([5] * 11)
        self.assertFalse(again[0].held)
        self.clock.advance(5)
        self.assertTrue(again[0].held)

    def test_recalled_at_once(self) -> None:
        """
        Where nothing has moved for long, the slot is recalled at once; but not
        for the same host, nor for one whose last attempt transferred nothing.
        """
        self.bytes = 0
        _, recalled = self.lend("mute.example")
        self.clock.advance(100)
        self.hold("mute.example", 1)
        self.slots.reputation.record("also.mute.example", good=False)
        self.hold("also.mute.example", 1)
        self.clock.pump([5] * 20)
        self.assertEqual(recalled, [])
        self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertEqual(recalled, [1])

    def test_not_recalled(self) -> None:
        """
        A lent slot in which bytes move is not recalled.
        """
        self.bytes = 0
        _, recalled = self.lend("slow.example")
        self.hold(OTHER, 1)
        for _ in range(200):
            self.bytes += 100_000
            self.clock.advance(0.5)
        self.assertEqual(recalled, [])

    def test_not_recalled_for_our_limit(self) -> None:
        """
        A transfer that waits for the bandwidth limit does not count as idle.
        """
        self.slots = Slots(1, self.clock, bandwidth=Bandwidth(10_000, self.clock))
        self.hold(HOST, 1)
        self.bytes = 0
        _, recalled = self.lend("slow.example")
        self.hold(OTHER, 1)
        for _ in range(10):
            self.clock.advance(10)
            self.bytes += 64 * 1024
        self.assertEqual(recalled, [])

    def test_recall_fails(self) -> None:
        """
        An error of the holder's callback is logged.
        """
        acquire(
            self.slots,
            [turn()],
            "mute.example",
            lambda: None,
            position=lambda: 0,
            recalled=lambda: bool(1 / 0),
        )
        self.clock.advance(0)
        self.clock.advance(9)
        self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_spare_before_further(self) -> None:
        """
        A spare slot is wanted back before one is lent.
        """
        wanted: list[SlotRequest] = []
        self.slots.limit = 2
        spare = self.slots.spare(HOST, lambda: wanted.append(spare))  # type: ignore[arg-type]
        assert spare is not None
        (other,) = self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertEqual((wanted, other.held), ([spare], False))
        spare.release()
        self.clock.advance(0)
        self.assertEqual((other.held, self.slots.in_use), (True, 2))


class TrickleTests(SynchronousTestCase):
    """
    Slow holders keep no other request out.
    """

    def setUp(self) -> None:
        """
        Make three slots, and the counts of their holders.
        """
        self.clock = Clock()
        self.slots = Slots(3, self.clock)
        self.rates: dict[SlotRequest, int] = {}
        self.moved: dict[SlotRequest, int] = {}

    def ask(self, name: str, rate: int = 0, host: str = HOST) -> SlotRequest:
        """
        Make a request for a transfer that moves so many bytes per second.
        """
        held: list[SlotRequest] = []
        request = acquire(
            self.slots, [turn(name)], host, lambda: None, position=lambda: self.moved[held[0]] if held else 0
        )
        held.append(request)
        self.rates[request], self.moved[request] = rate, 0
        return request

    def run_for(self, seconds: int) -> None:
        """
        Move the bytes of the holders for some seconds.
        """
        for _ in range(seconds):
            self.clock.advance(1)
            for request in self.rates:
                if request.held:
                    self.moved[request] += self.rates[request]
                    request.sample()

    def test_trickles(self) -> None:
        """
        After 30 s, one further slot in all is lent, also at the same host.
        """
        slow = [self.ask("slow", 2_000) for _ in range(3)]
        waiting = [self.ask("other", 1_000_000) for _ in range(3)]
        self.run_for(29)
        self.assertFalse(any(t.held for t in waiting))
        self.assertEqual(slow[0].reason(), NO_REASON)
        self.run_for(6)
        self.assertEqual([t.held for t in waiting], [True, False, False])
        self.assertEqual(slow[0].reason(), Reason(Obstacle.SLOW))
        waiting[0].release()
        self.run_for(1)
        self.assertEqual([t.held for t in waiting], [False, True, False])
        self.assertEqual(self.slots.in_use, 4)

    def test_slow_before(self) -> None:
        """
        Where the holders were slow before, a request gets it at once.
        """
        for _ in range(3):
            self.ask("slow", 2_000)
        self.run_for(60)
        other = self.ask("other")
        self.clock.advance(0)
        self.assertTrue(other.held)

    def test_same_job(self) -> None:
        """
        The slot is not lent to more transfers of the slow job.
        """
        for _ in range(3):
            self.ask("slow", 2_000)
        more = self.ask("slow", 2_000)
        self.run_for(60)
        self.assertFalse(more.held)
        other = self.ask("other", 1_000_000, OTHER)
        self.run_for(1)
        self.assertEqual((more.held, other.held), (False, True))

    def test_other_host_first(self) -> None:
        """
        A host that moves bytes gets it before one that does not.
        """
        for _ in range(2):
            self.ask("slow", 2_000)
        self.ask("fast", 5_000_000, OTHER)
        same, other = self.ask("a", 1), self.ask("b", 1, OTHER)
        self.run_for(36)
        self.assertEqual((same.held, other.held), (False, True))

    def test_fair(self) -> None:
        """
        A holder is not slow with a tenth of its share, within the bandwidth
        limit, or if it moved well until just now.
        """
        for rates, most in (((1_000_000, 1_000_000, 120_000), 0), ((300, 350, 350), 1_000)):
            self.slots = Slots(3, self.clock, bandwidth=Bandwidth(most, self.clock))
            self.rates.clear()
            for rate in rates:
                self.ask("holder", rate)
            other = self.ask("other")
            self.run_for(90)
            self.assertFalse(other.held)
            for request in self.rates:
                self.rates[request] = 0
            self.run_for(20)
            self.assertFalse(other.held)

    def test_from_scratch(self) -> None:
        """
        A holder that begins again from 0 is not slow for that.
        """
        requests = [self.ask("holder", 2_000_000) for _ in range(3)]
        other = self.ask("other")
        for _ in range(6):
            self.run_for(7)
            for request in requests:
                self.moved[request] = 0
        self.assertFalse(other.held)

    def test_memory(self) -> None:
        """
        A slow holder that has ended is forgotten.
        """
        slow = [self.ask("slow", 1) for _ in range(3)]
        self.ask("other")
        self.run_for(40)
        for request in slow:
            request.release()
        self.assertEqual(self.slots._slow.slow, frozenset())
