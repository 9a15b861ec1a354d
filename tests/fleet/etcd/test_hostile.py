"""
Whatever etcd answers, a node goes on alone with a reason, or with what it could read.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fleet.etcd.fake_etcd import FakeEtcd
from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.fleet.etcd.messages import encoded
from xferd.fleet.etcd.records import (
    CLAIMS,
    NODES,
    claim_key,
    holder_key,
    node_key,
    pause_key,
    tag_key,
)
from xferd.interfaces.fleet import FleetPause, Node, Peer
from xferd.names import Digest

BLOB = Digest.of(b"a layer")
NAMES = (
    *("responses", "response_range", "response_put", "response_txn", "succeeded", "kvs", "key", "value"),
    *("lease", "mod_revision", "count", "header", "revision", "ID", "TTL", "result", "events", "kv"),
    *("type", "canceled", "compact_revision", "error"),
)
MEMBERS = (
    *("url", "version", "since", "load", "saved", "node", "source", "size", "digest", "host"),
    *("account", "seconds", "reason", "quota"),
)
KEYS = (
    node_key("one"),
    node_key("two"),
    f"{NODES}\N{BULLET}",
    claim_key(BLOB),
    f"{CLAIMS}sha256-zz",
    holder_key(BLOB, "two"),
    tag_key("t"),
    pause_key("h", "document/a"),
    "",
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from(
        ["", "0", "7", "-1", "x", "PUT", "http://10.0.0.2:5000", "two", str(BLOB), "\ud800", "9" * 99]
    ),
)
RECORDS = st.dictionaries(st.sampled_from(MEMBERS), SCALARS | st.dictionaries(st.text(max_size=3), SCALARS))
TEXTS = st.one_of(
    st.sampled_from(KEYS).map(encoded),
    RECORDS.map(lambda record: encoded(json.dumps(record))),
    st.binary(max_size=20).map(encoded),
)
ANSWERS = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)


def shaped(inner: Any) -> Any:
    """
    A transaction's answer with arbitrary responses.
    """
    return st.lists(inner, max_size=3).map(lambda found: {"responses": found, "header": {"revision": "9"}})


PAIRS = st.fixed_dictionaries(
    {"key": TEXTS, "value": TEXTS, "lease": SCALARS, "mod_revision": st.sampled_from(["3", "9"]) | SCALARS}
)
READS = st.lists(PAIRS, max_size=3).map(lambda found: {"response_range": {"kvs": found}})
BRANCHES = st.tuples(st.booleans(), READS | ANSWERS).map(
    lambda both: {"response_txn": {"succeeded": both[0], "responses": [both[1]]}}
)
OBJECTS = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), ANSWERS, max_size=6),
    shaped(ANSWERS),
    shaped(READS | BRANCHES),
)


class HostileTests(SynchronousTestCase):
    """
    A node that is available, and then gets other answers than etcd's.
    """

    def node(self) -> tuple[Clock, FakeEtcd, EtcdCoordination, list[FleetPause]]:
        """
        Start it.
        """
        clock = Clock()
        etcd = FakeEtcd(clock)
        peer = Peer("one", "http://10.0.0.1:5000")
        node = EtcdCoordination(clock, cast("Any", etcd), Node(peer, "1", 5.0), Random(1))
        heard: list[FleetPause] = []
        node.follow_pauses(heard.append)
        node.start()
        clock.pump([0.01] * 10)
        self.assertTrue(node.available)
        return clock, etcd, node, heard

    def end(self, clock: Clock, etcd: FakeEtcd, node: EtcdCoordination) -> None:
        """
        With right answers, the node is available again, and stops.
        """
        etcd.answers.clear()
        clock.pump([0.5] * 40)
        self.assertTrue(node.available, node.problem)
        stopping = node.stop()
        clock.pump([0.5] * 10)
        self.successResultOf(stopping)
        self.assertEqual([], self.flushLoggedErrors())

    @settings(max_examples=400, deadline=None)
    @given(OBJECTS)
    def test_transactions(self, answer: dict[str, Any]) -> None:
        """
        Each call has a result or fails with a reason.
        """
        clock, etcd, node, _ = self.node()
        etcd.answers["/v3/kv/txn"] = answer
        calls: list[Deferred[Any]] = [
            node.look([BLOB]),
            node.claim(BLOB, 5, "a"),
            node.fresh_tag("t"),
            node.nodes(),
            node.claims(),
        ]
        node.announce([BLOB])
        node.tag_checked("t", BLOB, 60.0)
        node.pause("h", "document/a", 5.0, "429")
        clock.pump([0.25] * 16)
        for call in calls:
            results: list[Any] = []
            _ = call.addErrback(lambda failure: failure.trap(CoordinationUnavailable)).addCallback(
                results.append
            )
            self.assertEqual(len(results), 1)
        self.end(clock, etcd, node)

    @settings(max_examples=200, deadline=None)
    @given(OBJECTS, st.sampled_from(["grant", "keepalive", "timetolive", "revoke"]))
    def test_leases(self, answer: dict[str, Any], call: str) -> None:
        """
        So it is with leases.
        """
        clock, etcd, node, _ = self.node()
        etcd.answers[f"/v3/lease/{call}"] = answer
        node.tag_checked("t", BLOB, 60.0)
        node.pause("h", "document/a", 5.0, "429")
        clock.pump([0.5] * 40)
        self.end(clock, etcd, node)

    @settings(max_examples=300, deadline=None)
    @given(
        OBJECTS | st.lists(PAIRS, max_size=3).map(lambda f: {"result": {"events": [{"kv": e} for e in f]}})
    )
    def test_watch(self, message: dict[str, Any]) -> None:
        """
        So it is with messages of a watch; what is passed on is within its bounds.
        """
        clock, etcd, node, heard = self.node()
        each, ending = etcd.watches[-1]
        try:
            each(message)
        except Exception as e:
            ending.errback(e)
        for pause in heard:
            self.assertTrue(0 <= pause.seconds <= 86400 and pause.host)
        self.end(clock, etcd, node)
