"""
The bytes between a daemon and a registry for tests: what was moved twice, and what the sockets had at a
kill.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
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

    @ivar streams: the blobs, or parts of them, that the registry is sending, or that the daemon has not read.
    @ivar received: bytes in the receive buffers of the daemon.
    @ivar unsent: bytes that the registry has counted as sent and the daemon's kernel has not.
    """

    streams: int
    received: int
    unsent: int


def queues(registry: Registry) -> Queues:
    """
    Look at the sockets between the daemon and a registry.
    """
    port = int(registry.host.rpartition(":")[2])
    # The kernel may skip rows of a table that changes while it is read.
    rows: dict[tuple[str, str], tuple[int, int]] = {}
    for _ in range(3):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, waiting, *_ = line.split()
            sending, receiving = (int(size, 16) for size in waiting.split(":"))
            rows.setdefault((local, remote), (sending, receiving))
    received = unsent = unread = 0
    for (local, remote), (sending, receiving) in rows.items():
        if int(remote.split(":")[1], 16) == port:
            received += receiving
            unread += receiving > 0
        elif int(local.split(":")[1], 16) == port:
            unsent += sending
    sending_now = sum(e.state == "open" and e.method == "GET" and "/blobs/" in e.path for e in registry.log)
    return Queues(max(sending_now, unread), received, unsent + sum(map(_buffered, transports(registry))))


def transports(registry: Registry) -> Sequence[Any]:
    """
    The connections of a registry.
    """
    connections = registry._connections
    assert connections is not None
    return [connection.transport for connection in connections.protocols]


def lives(ends: Sequence[tuple[Sequence[Exchange], int]], log: Sequence[Exchange]) -> list[list[Exchange]]:
    """
    The answers that each daemon got.

    @param ends: for each kill the log as it was, and the length of the log when the connections of the
        killed daemon were gone.  What came between are answers to its last requests, which no
        daemon got.
    @param log: the log now.
    """
    begins = [0, *(length for _, length in ends)]
    logs = [*(known for known, _ in ends), log]
    return [list(known[begin:]) for begin, known in zip(begins, logs, strict=True)]


def _buffered(transport: Any) -> int:
    """
    The bytes that Twisted keeps until the kernel accepts them.
    """
    return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)


def moved_twice(lives: Sequence[Sequence[Exchange]], documents: Collection[str] = ()) -> list[int]:
    """
    Count the bytes of blobs that were sent again.

    @param lives: the answers that each daemon got.
    @param documents: the digests of configs, which do not count: a daemon has them in memory until they
        are whole.
    @return: for each kill between two of them, those that the killed daemon had been sent.
    """
    twice = [0] * (len(lives) - 1)
    known: dict[str, list[tuple[int, int]]] = {}
    last: dict[str, int] = {}
    for number, life in enumerate(lives):
        for path, spans in _spans(life).items():
            if path.rpartition("/")[2] in documents:
                continue
            earlier = known.get(path, [])
            if path in last:
                both = (min(stop, b) - max(start, a) for start, stop in spans for a, b in earlier)
                twice[last[path]] += sum(size for size in both if size > 0)
            known[path] = list(Spans.of([*earlier, *spans]).all())
            last[path] = number
    return twice


def _spans(exchanges: Iterable[Exchange]) -> dict[str, list[tuple[int, int]]]:
    """
    The parts of blobs that were sent, by path.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for exchange in exchanges:
        if exchange.method == "GET" and "/blobs/" in exchange.path and exchange.status in (200, 206):
            asked = re.match(r"bytes=([0-9]+)-", exchange.range or "")
            start = int(asked[1]) if asked is not None else 0
            found.setdefault(exchange.path, []).append((start, start + exchange.bytes_sent))
    # A stream ends where a later one began; what is behind that was sent and not read.
    return {
        path: [
            (start, min([stop, *(begun for begun, _ in spans[number + 1 :] if begun > start)]))
            for number, (start, stop) in enumerate(spans)
        ]
        for path, spans in found.items()
    }
