# -*- test-case-name: tests.transfer.attempts -*-
"""
What attempts need of the transfer that they are made for.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from xferd.interfaces.transfer import ISource
from xferd.transfer.reason import Reason


class Attempting(Protocol):
    """
    The transfer that attempts are made for.

    @ivar kind: the kind of the transfer: C{download}.
    @ivar bytes_done: the bytes that are there.
    @ivar bytes_total: the bytes that there will be, or L{None} if unknown.
    """

    kind: str
    bytes_done: int
    bytes_total: int | None

    @property
    def over(self) -> bool:
        """
        Whether no attempt is wanted any more.
        """
        raise NotImplementedError

    def enter(self, state: str) -> None:
        """
        Enter the state C{queued}, C{running} or C{backing-off}.
        """

    def attempt_begins(self) -> None:
        """
        An attempt begins.
        """

    def has_progressed(self) -> bool:
        """
        Whether L{real progress <xferd.real_progress.is_real_progress>} has been
        made since this was last true.
        """

    def attempt_ends(self, source: ISource, error: Exception | None, *, again: bool = False) -> None:
        """
        An attempt has succeeded, or failed with C{error}.

        @param again: whether another one follows.
        """

    def wait_for(self, reason: Reason) -> AbstractContextManager[None]:
        """
        A context in which the state is C{waiting}.
        """

    def pause(self) -> Reason:
        """
        The pause that keeps attempts with any source from running; L{NO_REASON
        <xferd.transfer.reason.NO_REASON>} if there is no such pause.
        """
        raise NotImplementedError

    def pause_of(self, source: ISource) -> Reason:
        """
        The pause that keeps attempts with one source from running.
        """
        raise NotImplementedError

    def wants(self, source: ISource) -> bool:
        """
        Whether a watcher that is not paused adds the source.
        """
        raise NotImplementedError

    def requesting(self, what: str, whom: str, ago: float) -> AbstractContextManager[None]:
        """
        A context in which an attempt waits for a response.

        @param what: the value of an L{Obstacle}.
        @param whom: the host or program that has to respond.
        @param ago: the seconds since the wait began.
        """
