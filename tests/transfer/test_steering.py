"""
Tests for L{xferd.transfer.steering}: pauses of jobs, hosts and directions, and priorities of
jobs that run.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.transfer.case import ALICE, ONE, TWO, Attempt, EngineTests, Source
from xferd.errors import ConnectionFailed, Denied
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slots import Slots
from xferd.transfer.steering import Hold, Steering, host_pause
from xferd.transfer.watcher import Watcher

BOB = Hold("bob", 7.0)

ARCHIVE = Source("", "archive")


def paused(detail: str) -> Reason:
    """
    The reason of a transfer that Bob has paused.
    """
    return Reason(Obstacle.PAUSED, detail=detail)


class SteeredTests(EngineTests):
    """
    Attempts that are steered.
    """

    limit = 1

    def setUp(self) -> None:
        """
        Build an engine that is steered.
        """
        self.steering = Steering()
        super().setUp()
        self.steering.observe(lambda: self.manager.steer())

    def managed(self, slots: Slots | None, kind: str = "download") -> TransferManager:
        """
        Make a manager that is steered.
        """
        manager = super().managed(slots, kind)
        manager._steering = self.steering
        object.__setattr__(manager._context, "steering", self.steering)
        return manager

    def watch(self, key: str, attempt: Attempt, source: Source, job: int, priority: int = 0) -> Watcher[Any]:
        """
        Watch a transfer for a job.
        """
        turn = Turn("ann", priority, job, 0)
        watcher: Watcher[Any] = self.manager.request(
            key, attempt.work(), digest=key, source=source, turn=turn
        )
        self.turn()
        return watcher

    def pause(self, name: str) -> None:
        """
        Pause everything, a direction or a host.
        """
        self.steering.pause(name, BOB)
        self.turn()

    def resume(self, name: str) -> None:
        """
        End a pause.
        """
        self.assertIsNotNone(self.steering.resume(name))
        self.turn()

    # ------------------------------------------------------------------ jobs

    def test_job(self) -> None:
        """
        The attempt for a job that is paused ends, and its slot is free; when the job
        continues, another attempt begins.
        """
        attempt, other = Attempt(), Attempt()
        watcher = self.watch("a", attempt, ONE, 1)
        waiting = self.watch("b", other, ONE, 2)
        watcher.transfer.report(bytes_done=0, bytes_total=100)
        watcher.transfer.report(bytes_done=40, moved=40)
        self.steering.pause_job(1, BOB)
        self.turn()
        self.assertEqual(
            (watcher.transfer.state, watcher.transfer.reason()), ("waiting", paused("paused by bob"))
        )
        self.assertEqual(watcher.transfer.reason().whom, "bob")
        self.assertEqual([record["code"] for record in self.records], ["CANCELLED"])
        self.assertEqual(self.records[0]["bytes_moved"], 40)
        self.assertEqual((other.sources, waiting.transfer.state), ([ONE], "running"))
        other.ends[0].callback(None)
        self.steering.resume_job(1)
        self.turn()
        self.assertEqual((watcher.transfer.state, len(attempt.sources)), ("running", 2))
        attempt.ends[1].callback("done")
        self.assertEqual(self.successResultOf(watcher.result()), "done")

    def test_shared(self) -> None:
        """
        A transfer that another job watches goes on; it waits when that one is paused, too,
        or leaves.
        """
        for leaves in (False, True):
            attempt = Attempt()
            watcher = self.watch("a", attempt, ONE, 1)
            second = self.watch("a", attempt, ONE, 2)
            self.steering.pause_job(1, BOB)
            self.turn()
            self.assertEqual((watcher.transfer.state, len(attempt.sources)), ("running", 1))
            if leaves:
                second.release()
            else:
                self.steering.pause_job(2, BOB)
            self.turn()
            self.assertEqual(watcher.transfer.reason(), paused("paused by bob"))
            self.assertEqual(self.slots.in_use, 0)
            watcher.release()
            second.release()
            self.turn()
            self.steering.forget(1)
            self.steering.forget(2)

    def test_joined(self) -> None:
        """
        A job that joins a transfer that is paused lets it continue.
        """
        attempt = Attempt()
        self.steering.pause_job(1, BOB)
        watcher = self.watch("a", attempt, ONE, 1)
        self.assertEqual((attempt.sources, self.slots.queued), ([], 0))
        self.watch("a", attempt, ONE, 2)
        self.assertEqual((watcher.transfer.state, attempt.sources), ("running", [ONE]))

    def test_source_of_another_job(self) -> None:
        """
        What goes on for another job does so with the source of that job; with that of the
        paused one only where there is no other.
        """
        attempt = Attempt()
        watcher = self.watch("a", attempt, ONE, 1)
        self.watch("a", attempt, TWO, 2)
        self.assertEqual(attempt.sources, [ONE])
        self.steering.pause_job(1, BOB)
        self.turn()
        self.assertEqual((attempt.sources, watcher.transfer.state), ([ONE, TWO], "running"))
        attempt.ends[-1].errback(Denied("no"))
        self.turn()
        self.assertEqual(attempt.sources, [ONE, TWO, ONE])

    def test_complete(self) -> None:
        """
        A download whose bytes are all here is not ended; an upload is, as the kernel may
        have bytes to send.
        """
        for kind, state in (("download", "running"), ("upload", "waiting")):
            self.manager = self.managed(Slots(1, self.clock), kind)
            attempt = Attempt()
            watcher = self.watch("a", attempt, ONE, 1)
            watcher.transfer.report(bytes_done=100, bytes_total=100)
            self.steering.pause_job(1, BOB)
            self.turn()
            self.assertEqual(watcher.transfer.state, state)
            self.steering.resume_job(1)
            self.turn()
            attempt.ends[-1].callback("done")
            self.assertEqual(self.successResultOf(watcher.result()), "done")

    def test_cancelled(self) -> None:
        """
        A transfer that is paused is cancelled at once, and so is one whose attempt is just
        about to end.
        """
        for late in (False, True):
            attempt = Attempt()
            watcher = self.watch("a", attempt, ONE, 1)
            self.steering.pause_job(1, BOB)
            if late:
                self.turn()
            watcher.release()
            self.turn()
            self.assertEqual((watcher.transfer.state, self.slots.in_use), ("cancelled", 0))
            self.assertEqual(self.manager.transfers(), [])
            self.steering.forget(1)

    def test_archive(self) -> None:
        """
        A source without a host is not interrupted: an archive passes its bytes once.
        """
        attempt = Attempt()
        watcher = self.watch("a", attempt, ARCHIVE, 1)
        self.steering.pause_job(1, BOB)
        self.pause("all")
        self.assertEqual((watcher.transfer.state, len(attempt.sources)), ("running", 1))

    # ------------------------------------------------- hosts and directions

    def test_all(self) -> None:
        """
        While everything is paused, nothing runs or waits for a slot.
        """
        attempt, other = Attempt(), Attempt()
        running, waiting = self.watch("a", attempt, ONE, 1), self.watch("b", other, ONE, 2)
        self.pause("all")
        for watcher in (running, waiting):
            self.assertEqual(watcher.transfer.reason(), paused("everything is paused by bob"))
        self.assertEqual((self.slots.in_use, self.slots.queued), (0, 0))
        self.resume("all")
        self.assertEqual((len(attempt.sources), self.slots.in_use, self.slots.queued), (2, 1, 1))

    def test_direction(self) -> None:
        """
        A pause of a direction concerns its own transfers alone, and no documents.
        """
        for kind, name in (("download", "downloads"), ("upload", "uploads"), ("document", "")):
            self.manager = self.managed(Slots(1, self.clock), kind)
            for each in ("downloads", "uploads"):
                attempt = Attempt()
                watcher = self.watch("a", attempt, ONE, 1)
                self.pause(each)
                reason = paused(f"{each} are paused by bob") if each == name else NO_REASON
                self.assertEqual(watcher.transfer.reason(), reason, (kind, each))
                self.resume(each)
                self.assertEqual(watcher.transfer.state, "running")
                watcher.release()
                self.turn()

    def test_host(self) -> None:
        """
        A transfer from a host that is paused continues with another source; without one it
        waits.
        """
        attempt, alone = Attempt(), Attempt()
        watcher = self.watch("a", attempt, ONE, 1)
        self.watch("a", attempt, TWO, 2)
        self.pause(host_pause("one.example"))
        self.assertEqual((attempt.sources, watcher.transfer.state), ([ONE, TWO], "running"))
        waiting = self.watch("b", alone, ALICE, 3)
        self.assertEqual(waiting.transfer.reason(), paused("one.example is paused by bob"))
        self.pause(host_pause("two.example"))
        self.assertEqual(watcher.transfer.reason(), paused("one.example is paused by bob"))
        self.resume(host_pause("one.example"))
        self.assertEqual((attempt.sources, watcher.transfer.state), ([ONE, TWO, ONE], "running"))

    def test_after_a_failure(self) -> None:
        """
        A pause during the delay after a failed attempt is shown, and outlasts the delay; the
        failures are remembered.
        """
        attempt = Attempt(ConnectionFailed("broken"))
        watcher = self.watch("a", attempt, ONE, 1)
        self.assertEqual(watcher.transfer.state, "backing-off")
        self.pause("all")
        self.assertEqual(watcher.transfer.reason(), paused("everything is paused by bob"))
        self.clock.advance(100)
        self.assertEqual(len(attempt.sources), 1)
        self.resume("all")
        self.assertEqual(len(attempt.sources), 2)

    def test_several(self) -> None:
        """
        What two pauses concern waits for the end of both.
        """
        attempt = Attempt()
        watcher = self.watch("a", attempt, ONE, 1)
        self.pause("all")
        self.pause(host_pause("one.example"))
        self.resume("all")
        self.assertEqual(watcher.transfer.reason(), paused("one.example is paused by bob"))
        self.resume(host_pause("one.example"))
        self.assertEqual(len(attempt.sources), 2)

    def test_peer(self) -> None:
        """
        An attempt with a peer ends with a pause of everything, not with one of a host, and
        is made again.
        """
        ends: list[Deferred[None]] = []

        async def attempt(_: Source) -> None:
            ends.append(Deferred())
            await ends[-1]

        watcher: Watcher[None] = self.manager.request(
            "a",
            lambda transfer: transfer.attempt_with(TWO, attempt),
            digest="a",
            source=ONE,
            turn=Turn("ann", 0, 1, 0),
        )
        self.turn()
        self.pause(host_pause("two.example"))
        self.assertEqual((watcher.transfer.state, len(ends)), ("running", 1))
        self.pause("downloads")
        self.assertEqual(watcher.transfer.reason(), paused("downloads are paused by bob"))
        self.resume("downloads")
        self.assertEqual((watcher.transfer.state, len(ends)), ("running", 2))
        ends[1].callback(None)
        self.successResultOf(watcher.result())

    # -------------------------------------------------------------- priority

    def test_priority(self) -> None:
        """
        A job that gets another priority is granted its slots accordingly, those that it
        waits for already included.
        """
        attempts = [Attempt() for _ in range(5)]
        for job, attempt in enumerate(attempts[:4]):
            self.watch(str(job), attempt, ONE, job)
        self.steering.prioritize(3, 5)
        self.steering.prioritize(1, -5)
        for job in (3, 1):
            self.manager.reorder(job)
        # Of job 3, too, with the turn that it had before.
        self.watch("4", attempts[4], ONE, 3)
        order: list[int] = []
        for _ in attempts:
            (running,) = [n for n, attempt in enumerate(attempts) if len(attempt.ends) > order.count(n)]
            order.append(running)
            attempts[running].ends[0].callback(None)
            self.turn()
        self.assertEqual(order, [0, 3, 4, 2, 1])

    def test_priority_of_shared(self) -> None:
        """
        A transfer of several jobs waits in the best of their turns.
        """
        attempts = [Attempt() for _ in range(3)]
        for job, attempt in enumerate(attempts):
            self.watch(str(job), attempt, ONE, job)
        shared = self.watch("2", attempts[2], ONE, 7)
        self.steering.prioritize(7, 1)
        self.manager.reorder(7)
        attempts[0].ends[0].callback(None)
        self.turn()
        self.assertEqual([len(attempt.sources) for attempt in attempts], [1, 0, 1])
        self.assertEqual(shared.turn.priority, 1)
