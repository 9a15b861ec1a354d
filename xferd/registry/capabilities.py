# -*- test-case-name: tests.registry.push.test_chunked_upload -*-
"""
What a registry turned out to be able to do, learned by trying and remembered
for as long as the daemon runs.
"""

from __future__ import annotations

from typing import Final

from attrs import define, frozen


@frozen
class ChunkSizes:
    """
    How large the parts are in which a blob is sent, in bytes.

    @ivar first: of the first; a blob that is not larger goes in one request.
    @ivar largest: of the largest.  Beyond it, a request more costs nothing,
        and a break or a proxy's limit costs more.
    @ivar smallest: to what breaks make them shrink: below it, requests begin
        to cost.
    """

    first: int = 16 * 1024 * 1024
    largest: int = 64 * 1024 * 1024
    smallest: int = 4 * 1024 * 1024


SMALLEST_BODY: Final = 64 * 1024
"""Bytes of the smallest body that is tried where larger ones are refused."""


@define
class Capabilities:
    """
    What one registry can do with uploads.  Until it says otherwise, anything.

    @ivar chunks: whether it takes a blob in several requests.
    @ivar finds_blobs: whether it takes a mount that does not say from where
        (OCI distribution-spec, "Mounting a blob from another repository").
    @ivar most: the largest body that it may take, in bytes, or L{None} while
        none was too large.
    @ivar least: the bytes that a chunk which is not the last must have.
    """

    chunks: bool = True
    finds_blobs: bool = True
    most: int | None = None
    least: int = 0

    def takes(self, length: int) -> bool:
        """
        Whether a body of so many bytes may be taken, as far as is known.
        """
        return self.most is None or length <= self.most

    def too_large(self, length: int) -> bool:
        """
        Learn that a body of so many bytes was too large.

        @return: whether a smaller one is worth trying.
        """
        half = length // 2
        if half < max(self.least, SMALLEST_BODY):
            return False
        self.most = half if self.most is None else min(self.most, half)
        return True
