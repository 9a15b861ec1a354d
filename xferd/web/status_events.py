# -*- test-case-name: tests.web.test_status_events -*-
"""
The state of the daemon as an event, for the streams that want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from xferd.interfaces.jobs import Event

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL: Final = 1.0
"""Seconds between two readings of the state."""

STEPS: Final = 1000
"""Steps of the disk: a smaller change is ignored, as other programs write, too."""


class Follower(Protocol):
    """
    A response that sends the state.
    """

    def show(self, event: Event) -> None:
        """
        Send the state.  It may be sent already.
        """


class StatusEvents:
    """
    Reads the state once a second while there are followers, and sends it to all of them when it
    has changed.  The event is made and encoded once.
    """

    def __init__(
        self, clock: IReactorTime, state: Callable[[], Mapping[str, Any]], others: Callable[[], object]
    ) -> None:
        """
        @param state: makes the state, as C{GET /api/v1/status} shows it.
        @param others: returns a value whose change is reported like a change of the state: a
            follower then requests the other lists again.
        """
        self._clock = clock
        self._state = state
        self._others = others
        self._followers: dict[Follower, None] = {}
        self._timer: IDelayedCall | None = None
        self._seen: object = None
        self._event: Event | None = None

    def add(self, follower: Follower) -> None:
        """
        Send the state to a response, now and after each change.
        """
        self._followers[follower] = None
        if self._timer is None:
            self._look()
        elif self._event is not None:
            follower.show(self._event)

    def remove(self, follower: Follower) -> None:
        """
        Forget a response, if it is known.
        """
        self._followers.pop(follower, None)
        if not self._followers and self._timer is not None:
            self._timer.cancel()
            self._timer = self._event = self._seen = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(INTERVAL, self._look)
        state = self._state()
        seen = _rounded(state), self._others()
        if self._event is None or seen != self._seen:
            self._seen, self._event = seen, Event("status", state)
        for follower in list(self._followers):
            follower.show(self._event)


def _rounded(state: Mapping[str, Any]) -> dict[str, Any]:
    """
    A state with its free disk in L{STEPS}.
    """
    disk = state["disk"]
    free, total = disk["free"], disk["total"]
    return {**state, "disk": {**disk, "free": free * STEPS // total if free is not None and total else free}}
