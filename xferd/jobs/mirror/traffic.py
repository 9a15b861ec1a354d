# -*- test-case-name: tests.jobs.mirror.test_traffic -*-
"""
What the clients of the mirror got, and what their upstreams had to send for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import asdict

from xferd.interfaces.mirror import MirroredManifest, UpstreamFigures

MOST_HOSTS: Final = 1000
"""Upstreams that are counted one by one: clients may name any public host."""

OTHER: Final = "other"


class Traffic:
    """
    The counters of each upstream, since the start of the daemon.
    """

    def __init__(self) -> None:
        self._figures: dict[str, UpstreamFigures] = {}

    def figures(self) -> Mapping[str, UpstreamFigures]:
        """
        The counters as they are now, by the upstream's host.
        """
        return {host: UpstreamFigures(**asdict(figures)) for host, figures in self._figures.items()}

    def manifest(self, host: str, found: MirroredManifest) -> None:
        """
        Count a manifest that a client got.
        """
        figures = self._of(host)
        if found.warnings:
            figures.stale += 1
        elif found.stored:
            figures.hits += 1
        else:
            figures.misses += 1

    def blob(self, host: str, stored: bool, size: int) -> None:
        """
        Count a blob that a client requests.

        @param stored: whether it was complete in the store.
        @param size: how many of its bytes the client requests.
        """
        figures = self._of(host)
        if stored:
            figures.hits += 1
            figures.found += size
        else:
            figures.misses += 1

    def sent(self, host: str, size: int) -> None:
        """
        Count bytes of blobs that were sent to clients.
        """
        self._of(host).sent += size

    def fetched(self, host: str, size: int) -> None:
        """
        Count bytes that an upstream sent, for all clients of a blob together.
        """
        self._of(host).fetched += size

    def _of(self, host: str) -> UpstreamFigures:
        if host not in self._figures and len(self._figures) >= MOST_HOSTS:
            host = OTHER
        return self._figures.setdefault(host, UpstreamFigures())
