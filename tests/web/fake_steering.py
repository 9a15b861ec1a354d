"""
A fake of the steering of jobs, for the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.errors import BadInput, JobEnded, JobRunning, NotFound, XferdError
from xferd.interfaces.job_json import DrainJSON, JobDetailsJSON, JobJSON, PauseJSON
from xferd.interfaces.steering import ISteering
from xferd.jobs.job import ENDED

SINCE = "2026-01-02T03:04:05Z"


@implementer(ISteering)
class FakeSteering:
    """
    Steers the jobs of L{FakeJobs}.

    @ivar done: what was asked for, with C{by}, in order.
    @ivar held: the pauses, by name.
    """

    def __init__(
        self,
        known: dict[str, Any],
        again: Callable[[JobJSON, str, Mapping[str, Credentials]], JobDetailsJSON],
    ) -> None:
        self.done: list[tuple[str, str]] = []
        self.held: dict[str, PauseJSON] = {}
        self._known = known
        self._again = again
        self._drained_by, self._kept = "", False

    @property
    def draining(self) -> str:
        """
        Why nothing begins.
        """
        return f"drained by {self._drained_by}" if self._drained_by else ""

    def _job(self, job_id: str) -> Any:
        if job_id not in self._known:
            raise NotFound(f"no job {job_id}")
        return self._known[job_id]

    def change(
        self,
        job_id: str,
        *,
        paused: bool | None = None,
        priority: int | None = None,
        rates: Mapping[str, Any] | None = None,
        by: str,
    ) -> JobDetailsJSON:
        """
        Change a job.
        """
        job = self._job(job_id)
        if job["state"] in ENDED:
            raise JobEnded(f"{job_id} has ended")
        for name, value in (("paused", paused), ("priority", priority), *(rates or {}).items()):
            if value is not None:
                job[name] = value
                self.done.append((f"{name} {job_id} {value}", by))
        return cast("JobDetailsJSON", {**job, "layers": [], "transfers": []})

    def pauses(self) -> Sequence[PauseJSON]:
        """
        Return the pauses.
        """
        return list(self.held.values())

    def pause(self, name: str, *, keep: bool, by: str) -> Deferred[PauseJSON]:
        """
        Record a pause.
        """
        host = name.removeprefix("hosts/") if "/" in name else ""
        what = "host" if host else name
        self.held[name] = {"what": what, "host": host, "by": by, "since": SINCE, "keep": keep}
        self.done.append((f"pause {name}", by))
        return succeed(self.held[name])

    def resume(self, name: str) -> Deferred[PauseJSON]:
        """
        Remove a pause.
        """
        if name not in self.held:
            return fail(NotFound(f"{name} is not paused"))
        self.done.append((f"resume {name}", ""))
        return succeed(self.held.pop(name))

    def drain(self, *, keep: bool, by: str) -> Deferred[DrainJSON]:
        """
        Drain the daemon: start no new work.
        """
        self._drained_by, self._kept = by, keep
        self.done.append(("drain", by))
        return succeed(self.drained())

    def end_drain(self) -> Deferred[DrainJSON]:
        """
        End the drain: accept jobs again.
        """
        self._drained_by = ""
        self.done.append(("end drain", ""))
        return succeed(self.drained())

    def drained(self) -> DrainJSON:
        """
        The progress of the drain.
        """
        drains, running = bool(self._drained_by), [j for j in self._known.values() if j["state"] not in ENDED]
        paused = sum(job["paused"] for job in running)
        since = SINCE if drains else None
        return {
            "draining": drains,
            "by": self._drained_by,
            "since": since,
            "keep": drains and self._kept,
            "jobs": len(running),
            "paused": paused,
        }

    def retry(
        self, job_id: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[JobDetailsJSON]:
        """
        Begin a job like another one.
        """
        try:
            job = self._job(job_id)
            if job["state"] not in ENDED:
                raise JobRunning(f"{job_id} has not ended")
            if job["state"] == "done" or job["kind"] == "import":
                raise BadInput(f"{job_id} cannot be retried")
            return succeed(self._again(job, client, credentials or {}))
        except XferdError as e:
            return fail(e)
