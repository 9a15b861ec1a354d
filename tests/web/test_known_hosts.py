"""
Tests for L{xferd.web.known_hosts}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.web.world import World
from xferd.errors import ConnectionFailed
from xferd.interfaces.hosts import Quota
from xferd.interfaces.transfer import HostAccount
from xferd.transfer.pauses import Pauses

NOW = "2026-01-02T03:04:05.000Z"


class HostsTests(SynchronousTestCase):
    """
    C{/api/v1/hosts}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()
        self.memory = self.world.memory
        self.pauses = Pauses(self.world.clock)
        self.memory.join("document", self.pauses)

    def test_none(self) -> None:
        """
        At first there are no hosts.
        """
        answer = self.world.ask("GET", "/api/v1/hosts")
        self.assertEqual((answer.status, answer.json()), (200, []))

    def test_list(self) -> None:
        """
        Each host is listed with its accounts.
        """
        self.memory.answered("docker.io", None, Quota(76, 100, 21600.0))
        self.memory.answered("docker.io", "0123456789abcdef", Quota(1, 100, 60.0, 30.0))
        self.pauses.pause(HostAccount("docker.io"), 60)
        self.memory.moved("docker.io", 5000, 2.0)
        self.memory.learned("docker.io", {"chunks": False})
        self.memory.unreachable("a.example", ConnectionFailed("no answer"))
        answer = self.world.ask("GET", "/api/v1/hosts")
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            answer.json(),
            [
                {
                    "host": "a.example",
                    "state": "down",
                    "why": "a.example failed once: no answer",
                    "until": "2026-01-02T03:04:20.000Z",
                    "failures": 1,
                    "error": "no answer",
                    "rate": None,
                    "capabilities": {},
                    "used": NOW,
                    "accounts": [],
                },
                {
                    "host": "docker.io",
                    "state": "ok",
                    "why": "",
                    "until": None,
                    "failures": 0,
                    "error": "",
                    "rate": 2500.0,
                    "capabilities": {"chunks": False},
                    "used": NOW,
                    "accounts": [
                        {
                            "account": "daemon",
                            "state": "paused",
                            "why": "docker.io asked to wait",
                            "until": "2026-01-02T03:05:05.000Z",
                            "quota": {"remaining": 76, "limit": 100, "window": 21600.0, "reset": None},
                            "used": NOW,
                        },
                        {
                            "account": "0123456789ab",
                            "state": "quota-low",
                            "why": "1 of 100 requests to docker.io are left",
                            "until": "2026-01-02T03:04:35.000Z",
                            "quota": {
                                "remaining": 1,
                                "limit": 100,
                                "window": 60.0,
                                "reset": "2026-01-02T03:04:35.000Z",
                            },
                            "used": NOW,
                        },
                    ],
                },
            ],
        )

    def test_clear(self) -> None:
        """
        A host is cleared by any of its names.
        """
        self.memory.answered("docker.io", None, Quota(0))
        self.memory.answered("localhost:5000", None, Quota(0))
        for asked, host in (("index.docker.io", "docker.io"), ("localhost:5000", "localhost:5000")):
            answer = self.world.ask("DELETE", f"/api/v1/hosts/{asked}")
            self.assertEqual((answer.status, answer.json()), (200, {"host": host, "cleared": True}))
        self.assertEqual(self.memory.hosts(), [])

    def test_clear_unknown(self) -> None:
        """
        A host without a record is not found; a text that is no host is bad input.
        """
        answer = self.world.ask("DELETE", "/api/v1/hosts/quay.io")
        self.assertEqual(answer.status, 404)
        self.assertIn("nothing is known of quay.io", answer.json()["error"]["message"])
        answer = self.world.ask("DELETE", "/api/v1/hosts/quay")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"))
