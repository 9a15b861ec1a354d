"""
Tests for L{xferd.transfer.slots}, L{xferd.transfer.request_queue} and
L{xferd.transfer.fair_queue}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transfer.slots_case import ALICE, HOST, OTHER, SlotsCase, acquire, picks, turn
from xferd.transfer.host_limits import HostLimits
from xferd.transfer.pauses import HostAccount, Pauses
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


class OrderTests(SlotsCase):
    """
    The order of the grants.
    """

    def test_arrival(self) -> None:
        """
        Equal requests are granted in the order of their arrival.
        """
        requests = [self.queue(str(n), turn()) for n in range(5)]
        self.assertEqual(self.drain(*requests), ["0", "1", "2", "3", "4"])

    def test_jobs_and_layers(self) -> None:
        """
        Of one client, the oldest job's bottom layer is first.
        """
        turns = [turn(job=2), turn(job=1, layer=1), turn(job=1, layer=0), turn(job=3)]
        requests = [self.queue(f"{t.job}.{t.layer}", t) for t in turns]
        self.assertEqual(self.drain(*requests), ["1.0", "1.1", "2.0", "3.0"])

    def test_clients_take_turns(self) -> None:
        """
        A client with few requests does not wait behind one with many.
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

    def test_no_overtaking(self) -> None:
        """
        A request that is made between the release of a slot and the clean turn
        in which it is granted overtakes no other.
        """
        first = self.queue("first", turn())
        self.holder.release()
        second = self.queue("second", turn(priority=0))
        self.assertEqual((first.held, second.held), (False, False))
        self.assertEqual(self.drain(first, second), ["first", "second"])

    def test_many_turns(self) -> None:
        """
        A request with several turns is granted in the best of them, and once.
        """
        requests = [self.queue("a", turn("a", 1)), self.queue("b", turn("b", 2))]
        requests.append(self.queue("both", turn("a", 9), turn("b", 1), turn("c", 5, priority=-1)))
        self.assertEqual(self.drain(*requests), ["a", "both", "b"])

    def test_turns_come_and_go(self) -> None:
        """
        A request moves up when a better turn is added, and down when it is
        removed.
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
        A turn that was added twice has to be removed twice, and the last turn
        stays.
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
        The turns of a request that holds a slot may change, without effect.
        """
        self.holder.add(turn("b"))
        self.holder.discard(turn("holder"))
        self.assertEqual(self.slots.queued, 0)
        self.assertEqual(self.drain(), [])


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

    def test_no_host(self) -> None:
        """
        A request for no host has no limit and no pause.
        """
        self.slots.limit = 4
        self.slots.per_host = 1
        self.slots.pause("", 10)
        self.assertTrue(all(self.queue("any", turn(), host="").held for _ in range(3)))
        self.assertFalse(self.slots.hosts.closed(""))


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
        self.large.per_host = 1
        small = [self.ask(self.small) for _ in range(3)]
        self.assertEqual(self.small.per_host, 1)
        self.assertEqual([t.held for t in small], [True, False, False])

    def test_hold(self) -> None:
        """
        A hold on the large slots holds the small ones, with its reason, until
        it ends.
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


class PauseTests(SlotsCase):
    """
    Hosts and accounts are paused.
    """

    def test_pause(self) -> None:
        """
        Nothing starts at a paused host until its time has passed; other hosts
        go on.
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
        A pause holds for requests that wait already, and the longer pause
        counts.
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
        During a hold nothing starts at any host, and each request has its
        reason; then all go on.
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

    def test_hold_is_reported(self) -> None:
        """
        Waiting requests are called when the hold begins.
        """
        seen: list[Reason] = []
        request = acquire(self.slots, [turn()], HOST, self.fail, lambda: seen.append(request.reason()))
        self.clock.advance(1)
        self.slots.hold = "the disk is full"
        self.clock.advance(1)
        self.assertEqual(seen[-1], Reason(Obstacle.HOLD, detail="the disk is full"))
        request.release()

    def test_hold_and_what_runs(self) -> None:
        """
        A holder keeps its slot, but cannot move it to another host.
        """
        self.slots.hold = "the disk is full"
        self.clock.advance(1)
        self.assertTrue(self.holder.held)
        self.assertTrue(self.holder.move(HOST))
        self.assertFalse(self.holder.move(OTHER))

    def test_account(self) -> None:
        """
        While one account is paused, others at the host go on; the pause holds
        for waiting and for new requests, and ends by itself.
        """
        waiting = self.queue("alice waits", turn(), account="alice")
        self.slots.pause(ALICE, 12)
        self.holder.release()
        coming = self.queue("alice comes", turn(), account="alice")
        bob = self.queue("bob", turn(), account="bob")
        self.clock.advance(0)
        self.assertTrue(bob.held)
        self.assertEqual(waiting.reason(), Reason(Obstacle.PAUSE, 12, HOST))
        self.assertEqual(coming.reason().until, 12)
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
        The requests for a host, or an account there, are called from a clean
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
        A request that moves to another account does not wait for the pause of
        the first; a holder keeps its slot only if it may start there.
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
        A pause that is prolonged while requests wait for its end holds until
        the later end.
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
        Each pause has its own end.
        """
        self.slots.limit = 5
        self.slots.pause(HOST, 5)
        self.slots.pause(OTHER, 3)
        self.queue("five", turn())
        self.queue("three", turn(), host=OTHER)
        self.clock.pump([3, 2])
        self.assertEqual(self.started, ["three", "five"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_waiter_left(self) -> None:
        """
        When the last request has left, no timer is left.
        """
        self.slots.pause(HOST, 5)
        self.queue("gone", turn()).release()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten(self) -> None:
        """
        An expired pause leaves nothing behind.
        """
        self.slots.pause(OTHER, 5)
        self.clock.advance(5)
        self.assertFalse(self.slots.hosts.closed(OTHER))
        self.assertTrue(self.queue("any", turn(), host=OTHER).waiting)


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
