# -*- test-case-name: tests.jobs.test_life -*-
"""
The jobs that have not ended: begun, cancelled, and recorded when they end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import Interrupted, StoreError, TooManyJobs, XferdError
from xferd.interfaces.job_json import JobDetailsJSON
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import IStore
from xferd.jobs.deferreds import uninterrupted
from xferd.jobs.disk_space.quota import Quota
from xferd.jobs.ended_jobs import EndedJobs
from xferd.jobs.events.broker import Broker
from xferd.jobs.job import BUG, Job, describe, rfc3339
from xferd.jobs.reporter import Reporter
from xferd.jobs.shutdown_errors import killed, stopped
from xferd.names import Digest, Reference, Repository
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.fair_queue import Turn

DELIVERING = frozenset({"pull", "copy"})
"""The kinds of jobs by which clients get what registries have."""

FILLING = frozenset({"pull", "import", "prefetch"})
"""The kinds of jobs that fill the store."""

MAX_JOBS = 10_000
"""The largest number of jobs that have not ended."""

MAX_CLIENT_JOBS = MAX_JOBS // 2
"""The largest number of them that belong to one client."""

MAX_HOLDERS = 10_000
"""The number of blobs in repositories that are not written to the journal again."""


@define(eq=False)
class _Running:
    """
    A job that has not ended.

    @ivar since: the clock's time at which it was added.
    @ivar end_lease: ends the job's lease on the store.
    @ivar reason: why the daemon ended it, if the daemon did.
    @ivar cancelled: whether its client has cancelled it.
    @ivar ended: called with the job's record when it has ended.
    """

    job: Job
    run: Callable[[], Awaitable[dict[str, str]]]
    since: float
    work: Deferred[None] | None = None
    end_lease: Callable[[], None] = lambda: None
    reason: XferdError | None = None
    cancelled: bool = False
    ended: Callable[[JobDetailsJSON], object] | None = None


class Runner:
    """
    Runs jobs.

    States: I{waiting}, until L{start}; I{open}; I{stopping}, after L{stop}.

    @ivar ends: the number of jobs that have ended, by kind and state.
    @ivar delivered: the bytes of pulls and copies that are done.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        broker: Broker,
        quota: Quota,
        ended: EndedJobs,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
        eventual: Eventual,
    ) -> None:
        """
        @param broker: gets every change of a job.
        @param quota: checked when a job has brought images into the store.
        @param ended: gets the jobs that have ended.
        @param clock: measures durations.
        @param wall_clock: makes the stamps of jobs.
        @param eventual: spreads the ends of jobs over turns of the reactor.
        """
        self._store = store
        self._broker = broker
        self._quota = quota
        self._ended = ended
        self._clock = clock
        self._wall_clock = wall_clock
        self._eventual = eventual
        self._running: dict[str, _Running] = {}
        self._by_number: dict[int, Job] = {}
        self._clients: Counter[str] = Counter()
        self._background = Background()
        self._holders: dict[tuple[Repository, Digest], None] = {}
        self.started = False
        self.stopping = False
        self.ends: Counter[tuple[str, str]] = Counter()
        self.delivered = 0

    @property
    def is_open(self) -> bool:
        """
        Whether the store may be changed.
        """
        return self.started and not self.stopping

    async def start(self) -> None:
        """
        Begin the jobs that were added before.

        Jobs that an earlier daemon left unfinished have failed: their clients
        are gone.
        """
        for record in await self._store.journal.interrupted():
            error = describe(killed(record["kind"]))
            finished = rfc3339(self._wall_clock())
            ended = {**record, "state": "failed", "error": error, "finished": finished}
            try:
                await self._store.journal.record_job(ended)
            except StoreError as e:
                # The next start tries again.
                self._log.error("cannot record the end of job {id}: {error}", id=record["id"], error=e)
        await self._ended.load()
        self.started = True
        self._quota.check()
        for running in tuple(self._running.values()):
            self._begin(running)

    def stop(self) -> list[Deferred[None]]:
        """
        Refuse new jobs, and cancel those that run.

        @return: fire when the jobs have ended.
        """
        self.stopping = True
        works = []
        for running in tuple(self._running.values()):
            running.reason = stopped(running.job.kind)
            if running.work is None:
                self._end(running, "failed", error=running.reason)
            else:
                works.append(running.work)
                running.work.cancel()
        return works

    def recorded(self) -> Deferred[None]:
        """
        @return: fires when everything that was recorded so far is in the journal.
        """
        return self._background.ended()

    def __len__(self) -> int:
        return len(self._running)

    def jobs(self) -> list[Job]:
        """
        The jobs that have not ended, the oldest first.
        """
        return [running.job for running in self._running.values()]

    def get(self, job_id: str) -> Job | None:
        """
        A job that has not ended.
        """
        running = self._running.get(job_id)
        return None if running is None else running.job

    def check_capacity(self, client: str) -> None:
        """
        Check that a client may begin another job.

        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: this client, or all together, have too many.
        """
        if self.stopping:
            raise Interrupted("the daemon is stopping and takes no more jobs")
        if len(self._running) >= MAX_JOBS:
            raise TooManyJobs(f"{len(self._running)} jobs have not ended: try again when some have")
        if self._clients[client] >= MAX_CLIENT_JOBS:
            raise TooManyJobs(
                f"{self._clients[client]} jobs of {client} have not ended: try again when some have"
            )

    def add(
        self,
        job: Job,
        run: Callable[[], Awaitable[dict[str, str]]],
        ended: Callable[[JobDetailsJSON], object] | None = None,
    ) -> None:
        """
        Add a job, which begins at once, or with L{start}.

        @param run: does the work, and returns the job's result.
        @param ended: called with the job's record when it has ended, from a clean
            turn.
        """
        running = self._running[job.id] = _Running(job, run, self._clock.seconds(), ended=ended)
        self._by_number[job.number] = job
        self._clients[job.client] += 1
        if self.started:
            self._begin(running)
        self._broker.job_changed(job)
        self._record(job.to_json())

    def cancel(self, job_id: str) -> None:
        """
        Cancel a job, at once, for its client.  One that has ended stays as it is.
        """
        running = self._running.get(job_id)
        if running is not None:
            running.cancelled = True
            if running.work is None:
                self._end(running, "cancelled")
            else:
                running.work.cancel()

    def reporter(self, job: Job) -> Reporter:
        """
        Make the reporter of a job's changes.
        """
        return Reporter(job, self._broker, lambda: self._record(job.with_layers()))

    def warned(self, repository: Repository, text: str) -> None:
        """
        Add a registry's warning about a repository to the jobs that move
        something there.
        """
        for job in self.jobs():
            if job.warned(repository, text):
                self._broker.job_changed(job)

    # -------------------------------------------------------- the life of a job

    def _begin(self, running: _Running) -> None:
        job = running.job
        job.state, job.started = "running", self._wall_clock()
        running.end_lease = self._store.gc.lease()
        running.work = Deferred.fromCoroutine(self._work(running))

    async def _work(self, running: _Running) -> None:
        """
        Run a job, and record how it ends.
        """
        job = running.job
        try:
            job.result = await running.run()
            # In a turn of its own: many jobs may end with one write to the disk.
            await uninterrupted(self._eventual.caught_up())
        except CancelledError:
            if running.reason is None or running.cancelled:
                self._end(running, "cancelled")
            else:
                self._end(running, "failed", error=running.reason)
        except Exception as e:
            if not isinstance(e, XferdError):
                self._log.failure("{kind} of {image} broke", kind=job.kind, image=job.label)
            if running.cancelled:
                # An interruption may arrive as another error.
                self._end(running, "cancelled")
            else:
                self._end(running, "failed", error=running.reason or e)
        else:
            self._end(running, "done")

    def _end(self, running: _Running, state: str, error: Exception | None = None) -> None:
        """
        End a job: record it, and report it to the event streams.
        """
        job = running.job
        self.ends[job.kind, state] += 1
        job.state, job.finished = state, self._wall_clock()
        if job.upload_stream is not None:
            job.upload_stream.close(archive_refused(job.id, state))
        if state == "done" and job.kind in DELIVERING:
            self.delivered += job.size
        job.error = None if error is None else describe(error)
        record = job.with_layers()
        running.end_lease()
        if running.ended is not None:
            self._eventual.call(running.ended, record)
        del self._running[job.id]
        del self._by_number[job.number]
        self._clients[job.client] -= 1
        if not self._clients[job.client]:
            del self._clients[job.client]
        self._background.spawn(self._ended.add(record), "while recording a job")
        self._broker.ended(job, record)
        if job.kind in FILLING and self.is_open:
            # The images that have just come are those that their client wants.
            names = job.reference.split(", ") if state == "done" else ()
            self._quota.check(frozenset(map(Reference.parse, names)))
        self._log.info(
            "{kind} of {image} for {client}: {state}{why}",
            kind=job.kind,
            image=job.label,
            client=job.client,
            state=state,
            why="" if error is None else f": {error}",
            bytes=job.size,
            seconds=self._clock.seconds() - running.since,
        )

    # ------------------------------------------------------------- the journal

    def record_watch(self, turn: Turn, transfer_id: str) -> None:
        """
        Note that a job waits for a transfer, so that the transfer's attempts are
        found by the job.
        """
        job = self._by_number.get(turn.job)
        if job is not None:
            job.waits_for(transfer_id)

    def record_attempt(self, record: Mapping[str, Any]) -> None:
        """
        Write an attempt of a transfer to the journal.
        """
        changed: dict[str, str] = {key: rfc3339(record[key]) for key in ("started", "finished")}
        if record["code"] == XferdError.code:
            changed["error"] = BUG
        self._background.spawn(
            self._store.journal.record_attempt({**record, **changed}), "while recording an attempt"
        )

    def record_holder(self, repository: Repository, blob: Digest) -> None:
        """
        Write to the journal that a repository has a blob, unless that is among
        the last ones that were written: clients pull the same images.
        """
        holder = repository, blob
        if holder in self._holders:
            return
        self._holders[holder] = None
        if len(self._holders) > MAX_HOLDERS:
            del self._holders[next(iter(self._holders))]
        self._background.spawn(
            self._store.journal.record_holder(repository, blob), "while recording the holder of a blob"
        )

    def _record(self, record: Mapping[str, Any]) -> None:
        self._background.spawn(self._store.journal.record_job(record), "while recording a job")


def archive_refused(job_id: str, state: str) -> str:
    """
    The error for a client that sends more of an archive to an import that has ended.
    """
    return f"import {job_id} has ended ({state}) and reads no more of its archive"
