# -*- test-case-name: tests.test_lookups -*-
"""
Whether to look for a blob before it is sent: in its repository, or in others from which
it could be mounted.

Pure.
"""

from __future__ import annotations

from typing import Final

SMALL: Final = 64 * 1024
"""The size in bytes of the largest blob that is sent without a lookup: to send it again costs little."""

ENOUGH: Final = 16
"""The number of unsuccessful lookups in a row after which most are skipped."""

STRIDE: Final = 8
"""Of so many small blobs, one is still looked up."""


class Lookups:
    """
    The lookups of blobs that are sent to one repository.

    A HEAD costs about as much as each of the two requests that send a small blob, and
    a query of the journal costs a tenth.  When thousands of small blobs are sent to a
    repository that has none of them, most lookups are skipped.  One successful lookup
    ends this, so that a retry of an interrupted job sends few blobs twice.
    """

    def __init__(self, absent: int = 0) -> None:
        """
        @param absent: the number of earlier unsuccessful lookups in a row.
        """
        self._absent = absent
        self._skipped = 0

    def worthwhile(self, size: int) -> bool:
        """
        Whether to look for a blob of so many bytes.
        """
        if size > SMALL or self._absent < ENOUGH:
            return True
        self._skipped += 1
        return self._skipped % STRIDE == 0

    def note(self, found: bool) -> None:
        """
        Record the result of a lookup.
        """
        self._absent = 0 if found else self._absent + 1
