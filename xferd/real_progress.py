# -*- test-case-name: tests.test_real_progress -*-
"""
Real progress: how many new bytes justify further attempts.
"""

from __future__ import annotations

from typing import Final

REAL_PROGRESS: Final = 64 * 1024
"""Bytes that are real progress, of one attempt or several."""


def is_real_progress(before: int, now: int, size: int | None) -> bool:
    """
    Whether enough bytes of a blob have moved to count its failures from zero:
    L{REAL_PROGRESS}, or all that were missing, if those were fewer.

    @param before: the bytes that were there when the count began.
    @param now: the bytes that are there.
    @param size: the size of the blob, or L{None} if it is not known.
    """
    enough = REAL_PROGRESS if size is None else min(REAL_PROGRESS, size - before)
    return now > before and now - before >= enough
