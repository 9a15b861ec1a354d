"""
Tests for L{xferd.transfer.slots}: paused hosts and accounts, and holds.
"""

from __future__ import annotations

from tests.transfer.slots_case import ALICE, HOST, OTHER, SlotsCase, acquire, turn
from xferd.interfaces.transfer import HostAccount
from xferd.transfer.pauses import Pauses
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots


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
            self.assertEqual(request.reason(), Reason(Obstacle.DISK, detail="the disk is full"))
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
        self.assertEqual(seen[-1], Reason(Obstacle.DISK, detail="the disk is full"))
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

    def test_cleared(self) -> None:
        """
        Requests start at once when the pauses of their host are cleared, and
        later pauses hold, also where they are shorter.
        """
        self.holder.release()
        pauses = Pauses(self.clock)
        slots = Slots(2, self.clock, pauses=pauses)
        slots.pause(ALICE, 500)
        slots.pause(HOST, 400)
        waiting = [acquire(slots, [turn()], HOST, lambda: None, account=who) for who in ("alice", "bob")]
        self.clock.advance(1)
        self.assertEqual([request.held for request in waiting], [False, False])
        pauses.clear(HOST)
        self.clock.advance(0)
        self.assertEqual([request.held for request in waiting], [True, True])
        for request in waiting:
            request.release()
        slots.pause(ALICE, 3)
        again = acquire(slots, [turn()], HOST, lambda: None, account="alice")
        self.clock.advance(2.9)
        self.assertFalse(again.held)
        self.clock.advance(0.1)
        self.assertTrue(again.held)
        again.release()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_interval(self) -> None:
        """
        Requests of an account start at intervals; those of others are not
        concerned, and a request that has its slot keeps it.
        """
        self.holder.release()
        pauses = Pauses(self.clock)
        slots = Slots(5, self.clock, pauses=pauses)
        pauses.space(ALICE, 4)
        self.clock.advance(4)
        times: list[float] = []
        requests = [
            acquire(slots, [turn()], HOST, lambda: times.append(self.clock.seconds()), account="alice")
            for _ in range(3)
        ]
        self.assertEqual([request.held for request in requests], [True, False, False])
        self.assertEqual(requests[1].reason(), Reason(Obstacle.INTERVAL, 4, HOST))
        self.assertTrue(requests[0].move(HOST, "alice"))
        self.assertTrue(acquire(slots, [turn()], HOST, self.fail, account="bob").held)
        self.clock.pump([1.0] * 9)
        self.assertEqual(times, [8, 12])

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
