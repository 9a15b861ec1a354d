# -*- test-case-name: tests.testing.test_fake_gc -*-
"""
The leases on what a store in memory holds.
"""

from __future__ import annotations

from collections.abc import Callable

from xferd.names import Digest


class FakeLeases:
    """
    Who uses the store, each with what it asked about.
    """

    def __init__(self) -> None:
        self.open: list[set[Digest]] = []

    def touch(self, *digests: Digest) -> None:
        """
        Somebody asked about these.
        """
        for use in self.open:
            use.update(digests)

    def begin(self) -> Callable[[], None]:
        """
        Begin a use; gives what ends it.
        """
        use: set[Digest] = set()
        self.open.append(use)

        def end() -> None:
            self.open[:] = [other for other in self.open if other is not use]

        return end

    def __contains__(self, digest: object) -> bool:
        return any(digest in use for use in self.open)
