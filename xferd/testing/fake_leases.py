# -*- test-case-name: tests.testing.test_fake_gc -*-
"""
The leases on what a store in memory holds.
"""

from __future__ import annotations

from collections.abc import Callable

from xferd.names import Digest


class FakeLeases:
    """
    The open leases, each with the digests that were touched since.
    """

    def __init__(self) -> None:
        self.open: list[set[Digest]] = []

    def touch(self, *digests: Digest) -> None:
        """
        Add digests to all open leases.
        """
        for use in self.open:
            use.update(digests)

    def begin(self) -> Callable[[], None]:
        """
        Open a lease; the returned function ends it.
        """
        use: set[Digest] = set()
        self.open.append(use)

        def end() -> None:
            self.open[:] = [other for other in self.open if other is not use]

        return end

    def __contains__(self, digest: object) -> bool:
        return any(digest in use for use in self.open)
