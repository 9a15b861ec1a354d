"""
Tests for L{xferd.web.job_creation}: a job that is begun and followed by one
request.  L{tests.web.test_app} has those whose response is the job.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from tests.web.conformance import conforms
from tests.web.connection import Connection, unchunk
from tests.web.fakes import job
from tests.web.world import World
from xferd.errors import BadReference
from xferd.interfaces.jobs import Event
from xferd.web import event_response

LINES = "application/x-ndjson"
PULL = {"kind": "pull", "reference": "alpine"}
RUNNING = Event("job", job(id="j1", state="running"))
DONE = Event("job", job(id="j1", state="done"), final=True)


class FollowedTests(SynchronousTestCase):
    """
    C{POST /api/v1/jobs} of a client that accepts events.
    """

    def setUp(self) -> None:
        """
        Make a world.
        """
        self.world = World()
        self.addCleanup(self.world.close)
        self.world.jobs.present = [RUNNING]

    def begin(self, accept: str = LINES, query: str = "", **headers: str) -> Connection:
        """
        Send the request.
        """
        connection = self.send(accept, query, **headers)
        # The journal answers in a turn of its own.
        self.world.clock.advance(0)
        return connection

    def send(self, accept: str = LINES, query: str = "", **headers: str) -> Connection:
        """
        Send the request, and make no turn of the reactor.
        """
        return self.ask(PULL, {"Accept": accept, **headers}, query)

    def ask(self, asked: Mapping[str, str], headers: Mapping[str, str], query: str = "") -> Connection:
        """
        Send a request for a job.
        """
        connection = self.world.connect()
        body = json.dumps(asked).encode()
        given = {"Host": "localhost", "Content-Type": "application/json", **headers}
        connection.send("POST", f"/api/v1/jobs{query}", {**given, "Content-Length": str(len(body))}, body)
        return connection

    def test_together(self) -> None:
        """
        The jobs of requests that arrive together begin in later turns of the
        reactor, in their order.  The job of a client that has left by then does not begin.
        """
        connections = [self.send(**{"X-Xferd-Client": name}) for name in ("one", "two", "three")]
        self.assertEqual(self.world.jobs.pulled, [])
        connections[1].lose()
        self.world.clock.advance(0)
        self.assertEqual([client for _, _, client, _ in self.world.jobs.pulled], ["one", "three"])

    def test_lines(self) -> None:
        """
        The response has the job's URL and its events as JSON lines, until the
        job ends.
        """
        connection = self.begin()
        answer = connection.answer()
        self.assertEqual((answer.status, answer.headers["content-type"]), (202, LINES))
        self.assertEqual(answer.headers["location"], "/api/v1/jobs/j1")
        self.assertEqual(json.loads(answer.body)["data"]["state"], "running")
        conforms("POST", "/api/v1/jobs", answer.status, dict(answer.headers), answer.body)
        ((followed, stream),) = self.world.jobs.streams
        self.assertEqual(followed, "j1")
        stream.tell(DONE)
        self.assertEqual(json.loads(unchunk(connection.received()))["final"], True)
        stream.close()
        self.assertTrue(connection.received().endswith(b"0\r\n\r\n"))

    def test_job_alone(self) -> None:
        """
        A client may want the events of the job alone.
        """
        for query, alone in (("", False), ("?events=job", True)):
            self.assertEqual(self.begin(query=query).answer().status, 202)
            _, stream = self.world.jobs.streams[-1]
            self.assertEqual(stream.jobs_only, alone)
            stream.close()

    def test_other_events(self) -> None:
        """
        There is no other choice, and no job begins.
        """
        answer = self.begin(query="?events=layer").answer()
        self.assertEqual(answer.status, 400)
        self.assertIn("'events' must be 'job'", json.loads(answer.body)["error"]["message"])
        self.assertEqual(self.world.jobs.pulled, [])

    def test_server_sent(self) -> None:
        """
        Server-sent events are the other format.
        """
        answer = self.begin("text/event-stream").answer()
        self.assertEqual(answer.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertIn(b"event: job\n", answer.body)

    def test_left(self) -> None:
        """
        If the client leaves, its stream ends; the job is not cancelled.
        """
        connection = self.begin()
        connection.lose()
        ((_, stream),) = self.world.jobs.streams
        self.assertEqual(stream.closed, 1)
        self.assertEqual(self.world.jobs.known["j1"]["state"], "running")

    def test_refused(self) -> None:
        """
        A request that is refused gets its error as JSON.
        """
        self.world.jobs.refuses = BadReference("A B", "no")
        answer = self.begin().answer()
        self.assertEqual((answer.status, answer.headers["content-type"]), (400, "application/json"))

    def test_no_room(self) -> None:
        """
        If no further stream may open, or the daemon ends all streams, the job
        begins all the same, and the response is the job.
        """
        self.patch(event_response, "MAX_STREAMS", 0)
        answer = self.begin().answer()
        self.assertEqual((answer.status, json.loads(answer.body)["id"]), (202, "j1"))
        self.patch(event_response, "MAX_STREAMS", 512)
        self.successResultOf(self.world.web.stop())
        answer = self.begin().answer()
        self.assertEqual((answer.status, answer.headers["content-type"]), (202, "application/json"))
        self.assertEqual(self.world.jobs.streams, [])

    def test_durable(self) -> None:
        """
        The response waits until the journal has the job.
        """
        self.world.jobs.flushing = []
        connection = self.begin()
        self.assertEqual(len(self.world.jobs.pulled), 1)
        self.assertEqual(connection.received(), b"")
        (flushing,) = self.world.jobs.flushing
        flushing.callback(None)
        self.assertEqual(connection.answer().status, 202)

    def test_restart(self) -> None:
        """
        A job continues after a restart as its request says; by default by itself if the
        request has a key, or for a prefetch.
        """
        asked: list[tuple[dict[str, str], dict[str, str]]] = [
            ({}, {}),
            ({}, {"Idempotency-Key": "k"}),
            ({"kind": "prefetch"}, {}),
            ({"restart": "always"}, {}),
            ({"restart": "rejoin"}, {"Idempotency-Key": "l"}),
        ]
        for more, headers in asked:
            self.ask({**PULL, **more}, headers)
            self.world.clock.advance(0)
        restarts = [restart for _, restart, _ in self.world.jobs.persisted]
        self.assertEqual(restarts, ["rejoin", "always", "always", "always", "rejoin"])

    def test_comes_back(self) -> None:
        """
        A repeated request with a key, and one for the job or its events, show that the
        client is back, with its credentials.
        """
        auth = urlsafe_b64encode(json.dumps({"r.example": {"username": "ann", "password": "p"}}).encode())
        headers = {"X-Xferd-Client": "ci", "X-Registry-Config": auth.decode()}
        for _ in range(2):
            self.begin(**{"Idempotency-Key": "k"}, **headers)
        for path in ("jobs/j1", "jobs/j1/events"):
            connection = self.world.connect()
            connection.send("GET", f"/api/v1/{path}", {"Host": "localhost", **headers}, b"")
        self.assertEqual(len(self.world.jobs.rejoined), 3)
        for job_id, client, _, credentials in self.world.jobs.rejoined:
            assert credentials is not None
            self.assertEqual((job_id, client, credentials["r.example"].username), ("j1", "ci", "ann"))

    def test_key(self) -> None:
        """
        A repeated request with a key follows the job of the first one.
        """
        statuses = [self.begin(**{"Idempotency-Key": "k"}).answer().status for _ in range(2)]
        self.assertEqual(statuses, [202, 200])
        self.assertEqual([followed for followed, _ in self.world.jobs.streams], ["j1", "j1"])
        self.assertEqual(len(self.world.jobs.pulled), 1)
