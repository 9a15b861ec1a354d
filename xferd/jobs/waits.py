# -*- test-case-name: tests.jobs.test_waits -*-
"""
What jobs wait for besides the transfers of their rows, and a line in the log for each wait
that lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.interfaces.job_json import REASONS
from xferd.interfaces.reactor import WallClock
from xferd.jobs.job import ENDED, Job
from xferd.jobs.reasons import JobWait, describe
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.transfer import Transfer
from xferd.waits import Waiting

LASTS: Final = 3.0
"""Seconds after which a wait is written to the log."""

LOOK: Final = 1.5
"""Seconds from a change of a job to the look for its waits."""


def job_waits(jobs: Iterable[Job], now: float) -> dict[str, tuple[int, float]]:
    """
    The jobs that wait as a whole, by L{the reason<REASONS>}: their number, and the seconds that the
    longest of these waits has lasted until now.  Reasons for which no job waits have zeros.
    """
    found = dict.fromkeys(REASONS, (0, 0.0))
    for job in jobs:
        _, reason, since = job.explain()
        if reason is not None:
            number, longest = found[reason["what"]]
            found[reason["what"]] = number + 1, max(longest, now - since if since else 0.0)
    return found


class JobWaits:
    """
    The waits of all jobs.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, wall_clock: WallClock, changed: Callable[[Job], object]) -> None:
        """
        @param changed: called with each job whose own wait begins or ends.
        """
        self._clock = clock
        self._wall_clock = wall_clock
        self._report = changed
        self._changed: dict[Job, None] = {}
        self._look: IDelayedCall | None = None
        self._stopped = False

    def document_changed(self, job: Job, transfer: Transfer) -> None:
        """
        Note that the transfer of a document, which no row shows, is new for a job, or has
        changed.  The job has changed only if its reason has.
        """
        before = job.awaited.pop(transfer, NO_REASON)
        reason = NO_REASON if transfer.over else transfer.reason()
        if not transfer.over:
            job.awaited[transfer] = reason
        if reason != before:
            self._report(job)

    def waiting(self, job: Job) -> Waiting:
        """
        What the work of a job enters while it waits: see L{xferd.waits}.
        """
        return partial(self._waiting, job)

    @contextmanager
    def _waiting(self, job: Job, what: str, whom: str, ago: float) -> Iterator[None]:
        reason = Reason(Obstacle(what), detail=whom)
        wait = JobWait(describe(reason, job.kind), what, self._wall_clock() - ago, reason.whom)
        job.requests.append(wait)
        self._report(job)
        try:
            yield
        finally:
            job.requests = [each for each in job.requests if each is not wait]
            self._report(job)

    def changed(self, job: Job) -> None:
        """
        Look for new waits of a job in L{LOOK} seconds.
        """
        if self._stopped:
            return
        self._changed[job] = None
        if self._look is None:
            self._look = self._clock.callLater(LOOK, self._log_waits)

    def rest(self) -> None:
        """
        Look no more, until a job changes.
        """
        self._changed.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def stop(self) -> None:
        """
        Look no more.
        """
        self._stopped = True
        self.rest()

    def _log_waits(self) -> None:
        self._look = None
        changed, self._changed = self._changed, {}
        for job in changed:
            if job.state not in ENDED:
                self._log_waits_of(job)

    def _log_waits_of(self, job: Job) -> None:
        """
        Log the waits of a job that it did not have before.
        """
        now = self._wall_clock()
        found: dict[tuple[str, str], tuple[str, str | None]] = {}
        for why, reason, since in job.waits():
            if reason is None or not since:
                continue
            if now - since >= LASTS:
                found.setdefault((reason["what"], reason["whom"]), (why, reason["since"]))
            else:
                self.changed(job)
        for key, (why, moment) in found.items():
            if key not in job.logged:
                self._log.info(
                    "{kind} of {image} for {client} waits: {why} (since {since})",
                    kind=job.kind,
                    image=job.label,
                    client=job.client,
                    why=why,
                    since=moment,
                    what=key[0],
                    whom=key[1],
                )
        job.logged = frozenset(found)
