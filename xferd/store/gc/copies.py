# -*- test-case-name: tests.store.gc.test_copies -*-
"""
The order of an eviction: of the content that was not used for long, the blobs that
other nodes have are removed first.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from xferd.interfaces.catalog import CatalogManifest
from xferd.interfaces.fleet import MIN_SHARED
from xferd.interfaces.store import Image
from xferd.names import Digest, Repository

Candidate = Image | tuple[Repository, CatalogManifest]

SCOPE: Final = 4
"""How many times as many bytes as are to be freed are looked at: content that was used
lately does not go because others have it."""

MOST: Final = 256
"""The candidates that are looked at, at most."""

MOST_BLOBS: Final = 1000
"""Their blobs that others are asked about, at most."""


def large_blobs(candidate: Candidate) -> frozenset[Digest]:
    """
    The blobs of an image or a manifest that others may have.
    """
    blobs = candidate.layers if isinstance(candidate, Image) else candidate[1].blobs
    return frozenset(blob.digest for blob in blobs if blob.size >= MIN_SHARED)


def scope(candidates: Sequence[Candidate], excess: int) -> int:
    """
    How many of some candidates are looked at.

    @param candidates: the least recently used first.
    @param excess: the bytes to be freed.
    """
    left = SCOPE * excess
    for number, candidate in enumerate(candidates[:MOST]):
        if left <= 0:
            return number
        left -= candidate.size if isinstance(candidate, Image) else candidate[1].size
    return min(len(candidates), MOST)


def questions(candidates: Sequence[Candidate], excess: int) -> frozenset[Digest]:
    """
    The blobs whose copies matter.
    """
    found: set[Digest] = set()
    for candidate in candidates[: scope(candidates, excess)]:
        blobs = large_blobs(candidate)
        if len(found | blobs) > MOST_BLOBS:
            break
        found |= blobs
    return frozenset(found)


def copied_first(candidates: Sequence[Candidate], excess: int, copied: Set[Digest]) -> list[Candidate]:
    """
    The candidates in the order in which they go.

    @param copied: the blobs that others have.
    """
    end = scope(candidates, excess)

    def is_unique(candidate: Candidate) -> bool:
        blobs = large_blobs(candidate)
        return not blobs or not blobs <= copied

    return [*sorted(candidates[:end], key=is_unique), *candidates[end:]]
