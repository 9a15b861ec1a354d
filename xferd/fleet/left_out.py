# -*- test-case-name: tests.fleet.test_left_out -*-
"""
The peers that are not asked for a while, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xferd.expiring import ExpiringDict
from xferd.names import Digest

FAILED_SECONDS: Final = 30.0
"""Seconds for which a peer that did not deliver a blob is not asked for it."""

BUSY_SECONDS: Final = 1.0
"""Seconds for which a peer that was busy is not asked for the same blob."""

WRONG_SECONDS: Final = 3600.0
"""Seconds for which a peer that sent wrong bytes is asked for nothing."""

KNOWN_SECONDS: Final = 600.0
"""Seconds for which people see why a peer did not deliver."""

MOST_REASONS: Final = 20
"""The peers of which they see it, at most."""


class LeftOut:
    """
    The peers that are left out, by name: for one blob, or for all.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        @param clock: returns monotonic seconds.
        """
        self._clock = clock
        self._blobs: ExpiringDict[tuple[str, Digest], float] = ExpiringDict(clock, keep=FAILED_SECONDS * 2)
        self._busy: ExpiringDict[tuple[str, Digest], float] = ExpiringDict(clock, keep=BUSY_SECONDS * 2)
        self._wrong: dict[str, float] = {}
        self._reasons: ExpiringDict[str, str] = ExpiringDict(clock, keep=KNOWN_SECONDS, most=MOST_REASONS)

    def failed(self, name: str, digest: Digest, why: str) -> None:
        """
        A peer did not deliver a blob.

        @param why: the reason, for people.
        """
        self._reasons[name] = why
        self._blobs[name, digest] = self._clock() + FAILED_SECONDS

    def busy(self, name: str, digest: Digest) -> None:
        """
        A peer cannot deliver a blob now.
        """
        self._busy[name, digest] = self._clock() + BUSY_SECONDS

    def wrong(self, name: str) -> None:
        """
        A peer sent wrong bytes.
        """
        self._wrong[name] = self._clock() + WRONG_SECONDS

    def is_out(self, name: str, digest: Digest) -> bool:
        """
        Whether a peer is not to be asked for a blob; one that is busy does not count.
        """
        now = self._clock()
        return self._wrong.get(name, now) > now or (self._blobs.get((name, digest)) or now) > now

    def is_busy(self, name: str, digest: Digest) -> bool:
        """
        Whether a peer was busy a moment ago.
        """
        now = self._clock()
        return (self._busy.get((name, digest)) or now) > now

    def reasons(self) -> dict[str, str]:
        """
        Why peers did not deliver in the last minutes, by their names: the newest reason
        of each.
        """
        return dict(self._reasons.items())

    def distrusted(self) -> tuple[str, ...]:
        """
        The names of the peers that sent wrong bytes.
        """
        now = self._clock()
        self._wrong = {name: until for name, until in self._wrong.items() if until > now}
        return tuple(sorted(self._wrong))
