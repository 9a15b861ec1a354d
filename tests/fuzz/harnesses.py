"""
All harnesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.fuzz import documents, frames, registry, requests, tars, texts
from tests.fuzz.harness import Harness

HARNESSES: Final[Mapping[str, Harness]] = {
    harness.name: harness
    for harness in (
        tars.TAR,
        tars.WRITTEN,
        tars.PAX,
        tars.TREE,
        tars.INFLATING,
        texts.REFERENCES,
        texts.CHALLENGES,
        texts.HEADERS,
        texts.HEADS,
        documents.HOSTS,
        documents.DOCKER_CONFIG,
        documents.MANIFESTS,
        documents.CONFIGS,
        documents.ARCHIVES,
        requests.REQUESTS,
        requests.FOREIGN,
        registry.REGISTRY,
        registry.STRANGER,
        frames.SERVER,
        frames.CLIENT,
    )
}
