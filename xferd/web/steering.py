# -*- test-case-name: tests.web.test_steering -*-
"""
Requests for pauses, priorities, drain and retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from xferd.docker_config import host_of
from xferd.errors import BadInput, NotFound
from xferd.interfaces.jobs import REJOIN
from xferd.jobs.job import ENDED
from xferd.jobs.steering import job_ended
from xferd.trace_context import HEADER, carrying, read_traceparent
from xferd.transfer.steering import DIRECTIONS, EVERYTHING, host_pause
from xferd.web.audit import door_of
from xferd.web.fields import PRIORITY, Body, flag, rate
from xferd.web.registry_auth import registry_auth
from xferd.web.request import client_name, header, note, quoted
from xferd.web.responses import respond
from xferd.web.site import owner_of

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.interfaces.jobs import IJobs

JOB_CHANGE: Final = Body(
    "a change of a job",
    evolve(
        flag("paused", "Whether it is paused: transfers that it alone needs stop until it is resumed."),
        default=None,
    ),
    evolve(
        PRIORITY.described("Its priority in the queue for slots: jobs of a higher priority precede others."),
        default=None,
    ),
    rate("download_rate", "Download limit in bytes per second; 0 means no limit."),
    rate("upload_rate", "Upload limit in bytes per second; 0 means no limit."),
)
PAUSES: Final = (EVERYTHING, *DIRECTIONS)
"""The names of the pauses that are not of one host."""

PAUSE: Final = Body("a pause", flag("keep", "Whether it persists over a restart of the daemon."))
DRAIN: Final = Body("a drain", flag("keep", "Whether it persists over a restart of the daemon."))


def who(request: Request) -> str:
    """
    The author of a request, for people: the user or the machine, and the client's name.
    """
    owner, client = owner_of(request), client_name(request)
    return f"{owner} ({client})" if owner and owner != client else client


def _name(name: str, host: str) -> str:
    """
    The name of a pause.

    @raise NotFound: no pause has this name.
    """
    if host:
        return host_pause(host_of(host))
    if name not in PAUSES:
        raise NotFound(f"there is no pause {quoted(name)}: use all, downloads, uploads or hosts/HOST")
    return name


class SteeringRequests:
    """
    Answers requests for pauses, priorities, drain and retries.
    """

    def __init__(self, jobs: IJobs) -> None:
        self._jobs = jobs

    async def change_job(self, request: Request, job_id: str) -> bytes:
        """
        Pause or resume a job, or change its priority or its bandwidth limits.
        """
        changes = JOB_CHANGE.read(request)
        if all(value is None for value in changes.values()):
            raise BadInput(f"the request changes nothing: give one of {', '.join(JOB_CHANGE.names)}")
        found = await self._jobs.find(job_id)
        if found["state"] in ENDED:
            # Only the journal may have it.
            raise job_ended(job_id, found["state"])
        rates = {
            name: value
            for name in ("download_rate", "upload_rate")
            if (value := changes.pop(name)) is not None
        }
        job = self._jobs.steering.change(job_id, rates=rates, by=who(request), **changes)
        await self._jobs.flushed()
        return respond(request, job)

    async def retry(self, request: Request, job_id: str, jobs_path: str) -> bytes:
        """
        Retry a job as a new one, which may outlive the daemon as any new job.
        """
        credentials = registry_auth(request).named
        before = await self._jobs.find(job_id)
        with carrying(read_traceparent(header(request, HEADER.encode()))):
            job = await self._jobs.steering.retry(job_id, client_name(request), credentials)
        # The path has the earlier one.
        note(request, "job", job["id"])
        self._jobs.persist(job["id"], before["restart"] or REJOIN, owner_of(request), door_of(request))
        await self._jobs.flushed()
        request.setHeader(b"location", f"{jobs_path}/{job['id']}".encode("ascii"))
        return respond(request, self._jobs.get(job["id"]), 202)

    def pauses(self, request: Request) -> bytes:
        """
        List the pauses of registries, of directions and of everything.
        """
        return respond(request, list(self._jobs.steering.pauses()))

    async def pause(self, request: Request, name: str, host: str = "") -> bytes:
        """
        Pause everything, a direction or a host.

        @param name: the name of the pause; empty for one of a host.
        """
        keep, name = PAUSE.read_if_sent(request)["keep"], _name(name, host)
        steering = self._jobs.steering
        pause = await steering.pause(name, keep=keep, by=who(request))
        return respond(request, pause)

    async def resume(self, request: Request, name: str, host: str = "") -> bytes:
        """
        End a pause.

        @param name: see L{pause}.
        """
        name, steering = _name(name, host), self._jobs.steering
        return respond(request, await steering.resume(name))

    async def drain(self, request: Request) -> bytes:
        """
        Drain the daemon: start no new work.
        """
        keep = DRAIN.read_if_sent(request)["keep"]
        return respond(request, await self._jobs.steering.drain(keep=keep, by=who(request)))

    async def end_drain(self, request: Request) -> bytes:
        """
        End the drain: accept jobs again.
        """
        return respond(request, await self._jobs.steering.end_drain())
