# -*- test-case-name: tests.transfer.test_steering -*-
"""
Steering: the pauses that people made, and the priorities that they gave to running jobs.

Unlike a registry back-off (L{Pauses<xferd.transfer.pauses.Pauses>}), a pause ends when a
person ends it, and applies to running transfers, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from attrs import evolve, frozen

from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import NO_REASON, Obstacle, Reason

EVERYTHING: Final = "all"
"""The name of the pause of everything: all hosts, both directions, documents included."""

DIRECTIONS: Final = {"downloads": "download", "uploads": "upload"}
"""The kind of the transfers that a pause of a direction concerns, by the name of the pause."""

_PAUSABLE: Final = frozenset({"download", "upload", "document"})
_OF_KIND: Final = {kind: name for name, kind in DIRECTIONS.items()}
_HOSTS: Final = "hosts/"


@frozen
class Hold:
    """
    A pause that a person made.

    @ivar by: the author, for people.
    @ivar since: the wall clock's time at which it began.
    @ivar keep: whether it outlives the daemon.
    """

    by: str
    since: float
    keep: bool = False


class Steering:
    """
    The pauses, by name: C{all}, C{downloads}, C{uploads}, C{hosts/HOST}; and those of jobs, by
    number.

    A transfer waits if only paused jobs watch it.  A pause of C{all} or of a host applies to
    blobs and documents, one of a direction only to blobs.  A transfer without a host, such as
    that of an archive, is paused only with its job.
    """

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        self._jobs: dict[int, Hold] = {}
        self._priorities: dict[int, int] = {}
        self._observers: list[Callable[[], object]] = []

    def __bool__(self) -> bool:
        # Called for each attempt; usually nothing is paused.
        return bool(self._holds or self._jobs)

    def observe(self, observer: Callable[[], object]) -> None:
        """
        Call C{observer} when a pause begins or ends.
        """
        self._observers.append(observer)

    # --------------------------------------------------------------- changes

    def pause(self, name: str, hold: Hold) -> None:
        """
        Pause everything, a direction or a host.
        """
        self._holds[name] = hold
        self._changed()

    def resume(self, name: str) -> Hold | None:
        """
        End a pause.

        @return: the pause, or L{None} if there was none.
        """
        hold = self._holds.pop(name, None)
        if hold is not None:
            self._changed()
        return hold

    def pause_job(self, number: int, hold: Hold) -> None:
        """
        Pause the job with a number.
        """
        self._jobs[number] = hold
        self._changed()

    def resume_job(self, number: int) -> None:
        """
        End the pause of a job, if there is one.
        """
        if self._jobs.pop(number, None) is not None:
            self._changed()

    def prioritize(self, number: int, priority: int) -> None:
        """
        Give a job another priority than its turns have.
        """
        self._priorities[number] = priority

    def forget(self, number: int) -> None:
        """
        Forget a job that has ended.
        """
        self._priorities.pop(number, None)
        self.resume_job(number)

    # ------------------------------------------------------------- questions

    def holds(self) -> dict[str, Hold]:
        """
        The pauses, by name, without those of jobs.
        """
        return dict(self._holds)

    def turn(self, turn: Turn) -> Turn:
        """
        A turn with the present priority of its job.
        """
        priority = self._priorities.get(turn.job) if self._priorities else None
        return turn if priority in (None, turn.priority) else evolve(turn, priority=priority)

    def wants(self, turn: Turn) -> bool:
        """
        Whether the job of a turn is not paused.
        """
        return turn.job not in self._jobs

    def reason(self, kind: str, turns: Iterable[Turn]) -> Reason:
        """
        Why a transfer may move no byte, whatever its source.

        @param kind: its kind: C{download}.
        @param turns: those of its watchers.
        """
        if not self or kind not in _PAUSABLE:
            return NO_REASON
        holds = [self._jobs.get(turn.job) for turn in turns] if self._jobs else []
        if holds and holds[0] is not None and None not in holds:
            return _paused(holds[0], f"paused by {holds[0].by}")
        if (hold := self._holds.get(EVERYTHING)) is not None:
            return _paused(hold, f"everything is paused by {hold.by}")
        direction = _OF_KIND.get(kind, "")
        if (hold := self._holds.get(direction)) is not None:
            return _paused(hold, f"{direction} are paused by {hold.by}")
        return NO_REASON

    def host_reason(self, host: str) -> Reason:
        """
        Why nothing may move from or to a host.
        """
        hold = self._holds.get(_HOSTS + host) if self._holds and host else None
        return NO_REASON if hold is None else _paused(hold, f"{host} is paused by {hold.by}")

    def _changed(self) -> None:
        for observer in self._observers:
            observer()


def host_pause(host: str) -> str:
    """
    The name of the pause of a host.
    """
    return _HOSTS + host


def _paused(hold: Hold, words: str) -> Reason:
    return Reason(Obstacle.PAUSED, detail=words, host=hold.by)
