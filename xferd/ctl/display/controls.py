# -*- test-case-name: tests.ctl.display.test_controls -*-
"""
The keys of C{xferctl watch}: what each does to the board, and to the selected job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.api import Event
from xferd.ctl.display.job_view import count
from xferd.ctl.errors import ClientError
from xferd.ctl.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from xferd.ctl.client import Daemon
    from xferd.ctl.display.board import Board
    from xferd.ctl.display.job_view import JobView


class Action(NamedTuple):
    """
    What a key does to the selected job.

    @ivar verb: the action in one word.
    @ivar asks: whether it has to be confirmed.
    @ivar run: acts on a job, and returns it.
    @ivar shown: the job in words, after the action.
    """

    verb: str
    asks: bool
    run: Callable[[Daemon, JobView], dict[str, Any]]
    shown: Callable[[dict[str, Any]], str]


_CHANGED: Final = ("paused", "priority")
"""The members of a job that keys change."""

_STEP: Final = 1
"""By how much a key changes a priority."""


def _cancel(daemon: Daemon, view: JobView) -> dict[str, Any]:
    return daemon.cancel(str(view.job.get("id")))


def _pause(daemon: Daemon, view: JobView) -> dict[str, Any]:
    return daemon.change_job(str(view.job.get("id")), {"paused": not view.job.get("paused")})


def _prioritize(step: int) -> Callable[[Daemon, JobView], dict[str, Any]]:
    def prioritize(daemon: Daemon, view: JobView) -> dict[str, Any]:
        priority = count(view.job, "priority") + step
        return daemon.change_job(str(view.job.get("id")), {"priority": priority})

    return prioritize


def _state(job: dict[str, Any]) -> str:
    return clean(job.get("state"))


def _is_paused(job: dict[str, Any]) -> str:
    return "paused" if job.get("paused") else "continues"


def _priority(job: dict[str, Any]) -> str:
    return f"priority {clean(job.get('priority'))}"


ACTIONS: Final = {
    "c": Action("cancel", True, _cancel, _state),
    "p": Action("pause", False, _pause, _is_paused),
    "+": Action("precede", False, _prioritize(_STEP), _priority),
    "-": Action("defer", False, _prioritize(-_STEP), _priority),
}
"""The actions by their keys."""


class Controls:
    """
    Reacts to keys: they select a job, act on it, or are the words of the filter.
    """

    def __init__(self, board: Board, daemon: Daemon) -> None:
        self._board = board
        self._daemon = daemon
        self._filtering = False
        self._asked: Action | None = None
        self._message = ""

    @property
    def footer(self) -> str:
        """
        The line below the board.
        """
        if self._filtering:
            return f"filter: {self._board.words}_  (Enter keeps it, Esc clears it)"
        if self._message:
            return self._message
        filtered = f"only with {self._board.words!r}, / changes it;  " if self._board.words else "/ filter  "
        actions = "  ".join(f"{key} {action.verb}" for key, action in ACTIONS.items())
        return f"{filtered}up/down select  {actions}  q quit"

    def press(self, key: str) -> bool:
        """
        React to a key.

        @return: whether to continue.
        """
        if self._filtering:
            self._edit(key)
        elif self._asked is not None:
            action, self._asked, self._message = self._asked, None, ""
            if key == "y":
                self._run(action)
        else:
            self._message = ""
            return self._browse(key)
        return True

    def _edit(self, key: str) -> None:
        if key in ("enter", "escape"):
            self._filtering = False
        if key == "escape":
            self._board.words = ""
        elif key == "backspace":
            self._board.words = self._board.words[:-1]
        elif len(key) == 1:
            self._board.words += key

    def _browse(self, key: str) -> bool:
        if key in ("up", "k", "down", "j"):
            self._board.select(-1 if key in ("up", "k") else 1)
        elif key == "/":
            self._filtering = True
        elif key == "escape":
            self._board.words = self._board.selected = ""
        elif key in ACTIONS:
            self._begin(ACTIONS[key])
        return key != "q"

    def _begin(self, action: Action) -> None:
        job = self._board.job(self._board.selected)
        if job is None:
            self._message = f"select the job to {action.verb} with the arrow keys"
        elif job.ended:
            self._message = f"job {clean(job.job.get('id'))} has ended"
        elif action.asks:
            self._asked = action
            self._message = f"{action.verb} the {job.kind} of {job.title}? (y/n)"
        else:
            self._run(action)

    def _run(self, action: Action) -> None:
        job_id = self._board.selected
        job = self._board.job(job_id)
        if job is None:
            self._message = f"job {clean(job_id)} is gone"
            return
        try:
            changed = action.run(self._daemon, job)
        except ClientError as e:
            self._message = f"cannot {action.verb} job {clean(job_id)}: {e}"
        else:
            # The next key counts from here, before the daemon's event arrives.
            news: dict[str, Any] = {name: changed[name] for name in _CHANGED if name in changed}
            self._board.update(Event("job", {**job.job, **news}, False))
            self._message = f"job {clean(job_id)}: {action.shown(changed)}"
