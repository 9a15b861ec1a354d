# -*- test-case-name: tests.jobs.test_steering -*-
"""
Steering of jobs: pauses, priorities, drain and retries, as clients request them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.errors import BadInput, Draining, JobEnded, JobRunning, NotFound
from xferd.interfaces.job_json import DrainJSON, JobDetailsJSON, PauseJSON
from xferd.interfaces.journal import IJournal
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.steering import ISteering
from xferd.jobs.ended_jobs import EndedJobs
from xferd.jobs.job import Job
from xferd.jobs.limits import checked_rates
from xferd.jobs.request import Request
from xferd.jobs.runner import Runner
from xferd.json_encoding import rfc3339
from xferd.names import Reference
from xferd.transfer.reason import NO_REASON
from xferd.transfer.steering import DIRECTIONS, EVERYTHING, Hold, Steering, host_pause

_SETTING: Final = "pause/"
"""The prefix of the names of pauses in the journal."""

_HOSTS: Final = host_pause("")


@implementer(ISteering)
class JobSteering:
    """
    What people change while the daemon runs.

    Life cycle: made; L{load}ed, when the journal can be read.
    """

    def __init__(
        self,
        steering: Steering,
        runner: Runner,
        ended: EndedJobs,
        journal: IJournal,
        *,
        wall_clock: WallClock,
        begin: Callable[[Mapping[str, Any], Request, str, Mapping[str, Credentials]], JobDetailsJSON],
        reorder: Callable[[int], object],
    ) -> None:
        """
        @param begin: begins a job like one with a record: with that, its request, the
            client and the client's credentials.
        @param reorder: called with the number of a job whose priority has changed.
        """
        self._steering = steering
        self._runner = runner
        self._ended = ended
        self._journal = journal
        self._wall_clock = wall_clock
        self._begin = begin
        self._reorder = reorder
        self._drain: Hold | None = None

    async def load(self) -> None:
        """
        Read the pauses that are kept.
        """
        for name, value in (await self._journal.settings()).items():
            if name.startswith(_SETTING):
                hold = Hold(value["by"], value["since"], keep=True)
                self._steering.pause(name.removeprefix(_SETTING), hold)

    # ------------------------------------------------------------------ jobs

    def change(
        self,
        job_id: str,
        *,
        paused: bool | None = None,
        priority: int | None = None,
        rates: Mapping[str, Any] | None = None,
        by: str,
    ) -> JobDetailsJSON:
        limits = checked_rates(rates or {})
        job = self._runner.get(job_id)
        if job is None:
            raise job_ended(job_id, self._ended.get(job_id)["state"])
        if paused is not None and paused != (job.paused is not None):
            self._pause_job(job, by if paused else None)
        if priority is not None and priority != job.request.priority:
            job.request = evolve(job.request, priority=priority)
            self._steering.prioritize(job.number, priority)
            self._reorder(job.number)
        if limits:
            settings = {**job.request.rates, **{name: rate.setting() for name, rate in limits.items()}}
            job.request = evolve(job.request, rates=settings)
            job.rates = self._runner.limit_job(job.number, job.id, settings)
        self._runner.record_change(job)
        self._runner.job_changed(job)
        return job.with_layers()

    def _pause_job(self, job: Job, by: str | None) -> None:
        hold = None if by is None else Hold(by, self._wall_clock())
        job.pause(hold)
        if hold is None:
            self._steering.resume_job(job.number)
        else:
            self._steering.pause_job(job.number, hold)

    def retry(
        self, job_id: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[JobDetailsJSON]:
        return Deferred.fromCoroutine(self._retry(job_id, client, credentials or {}))

    async def _retry(
        self, job_id: str, client: str, credentials: Mapping[str, Credentials]
    ) -> JobDetailsJSON:
        if self._runner.get(job_id) is not None:
            raise JobRunning(f"job {job_id} has not ended: cancel it before you retry it")
        record = await self._ended.find(job_id)
        if record["state"] == "done":
            raise BadInput(f"job {job_id} is done: there is nothing to retry")
        if record["kind"] == "import":
            raise BadInput(f"job {job_id} is an import: send its archive again with 'xferctl import'")
        request = Request.from_json(self._ended.request_of(record))
        names = [name for name in (record["reference"], record["target"]) if name]
        hosts = {Reference.parse(name).repository.host for name in names}
        lacking = sorted(hosts.intersection(request.hosts) - credentials.keys())
        if lacking:
            raise BadInput(
                f"job {job_id} was begun with a client's credentials for {' and '.join(lacking)}: "
                "send them again"
            )
        return self._begin(record, evolve(request, retry_of=job_id), client, credentials)

    # ---------------------------------------------------------------- pauses

    def pauses(self) -> Sequence[PauseJSON]:
        holds = sorted(self._steering.holds().items(), key=lambda each: each[1].since)
        return [_pause_json(name, hold) for name, hold in holds]

    def pause(self, name: str, *, keep: bool, by: str) -> Deferred[PauseJSON]:
        return Deferred.fromCoroutine(self._pause(name, keep, by))

    async def _pause(self, name: str, keep: bool, by: str) -> PauseJSON:
        before = self._steering.holds().get(name)
        # The pause keeps the name of the person who paused first.
        hold = Hold(by, self._wall_clock(), keep) if before is None else evolve(before, keep=keep)
        self._steering.pause(name, hold)
        if keep or (before is not None and before.keep):
            value = {"by": hold.by, "since": hold.since} if keep else None
            await self._journal.record_setting(_SETTING + name, value)
        return _pause_json(name, hold)

    def resume(self, name: str) -> Deferred[PauseJSON]:
        return Deferred.fromCoroutine(self._resume(name))

    async def _resume(self, name: str) -> PauseJSON:
        hold = self._steering.resume(name)
        if hold is None:
            raise NotFound(f"{_words(name)} {_verb(name)} not paused; 'xferctl status' lists the pauses")
        if hold.keep:
            await self._journal.record_setting(_SETTING + name, None)
        return _pause_json(name, hold)

    # ----------------------------------------------------------------- drain

    @property
    def draining(self) -> str:
        if self._drain is None:
            return ""
        return (
            f"the daemon is being drained by {self._drain.by}: it starts no new work; running jobs continue"
        )

    def check_open(self) -> None:
        """
        Check that new work may start.

        @raise Draining: the daemon is being drained.
        """
        if self._drain is not None:
            raise Draining(self.draining)

    def refusal(self, host: str) -> str:
        """
        Why the mirror sends no requests to a host, a sentence: a drain, or a pause of the
        host or of everything.  Empty if it does.
        """
        reasons = self._steering.reason("document", ()), self._steering.host_reason(host)
        return self.draining or next((each.detail for each in reasons if each is not NO_REASON), "")

    def drain(self, *, by: str) -> DrainJSON:
        if self._drain is None:
            self._drain = Hold(by, self._wall_clock())
        return self.drained()

    def end_drain(self) -> DrainJSON:
        if self._drain is not None:
            self._drain = None
        return self.drained()

    def drained(self) -> DrainJSON:
        drain, jobs = self._drain, self._runner.jobs()
        return {
            "draining": drain is not None,
            "by": "" if drain is None else drain.by,
            "since": None if drain is None else rfc3339(drain.since),
            "jobs": len(jobs),
            "paused": sum(job.paused is not None for job in jobs),
        }


def job_ended(job_id: str, state: str) -> JobEnded:
    """
    The error for a change of a job that has ended.
    """
    return JobEnded(f"job {job_id} has ended ({state}): it can no longer be changed")


def _words(name: str) -> str:
    return "everything" if name == EVERYTHING else name.removeprefix(_HOSTS)


def _verb(name: str) -> str:
    return "are" if name in DIRECTIONS else "is"


def _pause_json(name: str, hold: Hold) -> PauseJSON:
    host = name.removeprefix(_HOSTS) if name.startswith(_HOSTS) else ""
    return {
        "what": "host" if host else name,
        "host": host,
        "by": hold.by,
        "since": rfc3339(hold.since),
        "keep": hold.keep,
    }
