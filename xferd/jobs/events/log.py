# -*- test-case-name: tests.jobs.events.test_log -*-
"""
The log of changes, so that a client that returns gets what has changed since.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Mapping
from secrets import token_hex
from typing import Any, Final

MAX_TRANSFERS: Final = 500
"""The number of ended transfers that are kept for clients that return."""

MAX_REMOVED: Final = 500
"""The number of removed names that are kept."""

_POSITION = re.compile(r"([0-9a-f]{8})-([0-9]{1,20})")
_RUN: Final = 40
"""The bits of a change's number below the number of its daemon."""


class ChangeLog:
    """
    Changes, numbered in their order.  The numbers of one journal rise over the restarts of
    its daemon.

    The number of its newest change is kept for each subject, and for the newest
    subjects that were removed: a stream cannot continue from before these.
    """

    def __init__(self) -> None:
        self._daemon = token_hex(4)
        self._first = self._number = 0
        self._oldest = 0
        self._changes: dict[Hashable, int] = {}
        self._transfers: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._removed: dict[str, int] = {}

    def begin(self, journal: str, run: int) -> None:
        """
        Continue the numbers of earlier daemons, when the journal is open.

        @param journal: eight hexadecimal digits that identify the journal.
        @param run: see L{IJournal.run<xferd.interfaces.journal.IJournal.run>}.
        """
        self._daemon = journal
        self._first = self._oldest = self._number = run << _RUN

    def now(self) -> str:
        """
        The position behind all changes, as text.
        """
        return f"{self._daemon}-{self._number}"

    def read(self, position: str | None) -> int | None:
        """
        The number of the last change that a client has seen.

        @param position: the position that the client sends.
        @return: L{None} where it has to start over: it sends none, or one of
            another daemon, or one that is too old.
        """
        match = _POSITION.fullmatch(position or "")
        if match is None or match[1] != self._daemon:
            return None
        number = int(match[2])
        return number if self._oldest <= number <= self._number else None

    def is_earlier(self, position: str | None) -> bool:
        """
        Whether a position is one of an earlier daemon of the same journal.
        """
        match = _POSITION.fullmatch(position or "")
        return match is not None and match[1] == self._daemon and int(match[2]) < self._first

    def changed(self, subject: Hashable) -> None:
        """
        Record a change of a subject.
        """
        self._number += 1
        self._changes[subject] = self._number

    def is_news(self, subject: Hashable, since: int | None) -> bool:
        """
        Whether a subject has changed after C{since}.
        """
        return since is None or self._changes.get(subject, 0) > since

    def forget(self, subject: Hashable) -> None:
        """
        Drop a subject.
        """
        self._changes.pop(subject, None)

    def ended(self, transfer: Mapping[str, Any]) -> None:
        """
        Record that a job has released a transfer.

        @param transfer: the transfer as the API shows it.  The transfer itself
            would keep its sources, and the credentials of clients.
        """
        self._number += 1
        self._transfers.append((self._number, transfer))
        if len(self._transfers) > MAX_TRANSFERS:
            number, _ = self._transfers.popleft()
            self._oldest = max(self._oldest, number)

    def overflowed(self) -> None:
        """
        Record more changes at once than are kept: no stream continues from a
        position before this.
        """
        self._number += 1
        self._oldest = self._number

    def transfers(self, since: int) -> list[Mapping[str, Any]]:
        """
        The transfers that jobs have released after C{since}, in their last state.
        """
        return [transfer for number, transfer in self._transfers if number > since]

    def named(self, name: str) -> None:
        """
        Record that an image got a name, perhaps of another image.
        """
        self._removed.pop(name, None)
        self.changed(("image", name))

    def removed(self, name: str) -> None:
        """
        Record that a name was removed.
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
        The names that were removed after C{since}, and not given again.
        """
        return [name for name, number in self._removed.items() if number > since]
