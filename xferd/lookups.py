# -*- test-case-name: tests.test_lookups -*-
"""
Whether to look for a blob before it is sent: in its repository, or in others from which
it could be mounted.

Pure.
"""

from __future__ import annotations

from typing import Final

SMALL: Final = 64 * 1024
"""Bytes of a blob at most that is sent without a look: sending it again costs little."""

ENOUGH: Final = 16
"""Looks in a row that found nothing, after which most are left out."""

STRIDE: Final = 8
"""Of so many small blobs one is still looked for."""


class Lookups:
    """
    The looks for the blobs that are sent to one repository.

    A HEAD costs about as much as each of the two requests that send a small blob, and
    a look into the journal costs a tenth.  Where thousands of small blobs go into a
    repository that has none of them, looks are left out for most of them.  A single
    look that finds a blob restores all looks, so that an interrupted job which is
    repeated sends few blobs twice.
    """

    def __init__(self, absent: int = 0) -> None:
        """
        @param absent: the looks that found nothing before.
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
        Note the result of a look.
        """
        self._absent = 0 if found else self._absent + 1
