# -*- test-case-name: tests.ctl.demo.test_registry -*-
"""
Tests for L{xferd.ctl.demo.registry}.
"""

from __future__ import annotations

import json
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody

from xferd.ctl.demo.registry import REPOSITORY, Counter
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry


class CounterTests(SynchronousTestCase):
    """
    Tests for L{Counter}.
    """

    def setUp(self) -> None:
        """
        Serve an image in memory.
        """
        self.image = sample_image(layers=2, size=1000)
        self.registry = Registry(Clock())
        self.registry.add(self.image, REPOSITORY)
        self.registry.url = "http://127.0.0.1:5000"
        self.counter = Counter(self.registry, self.image)
        self.transport = StringTransport()
        self.counter.makeConnection(self.transport)

    def said(self) -> list[Any]:
        """
        The output since the last call.
        """
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def get(self, path: str) -> None:
        """
        Send a request to the registry.
        """
        agent = RequestTraversalAgent(self.registry.resource())
        response = agent.request(b"GET", f"http://127.0.0.1:5000/v2/{REPOSITORY}/{path}".encode())
        agent.flush()
        body = readBody(self.successResultOf(response))
        agent.flush()
        self.successResultOf(body)

    def test_first(self) -> None:
        """
        The first line has the image's reference, and the bytes of its blobs.
        """
        size = sum(blob.descriptor.size for blob in self.image.blobs)
        self.assertEqual(
            self.said(),
            [{"reference": "127.0.0.1:5000/demo/this-machine:latest", "layers": 2, "bytes": size}],
        )

    def test_count(self) -> None:
        """
        Each line of input is answered with the bytes of blobs that were sent.
        """
        self.said()
        self.counter.dataReceived(b"?\n")
        self.assertEqual(self.said(), [{"bytes": 0, "requests": 0}])
        layer = self.image.layers[0].blob.descriptor
        self.get("manifests/latest")
        self.get(f"blobs/{layer.digest}")
        self.get(f"blobs/{layer.digest}")
        self.counter.dataReceived(b"?\n?\n")
        self.assertEqual(self.said(), [{"bytes": 2 * layer.size, "requests": 2}] * 2)

    def test_end(self) -> None:
        """
        The end of the input ends it.
        """
        self.assertNoResult(self.counter.ended)
        self.counter.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(self.counter.ended)
