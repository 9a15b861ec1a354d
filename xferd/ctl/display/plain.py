# -*- test-case-name: tests.ctl.display.test_plain -*-
"""
Progress as plain lines, for logs and pipes.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final, TextIO

from xferd.ctl.display.progress import ProgressDisplay
from xferd.ctl.text import counted, plural, portion, size, span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from xferd.ctl.api import Event
    from xferd.ctl.display.job_view import JobView, RowView, Waiting
    from xferd.ctl.display.progress import Progress

SILENCE: Final = 10.0
"""Seconds without a line after which the state of the work is printed."""

_MOVING: Final = ("downloading", "uploading")
"""The states of a row that a line reports with the row's size."""


class PlainLines(ProgressDisplay):
    """
    Prints a line when a row of a job changes its state, begins another attempt, waits for
    something else, or is first shared with other jobs.  After L{SILENCE} without any, it
    prints the state of the work, and how long that has not changed.
    """

    def __init__(
        self,
        stdout: TextIO,
        now: Callable[[], float] = time.monotonic,
        date: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        @param now: returns the present time in seconds.
        @param date: returns it with its date and time zone.
        """
        super().__init__(stdout)
        self._now, self._date = now, date
        self._printed: dict[int, tuple[str, int, bool]] = {}
        self._waits: dict[int | None, tuple[str, str]] = {}
        self._tenths = 0
        # Lines come from a thread, too: the daemon may be silent.
        self._lock = Lock()
        self._left = Flag()
        self._thread = Thread(target=self._watch, daemon=True)
        self._view: JobView | None = None
        self._progress: Progress | None = None
        self._lost = ""
        self._last_line = self._since = self._heard = now()
        self._state = ""

    def __enter__(self) -> ProgressDisplay:
        self._last_line = self._now()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._left.wait(1.0):
            try:
                self.tick()
            except OSError:
                # The next line of the main thread reports it.
                return

    def tick(self) -> None:
        """
        Print the state of the work, if nothing was printed for L{SILENCE}.
        """
        with self._lock:
            now = self._now()
            if now - self._last_line < SILENCE:
                return
            state = self._lost or self._standing()
            step = 0 if self._lost or self._view is None else self._view.waiting.step
            shown = counted(state, step, now - self._heard)
            if state and state == self._state:
                self._print(f"{shown} (no change for {span(now - self._since)})")
            elif state:
                self._state, self._since = state, now
                self._print(shown)

    def _standing(self) -> str:
        """
        The state of the work in one line; empty before it is known.
        """
        if self._progress is not None:
            shown = self._progress
            return f"{shown.state}: {', '.join(filter(None, (portion(shown.done, shown.total), shown.note)))}"
        view = self._view
        if view is None or view.ended:
            return ""
        rows, done, total, rate = view.rows, view.done, view.total, view.rate
        parts = [portion(done, total) if total else view.state]
        if rows:
            parts.append(f"{sum(row.ended for row in rows)} of {plural(len(rows), view.noun)}")
        parts += view.pace
        now = self._date()
        waits = [view] if view.why else [] if rate else [row for row in rows if not row.ended]
        reasons = [each.waiting.words(each.why, now) for each in waits]
        parts += [reason for reason in dict.fromkeys(reasons) if reason][:1]
        return f"{view.title}: {', '.join(parts)}"

    def show(self, progress: Progress) -> None:
        """
        Keep the progress of a copy or download.
        """
        with self._lock:
            self._progress = progress

    def note(self, text: str) -> None:
        """
        Print a sentence about the work itself.
        """
        with self._lock:
            self._lost = self._state = text
            self._since = self._now()
            self._print(text)

    def show_event(self, view: JobView, event: Event, rows: list[RowView]) -> None:  # noqa: ARG002
        """
        Print the changes.
        """
        with self._lock:
            self._view, self._lost, self._heard = view, "", self._now()
            if view.archive is not None and view.total and view.done * 10 // view.total > self._tenths:
                self._tenths = view.done * 10 // view.total
                self._print(f"archive: {portion(view.done, view.total)} sent")
            self.warn(view.warnings)
            for row in rows:
                if view.kind == "verify" and row.state in ("waiting", "checking"):
                    continue
                old_state, old_attempt, old_shared = self._printed.get(row.index, ("", 1, False))
                shared = old_shared or bool(row.sharing)
                self._printed[row.index] = (row.state, row.attempt, shared)
                total, waits = "", self._waits_anew(row.index, row.waiting)
                if row.state != old_state:
                    change, total = row.state, size(row.total) if row.data.get("state") in _MOVING else ""
                elif row.attempt > old_attempt:
                    change = f"attempt {row.attempt}"
                elif shared > old_shared or waits:
                    change = row.state
                else:
                    continue
                why = row.waiting.words(row.why, self._date())
                detail = ", ".join(filter(None, (total, why, row.sharing)))
                self._print(f"{row.name}: {change} ({detail})" if detail else f"{row.name}: {change}")
            if self._waits_anew(None, view.waiting) and not any(row.why == view.why for row in view.rows):
                self._print(f"waiting: {view.waiting.words(view.why, self._date())}")

    def _waits_anew(self, index: int | None, waiting: Waiting) -> bool:
        """
        Whether a row, or the job itself, waits for something else than when this was called
        last.
        """
        now = waiting[:2]
        before, self._waits[index] = self._waits.get(index, ("", "")), now
        return now != before and bool(waiting.what)

    def _print(self, line: str) -> None:
        super()._print(line)
        self._last_line = self._now()
