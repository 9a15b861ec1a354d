# -*- test-case-name: tests.registry.push.test_chunked_upload -*-
"""
The features of registries, found by use and remembered for a day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import asdict, define, field, filters, frozen

from xferd.expiring import ExpiringDict
from xferd.interfaces.hosts import IHostMemory


@frozen
class ChunkSizes:
    """
    The sizes of the chunks of an upload, in bytes.

    @ivar first: the first chunk; a blob that is not larger is sent in one
        request.
    @ivar largest: the largest chunk.  Larger ones would save little, and cost
        more after a break or at a proxy's limit.
    @ivar smallest: the smallest chunk after breaks: smaller ones would cost more
        requests.
    """

    first: int = 16 * 1024 * 1024
    largest: int = 64 * 1024 * 1024
    smallest: int = 4 * 1024 * 1024


SMALLEST_BODY: Final = 64 * 1024
"""Bytes of the smallest body that is tried when larger ones are refused."""


@define
class Capabilities:
    """
    The features of one registry's uploads.  All are assumed until one fails, but the last.

    @ivar chunks: whether it accepts a blob in several requests.
    @ivar finds_blobs: whether it accepts a mount without C{from} (OCI
        distribution-spec, "Mounting a blob from another repository").
    @ivar most: bytes of the largest body that it may accept, or L{None} while
        none was too large.
    @ivar least: bytes of a chunk at least, except the last.
    @ivar single_post: whether it accepts a whole blob in the request that begins
        an upload (OCI distribution-spec, "Single POST"), or L{None} before the first
        attempt.
    @ivar trying: whether that attempt is under way.
    @ivar report: called with them when one was found.
    """

    chunks: bool = True
    finds_blobs: bool = True
    most: int | None = None
    least: int = 0
    single_post: bool | None = None
    trying: bool = field(default=False, init=False, eq=False)
    report: Callable[[Mapping[str, Any]], object] = field(default=lambda _: None, eq=False, repr=False)

    def learn(self, **found: bool | int) -> None:
        """
        Set features that were found.
        """
        if all(getattr(self, name) == value for name, value in found.items()):
            return
        for name, value in found.items():
            setattr(self, name, value)
        self.report(asdict(self, filter=filters.exclude("report", "trying")))

    def forget(self) -> None:
        """
        Assume all features again.
        """
        self.chunks, self.finds_blobs, self.most, self.least = True, True, None, 0
        self.single_post = None

    def accepts(self, length: int) -> bool:
        """
        Whether a body of so many bytes may be accepted, as far as is known.
        """
        return self.most is None or length <= self.most

    def too_large(self, length: int) -> bool:
        """
        Note that a body of so many bytes was too large.

        @return: whether to try a smaller one.
        """
        half = length // 2
        if half < max(self.least, SMALLEST_BODY):
            return False
        self.learn(most=half if self.most is None else min(self.most, half))
        return True


class KnownCapabilities:
    """
    The features of all registries.
    """

    def __init__(self, memory: IHostMemory, clock: Callable[[], float]) -> None:
        """
        @param memory: what keeps them over a restart.
        @param clock: returns monotonic seconds.
        """
        self._memory = memory
        self._known: ExpiringDict[str, Capabilities] = ExpiringDict(clock)
        memory.follow(self._forget)

    def __len__(self) -> int:
        return len(self._known)

    def of(self, host: str) -> Capabilities:
        """
        The features of one registry, which counts as a use of them.
        """
        return self._known.get_or_make(host, lambda: self._make(host))

    def _make(self, host: str) -> Capabilities:
        def report(found: Mapping[str, Any]) -> None:
            self._memory.learned(host, found)

        try:
            return Capabilities(**self._memory.capabilities(host), report=report)
        except TypeError:
            # They were recorded by a version that knows others.
            return Capabilities(report=report)

    def _forget(self, host: str) -> None:
        known = self._known.get(host)
        if known is not None:
            known.forget()
