"""
A record of the waits that requests report.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Waits:
    """
    The waits of some requests.

    @ivar present: those that have not ended, as C{WHAT WHOM}.
    @ivar all: every one.
    """

    def __init__(self) -> None:
        self.present: list[str] = []
        self.all: list[str] = []

    @contextmanager
    def __call__(self, what: str, whom: str, ago: float) -> Iterator[None]:
        """
        Record a wait until its end.
        """
        self.all.append(f"{what} {whom}")
        self.present.append(self.all[-1])
        try:
            yield
        finally:
            self.present.remove(f"{what} {whom}")
