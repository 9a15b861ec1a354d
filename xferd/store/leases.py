# -*- test-case-name: tests.store.test_leases -*-
"""
Leases: while one is held, the garbage collector spares what its holder relies on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from xferd.names import Digest


class Leases:
    """
    The digests that the store was asked about while a lease is held.

    A job or a transfer that finds a tree in the store relies on it, long before
    an image refers to it.  It does not have to declare this: anything touched
    since the oldest held lease was acquired is in use.

    Blobs, diff IDs and chain IDs are not distinguished.  If two of them are the
    same digest, both are kept, which is harmless.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._held: dict[int, None] = {}
        # In the order of the last touch, which is that of the numbers.
        self._touched: dict[Digest, int] = {}

    def acquire(self) -> Callable[[], None]:
        """
        Acquire a lease.

        @return: a function that releases it.  Idempotent.
        """
        number = next(self._numbers)
        self._held[number] = None

        def release() -> None:
            if number in self._held:
                del self._held[number]
                self._forget()

        return release

    def touch(self, *digests: Digest) -> None:
        """
        Keep some digests for the leases that are held now.
        """
        if self._held:
            for digest in digests:
                self._touched.pop(digest, None)
                self._touched[digest] = next(self._numbers)

    def __contains__(self, digest: object) -> bool:
        return digest in self._touched

    def _forget(self) -> None:
        """
        Forget the digests that were touched before the oldest lease was
        acquired.
        """
        oldest = next(iter(self._held), None)
        if oldest is None:
            self._touched.clear()
            return
        while self._touched:
            digest = next(iter(self._touched))
            if self._touched[digest] > oldest:
                return
            del self._touched[digest]
