"""
Tests for L{xferd.web.idempotency}, by C{POST /api/v1/jobs}.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.web.connection import Answer
from tests.web.world import World
from xferd.errors import DiskFull, StoreError
from xferd.web import idempotency
from xferd.web.idempotency import MAX_AGE, Idempotency


class IdempotencyTests(SynchronousTestCase):
    """
    A request that is repeated.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def post(
        self, key: str | None = "k", client: str = "ci", body: bytes | None = None, **more: Any
    ) -> Answer:
        """
        Request a pull.
        """
        value = {"kind": "pull", "reference": "alpine", **more}
        data = json.dumps(value).encode() if body is None else body
        return self.world.ask(
            "POST", "/api/v1/jobs", data, {"Idempotency-Key": key, "X-Xferd-Client": client}
        )

    def test_again(self) -> None:
        """
        The response has the same job in its present state, for every spelling
        of the JSON.
        """
        first = self.post()
        self.assertEqual(first.status, 202)
        self.world.jobs.known["j1"]["state"] = "done"
        for body in (None, b'{ "reference": "alpine",\n"kind": "pull" }'):
            again = self.post(body=body)
            self.assertEqual((again.status, again.json()["id"], again.json()["state"]), (200, "j1", "done"))
            self.assertEqual(again.headers["location"], "/api/v1/jobs/j1")
        self.assertEqual(len(self.world.jobs.pulled), 1)

    def test_other_request(self) -> None:
        """
        A key that was used for another request is refused.
        """
        self.post()
        answer = self.post(priority=1)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (422, "IDEMPOTENCY_KEY_REUSED"))
        self.assertEqual(len(self.world.jobs.pulled), 1)

    def test_no_key(self) -> None:
        """
        Without a key, with other keys, or for other clients, each request
        starts a job.
        """
        for how in ({"key": None}, {"key": None}, {}, {"key": "l"}, {"client": "me"}):
            self.assertEqual(self.post(**how).status, 202)
        self.assertEqual(len(self.world.jobs.pulled), 5)

    def test_refused(self) -> None:
        """
        A key is short and plain; a refused request does not use it.
        """
        for key in ("", "a b", "é", "x" * 129):
            self.assertEqual(self.post(key).status, 400, key)
        self.assertEqual(self.post(kind="move").status, 400)
        self.assertEqual(self.post().status, 202)

    def test_age(self) -> None:
        """
        A key expires after a day.
        """
        self.post()
        self.world.clock.advance(MAX_AGE - 1)
        self.assertEqual(self.post().status, 200)
        self.world.clock.advance(1)
        self.assertEqual(self.post().status, 202)

    def test_bound(self) -> None:
        """
        The number of keys of a client is limited, and its oldest key is dropped
        for a new one: never one of another client.
        """
        self.patch(idempotency, "MAX_KEYS", 2)
        self.post("mine", client="me")
        for key in "abc":
            self.assertEqual(self.post(key).status, 202)
        for key, status in (("c", 200), ("b", 200), ("a", 202)):
            self.assertEqual(self.post(key).status, status)
        self.assertEqual(self.post("mine", client="me").status, 200)

    def test_bound_of_all(self) -> None:
        """
        The number of all keys is limited.
        """
        self.patch(idempotency, "MAX_ALL_KEYS", 2)
        for client in ("x", "y", "z"):
            self.post(client=client)
        for client, status in (("z", 200), ("y", 200), ("x", 202)):
            self.assertEqual(self.post(client=client).status, status)
        kept = self.world.web._replays
        self.assertEqual((len(kept._made), sorted(kept._of_client)), (2, ["x", "z"]))

    def restart(self) -> None:
        """
        Start the next daemon, which has only the journal.
        """
        journal, older = self.world.store.journal, self.world.jobs.known
        self.world = World(journal=journal)
        self.world.jobs.older |= older

    def test_restart(self) -> None:
        """
        The next daemon answers the same request with the same job, which only
        the journal has.
        """
        self.post()
        self.restart()
        again = self.post()
        self.assertEqual((again.status, again.json()["id"]), (200, "j1"))
        self.assertEqual(self.post(priority=1).status, 422)
        self.assertEqual(self.world.jobs.pulled, [])

    def test_restart_too_late(self) -> None:
        """
        An expired key is unknown to the next daemon as well.
        """
        self.post()
        self.world.store.journal.recorded_keys = [
            evolve(kept, created=kept.created - MAX_AGE) for kept in self.world.store.journal.recorded_keys
        ]
        self.restart()
        self.assertEqual(self.post().status, 202)

    def test_clock_set_back(self) -> None:
        """
        A key with a time stamp in the future ages from now on.
        """
        self.post()
        self.world.store.journal.recorded_keys = [
            evolve(kept, created=kept.created + 10 * MAX_AGE)
            for kept in self.world.store.journal.recorded_keys
        ]
        self.restart()
        self.assertEqual(self.post().status, 200)
        self.world.clock.advance(MAX_AGE)
        self.assertEqual(self.post().status, 202)

    def test_two_clocks(self) -> None:
        """
        A key has a time stamp of the wall clock; a change of that clock changes
        no age.
        """
        self.post()
        (kept,) = self.world.store.journal.recorded_keys
        self.assertEqual(kept.created, self.world.wall_clock())
        self.world.wall_clock.set(self.world.wall_clock() + 2 * MAX_AGE)
        self.assertEqual(self.post().status, 200)

    def test_forgotten_job(self) -> None:
        """
        If the journal has dropped the job, its key is free.
        """
        self.post()
        del self.world.jobs.known["j1"]
        self.assertEqual(self.post().status, 202)
        self.assertEqual(len(self.world.jobs.pulled), 2)
        self.assertEqual(self.post().status, 200)

    def test_on_the_disk(self) -> None:
        """
        A request with a key is answered when the journal has the key; a second
        one gets the same job meanwhile.
        """
        gate = self.world.store.journal._gate
        gate.hold("journal.key")
        first, second = self.world.connect(), self.world.connect()
        for connection in (first, second):
            body = b'{"kind": "pull", "reference": "alpine"}'
            headers = {
                "Host": "localhost:9337",
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Idempotency-Key": "k",
            }
            connection.send("POST", "/api/v1/jobs", headers, body)
        self.world.clock.advance(0)
        self.assertEqual(first.received(), b"")
        self.assertEqual(second.answer().status, 200)
        gate.release("journal.key")
        self.world.clock.advance(0)
        self.assertEqual(first.answer().status, 202)
        self.assertEqual(len(self.world.jobs.pulled), 1)

    def test_client_leaves(self) -> None:
        """
        A client that disconnects before the response finds its job later.
        """
        gate = self.world.store.journal._gate
        gate.hold("journal.key")
        connection = self.world.connect()
        body = b'{"kind": "pull", "reference": "alpine"}'
        headers = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
        connection.send("POST", "/api/v1/jobs", {**headers, "Idempotency-Key": "k"}, body)
        connection.lose()
        gate.release("journal.key")
        self.world.clock.advance(0)
        self.assertEqual(self.post(client="127.0.0.1").json()["id"], "j1")

    def test_disk_full(self) -> None:
        """
        A key that cannot be written is valid as long as the daemon runs.
        """
        self.world.store.journal._gate.fail("journal.key", DiskFull("no space is left"))
        self.assertEqual(self.post().status, 202)
        self.assertEqual(self.post().status, 200)

    def test_starting(self) -> None:
        """
        Requests with a key wait until the journal is readable; a request that
        is cancelled meanwhile starts no job.
        """
        jobs, journal = self.world.jobs, self.world.store.journal
        waiting = Idempotency(jobs, journal, self.world.clock, wall_clock=self.world.wall_clock)
        begins = [
            Deferred.fromCoroutine(
                waiting.begin("ci", "k", b"1", lambda: jobs.pull("alpine", None, "ci", 0)["id"])
            )
            for _ in range(3)
        ]
        begins[0].cancel()
        self.failureResultOf(begins[0], CancelledError)
        starting = Deferred.fromCoroutine(waiting.start())
        self.assertNoResult(begins[1])
        self.world.clock.advance(0)
        self.successResultOf(starting)
        self.world.clock.advance(0)
        self.assertEqual([self.successResultOf(each)[1] for each in begins[1:]], [True, False])
        self.assertEqual(len(jobs.pulled), 1)

    def test_journal_unreadable(self) -> None:
        """
        A journal that cannot be read fails the start.
        """
        journal = self.world.store.journal
        journal._gate.fail("journal.keys", StoreError("damaged"))
        replays = Idempotency(self.world.jobs, journal, self.world.clock, wall_clock=self.world.wall_clock)
        starting = Deferred.fromCoroutine(replays.start())
        self.world.clock.advance(0)
        self.failureResultOf(starting, StoreError)
