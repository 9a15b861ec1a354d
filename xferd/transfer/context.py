# -*- test-case-name: tests.transfer.test_transfer -*-
"""
What a transfer needs of the manager that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.reactor import WallClock
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.progress import Pulse
from xferd.transfer.retry import RetryPolicy


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
    """

    kind: str
    clock: IReactorTime
    wall_clock: WallClock
    eventual: Eventual
    background: Background
    pulse: Pulse
    random: Random
    policy: Callable[[], RetryPolicy]
