# -*- test-case-name: tests.test_expiring -*-
"""
A bounded table of facts about hosts, repositories or credentials: unused entries
expire.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

KEEP: Final = 3600.0
"""Seconds for which an unused entry is kept."""

MOST: Final = 1000
"""The most entries; the least recently used one is dropped first."""


class ExpiringDict(Generic[K, V]):
    """
    A table whose unused entries expire.

    It has no timer: each use of the table drops the expired entries.
    """

    def __init__(self, clock: Callable[[], float], *, keep: float = KEEP, most: int = MOST) -> None:
        """
        @param clock: returns monotonic seconds.
        @param keep: seconds for which an entry is kept after its last use.
        @param most: the most entries.
        """
        self._clock = clock
        self._keep = keep
        self._most = most
        # By their last uses, the oldest first.
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def __setitem__(self, key: K, value: V) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (self._clock(), value)
        self._drop()

    def get(self, key: K) -> V | None:
        """
        The value of a key, which counts as a use of it.
        """
        self._drop()
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries[key] = (self._clock(), found[1])
        self._entries.move_to_end(key)
        return found[1]

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """
        The value of a key, made if the key is missing.
        """
        found = self.get(key)
        if found is None:
            found = self[key] = make()
        return found

    def pop(self, key: K) -> V | None:
        """
        Remove a key, and return its value, if any.
        """
        found = self._entries.pop(key, None)
        return None if found is None else found[1]

    def items(self) -> Iterator[tuple[K, V]]:
        """
        All entries that have not expired.  This does not count as a use.
        """
        self._drop()
        return iter([(key, value) for key, (_, value) in self._entries.items()])

    def _drop(self) -> None:
        expired = self._clock() - self._keep
        while self._entries:
            key, (used, _) = next(iter(self._entries.items()))
            if used > expired and len(self._entries) <= self._most:
                break
            del self._entries[key]
