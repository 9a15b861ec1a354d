# -*- test-case-name: tests.fleet.test_peer_client, tests.fleet.test_door -*-
"""
What the two sides of a request between nodes agree on: paths, names, and the facts that
an answer proves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xferd.names import Digest

PREFETCH: Final = "/v2/_xferd/prefetch"
"""The path at which a node is asked to fetch an image."""

WHOLE: Final = "whole"
"""In place of a depth: the peer has the whole blob, and has verified it."""

_PEER: Final = "peer "


def host_of(name: str) -> str:
    """
    The host of a peer as a source, in a form that no registry has.
    """
    return f"{_PEER}{name}"


def peer_of(host: str) -> str:
    """
    The name of the peer that a source's host is; empty for a registry.
    """
    return host.removeprefix(_PEER) if host.startswith(_PEER) else ""


def path_of(digest: Digest) -> str:
    """
    The path of a blob at a peer.
    """
    return f"/v2/_xferd/blobs/{digest}"


def answer_facts(
    digest: Digest, status: int, ranges: Sequence[str], depth: str, origins: Sequence[str]
) -> list[str]:
    """
    What an answer with bytes proves.
    """
    return [str(digest), str(status), " ".join(ranges), depth, *sorted(origins)]


def redirect_facts(digest: Digest, location: str, name: str) -> list[str]:
    """
    What a redirect proves.
    """
    return [str(digest), "307", location, name]
