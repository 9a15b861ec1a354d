"""
The bytes between a daemon and a registry for tests: what was moved twice, and what the sockets had at a
kill.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from xferd.store.blobs.spans import Spans
from xferd.testing.answers import Exchange
from xferd.testing.registry import Registry

STEP = 256 * 1024
"""Bytes of a chunk: each stream may lose so many besides what its socket had received."""


@frozen
class Queues:
    """
    The sockets at an instant.

    @ivar received: bytes in the receive buffers of the daemon.
    @ivar unsent: bytes that the registry has counted as sent and the daemon's kernel has not.
    """

    received: int
    unsent: int


def queues(registry: Registry) -> Queues:
    """
    Look at the sockets between the daemon and a registry.
    """
    port = int(registry.host.rpartition(":")[2])
    received = unsent = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, waiting, *_ = line.split()
        sending, receiving = (int(size, 16) for size in waiting.split(":"))
        if int(remote.split(":")[1], 16) == port:
            received += receiving
        elif int(local.split(":")[1], 16) == port:
            unsent += sending
    return Queues(received, unsent + sum(map(_buffered, _transports(registry))))


def _transports(registry: Registry) -> Iterable[Any]:
    connections = registry._connections
    assert connections is not None
    return [connection.transport for connection in connections.protocols]


def _buffered(transport: Any) -> int:
    """
    The bytes that Twisted keeps until the kernel accepts them.
    """
    return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)


def open_streams(registry: Registry) -> int:
    """
    The number of blobs, or parts of them, that the registry is sending.
    """
    return sum(e.state == "open" and e.method == "GET" and "/blobs/" in e.path for e in registry.log)


def is_blob(exchange: Exchange) -> bool:
    """
    Whether an answer has bytes of a blob.
    """
    return exchange.method == "GET" and "/blobs/" in exchange.path and exchange.status in (200, 206)


class Coverage:
    """
    The bytes of each blob that were sent to the daemons so far.
    """

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[int, int]]] = {}

    def add(self, exchanges: Iterable[Exchange]) -> int:
        """
        Add the answers that one daemon got.

        @return: how many of their bytes earlier daemons had got.
        """
        twice = 0
        arrived: dict[str, list[tuple[int, int]]] = {}
        for exchange in exchanges:
            if is_blob(exchange):
                start = int(found[1]) if (found := re.match(r"bytes=([0-9]+)-", exchange.range or "")) else 0
                arrived.setdefault(exchange.path, []).append((start, start + exchange.bytes_sent))
        for path, spans in arrived.items():
            earlier = self._spans.get(path, [])
            for number, (start, stop) in enumerate(spans):
                # A stream ends where a later one began; what is behind that was sent and not read.
                stop = min([stop, *(begun for begun, _ in spans[number + 1 :] if begun > start)])
                twice += sum(max(0, min(stop, b) - max(start, a)) for a, b in earlier)
                spans[number] = start, stop
            self._spans[path] = list(Spans.of([*earlier, *spans]).all())
        return twice
