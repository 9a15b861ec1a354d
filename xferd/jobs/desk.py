# -*- test-case-name: tests.jobs.test_sharing -*-
"""
Who writes the partial file of a blob, where clients are kept apart.
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
        Close the file, for another download to go on with.
        """


class Desk:
    """
    One blob's partial file, which one download at a time writes.

    It keeps the file between its attempts, unless another download asks for
    it then.
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

    def enter(self, writer: Writer) -> None:
        """
        Begin to write the file.

        @raise Postponed: another download is at it.
        """
        present = self._writer
        if present is not None and present is not writer:
            if present.active:
                ready: Deferred[None] = Deferred(self._waiting.remove)
                self._waiting.append(ready)
                raise Postponed("waiting for a download of the same blob by somebody else", ready)
            present.put_away()
        self._writer = writer

    def leave(self) -> None:
        """
        The writer's attempt has ended.
        """
        waiting, self._waiting = self._waiting, []
        for ready in waiting:
            ready.callback(None)

    def end(self, writer: Writer) -> None:
        """
        A download will not write the file any more.
        """
        if self._writer is writer:
            self._writer = None
