"""
Tests for L{xferd.fleet.etcd.records}.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.etcd import records
from xferd.fleet.etcd.messages import KeyValue
from xferd.interfaces.fleet import MAX_URL, Claim, FleetPause, Node, Peer
from xferd.interfaces.hosts import Quota
from xferd.names import Digest

BLOB = Digest.of(b"a layer")
PEER = Peer("one", "https://one.example:5000")


class RecordTests(SynchronousTestCase):
    """
    What is written is read again, and what is wrong is ignored.
    """

    def test_written(self) -> None:
        """
        Each kind of record is read as it was written.
        """
        node = Node(PEER, "1.2", 1e9, 3)
        key = KeyValue(records.node_key("one"), records.node_value(node), 5, 6)
        self.assertEqual(node, records.read_node(key))
        key = KeyValue(records.holder_key(BLOB, "one"), records.holder_value(PEER), 5, 6)
        self.assertEqual(PEER, records.read_holder(key, BLOB))
        key = KeyValue(records.claim_key(BLOB), records.claim_value(PEER, 7, "a"), 5, 6)
        self.assertEqual(Claim(BLOB, PEER, "a", 7, 6, True), records.read_claim(key, 5))
        self.assertEqual(Claim(BLOB, PEER, "a", 7, 6, False), records.read_claim(key, 4))
        key = KeyValue(records.tag_key("t"), records.tag_value(BLOB), 5, 6)
        self.assertEqual(BLOB, records.read_tag(key))
        pause = FleetPause("h", "a", 3.0, "429", "one")
        key = KeyValue(records.pause_key("h", "a"), records.pause_value(pause), 5, 6)
        self.assertEqual(pause, records.read_pause(key))
        for quota in (Quota(3), Quota(0, 100, 21600.0), Quota(7, 5000, 604800.0, 0.5)):
            counted = evolve(pause, quota=quota)
            key = evolve(key, value=records.pause_value(counted))
            self.assertEqual(counted, records.read_pause(key))

    def test_other_members(self) -> None:
        """
        Members that a later version adds are ignored.
        """
        value = json.dumps({"url": PEER.url, "zone": "b"}).encode()
        self.assertEqual(
            PEER, records.read_holder(KeyValue(records.holder_key(BLOB, "one"), value, 0, 0), BLOB)
        )

    def test_wrong(self) -> None:
        """
        A record with a wrong member is ignored.
        """
        node = json.loads(records.node_value(Node(PEER, "1.2", 1e9, 3)))
        for name, value in (
            ("url", "ftp://one.example"),
            ("url", 1),
            ("since", "now"),
            ("since", float("nan")),
            ("since", True),
            ("load", -1),
            ("load", "3"),
            ("saved", -1),
            ("saved", "3"),
        ):
            record = KeyValue(records.node_key("one"), json.dumps(node | {name: value}).encode(), 0, 0)
            self.assertIsNone(records.read_node(record), name)
        claim = KeyValue(records.claim_key(BLOB), records.claim_value(PEER, 7, "a"), 5, 6)
        self.assertIsNone(records.read_claim(evolve(claim, key=f"{records.CLAIMS}sha256-zz"), 0))
        self.assertIsNone(
            records.read_claim(evolve(claim, value=b'{"node":"..","url":"http://a","size":1}'), 0)
        )
        self.assertIsNone(
            records.read_claim(evolve(claim, value=b'{"node":"a","url":"http://a","size":-1}'), 0)
        )
        pause = FleetPause("h", "a", 3.0, "429", "one")
        moved = KeyValue(records.pause_key("h", "b"), records.pause_value(pause), 5, 6)
        self.assertIsNone(records.read_pause(moved))
        right = KeyValue(records.pause_key("h", "a"), moved.value, 5, 6)
        wrong: Any
        for wrong in (
            None,
            7,
            [],
            {},
            {"remaining": None},
            {"remaining": -1},
            {"remaining": 1e300},
            {"remaining": True},
            {"remaining": 3, "limit": 0},
            {"remaining": 3, "limit": "100"},
            {"remaining": 3, "window": -1},
            {"remaining": 3, "reset": float("inf")},
        ):
            data = json.dumps(json.loads(moved.value) | {"quota": wrong}).encode()
            self.assertIsNone(records.read_pause(evolve(right, value=data)), wrong)
        self.assertIsNone(records.read_tag(KeyValue(records.tag_key("t"), b'{"digest":"md5:1"}', 0, 0)))
        self.assertIsNone(records.read_tag(KeyValue(records.tag_key("t"), b"[" * 5000, 0, 0)))
        self.assertIsNone(records.read_tag(KeyValue(records.tag_key("t"), b" " * 9000, 0, 0)))

    def test_shown(self) -> None:
        """
        Text that is not printable is not shown.
        """
        value = json.dumps({"node": "a", "url": "http://a", "size": 1, "source": "a\x1b[2J"}).encode()
        claim = records.read_claim(KeyValue(records.claim_key(BLOB), value, 0, 0), 0)
        assert claim is not None
        self.assertEqual("", claim.source)

    def test_urls(self) -> None:
        """
        Only plain URLs of servers are those of nodes.
        """
        for good in ("http://10.0.0.1:5000", "https://one.example", "https://[::1]:5000/path"):
            self.assertTrue(records.is_peer_url(good), good)
        for bad in (
            "",
            "one.example",
            "http://",
            "http://u:p@one.example",
            "http://one.example/?q",
            "http://one.example/#f",
            "http://one.example:port",
            "http://one.example\n",
            "http://one example",
            "http://\u00e4.example",
            "file:///etc/passwd",
            "http://a" + "a" * MAX_URL,
        ):
            self.assertFalse(records.is_peer_url(bad), bad)

    @given(
        st.binary(max_size=200)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["url", "node", "size", "digest", "seconds", "host", "since", "load"]),
                    inner,
                )
            ),
        )
    )
    def test_hostile(self, value: Any) -> None:
        """
        Whatever is under a key is read or ignored.
        """
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        records.read_node(KeyValue(records.node_key("one"), data, 0, 0))
        records.read_holder(KeyValue(records.holder_key(BLOB, "one"), data, 0, 0), BLOB)
        records.read_claim(KeyValue(records.claim_key(BLOB), data, 0, 0), 0)
        records.read_tag(KeyValue(records.tag_key("t"), data, 0, 0))
        records.read_pause(KeyValue(records.pause_key("h", "a"), data, 0, 0))
