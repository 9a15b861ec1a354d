# -*- test-case-name: tests.registry.push.test_chunked_upload -*-
"""
The features of registries, found by use and remembered while the daemon runs.
"""

from __future__ import annotations

from typing import Final

from attrs import define, frozen


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
    The features of one registry's uploads.  All are assumed until one fails.

    @ivar chunks: whether it accepts a blob in several requests.
    @ivar finds_blobs: whether it accepts a mount without C{from} (OCI
        distribution-spec, "Mounting a blob from another repository").
    @ivar most: bytes of the largest body that it may accept, or L{None} while
        none was too large.
    @ivar least: bytes of a chunk at least, except the last.
    """

    chunks: bool = True
    finds_blobs: bool = True
    most: int | None = None
    least: int = 0

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
        self.most = half if self.most is None else min(self.most, half)
        return True
