# -*- test-case-name: tests.jobs.test_steering,tests.jobs.test_drain -*-
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
from xferd.jobs.steering_settings import SteeringSettings
from xferd.json_encoding import rfc3339
from xferd.names import Reference
from xferd.transfer.reason import NO_REASON
from xferd.transfer.steering import DIRECTIONS, EVERYTHING, Hold, Steering, host_pause

_PAUSE: Final = "pause/"
"""The prefix of the names of pauses in the journal."""

_DRAIN: Final = "drain"
"""The name of the drain, in the journal, too; no pause has this name."""

CONFIGURATION: Final = "the configuration"
"""The author of what the configuration pauses or drains."""

_HOSTS: Final = host_pause("")


@implementer(ISteering)
class JobSteering:
    """
    What people change while the daemon runs.

    Life cycle: made; L{load}ed, when the journal can be read.  What is kept, and what the
    configuration has, applies from then on; L{configure} applies another configuration.
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
        settings: SteeringSettings | None = None,
    ) -> None:
        """
        @param begin: begins a job like one with a record: with that, its request, the
            client and the client's credentials.
        @param reorder: called with the number of a job whose priority has changed.
        @param settings: the pauses and the drain of the configuration.
        """
        self._steering = steering
        self._runner = runner
        self._ended = ended
        self._journal = journal
        self._wall_clock = wall_clock
        self._begin = begin
        self._reorder = reorder
        self._drain: Hold | None = None
        self._settings = settings or SteeringSettings()
        self._configured: dict[str, Hold] = {}

    async def load(self) -> None:
        """
        Apply the pauses and the drain that are kept, and those of the configuration.
        """
        for name, value in (await self._journal.settings()).items():
            if name == _DRAIN or name.startswith(_PAUSE):
                hold = Hold(value["by"], value["since"], keep=True)
                self._begin_hold(name.removeprefix(_PAUSE), hold)
        self.configure(self._settings)

    def configure(self, settings: SteeringSettings) -> None:
        """
        Apply a configuration that was read again: end the pauses and the drain of the earlier one, and
        begin those of this one.  Those that people made continue.
        """
        wanted = (*settings.pause, *([_DRAIN] if settings.drain else []))
        for name, hold in self._configured.items():
            if name not in wanted and self._hold(name) is hold:
                self._end_hold(name)
        hold = Hold(CONFIGURATION, self._wall_clock(), keep=True)
        for name in wanted:
            if self._hold(name) is None:
                self._configured[name] = hold
                self._begin_hold(name, hold)

    def _hold(self, name: str) -> Hold | None:
        return self._drain if name == _DRAIN else self._steering.holds().get(name)

    def _begin_hold(self, name: str, hold: Hold) -> None:
        if name == _DRAIN:
            self._drain = hold
        else:
            self._steering.pause(name, hold)

    def _end_hold(self, name: str) -> Hold | None:
        if name != _DRAIN:
            return self._steering.resume(name)
        hold, self._drain = self._drain, None
        return hold

    async def _keep_hold(self, name: str, by: str, *, keep: bool) -> Hold:
        """
        Begin a pause or the drain, or change whether it is kept.
        """
        before = self._hold(name)
        if before is None or before is self._configured.get(name):
            hold = Hold(by, self._wall_clock(), keep)
        else:
            # It keeps the name of the person who began it.
            hold = evolve(before, keep=keep)
        self._begin_hold(name, hold)
        if keep or (before is not None and before.keep):
            await self._journal.record_setting(_recorded(name), _record(hold) if keep else None)
        return hold

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
        return _pause_json(name, await self._keep_hold(name, by, keep=keep))

    def resume(self, name: str) -> Deferred[PauseJSON]:
        return Deferred.fromCoroutine(self._resume(name))

    async def _resume(self, name: str) -> PauseJSON:
        hold = self._end_hold(name)
        if hold is None:
            raise NotFound(f"{_words(name)} {_verb(name)} not paused; 'xferctl status' lists the pauses")
        if hold.keep:
            await self._journal.record_setting(_recorded(name), None)
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

    def drain(self, *, keep: bool, by: str) -> Deferred[DrainJSON]:
        return Deferred.fromCoroutine(self._begin_drain(keep, by))

    async def _begin_drain(self, keep: bool, by: str) -> DrainJSON:
        await self._keep_hold(_DRAIN, by, keep=keep)
        return self.drained()

    def end_drain(self) -> Deferred[DrainJSON]:
        return Deferred.fromCoroutine(self._end_drain())

    async def _end_drain(self) -> DrainJSON:
        hold = self._end_hold(_DRAIN)
        if hold is not None and hold.keep:
            await self._journal.record_setting(_DRAIN, None)
        return self.drained()

    def drained(self) -> DrainJSON:
        drain, jobs = self._drain, self._runner.jobs()
        return {
            "draining": drain is not None,
            "by": "" if drain is None else drain.by,
            "since": None if drain is None else rfc3339(drain.since),
            "keep": drain is not None and drain.keep,
            "jobs": len(jobs),
            "paused": sum(job.paused is not None for job in jobs),
        }


def job_ended(job_id: str, state: str) -> JobEnded:
    """
    The error for a change of a job that has ended.
    """
    return JobEnded(f"job {job_id} has ended ({state}): it can no longer be changed")


def _recorded(name: str) -> str:
    """
    The name of a pause or the drain in the journal.
    """
    return name if name == _DRAIN else _PAUSE + name


def _record(hold: Hold) -> dict[str, Any]:
    return {"by": hold.by, "since": hold.since}


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
