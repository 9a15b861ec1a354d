# -*- test-case-name: tests.jobs.images.test_document_memory -*-
"""
The bound on the memory of the documents of all copies together.

A copy holds its manifests in memory until they are sent, and the size of the
next one is known only when its index was read.  So each copy takes memory as it
proceeds, and waits where none is free.  The oldest large copy never waits, so
that one always completes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

MOST: Final = 128 * 1024 * 1024
"""Bytes that all copies may take, besides the free bytes of each and those of the oldest."""

FREE: Final = 256 * 1024
"""Bytes that each copy may take without waiting: nearly all images need fewer."""


class DocumentMemory:
    """
    The memory for documents.

    @ivar used: the bytes taken beyond the free bytes of each copy.
    """

    def __init__(self, most: int = MOST, free: int = FREE) -> None:
        """
        @param most: the bytes that all copies may take together, beyond C{free}.
        @param free: the bytes that each copy may take in any case.
        """
        self._most = most
        self._free = free
        self._large: dict[MemoryShare, None] = {}
        self._waiting: deque[tuple[MemoryShare, int, Deferred[None]]] = deque()

    @property
    def used(self) -> int:
        """
        The bytes taken beyond the free bytes of each copy.
        """
        return sum(max(share.size - self._free, 0) for share in self._large)

    def share(self) -> MemoryShare:
        """
        The memory of one more copy.
        """
        return MemoryShare(self)

    def take(self, share: MemoryShare, size: int) -> Deferred[None]:
        """
        See L{MemoryShare.take}.
        """
        if share.size + size > self._free:
            self._large.setdefault(share)
        if self._fits(share, size, behind=bool(self._waiting)):
            share.size += size
            return succeed(None)
        result: Deferred[None] = Deferred(lambda _: self._waiting.remove(waiter))
        waiter = share, size, result
        self._waiting.append(waiter)
        return result

    def release(self, share: MemoryShare) -> None:
        """
        See L{MemoryShare.release}.
        """
        share.size = 0
        self._large.pop(share, None)
        for waiter in list(self._waiting):
            other, size, result = waiter
            if waiter in self._waiting and self._fits(other, size, behind=waiter != self._waiting[0]):
                self._waiting.remove(waiter)
                other.size += size
                result.callback(None)

    def _fits(self, share: MemoryShare, size: int, *, behind: bool) -> bool:
        """
        Whether a copy may take so many bytes.

        @param behind: whether other copies wait before it.
        """
        if share not in self._large or share is next(iter(self._large)):
            return True
        more = share.size + size - max(share.size, self._free)
        return not behind and self.used + more <= self._most


@define(eq=False)
class MemoryShare:
    """
    The memory of one copy.

    @ivar size: the bytes of its documents.
    """

    _memory: DocumentMemory
    size: int = field(default=0, init=False)

    def take(self, size: int) -> Deferred[None]:
        """
        Take memory for a document.

        @return: fires when it is available.  Cancelling ends the wait.
        """
        return self._memory.take(self, size)

    def release(self) -> None:
        """
        Release all of it.  Idempotent.
        """
        self._memory.release(self)
