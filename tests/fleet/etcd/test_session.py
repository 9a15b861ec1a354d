"""
Tests for L{xferd.fleet.etcd.session}.
"""

from __future__ import annotations

from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fleet.etcd.fake_etcd import FakeEtcd
from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import LeaseGone
from xferd.fleet.etcd.messages import put
from xferd.fleet.etcd.records import node_key
from xferd.fleet.etcd.session import LOAD_SECONDS, Session
from xferd.interfaces.fleet import LEASE_SECONDS, Node, Peer


class SessionTests(SynchronousTestCase):
    """
    The lease of a node.
    """

    def setUp(self) -> None:
        """
        Start a session.
        """
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.heard: list[bool] = []
        self.session = self.make("http://one.example")
        self.session.on_available(self.heard.append)
        self.session.start()

    def make(self, url: str, since: float = 5.0) -> Session:
        """
        Make a session.
        """
        return Session(self.clock, cast(Any, self.etcd), Node(Peer("one", url), "1", since), Random(1))

    def passes(self, seconds: float) -> None:
        """
        Advance the clock.
        """
        self.clock.pump([0.1] * round(seconds * 10))

    def test_started(self) -> None:
        """
        A session begins with a lease, and the node's record under it.
        """
        self.assertTrue(self.session.available)
        self.assertEqual(["/v3/lease/grant", "/v3/kv/txn"], self.etcd.paths())
        self.assertEqual(
            {"/xferd/1/nodes/one": self.session.lease}, {k: v.lease for k, v in self.etcd.keys.items()}
        )
        self.assertEqual([True], self.heard)

    def test_kept(self) -> None:
        """
        A lease is kept alive twice in its time.
        """
        self.etcd.paths()
        self.passes(4 * LEASE_SECONDS)
        self.assertEqual(["/v3/lease/keepalive"] * 7, self.etcd.paths())
        self.assertEqual([True], self.heard)

    def test_expired(self) -> None:
        """
        When the lease has ended, a new one begins.
        """
        self.etcd.end_lease(self.session.lease)
        self.passes(LEASE_SECONDS / 2 + 0.2)
        self.assertEqual([True], self.heard[:1])
        self.assertIn("/xferd/1/nodes/one", self.etcd.keys)
        # It was available all the time, under another lease.
        self.assertEqual([True, True], self.heard)

    def test_lost(self) -> None:
        """
        A request that fails makes etcd unavailable, with the reason, until it answers; a
        lease that still runs goes on.
        """
        lease = self.session.lease
        self.session.failed(CoordinationUnavailable("it is away"))
        self.assertEqual((False, "it is away"), (self.session.available, self.session.problem))
        self.passes(0.6)
        self.assertEqual((True, ""), (self.session.available, self.session.problem))
        self.assertEqual(([True, False], lease), (self.heard, self.session.lease))

    def test_read_only(self) -> None:
        """
        etcd that keeps the lease alive and accepts no writing is not available.
        """
        self.etcd.refuses_puts = True
        self.session.failed(CoordinationUnavailable("full"))
        self.passes(20)
        self.assertEqual((False, "full"), (self.session.available, self.session.problem))
        self.etcd.refuses_puts = False
        self.passes(6)
        self.assertTrue(self.session.available)

    def test_lease_gone(self) -> None:
        """
        After an error that the lease has ended, a new one begins.
        """
        lease = self.session.lease
        self.etcd.end_lease(lease)
        self.session.failed(LeaseGone("gone"))
        self.passes(0.6)
        self.assertEqual([True, True], self.heard)
        self.assertNotEqual(lease, self.session.lease)

    def test_retries(self) -> None:
        """
        While etcd is away, it is asked again ever more seldom, at least every five
        seconds.
        """
        self.etcd.problem = "away"
        self.session.failed(CoordinationUnavailable("away"))
        self.etcd.paths()
        self.passes(60)
        asked = len(self.etcd.paths())
        self.assertTrue(12 <= asked <= 30, asked)
        self.etcd.problem = ""
        self.passes(5)
        self.assertTrue(self.session.available)

    def test_restarted(self) -> None:
        """
        A node that was restarted ends its old lease, with all that is under it.
        """
        old = self.session.lease
        again = self.make("http://one.example")
        again.start()
        self.assertTrue(again.available)
        self.assertNotIn(old, self.etcd.leases)
        self.assertEqual(again.lease, self.etcd.keys["/xferd/1/nodes/one"].lease)

    def test_same_name(self) -> None:
        """
        A node with the name of another one is not available, and says why.
        """
        other = self.make("http://other.example")
        other.start()
        self.assertFalse(other.available)
        self.assertIn("http://one.example: set fleet.name", other.problem)
        self.assertEqual([self.session.lease], list(self.etcd.leases))
        self.assertEqual([], self.successResultOf(self.session.stop()) or [])
        self.passes(6)
        self.assertTrue(other.available)

    def test_same_name_and_url(self) -> None:
        """
        Of two nodes with the same name and URL the later one takes part: they do not end
        each other's leases in turn.
        """
        other = self.make("http://one.example", since=9.0)
        other.start()
        self.assertTrue(other.available)
        self.passes(60)
        self.assertTrue(other.available)
        self.assertFalse(self.session.available)
        self.assertIn("another daemon has the name and the URL of this one", self.session.problem)
        self.assertEqual([other.lease], list(self.etcd.leases))
        _ = other.stop()
        self.passes(6)
        self.assertTrue(self.session.available)

    def test_load(self) -> None:
        """
        The load is reported at most once a minute, and only when it has changed.  The number
        of nodes is counted then, too.
        """
        other = put(node_key("other"), b"{}", self.session.lease)
        _ = Deferred.fromCoroutine(self.etcd.call("/v3/kv/txn", {"success": [other]}))
        self.assertEqual(1, self.session.nodes)
        self.etcd.paths()
        self.session.report_load(1, 0)
        self.session.report_load(2, 9)
        self.passes(LOAD_SECONDS + 10)
        self.assertEqual(1, self.etcd.paths().count("/v3/kv/txn"))
        self.assertEqual(2, self.session.nodes)
        self.session.report_load(2, 10)
        self.passes(LOAD_SECONDS + 10)
        self.assertEqual(1, self.etcd.paths().count("/v3/kv/txn"))
        self.passes(LOAD_SECONDS + 10)
        self.assertEqual(0, self.etcd.paths().count("/v3/kv/txn"))

    def test_wrong_answers(self) -> None:
        """
        Wrong answers make etcd unavailable.
        """
        for path, answer in (
            ("/v3/lease/keepalive", {"result": []}),
            ("/v3/lease/keepalive", {"result": {"TTL": {}}}),
            ("/v3/lease/grant", {}),
            ("/v3/kv/txn", {"responses": 5}),
        ):
            self.etcd.answers = {path: answer}
            if path != "/v3/lease/keepalive":
                self.etcd.end_lease(self.session.lease)
            self.session.check()
            self.assertFalse(self.session.available, path)
            self.assertIn("an unexpected answer", self.session.problem)
            self.etcd.answers = {}
            self.passes(10)
            self.assertTrue(self.session.available)

    def test_stopped(self) -> None:
        """
        A session that stops ends its lease, and makes no more requests.
        """
        self.successResultOf(self.session.stop())
        self.assertEqual({}, self.etcd.leases)
        self.assertFalse(self.session.available)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.session.failed(CoordinationUnavailable("late"))
        self.session.check()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertIsNone(self.successResultOf(self.session.stop()))

    def test_stopped_early(self) -> None:
        """
        A session that stops while it begins, or whose etcd does not answer any more, stops
        within two seconds.
        """
        self.etcd.held = []
        other = self.make("http://other.example")
        other.start()
        self.assertIsNone(self.successResultOf(other.stop()))
        stopping = self.session.stop()
        self.assertNoResult(stopping)
        self.passes(2.1)
        self.assertIsNone(self.successResultOf(stopping))
