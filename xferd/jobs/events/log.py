# -*- test-case-name: tests.jobs.events.test_log -*-
"""
What has changed since when, so that a client which comes back is told that and
no more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Mapping
from secrets import token_hex
from typing import Any, Final

MAX_TRANSFERS: Final = 500
"""How many transfers that have ended are remembered for who comes back."""

MAX_REMOVED: Final = 500
"""How many names of images that were removed are."""

_POSITION = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})")


class ChangeLog:
    """
    Changes, numbered from the start of the daemon.

    For each subject the number of its newest change is kept, and for those
    that are gone as well, the newest few of them: what is older than these
    cannot be gone on from.
    """

    def __init__(self) -> None:
        self._daemon = token_hex(4)
        self._number = 0
        self._oldest = 0
        self._changes: dict[Hashable, int] = {}
        self._transfers: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._removed: dict[str, int] = {}

    def now(self) -> str:
        """
        The position behind all that has happened, as text.
        """
        return f"{self._daemon}-{self._number}"

    def read(self, position: str | None) -> int | None:
        """
        The number of the last change that somebody has seen.

        @param position: what that one says of itself.
        @return: L{None} where it has to begin anew: it says nothing, or saw
            another daemon, or was away for too long.
        """
        match = _POSITION.fullmatch(position or "")
        if match is None or match[1] != self._daemon:
            return None
        number = int(match[2])
        return number if self._oldest <= number <= self._number else None

    def changed(self, subject: Hashable) -> None:
        """
        There is news of a subject.
        """
        self._number += 1
        self._changes[subject] = self._number

    def is_news(self, subject: Hashable, since: int | None) -> bool:
        """
        Whether a subject is news to who has seen all until C{since}.
        """
        return since is None or self._changes.get(subject, 0) > since

    def forget(self, subject: Hashable) -> None:
        """
        A subject is no more.
        """
        self._changes.pop(subject, None)

    def ended(self, transfer: Mapping[str, Any]) -> None:
        """
        A job has released a transfer.

        @param transfer: the transfer as the API shows it.  The transfer itself
            would keep its sources, and the credentials that clients brought.
        """
        self._number += 1
        self._transfers.append((self._number, transfer))
        if len(self._transfers) > MAX_TRANSFERS:
            number, _ = self._transfers.popleft()
            self._oldest = max(self._oldest, number)

    def overflowed(self) -> None:
        """
        More has changed at once than is kept: no stream goes on from a
        position before this.
        """
        self._number += 1
        self._oldest = self._number

    def transfers(self, since: int) -> list[Mapping[str, Any]]:
        """
        The transfers that jobs have released after C{since}, as they were then.
        """
        return [transfer for number, transfer in self._transfers if number > since]

    def named(self, name: str) -> None:
        """
        An image has a name, which may have been another's.
        """
        self._removed.pop(name, None)
        self.changed(("image", name))

    def removed(self, name: str) -> None:
        """
        The name of an image was taken away.
        """
        self.forget(("image", name))
        self._number += 1
        # At the end, so that the first one is the oldest.
        self._removed.pop(name, None)
        self._removed[name] = self._number
        if len(self._removed) > MAX_REMOVED:
            oldest = next(iter(self._removed))
            self._oldest = max(self._oldest, self._removed.pop(oldest))

    def names_removed(self, since: int) -> list[str]:
        """
        The names that were taken away after C{since}, and not given again.
        """
        return [name for name, number in self._removed.items() if number > since]
