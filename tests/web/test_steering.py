"""
Tests for L{xferd.web.steering}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.web.fakes import job
from tests.web.world import World
from xferd.web.openapi import PATHS

JSON = {"Content-Type": "application/json", "X-Xferd-Client": "ci"}


class SteeringTests(SynchronousTestCase):
    """
    Requests that steer.
    """

    def setUp(self) -> None:
        """
        Begin a job.
        """
        self.world = World()
        self.addCleanup(self.world.close)
        self.jobs = self.world.jobs
        self.jobs.known["j1"] = job(id="j1")

    def test_changed(self) -> None:
        """
        A job is paused and gets a priority; who did that is known.
        """
        answer = self.world.ask("PATCH", "/api/v1/jobs/j1", b'{"paused": true, "priority": 7}', JSON)
        self.assertEqual((answer.status, answer.json()["paused"], answer.json()["priority"]), (200, True, 7))
        (paused, by), (priority, _) = self.jobs.steering.done
        self.assertEqual((paused, priority), ("paused j1 True", "priority j1 7"))
        self.assertIn("ci", by)

    def test_refused(self) -> None:
        """
        A change is refused in one sentence: of nothing, of a wrong value, of no job, and of
        one that has ended.
        """
        for body, status, words in (
            (b"{}", 400, "the request changes nothing: give one of paused, priority"),
            (b'{"paused": 1}', 400, "'paused' must be true or false"),
            (b'{"priority": 1001}', 400, "'priority' must be a whole number from -1000 to 1000"),
            (b'{"pause": true}', 400, "has no field"),
        ):
            answer = self.world.ask("PATCH", "/api/v1/jobs/j1", body, JSON)
            self.assertEqual(answer.status, status)
            self.assertIn(words, answer.json()["error"]["message"])
        body = b'{"paused": true}'
        self.assertEqual(self.world.ask("PATCH", "/api/v1/jobs/none", body, JSON).status, 404)
        self.jobs.known["j1"]["state"] = "done"
        ended = self.world.ask("PATCH", "/api/v1/jobs/j1", body, JSON)
        self.assertEqual((ended.status, ended.json()["error"]["code"]), (409, "JOB_ENDED"))
        self.assertEqual(self.jobs.steering.done, [])

    def test_paused(self) -> None:
        """
        Everything, directions and hosts are paused and continue; a host has docker's names.
        """
        for path, name in (
            ("all", "all"),
            ("downloads", "downloads"),
            ("uploads", "uploads"),
            ("hosts/ghcr.io", "hosts/ghcr.io"),
            ("hosts/index.docker.io", "hosts/docker.io"),
        ):
            answer = self.world.ask("PUT", f"/api/v1/pauses/{path}", b'{"keep": true}', JSON)
            self.assertEqual((answer.status, answer.json()["keep"]), (200, True))
            self.assertEqual(list(self.jobs.steering.held), [name])
            self.assertEqual(len(self.world.ask("GET", "/api/v1/pauses").json()), 1)
            self.assertEqual(self.world.ask("DELETE", f"/api/v1/pauses/{path}").status, 200)
            self.assertEqual(self.world.ask("DELETE", f"/api/v1/pauses/{path}").status, 404)
        answer = self.world.ask("PUT", "/api/v1/pauses/images", b"{}", JSON)
        self.assertEqual(answer.status, 404)
        self.assertIn("use all, downloads, uploads or hosts/HOST", answer.json()["error"]["message"])

    def test_without_a_body(self) -> None:
        """
        A pause and a drain need no body, and are not kept then; their description agrees.
        """
        for path, template in (
            ("drain", "drain"),
            ("pauses/all", "pauses/{name}"),
            ("pauses/hosts/ghcr.io", "pauses/hosts/{host}"),
        ):
            answer = self.world.ask("PUT", f"/api/v1/{path}", b"", {})
            self.assertEqual((answer.status, answer.json()["keep"]), (200, False))
            body = PATHS[f"/api/v1/{template}"]["put"]["requestBody"]
            self.assertEqual((body["required"], list(body["content"])), (False, ["application/json"]))
            self.assertEqual(self.world.ask("PUT", f"/api/v1/{path}", b"{", JSON).status, 400)

    def test_drained(self) -> None:
        """
        A daemon that drains is not ready, which a service can see.
        """
        self.assertEqual(self.world.ask("GET", "/readyz").status, 200)
        answer = self.world.ask("PUT", "/api/v1/drain", b"", JSON)
        self.assertEqual((answer.json()["draining"], answer.json()["jobs"]), (True, 1))
        for body, keep in ((b'{"keep": true}', True), (b"{}", False)):
            self.assertIs(self.world.ask("PUT", "/api/v1/drain", body, JSON).json()["keep"], keep)
        self.assertEqual(self.world.ask("PUT", "/api/v1/drain", b'{"kept": true}', JSON).status, 400)
        refused = self.world.ask("GET", "/readyz")
        self.assertEqual((refused.status, refused.headers["retry-after"]), (503, "30"))
        self.assertEqual(refused.json()["error"]["code"], "DRAINING")
        self.assertEqual(self.world.ask("DELETE", "/api/v1/drain").json()["draining"], False)
        self.assertEqual(self.world.ask("GET", "/readyz").status, 200)

    def test_retried(self) -> None:
        """
        A job is retried as a new one, whose place the response names.
        """
        running = self.world.ask("POST", "/api/v1/jobs/j1/retry", b"", JSON)
        self.assertEqual((running.status, running.json()["error"]["code"]), (409, "JOB_RUNNING"))
        self.jobs.known["j1"]["state"] = "failed"
        again = self.world.ask("POST", "/api/v1/jobs/j1/retry", b"", JSON)
        self.assertEqual((again.status, again.json()["retry_of"]), (202, "j1"))
        self.assertEqual(again.headers["location"], f"/api/v1/jobs/{again.json()['id']}")
        self.assertEqual(self.jobs.persisted[-1][:2], (again.json()["id"], "rejoin"))
