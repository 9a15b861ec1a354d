# -*- test-case-name: tests.transfer.test_transfer -*-
"""
What a transfer needs of its manager and of its watchers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.reactor import WallClock
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.progress import Pulse
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.steering import Steering

X_contra = TypeVar("X_contra", contravariant=True)


@frozen
class TransferContext:
    """
    What all transfers of one manager share.

    @ivar kind: what to call these transfers: C{download}.
    @ivar clock: measures durations.
    @ivar wall_clock: makes the stamps of transfers and attempts.
    @ivar eventual: makes calls from a clean turn.
    @ivar background: the works that run.
    @ivar pulse: the transfers whose progress has to be reported.
    @ivar random: where jitter comes from.
    @ivar policy: returns the present retry policy.
    @ivar steering: the pauses.
    """

    kind: str
    clock: IReactorTime
    wall_clock: WallClock
    eventual: Eventual
    background: Background
    pulse: Pulse
    random: Random
    policy: Callable[[], RetryPolicy]
    steering: Steering


class Watching(Protocol):
    """
    A watcher, as its transfer needs it.

    @ivar turn: in whose turn it waits.
    @ivar source: the source that it adds.
    @ivar sink: where its progress goes.
    """

    turn: Turn
    source: ISource | None
    sink: IProgressSink | None

    def deliver(self) -> None:
        """
        Fire the Deferreds that wait for the result.
        """


class Owner(Protocol[X_contra]):
    """
    The manager of a transfer, as the transfer needs it.
    """

    def closed(self, transfer: X_contra) -> None:
        """
        A transfer may not be joined any more: it failed, was cancelled, or is
        done and has no watcher.
        """

    def changed(self, transfer: X_contra, turn: Turn) -> None:
        """
        A transfer is new for the watcher with this turn, or has changed.
        """

    def left(self, transfer: X_contra, turn: Turn) -> None:
        """
        A watcher with this turn has left a transfer.
        """

    def work_ended(self, transfer: X_contra) -> None:
        """
        The work of a transfer has ended.
        """

    def attempted(self, record: Mapping[str, Any], turns: Iterable[Turn], *, again: bool) -> None:
        """
        An attempt has ended.

        @param record: as for C{on_attempt} of
            L{TransferManager <xferd.transfer.manager.TransferManager>}.
        @param turns: those of the transfer's watchers.
        @param again: whether it failed, and another follows.
        """
