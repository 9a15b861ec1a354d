"""
Tests for L{xferd.web.registry_auth}: credentials in headers.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.web.connection import Answer
from tests.web.world import World
from xferd.credentials import Credentials, Secret
from xferd.errors import Denied

ME = Credentials("me", Secret("hunter2"))
PULL = {"kind": "pull", "reference": "quay.io/me/app"}
PUSH = {"kind": "push", "reference": "app", "target": "r.example/app"}
COPY = {"kind": "copy", "reference": "quay.io/me/app", "target": "r.example/app"}


def encoded(value: object) -> str:
    """
    A header's value, as docker's clients write it.
    """
    return urlsafe_b64encode(json.dumps(value).encode()).decode()


class HeaderTests(SynchronousTestCase):
    """
    Headers of C{POST /api/v1/jobs}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def bring(self, body: object = PULL, **headers: str) -> Mapping[str, Credentials]:
        """
        Request a job.

        @return: the credentials in its headers.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.world.ask("POST", "/api/v1/jobs", json.dumps(body).encode(), named)
        self.assertEqual(answer.status, 202, answer.body)
        self.assertNotIn(b"hunter2", answer.body)
        return self.world.jobs.brought[-1] or {}

    def refuse(self, body: object = PULL, **headers: str) -> str:
        """
        Request a job that is refused.

        @return: the error, which contains no secret.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.world.ask("POST", "/api/v1/jobs", json.dumps(body).encode(), named)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"), answer.body)
        self.assertEqual(self.world.jobs.brought, [])
        self.assertNotIn(b"hunter2", answer.body)
        return str(answer.json()["error"]["message"])

    def test_none(self) -> None:
        """
        Without a header, or with an empty one, as docker sends it for an
        anonymous user, there are no credentials.
        """
        self.assertEqual(self.bring(), {})
        for value in ({}, None, {"username": "", "password": ""}, {"serveraddress": "quay.io"}):
            self.assertEqual(self.bring(X_Registry_Auth=encoded(value)), {})
        self.assertEqual(self.bring(X_Registry_Config=encoded({"quay.io": {}})), {})

    def test_unnamed(self) -> None:
        """
        Credentials that name no registry apply to the job's own: the source of
        a pull, the target of a push.
        """
        value = encoded({"username": "me", "password": "hunter2", "email": None})
        self.assertEqual(self.bring(X_Registry_Auth=value), {"quay.io": ME})
        self.assertEqual(self.bring(PUSH, X_Registry_Auth=value), {"r.example": ME})
        self.assertEqual(
            self.bring({"kind": "push", "reference": "app"}, X_Registry_Auth=value), {"docker.io": ME}
        )
        same = {**COPY, "target": "quay.io/me/other"}
        self.assertEqual(self.bring(same, X_Registry_Auth=value), {"quay.io": ME})
        (credentials,) = self.bring(X_Registry_Auth=value).values()
        self.assertEqual(credentials.origin, "the X-Registry-Auth header")

    def test_origin(self) -> None:
        """
        A client may name the origin of its credentials for errors, which then
        advise to log in there.
        """
        entry = {"username": "me", "password": "hunter2", "origin": "/home/me/.docker/config.json"}
        for origin in ("a\nb", "x" * 301, 5):
            header = encoded({"quay.io": {**entry, "origin": origin}})
            self.assertIn("'origin' must be", self.refuse(X_Registry_Config=header))
        found = self.bring(X_Registry_Config=encoded({"quay.io": entry}))
        self.assertEqual(found, {"quay.io": ME})
        self.assertEqual((found["quay.io"].origin, found["quay.io"].remedy), (entry["origin"], ""))

    def test_named(self) -> None:
        """
        Credentials that name a registry apply to it.
        """
        value = encoded(
            {"username": "me", "password": "hunter2", "serveraddress": "https://index.docker.io/v1/"}
        )
        for body in (PULL, PUSH, COPY):
            self.assertEqual(self.bring(body, X_Registry_Auth=value), {"docker.io": ME})

    def test_several(self) -> None:
        """
        C{X-Registry-Config} contains those of several registries;
        C{X-Registry-Auth} precedes it.
        """
        you = {"username": "you", "password": "x"}
        found = self.bring(
            COPY,
            X_Registry_Config=encoded({"quay.io": you, "https://R.example/v2/": you}),
            X_Registry_Auth=encoded({"username": "me", "password": "hunter2", "serveraddress": "r.example"}),
        )
        self.assertEqual(found, {"quay.io": Credentials("you", Secret("x")), "r.example": ME})

    def test_forms(self) -> None:
        """
        Tokens, and C{auth} as in docker's file, are accepted, in base64 of
        either alphabet, with or without padding.
        """
        for entry, credentials in (
            ({"identitytoken": "t"}, Credentials("", identity_token=Secret("t"))),
            ({"registrytoken": "t"}, Credentials("", registry_token=Secret("t"))),
            ({"username": "<token>", "password": "t"}, Credentials("", identity_token=Secret("t"))),
            ({"auth": b64encode(b"me:hunter2").decode()}, ME),
        ):
            self.assertEqual(self.bring(X_Registry_Auth=encoded(entry)), {"quay.io": credentials})
        odd = {"username": "me", "password": "\u00ff\u00fe?>"}
        wanted = {"quay.io": Credentials("me", Secret("\u00ff\u00fe?>"))}
        data = json.dumps(odd, ensure_ascii=False).encode()
        for value in (b64encode(data), urlsafe_b64encode(data), urlsafe_b64encode(data).rstrip(b"=")):
            self.assertEqual(self.bring(X_Registry_Auth=value.decode()), wanted)

    def test_bad(self) -> None:
        """
        A malformed header is refused in one sentence.
        """
        for value in ("hunter2!", "hunter2", "a", encoded(["hunter2"]), encoded("hunter2"), "\u00e9"):
            self.assertEqual(
                self.refuse(X_Registry_Auth=value), "X-Registry-Auth must be a JSON object in base64url"
            )
        for entry, words in (
            ({"username": 7, "password": "hunter2"}, "'username' must be a text"),
            ({"username": "\ud800", "password": "hunter2"}, "'username' must be a text"),
            ({"auth": "hunter2"}, "'auth' must be user:password in base64"),
            ({"registrytoken": "hunter2\r\nX: y"}, "'registrytoken' must be ASCII"),
        ):
            self.assertIn(words, self.refuse(X_Registry_Auth=encoded(entry)))
        self.assertIn(
            "X-Registry-Config must have an object", self.refuse(X_Registry_Config=encoded({"h": "hunter2"}))
        )

    def test_whose(self) -> None:
        """
        For a job with two registries, credentials have to name theirs.
        """
        value = encoded({"username": "me", "password": "hunter2"})
        self.assertIn("'serveraddress'", self.refuse(COPY, X_Registry_Auth=value))

    @given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
    def test_anything(self, value: str) -> None:
        """
        Every header is accepted or refused.
        """
        answer = self.world.ask("POST", "/api/v1/jobs", json.dumps(PULL).encode(), {"X-Registry-Auth": value})
        self.assertIn(answer.status, (202, 400))


class LoginTests(SynchronousTestCase):
    """
    C{POST /api/v1/auth}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()
        self.headers = {"X-Registry-Auth": encoded({"username": "me", "password": "hunter2"})}
        self.registry = self.world.registries.registry("r.example:5000", "me")

    def try_login(self, host: str, peer: str = "127.0.0.1") -> Answer:
        """
        Try the credentials, and let the registry answer.
        """
        body = json.dumps({"host": host}).encode()
        headers = {"Host": "localhost:9337", "Content-Type": "application/json"}
        connection = self.world.connect(peer=peer)
        connection.send(
            "POST", "/api/v1/auth", {**headers, **self.headers, "Content-Length": str(len(body))}, body
        )
        self.world.clock.advance(0)
        return connection.answer()

    def test_accepted(self) -> None:
        """
        The registry receives exactly the credentials of the request.
        """
        answer = self.try_login("https://R.example:5000/")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json(), {"host": "r.example:5000", "accepted": True})
        self.assertEqual([r.kind for r in self.registry.requests], ["check"])

    def test_supplies(self) -> None:
        """
        Credentials that the registry accepts are passed to the jobs of the same user that wait for
        them, and those that it refuses are not.
        """
        self.registry.gate.fail("check", Denied("no", host="r.example:5000", status=401))
        self.try_login("r.example:5000", "192.0.2.9")
        self.assertEqual(self.world.jobs.supplied, [])
        self.try_login("https://R.example:5000/", "192.0.2.9")
        self.assertEqual(self.world.jobs.supplied, [("192.0.2.9", {"r.example:5000": ME})])

    def test_refused(self) -> None:
        """
        The registry's refusal is reported like other errors.
        """
        self.registry.gate.fail("check", Denied("no", host="r.example:5000", status=401))
        answer = self.try_login("r.example:5000")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (403, "DENIED"))

    def test_bad(self) -> None:
        """
        Errors name missing and invalid fields.
        """
        for body, words in (
            (b"{}", "'host' must be a registry's host, not null"),
            (b'{"host": "nowhere"}', "is not a registry"),
            (b'{"host": "r.example", "user": "me"}', "no field"),
        ):
            answer = self.world.ask("POST", "/api/v1/auth", body, self.headers)
            self.assertEqual(answer.status, 400)
            self.assertIn(words, answer.json()["error"]["message"])
        answer = self.world.ask("POST", "/api/v1/auth", b'{"host": "r.example"}')
        self.assertIn("send the credentials for r.example", answer.json()["error"]["message"])
