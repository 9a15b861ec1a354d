"""
Tests for L{xferd.hosts.memory}.

The module is long because what is remembered of a host meets restarts, fleets and people.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import ConnectionFailed, RegistryUnavailable, StoreError
from xferd.hosts.circuit_breaker import FIRST_PAUSE, PROBE
from xferd.hosts.known import DAY
from xferd.hosts.memory import DELAY, KEEP, MOST, HostMemory
from xferd.interfaces.hosts import Availability, IHostMemory, ISharedPauses, Quota
from xferd.interfaces.journal import HostRecord
from xferd.interfaces.transfer import HostAccount
from xferd.testing.fake_journal import FakeJournal
from xferd.testing.fakes import FakeWallClock
from xferd.testing.gate import Gate
from xferd.transfer.pauses import Pauses

T = TypeVar("T")

HUB = "docker.io"
ALICE = HostAccount(HUB, "alice")
LOW = Quota(3, 100, 21600.0)


class MemoryCase(SynchronousTestCase):
    """
    A memory with the pauses of documents, which count against quotas, and of
    downloads.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.clock = Clock()
        self.wall_clock = FakeWallClock(self.clock)
        self.gate = Gate(self.clock)
        self.journal = FakeJournal(self.gate)
        self.start()

    def start(self) -> None:
        """
        Start the memory of a daemon.
        """
        self.documents, self.downloads = Pauses(self.clock), Pauses(self.clock)
        self.memory = HostMemory(self.clock, wall_clock=self.wall_clock, journal=self.journal)
        self.memory.join("document", self.documents, metered=True)
        self.memory.join("download", self.downloads)
        self.result(Deferred.fromCoroutine(self.memory.start()))

    def result(self, work: Deferred[T]) -> T:
        """
        The result of something that waits for nothing but the journal.
        """
        for _ in range(4):
            self.clock.advance(0)
        return self.successResultOf(work)

    def restart(self, seconds: float = 0.0) -> None:
        """
        Stop the daemon, and start another one some seconds later.
        """
        self.result(self.memory.stop())
        self.wall_clock.set(self.wall_clock() + seconds)
        self.start()

    def availability(self, account: Hashable = None, host: str = HUB) -> Availability:
        """
        Whether requests may be made.
        """
        return self.memory.state(host, account).availability


class SharedPausesTests(MemoryCase):
    """
    Pauses that are shared with other nodes of a fleet.
    """

    def setUp(self) -> None:
        """
        Follow them.
        """
        super().setUp()
        self.told: list[tuple[str, HostAccount, float]] = []
        self.memory.follow_pauses(lambda *pause: self.told.append(pause))
        self.assertTrue(verifyObject(ISharedPauses, self.memory))

    def test_told(self) -> None:
        """
        The pause of an account is reported; that of a host, an interval and the end of
        one are not.
        """
        self.assertFalse(self.memory.knows(HUB))
        self.documents.pause(ALICE, 30.0)
        self.downloads.pause(HUB, 30.0)
        self.documents.space(ALICE, 0.0)
        self.assertEqual(self.told[0], ("document", ALICE, 30.0))
        self.assertTrue(self.memory.knows(HUB))
        told = len(self.told)
        self.documents.clear(HUB)
        self.assertEqual(len(self.told), told)

    def test_adopted(self) -> None:
        """
        An adopted pause is in force for its kind and not reported, also where the
        registry asks for less; what the registry asks for beyond it is.
        """
        self.memory.adopt("document", ALICE, 30.0)
        self.assertEqual((self.documents.left(ALICE), self.downloads.left(ALICE)), (30.0, 0.0))
        self.assertEqual(self.availability("alice"), Availability.PAUSED)
        self.clock.advance(10)
        self.documents.pause(ALICE, 5.0)
        self.memory.adopt("document", ALICE, 3.0)
        self.assertEqual(self.told, [])
        self.assertEqual(self.documents.left(ALICE), 20.0)
        self.documents.pause(ALICE, 60.0)
        self.assertEqual(self.told, [("document", ALICE, 60.0)])
        self.memory.adopt("unknown", ALICE, 30.0)

    def test_restart(self) -> None:
        """
        A pause that is restored at the start is not reported again.
        """
        self.documents.pause(ALICE, 300.0)
        self.result(self.memory.stop())
        self.told.clear()
        self.documents, self.downloads = Pauses(self.clock), Pauses(self.clock)
        memory = HostMemory(self.clock, wall_clock=self.wall_clock, journal=self.journal)
        memory.join("document", self.documents, metered=True)
        memory.follow_pauses(lambda *pause: self.told.append(pause))
        self.result(Deferred.fromCoroutine(memory.start()))
        self.assertGreater(self.documents.left(ALICE), 290.0)
        self.assertEqual(self.told, [])


class SharedQuotasTests(MemoryCase):
    """
    Quotas that are shared with other nodes of a fleet.
    """

    def test_told(self) -> None:
        """
        A response that shows a low quota is reported, and the one after which it is not.
        """
        told: list[tuple[HostAccount, Quota, bool]] = []
        self.memory.follow_quotas(lambda *quota: told.append(quota))
        high = evolve(LOW, remaining=50)
        for quota in (high, LOW, None, high, high):
            self.memory.answered(HUB, "alice", quota)
        self.assertEqual(told, [(ALICE, LOW, True), (ALICE, high, False)])

    def test_adopted(self) -> None:
        """
        An adopted quota is in force, is not reported, and ends after its time or with a
        response.  The next daemon does not know it.
        """
        told: list[HostAccount] = []
        self.memory.follow_quotas(lambda account, *_: told.append(account))
        self.assertTrue(self.memory.adopt_quota(ALICE, LOW, 20.0, 60.0))
        self.assertEqual(self.availability("alice"), Availability.QUOTA_LOW)
        self.assertEqual(self.memory.state(HUB, "alice").seconds, 21580.0)
        self.assertEqual(self.documents.before_start(ALICE), 10.0)
        self.clock.advance(60)
        self.assertEqual(self.availability("alice"), Availability.OK)
        self.memory.adopt_quota(ALICE, LOW, 0.0, 60.0)
        self.assertEqual(told, [])
        self.restart()
        self.assertEqual(self.availability("alice"), Availability.OK)

    def test_older(self) -> None:
        """
        A quota of an older response than the last one here is not adopted.
        """
        self.memory.answered(HUB, "alice", evolve(LOW, remaining=50))
        self.clock.advance(10)
        self.assertFalse(self.memory.adopt_quota(ALICE, LOW, 11.0, 60.0))
        self.assertEqual(self.availability("alice"), Availability.OK)
        self.assertTrue(self.memory.adopt_quota(ALICE, LOW, 9.0, 60.0))


class StateTests(MemoryCase):
    """
    Whether a host serves an account.
    """

    def test_interface(self) -> None:
        """
        It provides the Interface.
        """
        verifyObject(IHostMemory, self.memory)

    def test_unknown(self) -> None:
        """
        A host without a record may be used.
        """
        self.assertTrue(self.memory.state(HUB).ok)
        self.assertTrue(self.memory.admit(HUB).ok)
        self.assertEqual(self.memory.hosts(), [])

    def test_paused(self) -> None:
        """
        A pause of an account concerns no other one, and ends.
        """
        self.downloads.pause(ALICE, 30)
        state = self.memory.admit(HUB, "alice")
        self.assertEqual((state.availability, state.seconds), (Availability.PAUSED, 30))
        self.assertEqual(state.why, "docker.io asked to wait")
        self.assertTrue(self.memory.state(HUB).ok)
        self.assertTrue(self.memory.state(HUB, "bob").ok)
        self.clock.advance(30)
        self.assertTrue(self.memory.state(HUB, "alice").ok)

    def test_host_paused(self) -> None:
        """
        A pause of a host concerns all accounts.
        """
        self.documents.pause(HUB, 30)
        for account in (None, "alice"):
            self.assertIs(self.availability(account), Availability.PAUSED)
        self.assertTrue(self.memory.state("ghcr.io").ok)

    def test_down(self) -> None:
        """
        After a failure, the circuit is open; then one request at a time is
        admitted, until the host responds.
        """
        self.assertEqual(self.memory.unreachable(HUB, ConnectionFailed("no answer")), FIRST_PAUSE)
        self.assertEqual(self.memory.unreachable(HUB, ConnectionFailed("no answer")), 0)
        state = self.memory.admit(HUB, "alice")
        self.assertEqual((state.availability, state.seconds), (Availability.DOWN, FIRST_PAUSE))
        self.assertEqual(state.why, "docker.io failed once: no answer")
        self.clock.advance(FIRST_PAUSE)
        self.assertTrue(self.memory.admit(HUB).ok)
        self.assertIs(self.memory.admit(HUB).availability, Availability.DOWN)
        self.clock.advance(PROBE)
        self.assertTrue(self.memory.admit(HUB).ok)
        self.memory.reached(HUB)
        self.assertTrue(self.memory.admit(HUB).ok)
        self.assertTrue(self.memory.admit(HUB).ok)

    def test_asked_to_wait(self) -> None:
        """
        C{Retry-After} of a failure counts.
        """
        error = RegistryUnavailable("down", status=503, retry_after=90.0)
        self.assertEqual(self.memory.unreachable(HUB, error), 90)

    def test_quota(self) -> None:
        """
        The quota of an account is known until it is whole again.
        """
        self.memory.answered(HUB, "alice", Quota(76, 100, 60.0, 40.0))
        self.clock.advance(10)
        self.assertEqual(self.memory.state(HUB, "alice").quota, Quota(76, 100, 60.0, 30.0))
        self.assertIsNone(self.memory.state(HUB, "bob").quota)
        self.clock.advance(30)
        self.assertIsNone(self.memory.state(HUB, "alice").quota)

    def test_response_without_quota(self) -> None:
        """
        A response that names no quota does not change the one that is known.
        """
        self.memory.answered(HUB, None, Quota(76, 100, 21600.0))
        self.memory.answered(HUB, None, None)
        self.assertEqual(self.memory.state(HUB).quota, Quota(76, 100, 21600.0))

    def test_limit_is_remembered(self) -> None:
        """
        A response that names only what is left keeps limit and window.
        """
        self.memory.answered(HUB, None, Quota(76, 100, 21600.0))
        self.memory.answered(HUB, None, Quota(0, reset=300.0))
        self.assertEqual(self.memory.state(HUB).quota, Quota(0, 100, 21600.0, 300.0))

    def test_quota_low(self) -> None:
        """
        At the floor, requests that their callers can do without are refused,
        but for one in a quarter of an hour.
        """
        self.memory.answered(HUB, None, LOW)
        state = self.memory.admit(HUB)
        self.assertEqual((state.availability, state.seconds), (Availability.QUOTA_LOW, 21600))
        self.assertEqual(state.why, "3 of 100 requests to docker.io are left")
        self.assertTrue(self.memory.state(HUB, "alice").ok)
        self.clock.advance(900)
        self.assertIs(self.availability(), Availability.QUOTA_LOW)
        self.assertTrue(self.memory.admit(HUB).ok)
        self.assertFalse(self.memory.admit(HUB).ok)
        self.clock.advance(900)
        self.assertTrue(self.memory.admit(HUB).ok)
        self.memory.answered(HUB, None, evolve(LOW, remaining=50))
        self.assertTrue(self.memory.admit(HUB).ok)

    def test_intervals(self) -> None:
        """
        While the quota is low, requests that count against it start at
        intervals, and others do not.
        """
        self.memory.answered(HUB, "alice", LOW)
        self.assertEqual(self.documents.before_start(ALICE), 10)
        self.assertEqual(self.downloads.before_start(ALICE), 0)
        self.memory.answered(HUB, "alice", evolve(LOW, remaining=50))
        self.assertEqual(self.documents.before_start(ALICE), 0)

    def test_interval_ends(self) -> None:
        """
        The intervals end with the window, also where responses name no quota.
        """
        self.memory.answered(HUB, "alice", Quota(2, 100, 60.0))
        self.clock.advance(60)
        self.memory.answered(HUB, "alice", None)
        self.documents.started(ALICE)
        self.assertEqual(self.documents.before_start(ALICE), 0)


class RestartTests(MemoryCase):
    """
    The memory outlives the daemon.
    """

    def test_pause(self) -> None:
        """
        A pause holds after a restart, for the rest of its time, for the same
        kind of transfer and the same account alone.
        """
        self.downloads.pause(ALICE, 600)
        self.documents.pause(HUB, 100)
        self.restart(60)
        self.assertEqual(self.downloads.left(ALICE), 540)
        self.assertEqual(self.documents.left(ALICE), 0)
        self.assertEqual(self.documents.left(HUB), 40)
        self.assertEqual(self.downloads.left(HUB), 0)
        self.restart(1000)
        self.assertTrue(self.memory.state(HUB, "alice").ok)

    def test_interval(self) -> None:
        """
        Requests start at intervals from the start of the next daemon on.
        """
        self.memory.answered(HUB, "alice", LOW)
        self.restart(3600)
        self.assertEqual(self.documents.before_start(ALICE), 10)
        self.assertEqual(self.downloads.before_start(ALICE), 0)

    def test_own_account(self) -> None:
        """
        The pause of the daemon's own account is no other account's.
        """
        self.downloads.pause(HostAccount(HUB), 600)
        self.restart()
        self.assertEqual(self.downloads.left(HostAccount(HUB)), 600)
        self.assertTrue(self.memory.state(HUB, "alice").ok)

    def test_killed(self) -> None:
        """
        A pause is recorded at once: it holds also for a daemon that was killed
        a moment later.
        """
        self.downloads.pause(ALICE, 600)
        self.clock.advance(0)
        self.start()
        self.assertEqual(self.downloads.left(ALICE), 600)

    def test_all(self) -> None:
        """
        Quotas, failures, features and throughput are known after a restart.
        """
        self.memory.answered(HUB, "alice", Quota(76, 100, 21600.0, 1000.0))
        self.memory.unreachable(HUB, ConnectionFailed("no answer"))
        self.memory.moved(HUB, 5000, 2.0)
        self.memory.learned(HUB, {"chunks": False})
        self.restart(5)
        self.assertEqual(self.memory.state(HUB, "alice").quota, Quota(76, 100, 21600.0, 995.0))
        (host,) = self.memory.hosts()
        self.assertEqual((host.failures, host.error, host.rate), (1, "no answer", 2500))
        self.assertEqual(host.state.seconds, FIRST_PAUSE - 5)
        self.assertEqual(self.memory.capabilities(HUB), {"chunks": False})

    def test_written_together(self) -> None:
        """
        Changes other than pauses are written after a while, each record once.
        """
        for remaining in (76, 75, 74):
            self.memory.answered(HUB, "alice", Quota(remaining, 100))
        self.assertEqual(self.journal.host_records, [])
        self.clock.advance(DELAY)
        self.clock.advance(0)
        self.assertEqual(self.gate.count("journal.host"), 1)
        self.assertEqual(self.journal.host_records[0].facts["quota"]["remaining"], 74)
        self.clock.advance(10 * DELAY)
        self.assertEqual(self.gate.count("journal.host"), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_waits(self) -> None:
        """
        The stop waits for the journal.
        """
        self.memory.moved(HUB, 5000, 2.0)
        self.gate.hold("journal.host")
        stopping = self.memory.stop()
        self.assertNoResult(stopping)
        self.gate.release("journal.host")
        self.result(stopping)

    def test_journal_fails(self) -> None:
        """
        Where the journal cannot be written, that is logged, and the memory goes
        on.
        """
        self.gate.fail("journal.host", StoreError("no space is left"))
        self.downloads.pause(ALICE, 600)
        self.clock.advance(0)
        self.assertIs(self.availability("alice"), Availability.PAUSED)
        self.result(self.memory.stop())

    def test_unused(self) -> None:
        """
        Records that were not used for a week are dropped.
        """
        self.memory.moved(HUB, 5000, 2.0)
        self.restart(KEEP - 1)
        self.memory.moved("ghcr.io", 5000, 2.0)
        self.restart(2)
        self.assertEqual([host.host for host in self.memory.hosts()], ["ghcr.io"])
        self.assertEqual([record.host for record in self.journal.host_records], ["ghcr.io"])

    def test_old_features(self) -> None:
        """
        Features are found out again after a day: the registry may have been
        upgraded.
        """
        self.memory.learned(HUB, {"chunks": False})
        self.restart(DAY - 1)
        self.assertEqual(self.memory.capabilities(HUB), {"chunks": False})
        self.restart(2)
        self.assertEqual(self.memory.capabilities(HUB), {})

    def test_of_another_version(self) -> None:
        """
        A record that another version has written is not used, and harms no
        other one.
        """
        damaged: list[dict[str, Any]] = [{}, {"pauses": []}, {"pauses": {}, "failures": None}]
        for facts in damaged:
            self.journal.host_records = [HostRecord("bad.example", "*", self.wall_clock(), facts)]
            self.journal.host_records.append(HostRecord(HUB, "", self.wall_clock(), {"pauses": {}}))
            self.start()
            self.assertEqual([host.host for host in self.memory.hosts()], [HUB], facts)

    def test_clock_set_back(self) -> None:
        """
        No pause is longer than a day because the wall clock was wrong.
        """
        self.downloads.pause(ALICE, 600)
        self.restart(-1e8)
        self.assertEqual(self.downloads.left(ALICE), DAY)

    def test_without_journal(self) -> None:
        """
        A memory without a journal knows what happens while it lives.
        """
        memory = HostMemory(self.clock, wall_clock=self.wall_clock)
        self.result(Deferred.fromCoroutine(memory.start()))
        memory.unreachable(HUB, ConnectionFailed("no answer"))
        self.assertFalse(memory.state(HUB).ok)
        self.assertTrue(self.result(memory.clear(HUB)))
        self.result(memory.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PeopleTests(MemoryCase):
    """
    What people see and clear.
    """

    def test_hosts(self) -> None:
        """
        All hosts are listed with their accounts, of which no whole hash is shown.
        """
        self.memory.answered(HUB, "f00" * 10, LOW)
        self.memory.answered(HUB, None, None)
        self.memory.moved("a.example", 100, 1.0)
        first, hub = self.memory.hosts()
        self.assertEqual((first.host, first.rate, first.accounts), ("a.example", 100, []))
        self.assertEqual([account.account for account in hub.accounts], ["daemon", "f00f00f00f00"])
        daemon, client = hub.accounts
        self.assertTrue(daemon.state.ok)
        self.assertIs(client.state.availability, Availability.QUOTA_LOW)
        self.assertEqual(client.used, self.wall_clock())

    def test_clear(self) -> None:
        """
        A host that is cleared is as one without a record, also for the next
        daemon; other hosts stay as they are.
        """
        cleared: list[str] = []
        self.memory.follow(cleared.append)
        self.documents.pause(ALICE, 600)
        self.downloads.pause(HUB, 600)
        self.memory.answered(HUB, "alice", LOW)
        self.memory.unreachable(HUB, ConnectionFailed("no answer"))
        self.memory.moved("ghcr.io", 5000, 2.0)
        self.assertTrue(self.result(self.memory.clear(HUB)))
        self.assertEqual(cleared, [HUB])
        self.assertTrue(self.memory.admit(HUB, "alice").ok)
        self.documents.started(ALICE)
        self.assertEqual(self.documents.before_start(ALICE), 0)
        self.restart()
        self.assertEqual([host.host for host in self.memory.hosts()], ["ghcr.io"])

    def test_clear_unknown(self) -> None:
        """
        A host without a record has nothing to clear.
        """
        self.assertFalse(self.result(self.memory.clear(HUB)))

    def test_bounded(self) -> None:
        """
        Of too many hosts and accounts, those that were used last are known.
        """
        for n in range(MOST + 9):
            self.wall_clock.set(self.wall_clock() + 1)
            self.memory.moved(f"r{n}.example", 1, 1.0)
            self.memory.answered(HUB, f"client {n}", None)
        names = {host.host: host for host in self.memory.hosts()}
        self.assertEqual(len(names), MOST)
        self.assertNotIn("r0.example", names)
        self.assertEqual(len(names[HUB].accounts), MOST)
