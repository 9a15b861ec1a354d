# -*- test-case-name: tests.web.test_job_creation -*-
"""
C{POST /api/v1/jobs}: a request begins a job, and its response is the job or, for
a client that accepts them, the job's events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xferd.errors import TooManyJobs
from xferd.interfaces.jobs import ALWAYS, REJOIN
from xferd.jobs.runner import MAX_JOBS
from xferd.trace_context import HEADER, carrying, read_traceparent
from xferd.transfer.eventual import Eventual
from xferd.web.audit import door_of
from xferd.web.client_limits import Kind
from xferd.web.event_response import accepts_events, wants_only_jobs
from xferd.web.job_request import PrefetchRequest, read_job_request
from xferd.web.registry_auth import registry_auth
from xferd.web.request import client_name, fingerprint_of, header, note
from xferd.web.responses import respond
from xferd.web.site import admitted, owner_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.jobs import IJobs
    from xferd.web.event_response import EventResponses
    from xferd.web.idempotency import Idempotency

MAX_TCP_JOBS: Final = MAX_JOBS * 3 // 4
"""Beyond so many jobs that have not ended, one more can be begun over the unix socket only."""


class JobCreation:
    """
    Begins jobs for requests.  The jobs of requests that arrive together begin
    over several turns of the reactor.
    """

    def __init__(
        self, jobs: IJobs, replays: Idempotency, events: EventResponses, clock: IReactorTime
    ) -> None:
        self._jobs = jobs
        self._replays = replays
        self._events = events
        self._eventual = Eventual(clock)

    async def respond(self, request: Request, jobs_path: str) -> bytes | None:
        """
        Begin a job and respond.  The job continues if the client leaves.

        A client that accepts events gets the job as JSON if too many event streams are
        open: it has to follow the job later.

        @param jobs_path: the path of all jobs.
        @return: the body, or L{None} if it was written.
        """
        only_jobs = wants_only_jobs(request)
        await self._eventual.caught_up()
        job_id, new = await self._begin(request)
        note(request, "job", job_id)
        follows = accepts_events(request)
        if new:
            # A job whose id was returned is not lost.
            await (self._jobs.kept(job_id) if follows else self._jobs.flushed())
        status = 202 if new else 200
        request.setHeader(b"location", f"{jobs_path}/{job_id}".encode("ascii"))
        if follows and self._events.has_room(request):
            request.setResponseCode(status)
            stream = await self._jobs.follow(job_id)
            if only_jobs:
                stream.only_jobs()
            return await self._events.send(request, stream, admitted(request))
        return respond(request, await self._jobs.find(job_id), status)

    async def _begin(self, request: Request) -> tuple[str, bool]:
        """
        Begin a job, unless an earlier request with the same key has.

        @return: the job's ID, and whether it is new.
        @raise TooManyJobs: too many have not ended for one more over TCP.
        """
        asked, client, credentials = read_job_request(request), client_name(request), registry_auth(request)
        key = header(request, b"idempotency-key")
        owner, trace = owner_of(request), read_traceparent(header(request, HEADER.encode()))
        outlives = key is not None or isinstance(asked, PrefetchRequest)
        restart = asked.restart or (ALWAYS if outlives else REJOIN)
        over_tcp = admitted(request).kind is not Kind.SOCKET

        def begin() -> str:
            if over_tcp and self._jobs.unfinished >= MAX_TCP_JOBS:
                raise TooManyJobs(
                    f"{self._jobs.unfinished} jobs have not ended: "
                    "try again when some have, or over the unix socket"
                )
            with carrying(trace):
                job_id = asked.begin(self._jobs, client, credentials)["id"]
            self._jobs.persist(job_id, restart, owner, door_of(request))
            return job_id

        if key is None:
            return begin(), True
        job_id, new = await self._replays.begin(client, key, fingerprint_of(request), begin)
        if not new:
            self._jobs.rejoin(job_id, client, owner, asked.credentials(credentials))
        return job_id, new
