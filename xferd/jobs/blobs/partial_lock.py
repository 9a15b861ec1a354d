# -*- test-case-name: tests.jobs.isolation -*-
"""
The lock of a partial file in isolated mode: one download at a time writes it.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from xferd.transfer.attempts import Postponed


class Writer(Protocol):
    """
    A download that may write the file.

    @ivar active: whether an attempt is being made.
    """

    active: bool

    def put_away(self) -> None:
        """
        Close the file, so that another download can continue it.
        """


class PartialLock:
    """
    The lock of one blob's partial file.

    A download keeps the lock between its attempts, until another download
    acquires it then.
    """

    def __init__(self) -> None:
        self._writer: Writer | None = None
        self._waiting: list[Deferred[None]] = []

    @property
    def contested(self) -> bool:
        """
        Whether another download waits for the file.
        """
        return bool(self._waiting)

    def acquire(self, writer: Writer) -> None:
        """
        Acquire the lock for an attempt.

        @raise Postponed: another download makes an attempt.
        """
        present = self._writer
        if present is not None and present is not writer:
            if present.active:
                ready: Deferred[None] = Deferred(self._waiting.remove)
                self._waiting.append(ready)
                raise Postponed("waiting for another client's download of the same blob", ready)
            present.put_away()
        self._writer = writer

    def release(self) -> None:
        """
        The writer's attempt has ended: the downloads that wait may acquire the lock.
        """
        waiting, self._waiting = self._waiting, []
        for ready in waiting:
            ready.callback(None)

    def end(self, writer: Writer) -> None:
        """
        Remove a download that will not write the file any more.
        """
        if self._writer is writer:
            self._writer = None
