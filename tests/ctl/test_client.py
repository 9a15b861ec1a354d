# -*- test-case-name: tests.ctl.test_client -*-
"""
Tests for L{xferd.ctl.client}.
"""

from __future__ import annotations

import os
import socket
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import Answer, DaemonTestCase, FakeDaemon, event, job, layer, one_pull, refusal
from xferd.ctl import api
from xferd.ctl.address import Address
from xferd.ctl.client import PATIENCE, Daemon, client_name
from xferd.ctl.errors import NoDaemon, NotXferd, Refused

NOBODY_KNOWS = 3_999_999_999


class NameTests(SynchronousTestCase):
    """
    Tests for L{client_name}.
    """

    def test_name(self) -> None:
        """
        The daemon accepts the client's name, also for a user without an entry in the user
        database.
        """
        for uid in (0, os.getuid(), NOBODY_KNOWS):
            self.assertRegex(client_name(uid), r"\A[A-Za-z0-9][A-Za-z0-9@._-]{0,63}\Z")
        self.assertTrue(client_name(NOBODY_KNOWS).startswith(f"{NOBODY_KNOWS}@"))


class ConversationMixin:
    """
    A client of the fake daemon, over any transport.
    """

    fake: FakeDaemon

    def daemon(self: ConversationMixin, **more: str) -> Daemon:
        """
        The client; it records its pauses.
        """
        self.pauses: list[float] = []
        return Daemon([Address.parse(self.fake.url)], client="me@here", pause=self.pauses.append, **more)


class RequestTests(ConversationMixin, DaemonTestCase):
    """
    Tests for the plain requests of L{Daemon}.
    """

    def test_start(self) -> None:
        """
        The request for a job has the API's form, and the client's name.
        """
        self.fake.on("POST", "/jobs", Answer(job("queued"), 202))
        self.assertEqual(self.daemon().start("copy", "alpine", target="b", priority=5)["id"], "j1")
        asked = {"kind": "copy", "reference": "alpine", "target": "b", "priority": 5}
        self.assertEqual(self.fake.requests, [("POST", "/api/v1/jobs", asked)])
        headers = self.fake.headers[0]
        self.assertEqual(headers["X-Xferd-Client"], "me@here")
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertNotIn("Authorization", headers)

    def test_token(self) -> None:
        """
        A token is sent with each request.
        """
        self.fake.on("GET", "/status", Answer({"version": "1"}))
        self.assertEqual(self.daemon(token="s3cret").status(), {"version": "1"})
        self.assertEqual(self.fake.headers[0]["Authorization"], "Bearer s3cret")

    def test_lists(self) -> None:
        """
        Jobs, transfers and images are lists.
        """
        daemon = self.daemon()
        for path, call in (
            ("/jobs", daemon.jobs),
            ("/transfers", daemon.transfers),
            ("/images", daemon.images),
        ):
            self.fake.on("GET", path, Answer([{"id": path}]))
            self.assertEqual(call(), [{"id": path}])

    def test_names_in_paths(self) -> None:
        """
        A name cannot become another path or a query.
        """
        daemon = self.daemon()
        self.assertRaises(Refused, daemon.image, "a/b:1@sha256:x?y#z\r\n")
        self.assertRaises(Refused, daemon.job, "../images?x")
        self.assertRaises(Refused, daemon.cancel, "ü")
        self.assertEqual(
            [path for _, path, _ in self.fake.requests],
            [
                "/api/v1/images/a/b:1@sha256:x%3Fy%23z%0D%0A",
                "/api/v1/jobs/..%2Fimages%3Fx",
                "/api/v1/jobs/%C3%BC",
            ],
        )

    def test_refused(self) -> None:
        """
        The daemon's error is reported with its code, escaped.
        """
        self.fake.on("GET", "/jobs/j9", refusal(404, "NOT_FOUND", "there is no job \x1b[31mj9"))
        error = self.assertRaises(Refused, self.daemon().job, "j9")
        self.assertEqual(str(error), r"there is no job \x1b[31mj9 (NOT_FOUND)")
        self.assertEqual((error.status, error.code), (404, "NOT_FOUND"))

    def test_refused_without_words(self) -> None:
        """
        An error without a message is reported by its status.
        """
        self.fake.on("GET", "/jobs/j9", Answer({"error": {}}, 418))
        self.assertEqual(str(self.assertRaises(Refused, self.daemon().job, "j9")), "HTTP 418")

    def test_strangers(self) -> None:
        """
        A server with other answers is not mistaken for a daemon.
        """
        daemon = self.daemon()
        for answer in (
            Answer(body=b"<html>"),
            Answer([1]),
            Answer("word"),
            Answer(body=b"[" * 100_000),
            Answer(body=b"no", status=404),
            Answer({"error": "no"}, 500),
        ):
            self.fake.on("GET", "/jobs", answer)
            self.fake.on("GET", "/status", answer)
            error = self.assertRaises(NotXferd, daemon.jobs)
            self.assertIn(f"the server at {self.fake.url} does not speak xferd's API", str(error))
            self.assertRaises(NotXferd, daemon.status)

    def test_other_protocol(self) -> None:
        """
        A server that does not speak HTTP, or closes the connection, does not answer.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        daemon = Daemon([Address("http", *listener.getsockname())], client="me")
        for said in (b"220 mail ready\r\n\r\n", b""):

            def speak(said: bytes = said) -> None:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(said)

            thread = Thread(target=speak)
            thread.start()
            error = self.assertRaises(NoDaemon, daemon.status)
            thread.join()
            self.assertIn("does not answer", str(error))

    def test_cut_answer(self) -> None:
        """
        An incomplete answer is an error.
        """
        self.fake.on("GET", "/status", Answer(lines=[b'{"version"'], whole=False))
        self.assertIn("ended its answer early", str(self.assertRaises(NoDaemon, self.daemon().status)))

    def test_nobody(self) -> None:
        """
        If nothing listens, all addresses are named, and the command that starts a daemon.
        """
        places = [
            Address("unix", "/nonexistent/x.sock"),
            Address("unix", "x" * 200),
            Address("http", "127.0.0.1", 1),
        ]
        error = self.assertRaises(NoDaemon, Daemon(places, client="me").status)
        for part in (
            "unix:/nonexistent/x.sock (no such file",
            "http://127.0.0.1:1 (connection refused)",
            "xferd run",
        ):
            self.assertIn(part, str(error))

    def test_next_place(self) -> None:
        """
        The socket of a dead daemon does not hide a running one, which gets all further
        requests.
        """
        dead = Address("unix", "/nonexistent/x.sock")
        daemon = Daemon([dead, Address.parse(self.fake.url)], client="me")
        self.fake.on("GET", "/status", Answer({}))
        self.assertEqual(daemon.status(), {})
        self.fake.stop()
        self.assertNotIn("nonexistent", str(self.assertRaises(NoDaemon, daemon.status)))


class EventTests(ConversationMixin, DaemonTestCase):
    """
    Tests for L{Daemon.events}.
    """

    def test_all(self) -> None:
        """
        Every line except heartbeats is an event, and the stream ends with the job. The request
        accepts JSON lines.
        """
        self.fake.takes(*one_pull(), event("layer", layer(0)))
        events = list(self.daemon().events("j1"))
        self.assertEqual(len(events), len(one_pull()) - 1)
        self.assertEqual((events[-1].kind, events[-1].data["state"], events[-1].final), ("job", "done", True))
        self.assertEqual(self.fake.headers[0]["Accept"], "application/x-ndjson")
        self.assertEqual(self.pauses, [])

    def test_from_the_start(self) -> None:
        """
        A job that is created to be followed has its events in the answer to
        that request.  If they break off, they continue with another stream.
        """
        self.fake.takes(*one_pull())
        daemon = self.daemon()
        self.assertEqual(daemon.start_followed("pull", "alpine"), {"id": "j1", "kind": "pull"})
        self.assertEqual(list(daemon.events("j1"))[-1].data["state"], "done")
        self.assertEqual([path for _, path, _ in self.fake.requests], ["/api/v1/jobs"])
        self.fake.takes(event("job", job()), event("layer", layer(0))[:20])
        self.fake.on("GET", "/jobs/j1", Answer(job("failed")))
        daemon.start_followed("pull", "alpine")
        self.assertEqual([e.data["state"] for e in daemon.events("j1")], ["running", "failed"])

    def test_not_from_the_start(self) -> None:
        """
        An older daemon, or one with too many streams, answers with the job.
        Another server does not.
        """
        self.fake.takes(*one_pull())
        self.fake.on("POST", "/jobs", Answer(job("queued"), 202, headers={"Location": "/api/v1/jobs/j1"}))
        daemon = self.daemon()
        self.assertEqual(daemon.start_followed("pull", "alpine")["state"], "queued")
        self.assertEqual(list(daemon.events("j1"))[-1].data["state"], "done")
        self.fake.on("POST", "/jobs", Answer([], 202))
        self.assertRaises(NotXferd, daemon.start_followed, "pull", "alpine")

    def test_broken(self) -> None:
        """
        A stream that breaks, within a line or between two, is opened again while the job runs.
        """
        self.fake.on("GET", "/jobs/j1", Answer(job()))
        self.fake.on(
            "GET",
            "/jobs/j1/events",
            Answer(lines=[event("job", job()), event("layer", layer(0))[:20]], whole=False),
            Answer(lines=[event("job", job()), event("layer", layer(0))], whole=False),
            Answer(lines=one_pull()),
        )
        events = list(self.daemon().events("j1"))
        self.assertEqual(len(events), 3 + len(one_pull()) - 1)
        self.assertEqual(self.pauses, [0.2, 0.2])

    def test_silent(self) -> None:
        """
        A silent stream counts as broken.
        """
        self.patch(api, "_SILENCE", 0.05)
        self.fake.on("GET", "/jobs/j1", Answer(job()))
        silent = Answer(lines=[event("job", job()), self.fake.hang])
        self.fake.on("GET", "/jobs/j1/events", silent, Answer(lines=one_pull()))
        self.assertEqual(list(self.daemon().events("j1"))[-1].data["state"], "done")
        self.assertEqual(self.pauses, [0.2])

    def test_ended_meanwhile(self) -> None:
        """
        A job that ended while the stream was broken is reported as ended.
        """
        self.fake.on("GET", "/jobs/j1", Answer(job("failed")))
        self.fake.on("GET", "/jobs/j1/events", Answer(lines=[event("job", job())], whole=False))
        self.assertEqual([e.data["state"] for e in self.daemon().events("j1")], ["running", "failed"])
        self.assertEqual(self.pauses, [])

    def test_busy(self) -> None:
        """
        A daemon with too many streams is asked for events again.
        """
        self.fake.on(
            "GET", "/jobs/j1/events", refusal(503, "SERVICE_UNAVAILABLE", "later"), Answer(lines=one_pull())
        )
        self.assertEqual(list(self.daemon().events("j1"))[-1].data["state"], "done")
        self.assertEqual(self.pauses, [0.2])

    def test_restarted(self) -> None:
        """
        A daemon that is starting or stopping is reported as lost, once for each time; the
        credentials are sent again.
        """
        starting = refusal(503, "INTERRUPTED", "just starting")
        broken = Answer(lines=[event("job", job())], whole=False)
        self.fake.on("GET", "/jobs/j1", starting)
        self.fake.on(
            "GET", "/jobs/j1/events", broken, starting, broken, starting, starting, Answer(lines=one_pull())
        )
        kinds = [e.kind for e in self.daemon().events("j1", {"X-Registry-Config": "secret"})]
        self.assertEqual(kinds[:4], ["job", "lost", "job", "lost"])
        self.assertEqual(kinds.count("lost"), 2)
        self.assertEqual({each.get("X-Registry-Config") for each in self.fake.headers[1:]}, {"secret", None})

    def test_forgotten(self) -> None:
        """
        An unknown job is not requested again.
        """
        self.assertRaises(Refused, list, self.daemon().events("j1"))
        self.assertEqual(self.pauses, [])

    def test_gone(self) -> None:
        """
        The attempts to reach a daemon are limited.
        """
        self.fake.stop()
        events = self.daemon().events("j1")
        self.assertEqual(next(events).kind, "lost")
        self.assertRaises(NoDaemon, list, events)
        self.assertEqual(self.pauses[:5], [0.2, 0.5, 1.0, 2.0, 2.0])
        self.assertTrue(PATIENCE <= sum(self.pauses) < PATIENCE + 2)

    def test_nonsense(self) -> None:
        """
        Invalid lines show that the server is not a daemon.
        """
        for line in (
            b"x\n",
            b"[]\n",
            b'{"kind": 1, "data": {}}\n',
            b'{"kind": "job", "data": []}\n',
            b'{"kind": "job"}\n',
        ):
            self.fake.on("GET", "/jobs/j1/events", Answer(lines=[line]))
            self.assertRaises(NotXferd, list, self.daemon().events("j1"))


class UnixTests(ConversationMixin, SynchronousTestCase):
    """
    The same over a unix socket.
    """

    def test_pull(self) -> None:
        """
        Requests and events go over the socket.
        """
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        # A socket's path has 107 bytes at most, so it is taken from here.
        here = os.open(directory, os.O_RDONLY)
        self.addCleanup(os.close, here)
        self.fake = FakeDaemon(f"/proc/self/fd/{here}/s")
        self.fake.start()
        self.addCleanup(self.fake.stop)
        self.fake.takes(*one_pull())
        daemon = self.daemon()
        self.assertEqual(daemon.start("pull", "alpine")["id"], "j1")
        self.assertEqual(len(list(daemon.events("j1"))), len(one_pull()) - 1)
        self.assertEqual(daemon.cancel("j1")["state"], "cancelled")
