# -*- test-case-name: tests.test_durations -*-
"""
Lengths of time as text.
"""

from __future__ import annotations


def duration(seconds: float) -> str:
    """
    A length of time for people: C{4.2 s}, C{4 min 2 s}, C{1 h 3 min}.
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
