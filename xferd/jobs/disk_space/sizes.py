# -*- test-case-name: tests.jobs.disk_space.test_reservations -*-
"""
Sizes, as errors and warnings name them.
"""

from __future__ import annotations


def in_words(size: int) -> str:
    """
    A number of bytes for people: 1.5 GB.
    """
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
