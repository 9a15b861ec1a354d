"""
Tests for L{xferd.engines.snapshotter.wire}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials, Secret
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.snapshotter.wire import (
    EngineReport,
    Hello,
    Provided,
    Report,
    Served,
    ServedEngine,
    Wanted,
    decode,
    encode,
)
from xferd.interfaces.layer_source import WantedLayer
from xferd.names import Digest, Reference

DIGEST = Digest.of(b"x")
SECRETS = Credentials("ann", Secret("s1"), Secret("s2"), Secret("s3"), "a file", "log in")
LAYER = WantedLayer(DIGEST, Reference.parse(f"r.example/app@{DIGEST}"), "r.example/app:1")

MESSAGES: list[Any] = [
    Hello(7, "1.0"),
    Served("1.0", True, {"main": ServedEngine("/run/a", "/run/b", True)}),
    Served("1.0", True, {"main": ServedEngine("/run/a", "/run/b", False, True)}),
    Served("1.0", False),
    Report({"a": EngineReport("in use"), "b": EngineReport(None, {"pulled": 3}, 9, ("sha256:00", "x"))}),
    Wanted("main", LAYER, DIGEST, {"r.example": SECRETS}),
    Wanted("main", WantedLayer(DIGEST), None),
    Provided("the disk is full"),
    Provided(None, 3, 4, "pulled"),
]


class WireTests(SynchronousTestCase):
    """
    Messages.
    """

    def test_round_trip(self) -> None:
        """
        Each message is read as it was written, also if a newer xferd has added something.
        """
        for message in MESSAGES:
            written = encode(message)
            self.assertEqual(decode(type(message), written), message)
            more = json.dumps({**json.loads(written), "later": [1]}).encode()
            self.assertEqual(decode(type(message), more), message)

    def test_older(self) -> None:
        """
        What an older xferd has kept of an engine is that of one outside of a user namespace.
        """
        engine = {"socket": "/a", "address": "/b", "cri": False}
        kept = {"version": "1", "isolated": False, "engines": {"a": engine}}
        self.assertEqual(
            decode(Served, json.dumps(kept).encode()).engines["a"], ServedEngine("/a", "/b", False, False)
        )

    def test_credentials(self) -> None:
        """
        Credentials arrive whole; the message does not print them.
        """
        wanted = Wanted("main", LAYER, None, {"r.example": SECRETS})
        found = decode(Wanted, encode(wanted)).credentials["r.example"]
        self.assertEqual((found, found.origin, found.remedy), (SECRETS, "a file", "log in"))
        self.assertNotIn("ann", repr(wanted))

    def test_malformed(self) -> None:
        """
        What is no such message is refused.
        """
        for message in MESSAGES:
            for content in (b"", b"[]", b"{}", b"\xff", b'{"engines": 3}', b'{"chain_id": "x"}'):
                error = self.assertRaises(GrpcError, decode, type(message), content)
                self.assertEqual(error.code, Status.INVALID_ARGUMENT)
