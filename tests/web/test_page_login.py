"""
Tests for L{xferd.web.page_login}: the browsers of other users.
"""

from __future__ import annotations

import json
from http.cookies import SimpleCookie
from typing import cast

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.web.connection import Answer
from tests.web.world import World
from xferd.web.page_login import CODE_LIFE, COOKIE_LIFE, PageLogin
from xferd.web.site import BoundedChannel

ALICE, BOB = 1000, 1001


class EntryCase(SynchronousTestCase):
    """
    A daemon on loopback, whose users are known.
    """

    def setUp(self) -> None:
        """
        Make a server where no user has access over TCP.
        """
        self.world = World(trusted=False, token="s3cret")
        self.addCleanup(self.world.close)

    def ask(self, uid: int | None, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """
        Send a request over a connection of a user's.
        """
        connection = self.world.connect()
        cast("BoundedChannel", connection.protocol).uid = uid
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "xferd.localhost:9337", "Content-Length": str(len(data))}
        fields["Content-Type"] = "application/json"
        connection.send(method, path, {**fields, **headers}, data)
        self.world.clock.advance(0)
        return connection.answer()

    def code(self, uid: int = ALICE) -> str:
        """
        Make a code, as C{xferctl page} does.
        """
        answer = self.ask(None, "POST", "/api/v1/page", {"uid": uid}, Authorization="Bearer s3cret")
        self.assertEqual(answer.status, 201)
        found = answer.json()
        self.assertEqual((found["port"], found["seconds"]), (9337, CODE_LIFE))
        return str(found["code"])

    def enter(self, code: str, uid: int | None = ALICE) -> str | None:
        """
        Open the address of the page.

        @return: the C{Cookie} that a browser sends afterwards, or L{None} if it
            was refused.
        """
        answer = self.ask(uid, "GET", f"/enter?code={code}")
        if answer.status == 403:
            self.assertNotIn("set-cookie", answer.headers)
            return None
        self.assertEqual((answer.status, answer.headers["location"]), (303, "/"))
        ((name, cookie),) = SimpleCookie(answer.headers["set-cookie"]).items()
        self.assertTrue(cookie["httponly"])
        self.assertEqual((cookie["samesite"].lower(), cookie["path"], cookie["domain"]), ("strict", "/", ""))
        self.assertNotIn(code, cookie.value)
        return f"{name}={cookie.value}"

    def status(self, cookie: str | None, uid: int | None = ALICE, **headers: str) -> int:
        """
        Request the status with a cookie.
        """
        return self.ask(uid, "GET", "/api/v1/images", Cookie=cookie or "", **headers).status


class EntryTests(EntryCase):
    """
    Codes and cookies.
    """

    def test_whole(self) -> None:
        """
        A code is exchanged for a cookie, which gives the user's browser access, and is the door that
        the audit trail has.
        """
        cookie = self.enter(self.code())
        self.assertEqual(self.status(cookie), 200)
        asked = {"kind": "pull", "reference": "alpine"}
        with capturedLogs() as events:
            answer = self.ask(
                ALICE,
                "POST",
                "/api/v1/jobs",
                asked,
                Cookie=cookie or "",
                Origin="http://xferd.localhost:9337",
            )
        self.assertEqual(answer.status, 202)
        self.assertEqual([event["door"] for event in events if event.get("event") == "audit"], ["browser"])

    def test_once(self) -> None:
        """
        A code is valid once, and an invented one is invalid.
        """
        code = self.code()
        self.assertIsNotNone(self.enter(code))
        for other in (code, "", "x" * 43, "%ff"):
            self.assertIsNone(self.enter(other), other)

    def test_time(self) -> None:
        """
        A code is valid for 60 seconds, and a cookie for twelve hours.
        """
        late, code = self.code(), self.code()
        self.world.clock.advance(CODE_LIFE - 0.1)
        cookie = self.enter(code)
        self.world.clock.advance(0.1)
        self.assertIsNone(self.enter(late))
        self.world.clock.advance(COOKIE_LIFE - 0.2)
        self.assertEqual(self.status(cookie), 200)
        self.world.clock.advance(0.1)
        self.assertEqual(self.status(cookie), 401)

    def test_other_user(self) -> None:
        """
        Another user, who saw the address in the list of processes, or received
        the cookie at a port with that host name, can use neither.
        """
        code = self.code()
        for uid in (BOB, None):
            self.assertIsNone(self.enter(code, uid))
        cookie = self.enter(code)
        for uid in (BOB, None):
            self.assertEqual(self.status(cookie, uid), 401)

    def test_other_name(self) -> None:
        """
        The cookie is valid for the host name of the page.
        """
        cookie = self.enter(self.code())
        self.assertEqual(self.status(cookie, Host="127.0.0.1:9337"), 401)
        self.assertEqual(self.status(cookie, Host="evil.example"), 421)

    def test_foreign_page(self) -> None:
        """
        A page at another port of that host name, for which the browser sends
        the cookie, can neither change anything nor export archives.
        """
        cookie = self.enter(self.code()) or ""
        origin = "http://xferd.localhost:8000"
        asked = {"kind": "pull", "reference": "alpine"}
        answer = self.ask(ALICE, "POST", "/api/v1/jobs", asked, Cookie=cookie, Origin=origin)
        self.assertEqual(answer.status, 403)
        path = "/api/v1/archives/alpine"
        answer = self.ask(ALICE, "GET", path, **{"Cookie": cookie, "Sec-Fetch-Site": "same-site"})
        self.assertEqual((answer.status, self.world.jobs.exported), (403, []))

    def test_looks_only(self) -> None:
        """
        C{HEAD} does not use a code.
        """
        code = self.code()
        self.assertEqual(self.ask(ALICE, "HEAD", f"/enter?code={code}").status, 303)
        self.assertIsNotNone(self.enter(code))

    def test_strangers(self) -> None:
        """
        A user without access gets no code, also not with a read-only token.
        """
        self.assertEqual(self.ask(ALICE, "POST", "/api/v1/page", {"uid": ALICE}).status, 401)

    def test_wrong(self) -> None:
        """
        An invalid user is refused.
        """
        for body in ({}, {"uid": "0"}, {"uid": -1}, {"uid": True}, {"uid": 1 << 32}, {"uid": 1, "a": 1}):
            answer = self.ask(None, "POST", "/api/v1/page", body, Authorization="Bearer s3cret")
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"), body)

    def test_no_page(self) -> None:
        """
        A daemon that listens only on its socket reports that it has no page.
        """
        world = World()
        answer = world.ask("POST", "/api/v1/page", b'{"uid": 1000}', unix=True)
        self.assertEqual(answer.status, 404)
        self.assertIn("'listen' can add it", answer.json()["error"]["message"])

    def test_trusted(self) -> None:
        """
        Root's browser needs no code.
        """
        answer = World().ask("GET", "/enter")
        self.assertEqual((answer.status, answer.headers["set-cookie"]), (303, None))

    def test_bounded(self) -> None:
        """
        The numbers of codes and cookies are limited: new ones replace unused
        ones.
        """
        entry = PageLogin(Clock())
        codes = [entry.code(ALICE) for _ in range(17)]
        self.assertIsNone(entry.enter(codes[0], ALICE))
        self.assertIsNotNone(entry.enter(codes[1], ALICE))
        for _ in range(200):
            entry.enter(entry.code(ALICE), ALICE)
        self.assertLessEqual(len(entry._cookies), 64)


class MetricsTests(SynchronousTestCase):
    """
    Public metrics.
    """

    def test_public(self) -> None:
        """
        With the setting, the metrics are public, and nothing else.
        """
        world = World(trusted=False, token="t", public_metrics=True)
        self.assertEqual(world.ask("GET", "/metrics").status, 200)
        self.assertEqual(world.ask("GET", "/api/v1/status").status, 401)
        self.assertEqual(world.ask("GET", "/metrics", headers={"Host": "evil.example"}).status, 421)
