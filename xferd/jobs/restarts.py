# -*- test-case-name: tests.jobs.test_restarts -*-
"""
Jobs that an earlier daemon left unfinished: they begin again in their old order and
under their old IDs, wait for their clients, or end as interrupted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.credentials import Credentials
from xferd.errors import Interrupted, StoreError
from xferd.interfaces.jobs import ALWAYS
from xferd.interfaces.journal import UnfinishedJob
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import IStore
from xferd.jobs.job import Job, describe
from xferd.jobs.kept_credentials import KeptCredentials
from xferd.jobs.reasons import JobWait
from xferd.jobs.request import Request
from xferd.jobs.runner import Runner, retriable
from xferd.jobs.shutdown_errors import crashed, killed, left
from xferd.jobs.upload_stream import UploadStream
from xferd.jobs.work import Work
from xferd.json_encoding import from_rfc3339, rfc3339
from xferd.names import Digest, Reference
from xferd.transfer.steering import Hold

WINDOW: Final = 60.0
"""Seconds from the daemon's start within which the clients of jobs have to come back."""

MOST_CRASHES: Final = 5
"""How often in a row a daemon may die while a job runs, until the job is not begun again."""


@define(eq=False)
class _Waiting:
    """
    A job that waits.

    @ivar client: whether it waits for its client to come back.
    @ivar hosts: the registries whose credentials it lacks.
    """

    job: Job
    client: bool
    hosts: set[str]


class Restarts:
    """
    The jobs of earlier daemons.

    Life cycle: made; L{load}ed, when the journal can be read; L{stop}ped.

    @ivar resumed: the jobs that continued, by kind.
    @ivar interrupted: the jobs that ended as interrupted, by kind.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        runner: Runner,
        work: Work,
        kept: KeptCredentials,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
    ) -> None:
        """
        @param kept: the credentials of jobs.
        @param clock: measures L{WINDOW}.
        @param wall_clock: makes stamps.
        """
        self._store = store
        self._runner = runner
        self._work = work
        self._kept = kept
        self._clock = clock
        self._wall_clock = wall_clock
        self._waiting: dict[str, _Waiting] = {}
        self._crashes: dict[str, int] = {}
        self._window: IDelayedCall | None = None
        self.resumed: Counter[str] = Counter()
        self.interrupted: Counter[str] = Counter()
        runner.on_end = self._ended

    async def load(self) -> None:
        """
        Read the unfinished jobs from the journal, and pass them to the runner.

        @raise StoreError: the journal cannot be read.
        """
        begun: dict[str, int] = {}
        for number, unfinished in enumerate(await self._store.journal.interrupted(), 1):
            kind = unfinished.record["kind"]
            if unfinished.request is None:
                await self._fail(unfinished.record, killed(kind))
            elif unfinished.crashes >= MOST_CRASHES:
                record = retriable(unfinished.record, unfinished.request)
                await self._fail(record, crashed(kind, unfinished.crashes))
            elif self._add(number, unfinished):
                begun[unfinished.record["id"]] = unfinished.crashes
        self._kept.keep_only(self._crashes)
        await self._record_begun(begun)
        for job_id in begun:
            self._resume(job_id)
        if any(waiting.client for waiting in self._waiting.values()):
            self._window = self._clock.callLater(WINDOW, self._expire)

    def stop(self) -> None:
        """
        Let jobs that wait do so until the next daemon.
        """
        self._waiting.clear()
        self._end_window()

    def persist(self, job: Job) -> None:
        """
        Have a job outlive this daemon.
        """
        if job.credentials:
            self._kept.keep(job.id, job.credentials)

    def rejoin(self, job_id: str, client: str, owner: str, credentials: Mapping[str, Credentials]) -> None:
        """
        See L{IJobs.rejoin<xferd.interfaces.jobs.IJobs.rejoin>}.
        """
        waiting = self._waiting.get(job_id)
        if waiting is not None and (client, owner) == (waiting.job.client, waiting.job.request.owner):
            self._supply(waiting, owner, credentials)

    def supply(self, owner: str, credentials: Mapping[str, Credentials]) -> None:
        """
        Give credentials to the jobs of an owner that lack them.
        """
        for waiting in tuple(self._waiting.values()):
            if waiting.job.request.owner == owner and waiting.hosts & credentials.keys():
                self._supply(waiting, owner, credentials)

    def _supply(self, waiting: _Waiting, owner: str, credentials: Mapping[str, Credentials]) -> None:
        if not self._runner.may_change(waiting.job):
            return
        job, waiting.client = waiting.job, False
        self._end_window()
        # Where the owner is unknown, these may be another user's.
        if owner and waiting.hosts & credentials.keys():
            used = {host: credentials[host] for host in waiting.hosts & credentials.keys()}
            job.credentials = {**job.credentials, **used}
            waiting.hosts -= used.keys()
            self._kept.keep(job.id, job.credentials)
        if waiting.hosts:
            self._explain(waiting)
            return
        del self._waiting[job.id]
        recording = self._record_begun({job.id: self._crashes[job.id]})
        self._runner.spawn(Deferred.fromCoroutine(recording), "while recording that a job continues")
        self._resume(job.id)

    def _add(self, number: int, unfinished: UnfinishedJob) -> bool:
        """
        Make a job of its record, and pass it to the runner.

        @return: whether it can begin at once.
        """
        job = _job_of(number, unfinished)
        record, request = unfinished.record, job.request
        if job.kind == "import":
            received = 0 if request.contents is None else record["archive"]["received"]
            job.upload_stream = UploadStream(self._clock, request.size, received)
            if request.contents is not None:
                job.upload_stream.taken()
        self._crashes[job.id] = unfinished.crashes
        spent = (unfinished.request or {}).get("timing", {})
        job.timing.restore(spent, self._wall_clock() - job.created)
        self._runner.readd(job, partial(self._work.do, job), self._lease(record, request))
        job.credentials = self._kept.read(job.id) if request.hosts else {}
        # The bytes of an archive that is not whole come from the client.
        client = job.restart != ALWAYS or (job.kind == "import" and request.contents is None)
        waiting = _Waiting(job, client, set(request.hosts) - job.credentials.keys())
        if not waiting.client and not waiting.hosts:
            return True
        self._waiting[job.id] = waiting
        self._explain(waiting)
        return False

    def _lease(self, record: Mapping[str, Any], request: Request) -> Callable[[], None]:
        """
        Keep what the job has downloaded into the store.
        """
        blobs, trees = self._store.blobs, self._store.trees
        end = self._store.gc.lease()
        for layer in record.get("layers", ()):
            digest = Digest.parse(layer["digest"])
            blobs.has(digest)
            trees.diff_id_of(digest)
            if layer["diff_id"] is not None:
                trees.has(Digest.parse(layer["diff_id"]))
        for file in () if request.contents is None else request.contents.files.values():
            blobs.has(file.digest)
        return end

    def _explain(self, waiting: _Waiting) -> None:
        """
        Show why a job waits.
        """
        job = waiting.job
        job.state, now = "queued", self._wall_clock()
        if waiting.client:
            words = f"waits up to {WINDOW:.0f} s for its client"
            job.held = JobWait(words, "client", now, job.client, now + self._left())
        else:
            hosts = sorted(waiting.hosts)
            words = (
                f"waits for the credentials for {' and '.join(hosts)}: its client can send them again, "
                f"or its user can run 'xferctl login {hosts[0]}'"
            )
            job.held = JobWait(words, "credentials", now, hosts[0])
            self._runner.hold_off(job.id)
        self._runner.job_changed(job)

    def _left(self) -> float:
        """
        The seconds that clients still have.
        """
        return WINDOW if self._window is None else max(0.0, self._window.getTime() - self._clock.seconds())

    def _resume(self, job_id: str) -> None:
        job = self._runner.get(job_id)
        if job is None or not self._runner.may_change(job):
            return  # It was cancelled meanwhile.
        self.resumed[job.kind] += 1
        self._log.info(
            "{kind} of {image} for {client} continues", kind=job.kind, image=job.label, client=job.client
        )
        self._runner.resume(job_id)

    def _end_window(self) -> None:
        """
        Stop the timer if no job waits for its client any more.
        """
        if self._window is not None and not any(waiting.client for waiting in self._waiting.values()):
            window, self._window = self._window, None
            window.cancel()

    def _expire(self) -> None:
        """
        End the jobs whose clients have not come back.
        """
        self._window = None
        for waiting in tuple(self._waiting.values()):
            if waiting.client:
                job = waiting.job
                self.interrupted[job.kind] += 1
                self._runner.give_up(job.id, left(job.kind, WINDOW))

    def _ended(self, job: Job) -> None:
        self._waiting.pop(job.id, None)
        self._end_window()
        self._crashes.pop(job.id, None)
        if job.request.hosts:
            self._kept.drop(job.id)

    async def _record_begun(self, crashes: Mapping[str, int]) -> None:
        if not crashes:
            return
        try:
            await self._store.journal.record_begun(crashes)
        except StoreError as e:
            self._log.error("cannot record that jobs continue: {error}", error=e)

    async def _fail(self, record: Mapping[str, Any], error: Interrupted) -> None:
        """
        Record that a job has ended as interrupted.
        """
        self.interrupted[record["kind"]] += 1
        finished = rfc3339(self._wall_clock())
        ended = {**record, "state": "failed", "error": describe(error), "finished": finished}
        try:
            await self._store.journal.record_job({**ended, "why": "", "until": None})
        except StoreError as e:
            # The next start tries again.
            self._log.error("cannot record the end of job {id}: {error}", id=record["id"], error=e)


def _job_of(number: int, unfinished: UnfinishedJob) -> Job:
    """
    Make a job of its record.
    """
    record, values = unfinished.record, unfinished.request
    assert values is not None
    request = Request.from_json(values)
    reference = (request.wanted or "") if record["kind"] == "import" else record["reference"]
    started = record["started"]
    return Job(
        id=record["id"],
        number=number,
        kind=record["kind"],
        reference=reference,
        target=record["target"],
        platform=record["platform"],
        client=record["client"],
        created=from_rfc3339(record["created"]),
        started=None if started is None else from_rfc3339(started),
        request=request,
        restart=values["restart"],
        paused=None if values.get("paused") is None else Hold(**values["paused"]),
        transfers=dict.fromkeys(record.get("transfers", ())),
        warnings=list(record["warnings"]),
        earlier=record.get("layers", ()),
        repositories=frozenset(
            Reference.parse(name).repository for name in (reference, record["target"]) if name
        ),
    )
