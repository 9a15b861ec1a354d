"""
Tests for L{xferd.fleet.etcd.pauses}.
"""

from __future__ import annotations

from typing import Any

from tests.fleet.etcd.cases import CoordinationCase
from xferd.fleet.etcd.answers import MemberFailed
from xferd.interfaces.fleet import FleetPause


class PauseTests(CoordinationCase):
    """
    Pauses of upstream hosts.
    """

    def setUp(self) -> None:
        """
        Follow on the second node.
        """
        super().setUp()
        self.heard: list[FleetPause] = []
        self.two.follow_pauses(self.heard.append)

    def test_followed(self) -> None:
        """
        A pause is told with its length.
        """
        self.one.pause("h", "daemon", 30.0, "429")
        self.assertEqual([FleetPause("h", "daemon", 30.0, "429", "one")], self.heard)

    def test_watched_again(self) -> None:
        """
        A watch that ends goes on after the last revision, without reading all again.
        """
        self.one.pause("h", "daemon", 30.0, "429")
        self.etcd.paths()
        for _, ending in list(self.etcd.watches):
            ending.callback(None)
        self.assertEqual(["/v3/watch"] * 2, self.etcd.paths())
        self.assertEqual(2, len(self.etcd.watches))
        self.assertEqual(1, len(self.heard))

    def test_compacted(self) -> None:
        """
        When etcd has forgotten the revision of the watch, all is read again.
        """
        self.one.pause("h", "daemon", 30.0, "429")
        self.passes(10)
        each, ending = self.etcd.watches[1]
        try:
            each({"result": {"canceled": True, "compact_revision": "7"}})
        except Exception as e:
            ending.errback(e)
        self.assertEqual([30.0, 20.0], [round(pause.seconds) for pause in self.heard])

    def test_member_lost(self) -> None:
        """
        When a watch breaks, the lease is checked at once, and the watch begins again.
        """
        self.etcd.paths()
        self.etcd.watches[1][1].errback(MemberFailed("it broke"))
        self.assertEqual(["/v3/lease/keepalive"], self.etcd.paths())
        self.assertTrue(self.two.available)
        self.passes(1.1)
        self.assertEqual(2, len(self.etcd.watches))

    def test_etcd_lost(self) -> None:
        """
        When a watch breaks and etcd does not answer, it is unavailable at once, and the
        watch begins again with it.
        """
        self.etcd.problem = "away"
        self.etcd.watches[1][1].errback(MemberFailed("it broke"))
        self.assertEqual((False, "away"), (self.two.available, self.two.problem))
        self.passes(3)
        self.etcd.problem = ""
        self.one.pause("h", "daemon", 30.0, "429")
        self.passes(6)
        self.assertEqual(2, len(self.etcd.watches))
        self.assertEqual(1, len(self.heard))

    def test_hostile(self) -> None:
        """
        What etcd does not send makes it unavailable.
        """
        message: Any
        for message in (
            {"result": 5},
            {"result": {"events": [{"kv": {"key": "eA==", "value": ""}}]}},
            {"result": {"events": [{}] * 1001}},
            {"result": {"canceled": "yes"}},
        ):
            each, ending = self.etcd.watches[-1]
            try:
                each(message)
            except Exception as e:
                ending.errback(e)
            self.assertFalse(self.one.available and self.two.available, message)
            self.passes(10)
            self.assertTrue(self.one.available and self.two.available)
        self.assertEqual([], self.heard)

    def test_flood(self) -> None:
        """
        More messages than a fleet makes in some minutes, also if they have no pauses, end
        the watch for a while, and nothing else.  Then all that is known is read.
        """
        each, ending = self.etcd.watches[1]
        for _ in range(1000):
            each({"result": {}})
        try:
            each({"result": {}})
        except Exception as e:
            ending.errback(e)
        self.assertEqual(1, len(self.etcd.watches))
        self.one.pause("h", "daemon", 60.0, "429")
        self.passes(29)
        self.assertEqual([], self.heard)
        self.passes(2)
        self.assertEqual([29], [int(pause.seconds) for pause in self.heard])
        self.assertEqual(2, len(self.etcd.watches))
        self.assertTrue(self.one.available and self.two.available)

    def test_unreadable(self) -> None:
        """
        A pause that cannot be read is ignored.
        """
        each, _ = self.etcd.watches[1]
        each({"result": {"events": [{"kv": {"key": "L3hmZXJkLzEvcGF1c2VzL3g=", "value": "e30="}}]}})
        self.assertEqual([], self.heard)

    def test_unavailable(self) -> None:
        """
        A pause is not reported while etcd is away.
        """
        self.etcd.problem = "away"
        self.one.pause("h", "daemon", 30.0, "429")
        self.assertFalse(self.one.available)
        self.etcd.paths()
        self.one.pause("h", "daemon", 30.0, "429")
        self.assertEqual([], self.etcd.paths())
