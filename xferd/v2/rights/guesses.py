# -*- test-case-name: tests.v2.rights.test_passwords -*-
"""
A limit on wrong passwords.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from attrs import define
from werkzeug.exceptions import TooManyRequests

from xferd.expiring import ExpiringDict

_MOST: Final = 10_000
"""The most keys that are remembered."""


@define
class _Left:
    """
    @ivar count: how many passwords may still be sent.
    @ivar since: when that was counted.
    """

    count: float
    since: float


class Guesses:
    """
    Counts passwords by a key.  A right one is returned.
    """

    def __init__(self, clock: Callable[[], float], most: int, interval: float) -> None:
        """
        @param clock: returns monotonic seconds.
        @param most: how many wrong passwords may come at once.
        @param interval: seconds after which one more may come.
        """
        self._clock = clock
        self._most = most
        self._interval = interval
        self._left: ExpiringDict[str, _Left] = ExpiringDict(clock, most=_MOST)

    def check(self, key: str) -> None:
        """
        Check that one more password may come.

        @raise TooManyRequests: none may come now.
        """
        left = self._now(key)
        if left.count < 1:
            wait = ceil((1 - left.count) * self._interval)
            raise TooManyRequests("too many wrong passwords came from this address", retry_after=wait)

    def count(self, key: str) -> None:
        """
        Count one wrong password.
        """
        left = self._now(key)
        left.count = max(0.0, left.count - 1)

    def take(self, key: str) -> None:
        """
        Count one password before it is known whether it is right.

        @raise TooManyRequests: none may come now.
        """
        self.check(key)
        self.count(key)

    def _now(self, key: str) -> _Left:
        now = self._clock()
        left = self._left.get_or_make(key, lambda: _Left(self._most, now))
        left.count = min(self._most, left.count + (now - left.since) / self._interval)
        left.since = now
        return left

    def give_back(self, key: str) -> None:
        """
        Take back a count: the password was right.
        """
        left = self._left.get(key)
        if left is not None:
            left.count = min(self._most, left.count + 1)
