# -*- test-case-name: tests.jobs.images.test_document_memory -*-
"""
The memory that the documents of all copies take together.

A copy has its manifests in memory until they are sent, and what the next one
needs is known only when it was read.  So each takes memory as it goes on, and
waits where there is none.  The one that has waited or gone on for the longest
time never waits, so that there is always one that comes to its end.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

MOST: Final = 128 * 1024 * 1024
"""Bytes that all may take, besides what is free and what the oldest takes."""

FREE: Final = 256 * 1024
"""Bytes that each may take without waiting: nearly all images need fewer."""


class DocumentMemory:
    """
    The memory for documents.

    @ivar used: the bytes that are taken beyond what is free.
    """

    def __init__(self, most: int = MOST, free: int = FREE) -> None:
        """
        @param most: how many bytes all may take together, beyond what is free.
        @param free: how many each may take in any case.
        """
        self._most = most
        self._free = free
        self._large: dict[MemoryShare, None] = {}
        self._waiting: deque[tuple[MemoryShare, int, Deferred[None]]] = deque()

    @property
    def used(self) -> int:
        """
        The bytes that are taken beyond what is free.
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
        if self._has_room(share, size, behind=bool(self._waiting)):
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
            if waiter in self._waiting and self._has_room(other, size, behind=waiter != self._waiting[0]):
                self._waiting.remove(waiter)
                other.size += size
                result.callback(None)

    def _has_room(self, share: MemoryShare, size: int, *, behind: bool) -> bool:
        """
        Whether there is as much for one.

        @param behind: whether others wait before it.
        """
        if share not in self._large or share is next(iter(self._large)):
            return True
        more = share.size + size - max(share.size, self._free)
        return not behind and self.used + more <= self._most


@define(eq=False)
class MemoryShare:
    """
    What one copy takes.

    @ivar size: the bytes of its documents.
    """

    _memory: DocumentMemory
    size: int = field(default=0, init=False)

    def take(self, size: int) -> Deferred[None]:
        """
        Take memory for a document.

        @return: fires when there is as much.  Cancelling ends the wait.
        """
        return self._memory.take(self, size)

    def release(self) -> None:
        """
        Need none of it any more.  Idempotent.
        """
        self._memory.release(self)
