# -*- test-case-name: tests.store.test_leases -*-
"""
Who uses the store, and what must therefore not be collected.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from xferd.names import Digest


class Leases:
    """
    What the store was asked about while somebody uses it.

    A job or a transfer that finds a tree in the store goes on as if it stayed
    there, long before anything names it.  Nobody has to say so: whatever was
    touched since the oldest of those began who have not ended is in use.

    Blobs, diff IDs and chain IDs are not told apart here.  Where two of them
    are the same digest, both stay, which does no harm.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._open: dict[int, None] = {}
        # In the order of the last touch, which is that of the numbers.
        self._touched: dict[Digest, int] = {}

    def acquire(self) -> Callable[[], None]:
        """
        Begin to use the store.

        @return: to be called at the end.  Idempotent.
        """
        number = next(self._numbers)
        self._open[number] = None

        def end() -> None:
            if number in self._open:
                del self._open[number]
                self._forget()

        return end

    def touch(self, *digests: Digest) -> None:
        """
        Somebody relies on these from now on.
        """
        if self._open:
            for digest in digests:
                self._touched.pop(digest, None)
                self._touched[digest] = next(self._numbers)

    def __contains__(self, digest: object) -> bool:
        return digest in self._touched

    def _forget(self) -> None:
        """
        Forget what was touched before the oldest use began.
        """
        oldest = next(iter(self._open), None)
        if oldest is None:
            self._touched.clear()
            return
        while self._touched:
            digest = next(iter(self._touched))
            if self._touched[digest] > oldest:
                return
            del self._touched[digest]
