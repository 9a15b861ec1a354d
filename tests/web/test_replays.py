"""
Tests for L{xferd.web.replays}, by C{POST /api/v1/jobs}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.web.fakes import Answer, World
from xferd.web.replays import MAX_AGE, MAX_KEYS


class ReplayTests(SynchronousTestCase):
    """
    The same request, made again.
    """

    def setUp(self) -> None:
        """
        Make a world.
        """
        self.world = World()

    def post(
        self, key: str | None = "k", client: str = "ci", body: bytes | None = None, **more: Any
    ) -> Answer:
        """
        Ask for a pull.
        """
        value = {"kind": "pull", "reference": "alpine", **more}
        data = json.dumps(value).encode() if body is None else body
        return self.world.ask(
            "POST", "/api/v1/jobs", data, {"Idempotency-Key": key, "X-Xferd-Client": client}
        )

    def test_again(self) -> None:
        """
        The same job comes back, as it is then, however its JSON is written.
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
        A key that came with another request is refused.
        """
        self.post()
        answer = self.post(priority=1)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (422, "IDEMPOTENCY_KEY_REUSED"))
        self.assertEqual(len(self.world.jobs.pulled), 1)

    def test_no_key(self) -> None:
        """
        Without a key, or with other keys or by other clients, each request
        begins a job.
        """
        for how in ({"key": None}, {"key": None}, {}, {"key": "l"}, {"client": "me"}):
            self.assertEqual(self.post(**how).status, 202)
        self.assertEqual(len(self.world.jobs.pulled), 5)

    def test_refused(self) -> None:
        """
        A key is short and plain; a request that was refused has not used it.
        """
        for key in ("", "a b", "é", "x" * 129):
            self.assertEqual(self.post(key).status, 400, key)
        self.assertEqual(self.post(kind="move").status, 400)
        self.assertEqual(self.post().status, 202)

    def test_age(self) -> None:
        """
        After a day a key is new again.
        """
        self.post()
        self.world.clock.advance(MAX_AGE - 1)
        self.assertEqual(self.post().status, 200)
        self.world.clock.advance(1)
        self.assertEqual(self.post().status, 202)

    def test_bound(self) -> None:
        """
        So many keys are remembered, and the oldest is dropped for the newest.
        """
        replays = self.world.web._replays
        for n in range(MAX_KEYS + 1):
            replays.made("ci", f"k{n}", b"", f"j{n}")
        self.assertEqual(len(replays._made), MAX_KEYS)
        self.assertIsNone(replays.find("ci", "k0", b""))
        self.assertEqual(replays.find("ci", "k1", b""), "j1")
