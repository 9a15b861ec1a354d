"""
Tests for L{xferd.transfer.slots} and L{xferd.transfer.fair_queue}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.fair_queue import Turn
from xferd.transfer.host_limits import HostLimits
from xferd.transfer.pauses import HostAccount, Pauses
from xferd.transfer.reason import NO_REASON, PLACES, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

HOST = "one.example"
OTHER = "two.example"
ALICE = HostAccount(HOST, "alice")

picks = st.integers(0, 1000)


def turn(client: str = "client", job: int = 0, layer: int = 0, priority: int = 0) -> Turn:
    """
    Make a turn.
    """
    return Turn(client, priority, job, layer)


def acquire(
    slots: Slots,
    turns: Iterable[Turn],
    host: str,
    granted: Callable[[], object],
    reason_changed: Callable[[], object] = lambda: None,
    account: str = "",
    position: Callable[[], int] | None = None,
    recalled: Callable[[], bool] | None = None,
) -> SlotRequest:
    """
    Acquire a slot.

    @param granted: called when it is granted, but not at once.
    """
    request = SlotRequest(
        turns, host, account, position=position, reason_changed=reason_changed, recalled=recalled
    )
    acquired = slots.acquire(request)
    if not request.held:
        _ = acquired.addCallbacks(lambda _: granted(), lambda failure: failure.trap(CancelledError))
    return request


class SlotsTests(SynchronousTestCase):
    """
    Tests with one slot, which is taken, and a list of who got one since.
    """

    def setUp(self) -> None:
        """
        Take the slot.
        """
        self.clock = Clock()
        self.slots = Slots(1, self.clock)
        self.started: list[str] = []
        self.holder = acquire(self.slots, [turn("holder")], HOST, self.fail)
        self.assertTrue(self.holder.held)

    def queue(self, name: str, *turns: Turn, host: str = HOST, account: str = "") -> SlotRequest:
        """
        Queue somebody.
        """
        return acquire(self.slots, turns, host, lambda: self.started.append(name), account=account)

    def drain(self, *requests: SlotRequest) -> list[str]:
        """
        Give back whatever is held until nobody waits.

        @return: the order in which they started.
        """
        self.started.clear()
        for _ in range(len(requests) + 1):
            for request in (self.holder, *requests):
                if request.held:
                    request.release()
            self.clock.advance(0)
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        return self.started


class OrderTests(SlotsTests):
    """
    In which order waiters start.
    """

    def test_arrival(self) -> None:
        """
        Equals start in the order in which they came.
        """
        requests = [self.queue(str(n), turn()) for n in range(5)]
        self.assertEqual(self.drain(*requests), ["0", "1", "2", "3", "4"])

    def test_jobs_and_layers(self) -> None:
        """
        Within a client, the oldest job's bottom layer is first.
        """
        turns = [turn(job=2), turn(job=1, layer=1), turn(job=1, layer=0), turn(job=3)]
        requests = [self.queue(f"{t.job}.{t.layer}", t) for t in turns]
        self.assertEqual(self.drain(*requests), ["1.0", "1.1", "2.0", "3.0"])

    def test_clients_take_turns(self) -> None:
        """
        A client with few wishes does not wait behind one with many.
        """
        requests = [self.queue(f"a{n}", turn("a", n)) for n in range(4)]
        requests += [self.queue(f"b{n}", turn("b", 100 + n)) for n in range(2)]
        requests += [self.queue("c0", turn("c", 200))]
        self.assertEqual(self.drain(*requests), ["a0", "b0", "c0", "a1", "b1", "a2", "a3"])

    def test_priority(self) -> None:
        """
        A higher priority goes before every turn.
        """
        requests = [
            self.queue("low", turn("a", 1, priority=-1)),
            self.queue("usual", turn("b", 2)),
            self.queue("high", turn("b", 3, priority=5)),
            self.queue("also high", turn("b", 4, priority=5)),
        ]
        self.assertEqual(self.drain(*requests), ["high", "also high", "usual", "low"])

    def test_comers_wait(self) -> None:
        """
        Who asks between a slot's return and the clean turn in which it is
        handed on does not overtake those who wait.
        """
        first = self.queue("first", turn())
        self.holder.release()
        second = self.queue("second", turn(priority=0))
        self.assertEqual((first.held, second.held), (False, False))
        self.assertEqual(self.drain(first, second), ["first", "second"])

    def test_many_turns(self) -> None:
        """
        Who waits in several turns starts in the best of them, and once.
        """
        requests = [self.queue("a", turn("a", 1)), self.queue("b", turn("b", 2))]
        requests.append(self.queue("both", turn("a", 9), turn("b", 1), turn("c", 5, priority=-1)))
        self.assertEqual(self.drain(*requests), ["a", "both", "b"])

    def test_turns_come_and_go(self) -> None:
        """
        A waiter moves up when a better turn is added, and down when it goes.
        """
        first, second = self.queue("first", turn(job=1)), self.queue("second", turn(job=2))
        second.add(turn(job=0))
        self.assertEqual(second.reason(), Reason(Obstacle.QUEUE, 1))
        second.discard(turn(job=0))
        self.assertEqual(second.reason(), Reason(Obstacle.QUEUE, 2))
        second.add(turn(job=0))
        self.assertEqual(self.drain(first, second), ["second", "first"])

    def test_equal_turns(self) -> None:
        """
        A turn that was added twice must go twice, and the last stays.
        """
        first, second = self.queue("first", turn(job=1)), self.queue("second", turn(job=2))
        second.add(turn(job=0))
        second.add(turn(job=0))
        second.discard(turn(job=0))
        second.discard(turn(job=2))
        second.discard(turn(job=0))
        second.discard(turn(job=77))
        self.assertEqual(self.drain(first, second), ["second", "first"])

    def test_turns_of_a_holder(self) -> None:
        """
        The turns of one who holds a slot may change; it means nothing.
        """
        self.holder.add(turn("b"))
        self.holder.discard(turn("holder"))
        self.assertEqual(self.slots.queued, 0)
        self.assertEqual(self.drain(), [])


class LimitTests(SlotsTests):
    """
    The limits change while things run.
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
        Lowered from three to one, nobody starts until nothing runs.  (A4)
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
        A waiter that lowers the limit as it starts keeps the next from starting.
        """
        acquire(self.slots, [turn()], HOST, lambda: setattr(self.slots, "limit", 1))
        self.queue("next", turn())
        self.slots.limit = 3
        self.clock.advance(0)
        self.assertEqual((self.started, self.slots.in_use), ([], 2))

    def test_no_slots(self) -> None:
        """
        No slots at all is no limit that makes sense.
        """
        self.assertRaises(ValueError, Slots, 0, self.clock)
        self.assertRaises(ValueError, setattr, self.slots, "limit", 0)
        self.assertRaises(ValueError, setattr, self.slots, "per_host", -1)
        self.assertEqual(self.slots.limit, 1)

    def test_per_host(self) -> None:
        """
        A host that has all it may have is passed over; the cap is live.
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
        A host's own slot that comes back wakes the host's next waiter.
        """
        self.slots.limit = 4
        self.slots.per_host = 1
        request = self.queue("next", turn())
        self.holder.release()
        self.clock.advance(0)
        self.assertTrue(request.held)

    def test_no_host(self) -> None:
        """
        Who waits for no host in particular knows no cap and no pause.
        """
        self.slots.limit = 4
        self.slots.per_host = 1
        self.slots.pause("", 10)
        self.assertTrue(all(self.queue("any", turn(), host="").held for _ in range(3)))
        self.assertFalse(self.slots.hosts.closed(""))


class ShareTests(SlotsTests):
    """
    No host keeps another one waiting.
    """

    def hold(self, host: str, many: int) -> list[SlotRequest]:
        """
        Ask for slots in the name of one client of a host.
        """
        return [self.queue(f"{host} {n}", turn(host, n), host=host) for n in range(many)]

    def held(self, requests: list[SlotRequest]) -> int:
        """
        How many of them hold a slot.
        """
        return sum(request.held for request in requests)

    def test_alone(self) -> None:
        """
        A lone host has all slots.
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
        No priority makes a share larger.
        """
        self.slots = Slots(4, self.clock)
        block = self.hold("blocking", 4)
        high = [self.queue("high", turn("high", n, priority=5)) for n in range(9)]
        low = self.hold(OTHER, 9)
        for request in block:
            request.release()
        self.clock.advance(0)
        self.assertEqual((self.held(high), self.held(low)), (2, 2))

    def test_who_cannot_start_keeps_nobody_out(self) -> None:
        """
        A host that is paused, or has all that it may have, does not count as
        one that waits.
        """
        self.slots = Slots(4, self.clock, per_host=3)
        self.slots.pause(OTHER, 60)
        waiting, first = self.hold(OTHER, 2), self.hold(HOST, 9)
        self.assertEqual((self.held(waiting), self.held(first)), (0, 3))

    def test_further_slot(self) -> None:
        """
        Where others hold all slots, a host that has none gets a further one,
        which is one in all and goes when a slot is free.
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
        When its holder is done, the further slot is there for the next one.
        """
        self.slots = Slots(1, self.clock)
        first, second = self.hold(HOST, 2), self.hold(OTHER, 2)
        self.clock.advance(0)
        second[0].release()
        self.clock.advance(0)
        self.assertEqual((self.held(first), [t.held for t in second]), (1, [False, True]))

    def test_further_slot_moves_to_no_full_host(self) -> None:
        """
        A slot that was lent to a host is of no use for one that has others.
        """
        self.hold(HOST, 2)
        (second,) = self.hold(OTHER, 1)
        self.clock.advance(0)
        self.assertFalse(second.move(HOST))
        self.assertTrue(second.move("three.example"))

    def test_three_mute_hosts(self) -> None:
        """
        Three hosts that hold a slot each keep no fourth one out; of those
        where an attempt came to nothing, none gets the further slot.
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

    def test_doubts_end(self) -> None:
        """
        A host is doubted for a minute; then others go first.
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
        Of those that hold nothing, a host that brought something goes first,
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
        A further slot in which nothing moves is wanted back when another host
        comes, and its host gets none for a while.
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
        Where nothing has moved for long, the slot is wanted back at once; but
        not for the same host, nor for one that is doubted itself.
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
        A further slot in which bytes move is not taken back.
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
        What waits for our own limit on the rate is not idle.
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
        A holder that breaks when its slot is wanted back is logged.
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
        A slot that was borrowed is wanted back before one is lent.
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
    Those who hardly move keep nobody out.
    """

    def setUp(self) -> None:
        """
        Have three slots, and what holds them.
        """
        self.clock = Clock()
        self.slots = Slots(3, self.clock)
        self.rates: dict[SlotRequest, int] = {}
        self.moved: dict[SlotRequest, int] = {}

    def ask(self, name: str, rate: int = 0, host: str = HOST) -> SlotRequest:
        """
        Ask for a slot, to move so many bytes a second.
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
        Let those who hold a slot move.
        """
        for _ in range(seconds):
            self.clock.advance(1)
            for request in self.rates:
                if request.held:
                    self.moved[request] += self.rates[request]
                    request.sample()

    def test_trickles(self) -> None:
        """
        After 30 s, one further slot in all is lent, at the same host, too.
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

    def test_before_they_came(self) -> None:
        """
        Who was slow before somebody came keeps him out for no time.
        """
        for _ in range(3):
            self.ask("slow", 2_000)
        self.run_for(60)
        other = self.ask("other")
        self.clock.advance(0)
        self.assertTrue(other.held)

    def test_their_own(self) -> None:
        """
        The further slot is not for more of the same job.
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
        A host that moves its bytes gets it before one that does not.
        """
        for _ in range(2):
            self.ask("slow", 2_000)
        self.ask("fast", 5_000_000, OTHER)
        same, other = self.ask("a", 1), self.ask("b", 1, OTHER)
        self.run_for(36)
        self.assertEqual((same.held, other.held), (False, True))

    def test_fair(self) -> None:
        """
        Who moves a tenth of its share is not slow, nor who is held back by
        our own limit, nor who moved well until just now.
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
        What begins again from 0 is not slow for that.
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
        A slow one that has ended is not remembered.
        """
        slow = [self.ask("slow", 1) for _ in range(3)]
        self.ask("other")
        self.run_for(40)
        for request in slow:
            request.release()
        self.assertEqual(self.slots._slow.slow, frozenset())


class BeyondTests(SynchronousTestCase):
    """
    Slots for some only, who use those of all as well while nobody waits there.
    """

    def setUp(self) -> None:
        """
        Have two slots for all and one for some.
        """
        self.clock = Clock()
        self.pauses = Pauses(self.clock)
        self.large = Slots(2, self.clock, pauses=self.pauses)
        self.small = Slots(1, self.clock, pauses=self.pauses, beyond=self.large)

    def ask(self, slots: Slots, host: str = HOST) -> SlotRequest:
        """
        Ask for a slot.
        """
        return acquire(slots, [turn()], host, lambda: None)

    def test_own(self) -> None:
        """
        They do not wait for those who have all other slots.
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
        They use what is free, at once and later, and give it back where it
        came from; but who waits there goes first.
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
        A slot that came back for one who stops waiting goes to one who waits
        elsewhere.
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
        A slot is not borrowed while some wait for one, and wanted back when
        they do.
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
        self.large.per_host = 1
        small = [self.ask(self.small) for _ in range(3)]
        self.assertEqual(self.small.per_host, 1)
        self.assertEqual([t.held for t in small], [True, False, False])

    def test_hold(self) -> None:
        """
        Nothing starts while these are held, with the reason, and then it does.
        """
        self.large.hold = "the disk is full"
        request = self.ask(self.small)
        self.assertEqual(request.reason(), Reason(Obstacle.HOLD, detail="the disk is full"))
        self.large.hold = ""
        self.clock.advance(0)
        self.assertTrue(request.held)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("slrrmp"), picks, st.sampled_from([HOST, OTHER])), max_size=60))
    def test_walk(self, walk: list[tuple[str, int, str]]) -> None:
        """
        Whatever happens, no slot is lost, and nobody waits while there is
        one free.
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


class PauseTests(SlotsTests):
    """
    A host asked to be left alone.
    """

    def test_pause(self) -> None:
        """
        Nothing starts for a paused host until its time is over; others go on.
        """
        self.holder.release()
        self.slots.pause(HOST, 12)
        paused, other = self.queue("paused", turn()), self.queue("other", turn(), host=OTHER)
        self.assertEqual((paused.held, other.held), (False, True))
        other.release()
        self.assertEqual(paused.reason(), Reason(Obstacle.PAUSE, 12, HOST))
        self.clock.advance(11)
        self.assertEqual(paused.reason(), Reason(Obstacle.PAUSE, 1, HOST))
        self.assertEqual(self.started, [])
        self.clock.advance(1)
        self.assertEqual(self.started, ["paused"])
        self.assertEqual(paused.reason(), NO_REASON)

    def test_pause_while_queued(self) -> None:
        """
        A pause holds for those who wait already, and longer pauses win.
        """
        self.queue("paused", turn())
        self.slots.pause(HOST, 5)
        self.slots.pause(HOST, 9)
        self.slots.pause(HOST, 1)
        self.holder.release()
        self.clock.pump([1, 4, 3.9])
        self.assertEqual(self.started, [])
        self.clock.advance(0.1)
        self.assertEqual(self.started, ["paused"])

    def test_hold(self) -> None:
        """
        While all slots are held back, nothing starts anywhere, and each waiter
        says why; then all go on.
        """
        early = self.queue("early", turn())
        self.slots.hold = "the disk is full"
        self.holder.release()
        late, nowhere = (
            self.queue("late", turn(job=1), host=OTHER),
            self.queue("nowhere", turn(job=2), host=""),
        )
        self.clock.advance(5)
        self.assertEqual(self.started, [])
        for request in (early, late, nowhere):
            self.assertEqual(request.reason(), Reason(Obstacle.HOLD, detail="the disk is full"))
        self.assertIsNone(self.slots.spare(HOST, self.fail))
        self.slots.hold = ""
        self.assertEqual(early.reason(), Reason(Obstacle.QUEUE, 1))
        self.clock.advance(0)
        self.assertTrue(early.held)
        self.drain(early, late, nowhere)
        self.assertEqual(self.slots.queued, 0)

    def test_hold_is_told(self) -> None:
        """
        Those who wait hear that they wait for something else now.
        """
        told: list[Reason] = []
        request = acquire(self.slots, [turn()], HOST, self.fail, lambda: told.append(request.reason()))
        self.clock.advance(1)
        self.slots.hold = "the disk is full"
        self.clock.advance(1)
        self.assertEqual(told[-1], Reason(Obstacle.HOLD, detail="the disk is full"))
        request.release()

    def test_hold_and_what_runs(self) -> None:
        """
        What holds a slot keeps it, but cannot take it to another host.
        """
        self.slots.hold = "the disk is full"
        self.clock.advance(1)
        self.assertTrue(self.holder.held)
        self.assertTrue(self.holder.move(HOST))
        self.assertFalse(self.holder.move(OTHER))

    def test_account(self) -> None:
        """
        Where one account is paused, others at the host go on; the pause
        counts for those who wait and those who come, and ends by itself.
        """
        waiting = self.queue("alice waits", turn(), account="alice")
        self.slots.pause(ALICE, 12)
        self.holder.release()
        coming = self.queue("alice comes", turn(), account="alice")
        bob = self.queue("bob", turn(), account="bob")
        self.clock.advance(0)
        self.assertTrue(bob.held)
        self.assertEqual(waiting.reason(), Reason(Obstacle.PAUSE, 12, HOST))
        self.assertEqual(coming.until(), 12)
        self.assertTrue(self.slots.hosts.closed(HOST, "alice"))
        self.assertFalse(self.slots.hosts.closed(HOST, "bob"))
        bob.release()
        self.slots.limit = 2
        self.clock.advance(11)
        self.assertEqual(self.started, [])
        self.clock.advance(1)
        self.assertEqual(self.started, ["alice waits", "alice comes"])
        self.drain(waiting, coming, bob)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiters_are_called(self) -> None:
        """
        Those who wait for a host, or an account there, are called from a clean
        turn when it is paused; others, and holders, are not.
        """
        self.slots.limit = 2
        self.slots.per_host = 1
        called: list[str] = []
        for host, account in ((HOST, "alice"), (HOST, "bob"), (OTHER, "alice"), (OTHER, "bob")):
            request = SlotRequest([turn()], host, account)
            request.host_paused = lambda name=f"{host} {account}": called.append(name)
            _ = self.slots.acquire(request)
        for whom, names in (
            (HOST, [f"{HOST} alice", f"{HOST} bob"]),
            (HostAccount(HOST, "bob"), [f"{HOST} bob"]),
            (OTHER, [f"{OTHER} bob"]),
            (HostAccount(OTHER, "alice"), []),
        ):
            self.slots.pause(whom, 5)
            self.assertEqual(called, [])
            self.clock.advance(0)
            self.assertEqual(called, names)
            called.clear()

    def test_account_changes(self) -> None:
        """
        A waiter that turns to another account does not wait for the first
        one's pause; a holder keeps its slot only if it may start.
        """
        self.slots.limit = 3
        self.slots.pause(ALICE, 12)
        request = self.queue("alice", turn(), account="alice")
        self.assertTrue(request.waiting)
        self.assertTrue(request.move(HOST, "bob"))
        self.clock.advance(0)
        self.assertEqual(self.started, ["alice"])
        self.assertFalse(request.move(HOST, "alice"))
        self.assertEqual((request.account, self.slots.in_use), ("bob", 2))
        self.assertIsNone(self.slots.spare(HOST, self.fail, "alice"))
        self.assertIsNotNone(self.slots.spare(HOST, self.fail, "bob"))

    def test_account_paused_for_longer(self) -> None:
        """
        A pause that is made longer while somebody waits for its end holds
        until the later end.
        """
        self.holder.release()
        self.slots.pause(ALICE, 5)
        request = self.queue("alice", turn(), account="alice")
        self.clock.advance(4)
        self.slots.pause(ALICE, 5)
        self.clock.advance(1)
        self.clock.advance(3.5)
        self.assertEqual(self.started, [])
        self.clock.advance(0.5)
        self.assertTrue(request.held)

    def test_shared_pauses(self) -> None:
        """
        Slots of several kinds may share their pauses.
        """
        pauses = Pauses(self.clock)
        one, two = (Slots(1, self.clock, pauses=pauses) for _ in range(2))
        acquire(one, [turn()], HOST, self.fail, account="alice")
        waiting = acquire(one, [turn()], HOST, lambda: None, account="alice")
        two.pause(ALICE, 5)
        self.assertEqual(waiting.reason(), Reason(Obstacle.PAUSE, 5, HOST))

    def test_two_pauses(self) -> None:
        """
        Each host comes back in its own time.
        """
        self.slots.limit = 5
        self.slots.pause(HOST, 5)
        self.slots.pause(OTHER, 3)
        self.queue("five", turn())
        self.queue("three", turn(), host=OTHER)
        self.clock.pump([3, 2])
        self.assertEqual(self.started, ["three", "five"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_left(self) -> None:
        """
        When the last waiter has gone, no timer is left behind.
        """
        self.slots.pause(HOST, 5)
        self.queue("gone", turn()).release()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten(self) -> None:
        """
        A pause that is over leaves nothing behind.
        """
        self.slots.pause(OTHER, 5)
        self.clock.advance(5)
        self.assertFalse(self.slots.hosts.closed(OTHER))
        self.assertTrue(self.queue("any", turn(), host=OTHER).waiting)


class RequestTests(SlotsTests):
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
        What changes before a request is made counts when it is made.
        """
        request = SlotRequest([turn("late", 9)], HOST)
        self.assertTrue(request.move(OTHER, "alice"))
        request.add(turn("early", 1))
        request.discard(turn("late", 9))
        request.sample()
        self.assertEqual((request.reason(), request.until()), (NO_REASON, None))
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
        Who stops waiting leaves its place at once; the others keep theirs.
        """
        requests = [self.queue(str(n), turn()) for n in range(4)]
        requests[1].release()
        self.assertEqual(self.slots.queued, 3)
        self.assertEqual(self.drain(*requests), ["0", "2", "3"])

    def test_cancelled_between(self) -> None:
        """
        A slot that came back for one who stops waiting goes to the next.
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
        A slot given back as soon as it is granted goes to the next.
        """
        first = acquire(self.slots, [turn()], HOST, lambda: first.release())
        second = self.queue("second", turn())
        self.holder.release()
        self.clock.advance(0)
        self.assertTrue(second.held)

    def test_cancels_another_as_it_is_granted(self) -> None:
        """
        Who starts may stop those who wait, or ask for more.
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
        A waiter that fails as it starts keeps its slot until it releases it,
        and keeps no other from starting.
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
        A waiter may turn to another host, keeps its client's place in the
        rotation, and starts at once if it can there.
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
        A waiter that turns to a paused host waits for the pause's end.
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
        A holder may use its slot for another host, unless nothing may start there.
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
        A request that has ended holds nothing, wherever it is moved.
        """
        self.holder.release()
        self.holder.move(OTHER)
        self.assertEqual(self.slots.in_use, 0)
        self.assertFalse(self.slots.hosts.closed(OTHER))


class WhyTests(SlotsTests):
    """
    What waiters are told.
    """

    def test_places(self) -> None:
        """
        Each knows its place in the order in which they will start.
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
        Who is far behind is told so.
        """
        requests = [self.queue(str(n), turn("a", n)) for n in range(200)]
        self.assertEqual(requests[-1].reason(), Reason(Obstacle.QUEUE, PLACES + 1))

    def test_shared_by_all(self) -> None:
        """
        What many clients want at once has one place, not one for each client.
        """
        clients = [f"client {n}" for n in range(50)]
        requests = [
            self.queue(str(layer), *(turn(c, job, layer) for job, c in enumerate(clients)))
            for layer in range(5)
        ]
        self.assertEqual(requests[4].reason(), Reason(Obstacle.QUEUE, 5))
        self.assertEqual(self.drain(*requests), ["0", "1", "2", "3", "4"])

    def told(self, *requests: SlotRequest) -> list[list[Reason]]:
        """
        Collect what each request is told to look at from now on.
        """
        said: list[list[Reason]] = []
        for request in requests:
            reasons: list[Reason] = []
            said.append(reasons)
            request.reason_changed = lambda t=request, x=reasons: x.append(t.reason())  # type: ignore[misc]
        return said

    def test_told_of_places(self) -> None:
        """
        Who moves up in the queue is told so within a second, once for all that
        happened; who stays where he is hears nothing.
        """
        first, second, third = (self.queue(str(n), turn("a", n)) for n in range(3))
        said = self.told(first, second, third)
        self.clock.advance(1)
        self.assertEqual([reasons[-1] for reasons in said], [Reason(Obstacle.QUEUE, n) for n in (1, 2, 3)])
        first.release()
        second.release()
        self.clock.advance(0.9)
        self.assertEqual([len(reasons) for reasons in said], [1, 1, 1])
        self.clock.advance(0.1)
        self.assertEqual([reasons[1:] for reasons in said], [[], [], [Reason(Obstacle.QUEUE, 1)]])
        self.queue("behind", turn("a", 9))
        self.clock.advance(1)
        self.assertEqual(len(said[2]), 2)

    def test_told_of_pauses(self) -> None:
        """
        Who waits is told that its host is paused, until when, and that it is so
        no longer, though there is no slot then.
        """
        request = self.queue("a", turn())
        (said,) = self.told(request)
        self.assertIsNone(request.until())
        self.slots.pause(HOST, 10)
        self.assertEqual(request.until(), 10)
        self.clock.advance(1)
        self.clock.advance(9)
        self.clock.advance(1)
        self.assertEqual(said, [Reason(Obstacle.PAUSE, 9, HOST), Reason(Obstacle.QUEUE, 1)])
        self.assertIsNone(request.until())

    def test_nobody_is_told(self) -> None:
        """
        When nobody waits any more, no timer is left.
        """
        request = self.queue("a", turn())
        request.release()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_host_limit(self) -> None:
        """
        Who waits for a slot of its host learns how many the host has.
        """
        slots = Slots(2, self.clock, per_host=2)
        for _ in range(2):
            acquire(slots, [turn()], HOST, self.fail)
        third = acquire(slots, [turn()], HOST, self.fail)
        self.assertEqual(third.reason(), Reason(Obstacle.HOST_LIMIT, 2, HOST))
        slots.per_host = 0
        self.assertEqual(third.reason(), Reason(Obstacle.QUEUE, 1))


class SpareTests(SynchronousTestCase):
    """
    Slots that are lent while nobody waits for them.
    """

    def setUp(self) -> None:
        """
        Have three slots, of which one host may have two.
        """
        self.clock = Clock()
        self.slots = Slots(3, self.clock, per_host=2)
        self.started: list[str] = []
        self.wanted: list[str] = []

    def ask(self, name: str, host: str = HOST) -> SlotRequest:
        """
        Ask for a slot.
        """
        return acquire(self.slots, [turn(name)], host, lambda: self.started.append(name))

    def borrow(self, name: str, host: str = HOST) -> SlotRequest:
        """
        Borrow one, to be given back at once.
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
        No slot can be spared.
        """
        self.assertIsNone(self.slots.spare(host, self.fail))

    def test_limits(self) -> None:
        """
        What is lent counts as any other slot, for all hosts and for the one.
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
        Who comes and finds none free gets the one that was lent last, in the
        next turn; only as many are wanted back as are of use.
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
        A slot is wanted back of the host that has its share in use, and of no
        other; while a host is paused, its waiters want none.
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
        Nothing is lent while somebody is about to start.
        """
        requests = [self.ask("first"), self.ask("second", OTHER), self.ask("third", OTHER)]
        self.ask("fourth", OTHER)
        requests[1].release()
        self.assert_none(OTHER)
        self.clock.advance(0)
        self.assertEqual(self.started, ["fourth"])

    def test_lowered(self) -> None:
        """
        When there are to be fewer slots, those that are lent go first.
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
        One that was given back is not wanted any more, and nothing is left
        that waits.
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
        A borrower that fails when its slot is wanted is logged, and asked
        again the next time.
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


class SemaphoreTests(SynchronousTestCase):
    """
    Slots are a C{DeferredSemaphore}, for who wants no more.
    """

    def setUp(self) -> None:
        """
        Have two slots.
        """
        self.clock = Clock()
        self.slots = Slots(2, self.clock)

    def test_acquire_release(self) -> None:
        """
        The third waits until one of two is given back.
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
        What was not acquired cannot be given back, whoever else holds slots.
        """
        request = acquire(self.slots, [turn()], HOST, self.fail)
        self.assertRaises(AssertionError, self.slots.release)
        self.assertTrue(request.held)

    def test_cancelled(self) -> None:
        """
        Cancelling gives up the place in the queue.
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
        C{run} and C{async with} hold a slot for the time of the work.
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
        Ten thousand short pieces of work on one slot all run, one at a time,
        without recursion, and the slot is free in the end.
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
        Ten thousand clients for two hosts, of which one is full, do not make
        each step cost ten thousand.
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


@define(eq=False)
class Waiter:
    """
    A waiter of the model.
    """

    number: int
    turns: list[Turn]
    host: str
    account: str
    request: SlotRequest = field(init=False)


@define
class Model:
    """
    The rules of L{Slots}, said as plainly as they can be said: lists, and
    looking through all of them.
    """

    limit: int
    clock: Clock
    per_host: int = 0
    waiting: list[Waiter] = field(factory=list)
    held: list[Waiter] = field(factory=list)
    spares: list[Waiter] = field(factory=list)
    lent: Waiter | None = None
    rotation: list[str] = field(factory=list)
    resumes: dict[str | HostAccount, float] = field(factory=dict)

    def is_open(self, host: str, account: str) -> bool:
        """
        Whether an account may start something at a host.
        """
        full = self.per_host and self.running(host) >= self.per_host
        ends = (self.resumes.get(whom, 0) for whom in (host, HostAccount(host, account)))
        return not full and max(ends) <= self.clock.seconds()

    @property
    def free(self) -> int:
        """
        How many slots are free; negative where there are to be fewer.
        """
        return self.limit - len(self.held) - len(self.spares)

    def running(self, host: str) -> int:
        """
        How many slots a host has.
        """
        return sum(w.host == host for w in [*self.held, *self.spares])

    def next(self) -> tuple[Waiter, str] | None:
        """
        Who starts now, and in whose turn.
        """
        share = (self.limit + 1) // 2 if self.limit > 3 else max(1, self.limit - 1)
        lends = self.free <= 0
        if lends and (self.lent is not None or self.spares):
            return None
        places = [
            (
                (
                    self.running(w.host) >= share,
                    -t.priority,
                    self.rotation.index(t.client),
                    t.job,
                    t.layer,
                    w.number,
                ),
                w,
                t.client,
            )
            for w in self.waiting
            if self.is_open(w.host, w.account) and not (lends and self.running(w.host))
            for t in w.turns
        ]
        return min(places, key=lambda p: p[0])[1:] if places else None

    def wants(self, spare: Waiter) -> bool:
        """
        Whether a borrowed slot is of more use to somebody else.
        """
        if self.free < 0 or (self.per_host and self.running(spare.host) > self.per_host):
            return True
        self.spares.remove(spare)
        try:
            return self.next() is not None
        finally:
            self.spares.append(spare)

    def tidy(self) -> None:
        """
        Who waits no longer loses its place in the rotation; who is new is last.
        What was lent is a slot like any other once there are enough.
        """
        if self.free >= 0 or self.lent not in self.held:
            self.lent = None
        clients = [t.client for w in self.waiting for t in w.turns]
        self.rotation = [c for c in self.rotation if c in clients]
        self.rotation += dict.fromkeys(c for c in clients if c not in self.rotation)


hosts = st.sampled_from([HOST, OTHER, "three.example"])
accounts = st.sampled_from(["alice", "bob"])
turns = st.builds(Turn, st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 3), st.integers(0, 2))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.lists(turns, min_size=1, max_size=3), hosts, accounts),
        st.tuples(st.just("ask"), st.lists(turns, min_size=1, max_size=3), hosts, accounts),
        st.tuples(st.just("release"), picks),
        st.tuples(st.just("cancel"), picks),
        st.tuples(st.just("add"), picks, turns),
        st.tuples(st.just("discard"), picks),
        st.tuples(st.just("move"), picks, hosts, accounts),
        st.tuples(st.just("spare"), hosts, accounts),
        st.tuples(st.just("limit"), st.integers(1, 6)),
        st.tuples(st.just("per_host"), st.integers(0, 2)),
        st.tuples(
            st.just("pause"), st.one_of(hosts, st.builds(HostAccount, hosts, accounts)), st.integers(1, 9)
        ),
        st.tuples(st.just("pass"), st.integers(1, 9)),
    ),
    max_size=60,
)


class WalkTests(SynchronousTestCase):
    """
    Slots do what the model does, whatever happens.
    """

    @settings(max_examples=150, deadline=None)
    @given(st.integers(1, 3), steps)
    def test_walk(self, limit: int, walk: list[tuple[Any, ...]]) -> None:
        """
        After any steps, those have started whom the model would have
        started, in its order; the limit was never exceeded by a start, but for
        the further slot; and when all is given back, every slot is there.
        """
        self.clock = Clock()
        self.slots = Slots(limit, self.clock)
        self.model = Model(limit, self.clock)
        self.number = 0
        self.everybody: list[Waiter] = []
        for name, *arguments in walk:
            getattr(self, f"step_{name}")(*arguments)
            self.settle()
            self.agree()
        self.model.resumes.clear()
        self.clock.advance(100)
        self.settle()
        while self.model.held or self.model.spares:
            for spare in self.model.spares:
                spare.request.release()
            self.model.spares.clear()
            self.step_release(0)
            self.settle()
            self.agree()
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        self.assertEqual(self.slots.tokens, self.slots.limit)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def started(self, waiter: Waiter) -> Callable[[], None]:
        """
        Check a start against the model's.
        """

        def granted() -> None:
            self.model.tidy()
            expected = self.model.next()
            assert expected is not None
            self.assertIs(waiter, expected[0])
            self.begin(*expected)

        return granted

    def begin(self, waiter: Waiter, client: str) -> None:
        """
        Let the model start somebody.
        """
        if self.model.free <= 0:
            self.assertIsNone(self.model.lent)
            self.model.lent = waiter
        self.model.waiting.remove(waiter)
        self.model.held.append(waiter)
        self.model.rotation.remove(client)
        self.model.rotation.append(client)
        self.model.tidy()

    def settle(self) -> None:
        """
        Let the clean turns come: one for each slot that is borrowed.
        """
        for _ in range(8):
            self.clock.advance(0)

    def agree(self) -> None:
        """
        Slots and model are in the same state, and nobody waits in vain.
        """
        self.model.tidy()
        self.assertIsNone(self.model.next())
        self.assertEqual(
            {w.number for w in self.everybody if w.request.held}, {w.number for w in self.model.held}
        )
        self.assertEqual(self.slots.in_use, len(self.model.held) + len(self.model.spares))
        self.assertEqual(self.slots.queued, len(self.model.waiting))
        self.assertEqual(self.slots.tokens, self.model.free)
        self.assertFalse(any(self.model.wants(spare) for spare in list(self.model.spares)))
        for waiter in self.everybody:
            special = waiter in self.model.waiting or waiter is self.model.lent
            self.assertEqual(waiter.request.reason() != NO_REASON, special)

    def step_ask(self, turns: list[Turn], host: str, account: str) -> None:
        """
        Somebody wants a slot.
        """
        waiter = Waiter(self.number, list(turns), host, account)
        self.number += 1
        before = self.model.next()
        free = before is None and self.model.free > 0
        free = free and self.model.is_open(host, account)
        waiter.request = acquire(self.slots, turns, host, self.started(waiter), account=account)
        self.everybody.append(waiter)
        self.assertEqual(waiter.request.held, free)
        (self.model.held if free else self.model.waiting).append(waiter)
        self.model.tidy()

    def step_release(self, pick: int) -> None:
        """
        A holder gives its slot back.
        """
        if self.model.held:
            waiter = self.model.held.pop(pick % len(self.model.held))
            waiter.request.release()

    def step_cancel(self, pick: int) -> None:
        """
        A waiter goes.
        """
        if self.model.waiting:
            waiter = self.model.waiting.pop(pick % len(self.model.waiting))
            waiter.request.release()
            self.model.tidy()

    def step_add(self, pick: int, turn: Turn) -> None:
        """
        A waiter gets another turn.
        """
        if self.model.waiting:
            waiter = self.model.waiting[pick % len(self.model.waiting)]
            waiter.turns.append(turn)
            waiter.request.add(turn)
            self.model.tidy()

    def step_discard(self, pick: int) -> None:
        """
        A waiter loses a turn, unless it is the last.
        """
        if self.model.waiting:
            waiter = self.model.waiting[pick % len(self.model.waiting)]
            turn = waiter.turns[pick % len(waiter.turns)]
            if len(waiter.turns) > 1:
                waiter.turns.remove(turn)
            waiter.request.discard(turn)
            self.model.tidy()

    def step_move(self, pick: int, host: str, account: str) -> None:
        """
        Somebody turns to another host, or account.
        """
        if self.everybody:
            waiter = self.everybody[pick % len(self.everybody)]
            moved = waiter.request.move(host, account)
            if moved and waiter in [*self.model.held, *self.model.waiting]:
                waiter.host, waiter.account = host, account

    def step_spare(self, host: str, account: str) -> None:
        """
        Somebody borrows a slot, until it is wanted.
        """

        def wanted() -> None:
            self.model.tidy()
            self.assertTrue(self.model.wants(spare))
            self.model.spares.remove(spare)
            spare.request.release()

        free = self.model.next() is None and self.model.free > 0 and self.model.is_open(host, account)
        request = self.slots.spare(host, wanted, account)
        self.assertEqual(request is not None, free)
        if request is not None:
            spare = Waiter(0, [], host, account)
            spare.request = request
            self.model.spares.append(spare)

    def step_limit(self, limit: int) -> None:
        """
        There are more slots, or fewer.
        """
        self.slots.limit = self.model.limit = limit

    def step_per_host(self, per_host: int) -> None:
        """
        Hosts may have more slots, or fewer.
        """
        self.slots.per_host = self.model.per_host = per_host

    def step_pause(self, whom: str | HostAccount, seconds: int) -> None:
        """
        A host or an account there is paused.
        """
        self.slots.pause(whom, seconds)
        until = self.clock.seconds() + seconds
        self.model.resumes[whom] = max(until, self.model.resumes.get(whom, 0))

    def step_pass(self, seconds: int) -> None:
        """
        Time passes.
        """
        for _ in range(seconds):
            self.clock.advance(1)
