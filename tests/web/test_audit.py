"""
Tests for L{xferd.web.audit}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.web.fakes import job
from tests.web.world import World
from xferd.logs.audit_line import MOST_LINES, WINDOW
from xferd.logs.records import record_of, to_json
from xferd.web.audit import MAX_BODY, audit_reload

TOKEN = "a-secret-token"


class AuditCase(SynchronousTestCase):
    """
    Requests, and their lines.
    """

    def lines(
        self, world: World, method: str, path: str, body: object = None, *, unix: bool = False, **headers: str
    ) -> list[dict[str, Any]]:
        """
        Send a request.

        @return: its lines, as the log has them in JSON.
        """
        data = None if body is None else json.dumps(body).encode()
        with capturedLogs() as events:
            world.ask(method, path, data, headers, unix=unix)
        return [to_json(record_of(event)) for event in events if event.get("event") == "audit"]

    def line(self, *request: Any, **how: Any) -> dict[str, Any]:
        """
        The line of a request that has one.
        """
        (line,) = self.lines(*request, **how)
        return line

    def assert_has(self, line: Mapping[str, Any], **fields: object) -> None:
        """
        Check some fields of a line.
        """
        self.assertEqual({name: line[name] for name in fields}, fields)


class ChangeTests(AuditCase):
    """
    Requests that change something.
    """

    def test_begin(self) -> None:
        """
        The line of a new job has its ID, and what was requested.
        """
        body = {"kind": "pull", "reference": "alpine", "priority": 3}
        line = self.line(World(), "POST", "/api/v1/jobs", body, **{"X-Xferd-Client": "ci"})
        self.assert_has(
            line,
            action="create_job",
            user="user None",
            uid=None,
            address="127.0.0.1",
            client="ci",
            door="loopback",
            listener="127.0.0.1:9337",
            status=202,
            job="j1",
            code="",
            body='{"kind": "pull", "reference": "alpine", "priority": 3}',
        )
        self.assertEqual(
            line["message"],
            "user None by loopback: POST /api/v1/jobs: 202, client ci, job j1; "
            '{"kind": "pull", "reference": "alpine", "priority": 3}',
        )

    def test_socket(self) -> None:
        """
        A request over the unix socket has no address.
        """
        line = self.line(World(), "POST", "/api/v1/jobs", {"kind": "pull", "reference": "a"}, unix=True)
        self.assert_has(line, door="socket", address="", listener="", status=202)

    def test_each(self) -> None:
        """
        Each change has its action, the parts of its path, and its body.
        """
        world = World()
        world.jobs.known["j1"] = job(id="j1")
        for method, path, sent, action, body in (
            ("DELETE", "/api/v1/jobs/j1", None, "cancel_job", ""),
            ("PATCH", "/api/v1/limits", {"downloads": 7}, "change_limits", '{"downloads": 7}'),
            ("DELETE", "/api/v1/images/alpine", None, "remove_image", ""),
            ("POST", "/api/v1/images/alpine/pin", {"pinned": True}, "pin_image", '{"pinned": true}'),
            ("POST", "/api/v1/gc", {"dry_run": False}, "collect", '{"dry_run": false}'),
        ):
            line = self.line(world, method, path, sent)
            if line["status"] < 400:
                self.assert_has(line, body=body)
            self.assert_has(line, action=action, path=path, job="j1" if "jobs" in path else "")

    def test_long(self) -> None:
        """
        A long body is cut.
        """
        body = {"kind": "push", "reference": "a", "tags": [f"{n:0100}" for n in range(20)]}
        line = self.line(World(), "POST", "/api/v1/jobs", body)
        self.assertEqual((line["status"], len(line["body"])), (202, MAX_BODY))

    def test_reads(self) -> None:
        """
        A request that reads has no line.
        """
        self.assertEqual(self.lines(World(), "GET", "/api/v1/jobs"), [])
        self.assertEqual(self.lines(World(), "HEAD", "/api/v1/status"), [])


class AccessTests(AuditCase):
    """
    Tokens, and requests that are refused.
    """

    def test_token(self) -> None:
        """
        A token is named by its number in the file.
        """
        world = World(trusted=False, token=TOKEN)
        line = self.line(world, "PATCH", "/api/v1/limits", {"uploads": 2}, Authorization=f"Bearer {TOKEN}")
        self.assert_has(line, token="1", status=200)
        self.assertIn(", token 1", line["message"])
        self.assertNotIn(TOKEN, json.dumps(line))

    def test_refused(self) -> None:
        """
        A request without a right has a line, with the code of its error, and neither a
        token nor the body, which may have a secret.
        """
        world = World(trusted=False, token=TOKEN)
        for headers, token in (({}, ""), ({"Authorization": "Bearer wrong-secret"}, "unknown")):
            line = self.line(world, "PATCH", "/api/v1/limits", {"password": "p4ss"}, **headers)
            self.assert_has(line, status=401, code="UNAUTHORIZED", token=token, body="")
            self.assertNotIn("secret", json.dumps(line))
            self.assertNotIn("p4ss", json.dumps(line))

    def test_invalid(self) -> None:
        """
        The body of an invalid request is left out.
        """
        line = self.line(World(), "POST", "/api/v1/auth", {"host": "a", "password": "p4ss"})
        self.assert_has(line, action="check_login", status=400, code="BAD_INPUT", body="")
        self.assertNotIn("p4ss", json.dumps(line))

    def test_login(self) -> None:
        """
        A login at a registry has a line with the host, and without the credentials.
        """
        credentials = "eyJ1c2VybmFtZSI6ICJhIiwgInBhc3N3b3JkIjogImIifQ=="
        line = self.line(
            World(), "POST", "/api/v1/auth", {"host": "r.example"}, **{"X-Registry-Auth": credentials}
        )
        self.assert_has(line, action="check_login", body='{"host": "r.example"}')
        self.assertNotIn(credentials, json.dumps(line))

    def test_bounded(self) -> None:
        """
        Of many refused requests, some have lines; a later line has the number of the
        others.  Changes always have lines.
        """
        world = World(trusted=False, token=TOKEN)
        with capturedLogs() as events:
            for _ in range(MOST_LINES + 5):
                world.ask("GET", "/api/v1/status")
        self.assertEqual(sum(event.get("event") == "audit" for event in events), MOST_LINES)
        right = {"Authorization": f"Bearer {TOKEN}"}
        line = self.line(world, "PATCH", "/api/v1/limits", {"uploads": 2}, **right)
        self.assert_has(line, status=200, left_out=5)
        self.assertTrue(line["message"].endswith("; 5 refused requests before it have no line"))
        self.assertNotIn("left_out", self.line(world, "PATCH", "/api/v1/limits", {"uploads": 2}, **right))
        self.assertEqual(self.lines(world, "GET", "/api/v1/status"), [])
        world.clock.advance(WINDOW)
        self.assert_has(self.line(world, "GET", "/api/v1/status"), status=401, left_out=1)

    def test_escaped(self) -> None:
        """
        What a client sends has no control characters in a line.
        """
        world = World()
        with capturedLogs() as events:
            world.ask("DELETE", "/api/v1/jobs/%1b[31m", headers={"X-Xferd-Client": "a\x1b[0m"})
        (text,) = [formatEvent(event) for event in events if event.get("event") == "audit"]
        self.assertTrue(text.isprintable(), text)

    def test_reload(self) -> None:
        """
        A C{SIGHUP} has a line with the file, whether it was read or not.
        """
        with capturedLogs() as events:
            audit_reload("/etc/xferd.toml")
            audit_reload("/etc/xferd.toml", "it is not TOML")
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "unknown by signal: SIGHUP /etc/xferd.toml: 200",
                "unknown by signal: SIGHUP /etc/xferd.toml: 400; it is not TOML",
            ],
        )
        read, refused = (to_json(record_of(event)) for event in events)
        self.assert_has(read, event="audit", action="reload", door="signal", status=200)
        self.assert_has(refused, status=400, uid=None)
