# -*- test-case-name: tests.jobs.test_life -*-
"""
The jobs that have not ended: begun, cancelled, and recorded when they end.

One class has the life cycle of a job, restarts of the daemon included, which makes the module
long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from xferd.errors import BadInput, BlobUnknown, Interrupted, ManifestUnknown, TooManyJobs, XferdError
from xferd.interfaces.job_json import JobDetailsJSON
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import IStore
from xferd.jobs.deferreds import uninterrupted
from xferd.jobs.disk_space.quota import Quota
from xferd.jobs.ended_jobs import EndedJobs
from xferd.jobs.events.broker import Broker
from xferd.jobs.history import ClientBytes
from xferd.jobs.job import BUG, ENDED, REQUEST, Job, describe
from xferd.jobs.log_lines import ENDED as ENDED_LINE
from xferd.jobs.log_lines import FAILED as FAILED_LINE
from xferd.jobs.log_lines import ended_fields, failed_fields
from xferd.jobs.reasons import JobWait
from xferd.jobs.reporter import Reporter
from xferd.jobs.rows import PRESENT, ROWS_IN_A_TURN, make_rows
from xferd.jobs.shutdown_errors import stopped
from xferd.jobs.timing import CHECKING, QUEUED, RECEIVING, RESOLVING
from xferd.jobs.totals import Totals
from xferd.jobs.tracer import Tracer
from xferd.jobs.verdict import timing_json
from xferd.jobs.waits import JobWaits
from xferd.json_encoding import rfc3339
from xferd.names import Digest, Reference, Repository
from xferd.trace_context import carrying
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import Observer
from xferd.transfer.steering import Steering
from xferd.transfer.transfer import Transfer
from xferd.waits import reporting

DELIVERING = frozenset({"pull", "copy"})
"""The kinds of jobs by which clients get what registries have."""

FILLING = frozenset({"pull", "import", "prefetch"})
"""The kinds of jobs that fill the store."""

MAX_JOBS = 10_000
"""The largest number of jobs that have not ended."""

MAX_CLIENT_JOBS = MAX_JOBS // 2
"""The largest number of them that belong to one client."""

MOMENT = 0.2
"""Seconds within which a new job is written to the journal: many have ended by then, and are written once."""

SUSPENDED = "the daemon is stopping, and continues the job when it starts again"
"""Why a job waits that the next daemon continues."""

MAX_HOLDERS = 10_000
"""The number of blobs in repositories that are not written to the journal again."""

_UNKNOWN = frozenset({ManifestUnknown.code, BlobUnknown.code})
_OVER_NETWORK = frozenset({"document", "download", "upload"})
_RESTS = {"import": RECEIVING, "verify": CHECKING}
"""What a job does, by its kind, while no transfer is under way and no layer is known."""


@define(eq=False)
class _Running:
    """
    A job that has not ended.

    @ivar end_lease: ends the job's lease on the store.
    @ivar reason: why the daemon ended it, if the daemon did.
    @ivar cancelled: whether a client has cancelled it.
    @ivar cancelled_by: that client, for the log.
    @ivar held: whether it waits for its client, after a restart of the daemon.
    @ivar suspended: whether the next daemon continues it.
    @ivar ending: whether its end was passed to the journal, and is not reported yet.
    @ivar kept: whether a record was passed to the journal.
    @ivar keeping: fire when the journal has the first one.
    @ivar ended: called with the job's record when it has ended.
    """

    job: Job
    run: Callable[[], Awaitable[dict[str, str]]]
    work: Deferred[None] | None = None
    end_lease: Callable[[], None] | None = None
    reason: XferdError | None = None
    cancelled: bool = False
    cancelled_by: str = ""
    held: bool = False
    suspended: bool = False
    ending: bool = False
    kept: bool = False
    keeping: list[Deferred[None]] = field(factory=list)
    ended: Callable[[JobDetailsJSON], object] | None = None


class Runner(Observer):
    """
    Runs jobs.

    States: I{waiting}, until L{start}; I{open}; I{stopping}, after L{stop}.

    @ivar on_end: called with each job that has ended.
    @ivar ends: the number of jobs that have ended, by kind and state.
    @ivar delivered: the bytes of pulls and copies that are done.
    @ivar totals: the times of the jobs that have ended.
    @ivar client_bytes: the bytes of the last minute, by client.
    @ivar check_open: called before a job is begun; raises if new jobs are refused.
    @ivar tracer: records jobs and transfers as traces, or L{None}.
    @ivar limit_job: called with the number, the id and the bandwidth limits of a job that has
        some, and with none at its end; returns those that hold now.
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
        rates: Callable[[], Mapping[str, float]],
        steering: Steering,
    ) -> None:
        """
        @param broker: gets every change of a job.
        @param quota: checked when a job has added images to the store.
        @param ended: gets the jobs that have ended.
        @param clock: measures durations.
        @param wall_clock: makes the stamps of jobs.
        @param eventual: spreads the ends of jobs over turns of the reactor.
        @param rates: returns the bytes per second that one transfer moves, by host.
        @param steering: which jobs are paused.
        """
        self._steering = steering
        self._store = store
        self._broker = broker
        self._quota = quota
        self._ended = ended
        self._clock = clock
        self._wall_clock = wall_clock
        self._eventual = eventual
        self._rates = rates
        self._running: dict[str, _Running] = {}
        # The timers of the jobs of which the journal has nothing yet.
        self._unrecorded: dict[str, IDelayedCall] = {}
        self._by_number: dict[int, Job] = {}
        self._clients: Counter[str] = Counter()
        self._background = Background()
        self._holders: dict[tuple[Repository, Digest], None] = {}
        self._waits = JobWaits(clock, wall_clock, broker.job_changed)
        broker.changed = self._waits.changed
        self.started = False
        self.stopping = False
        self.on_end: Callable[[Job], object] = lambda _: None
        self.ends: Counter[tuple[str, str]] = Counter()
        self.delivered = 0
        self.totals = Totals()
        self.client_bytes = ClientBytes()
        self.check_open: Callable[[], None] = lambda: None
        self.tracer: Tracer | None = None
        self.limit_job: Callable[[int, str, Mapping[str, Any]], Mapping[str, int]] = lambda *_: {}

    @property
    def is_open(self) -> bool:
        """
        Whether the store may be changed.
        """
        return self.started and not self.stopping

    def start(self) -> None:
        """
        Begin the jobs that were added before, the oldest first.
        """
        self.started = True
        self._quota.check()
        for running in sorted(self._running.values(), key=lambda running: running.job.number):
            if not running.held:
                self._begin(running)

    def stop(self, grace: float) -> list[Deferred[None]]:
        """
        Refuse new jobs, and interrupt those that will not end in time.

        @param grace: the seconds that the others have.
        @return: fire when the jobs have ended.
        """
        self.stopping = True
        self._waits.stop()
        self.interrupt_late(grace)
        return [running.work for running in self._running.values() if running.work is not None]

    def interrupt_late(self, seconds: float) -> None:
        """
        Interrupt the jobs that will not end in time.

        @param seconds: what is left of the grace.
        """
        for running in tuple(self._running.values()):
            if running.work is None or not _ends_within(seconds, running.job):
                self._interrupt(running)

    def interrupt(self) -> None:
        """
        Interrupt the jobs that have not ended: the next daemon continues those that
        outlive this one; the others fail.
        """
        for running in tuple(self._running.values()):
            self._interrupt(running)

    def _interrupt(self, running: _Running) -> None:
        if running.reason is not None:
            return
        running.reason = stopped(running.job.kind)
        if running.work is not None:
            running.work.cancel()
        elif running.job.restart is not None:
            self._suspend(running)
        else:
            self._finish(running, "failed", running.reason)

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
        @raise Draining: the daemon is being drained.
        @raise TooManyJobs: this client, or all together, have too many.
        """
        if self.stopping:
            raise Interrupted("the daemon is stopping and takes no more jobs")
        self.check_open()
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
        running = self._enter(job, run)
        running.ended = ended
        self._unrecorded[job.id] = self._clock.callLater(MOMENT, self._record_in_turns, job)
        if self.started:
            self._begin(running)
        self._broker.job_changed(job)

    def readd(
        self, job: Job, run: Callable[[], Awaitable[dict[str, str]]], end_lease: Callable[[], None]
    ) -> None:
        """
        Add a job of an earlier daemon, which begins with L{resume}.

        @param run: see L{add}.
        @param end_lease: ends the lease on the parts of its images that are in the
            store.
        """
        running = self._enter(job, run)
        running.held, running.end_lease = True, end_lease
        self._broker.job_changed(job)

    def _enter(self, job: Job, run: Callable[[], Awaitable[dict[str, str]]]) -> _Running:
        running = self._running[job.id] = _Running(job, run)
        job.timing.begin(self._clock)
        self.client_bytes.begin(job)
        if job.paused is not None:
            job.pause(job.paused)
            self._steering.pause_job(job.number, job.paused)
        if job.request.rates:
            job.rates = self.limit_job(job.number, job.id, job.request.rates)
        self._by_number[job.number] = job
        self._clients[job.client] += 1
        return running

    def resume(self, job_id: str) -> None:
        """
        Begin a job that was held, at once or with L{start}.
        """
        running = self._running[job_id]
        running.held, running.job.held = False, None
        if self.started and not self.stopping:
            self._begin(running)
        self._broker.job_changed(running.job)

    def give_up(self, job_id: str, error: XferdError) -> None:
        """
        End a job that was held.
        """
        self._finish(self._running[job_id], "failed", error)

    def hold_off(self, job_id: str) -> None:
        """
        End the lease of a job that is held, which may wait for long: until it continues,
        collections may remove what it has fetched.
        """
        running = self._running[job_id]
        if running.end_lease is not None:
            running.end_lease()
            running.end_lease = None

    def cancel(self, job_id: str, by: str = "") -> None:
        """
        Cancel a job for a client: its work at once.  One that has ended stays as it is.

        @param by: who cancels it, for the log.
        """
        running = self._running.get(job_id)
        if running is None or running.ending:
            return
        running.cancelled, running.cancelled_by = True, running.cancelled_by or by
        if running.work is None:
            self._finish(running, "cancelled")
        else:
            running.work.cancel()
            if job_id in self._running and not running.ending:
                # Its work takes a while to end.
                _ = self._record(_retriable(running.job, self._record_of(running, "cancelled", None)))

    def reporter(self, job: Job) -> Reporter:
        """
        Make the reporter of a job's changes.
        """
        return Reporter(job, self._broker, lambda: self._record_in_turns(job))

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
        job.state = "running"
        job.timing.rest(_RESTS.get(job.kind, RESOLVING))
        if job.started is None:
            job.started = self._wall_clock()
        if running.end_lease is None:
            running.end_lease = self._store.gc.lease()
        running.work = Deferred.fromCoroutine(self._work(running))

    async def _work(self, running: _Running) -> None:
        """
        Run a job, and record how it ends.
        """
        job, error = running.job, None
        try:
            trace = "" if self.tracer is None else self.tracer.traceparent(job)
            with reporting(self._waits.waiting(job)), carrying(trace):
                job.result = await running.run()
            # In a turn of its own: many jobs may end with one write to the disk.
            await uninterrupted(self._eventual.caught_up())
            if len(job.rows) > ROWS_IN_A_TURN:
                # Settled rows are made once, so that the turn in which the job ends is short.
                await uninterrupted(Deferred.fromCoroutine(make_rows(job.rows, job.id, self._eventual)))
        except CancelledError:
            state = "cancelled"
        except Exception as e:
            if not isinstance(e, XferdError):
                self._log.failure("{kind} of {image} broke", kind=job.kind, image=job.label)
            state, error = "failed", e
        else:
            state = "done"
        if state != "done" and running.cancelled:
            # An interruption may arrive as another error.
            state, error = "cancelled", None
        elif state != "done" and running.reason is not None:
            if job.restart is not None:
                self._suspend(running)
                return
            state, error = "failed", running.reason
        await self._record_end(running, state, error)

    def _suspend(self, running: _Running) -> None:
        """
        Leave a job to the next daemon.
        """
        job, running.work, running.suspended = running.job, None, True
        job.timing.rest(QUEUED)
        job.state, job.held = "queued", JobWait(SUSPENDED, "restart", self._wall_clock())
        if job.upload_stream is not None:
            job.upload_stream.close(Interrupted(SUSPENDED))
        self._end_lease(running)
        _ = self.record(job)
        self._broker.job_changed(job)
        if self.tracer is not None:
            self.tracer.job_ended(job, job.to_json())

    def _finish(self, running: _Running, state: str, error: XferdError | None = None) -> None:
        """
        End a job that does no work.
        """
        if not running.ending:
            running.work = Deferred.fromCoroutine(self._record_end(running, state, error))

    async def _record_end(self, running: _Running, state: str, error: Exception | None) -> None:
        """
        End a job.  If it outlives the daemon, its end is on the disk before it is reported,
        unless the disk refuses: such a job is not begun again.
        """
        record, recorded = self._record_of(running, state, error), False
        if running.job.restart is not None:
            running.ending = True
            recorded = await uninterrupted(self._record(_retriable(running.job, record)))
        self._end(running, record, recorded=recorded)

    def _end_lease(self, running: _Running) -> None:
        end_lease, running.end_lease = running.end_lease, None
        if end_lease is not None:
            end_lease()

    def _record_of(self, running: _Running, state: str, error: Exception | None) -> JobDetailsJSON:
        """
        The record of a job that ends.
        """
        job = running.job
        record = job.with_layers()
        # Without layers, it ends before it knows them again: their partial blobs go with its image.
        # Transfers that other jobs share go on, and their waits are not this job's any more.
        record["layers"] = [
            layer
            if layer["state"] in ENDED | PRESENT
            else {**layer, "state": state, "why": "", "reason": None}
            for layer in record["layers"] or job.earlier
        ]
        job.timing.count()
        received = None if job.upload_stream is None else job.upload_stream.offset
        return {
            **record,
            "timing": timing_json(
                job.timing, job.kind, job.size, received, self._rates, done=state == "done"
            ),
            "state": state,
            "error": None if error is None else describe(error),
            "finished": rfc3339(self._wall_clock()),
            "why": "",
            "reason": None,
            "until": None,
        }

    def _end(self, running: _Running, record: JobDetailsJSON, *, recorded: bool) -> None:
        """
        Report the end of a job to the event streams, and record it.

        @param recorded: whether the journal has it.
        """
        job, state = running.job, record["state"]
        self.ends[job.kind, state] += 1
        if record["timing"] is not None:
            self.totals.add(job.kind, record["timing"])
        job.held = None
        job.awaited.clear()
        job.state, job.error, job.finished = state, record["error"], self._wall_clock()
        if job.upload_stream is not None:
            job.upload_stream.close(BadInput(archive_refused(job.id, state)))
        if state == "done" and job.kind in DELIVERING:
            self.delivered += job.size
        self._end_lease(running)
        if running.ended is not None:
            self._eventual.call(running.ended, record)
        del self._running[job.id]
        if not self._running:
            self._waits.rest()
        self.client_bytes.end(job)
        del self._by_number[job.number]
        self._steering.forget(job.number)
        if job.request.rates:
            self.limit_job(job.number, job.id, {})
        self._clients[job.client] -= 1
        if not self._clients[job.client]:
            del self._clients[job.client]
        self.on_end(job)
        adding = self._ended.add(_retriable(job, record), recorded=recorded)
        self.spawn(self._keep(running, adding), "while recording a job")
        self._broker.ended(job, record)
        if job.kind in FILLING and self.is_open:
            # The images that have just come are those that their client wants.
            names = job.reference.split(", ") if state == "done" else ()
            self._quota.check(frozenset(map(Reference.parse, names)))
        if self.tracer is not None:
            self.tracer.job_ended(job, record)
        level = LogLevel.warn if state == "failed" else LogLevel.info
        self._log.emit(level, ENDED_LINE, **ended_fields(job, record, running.cancelled_by))

    def job_changed(self, job: Job) -> None:
        """
        Report to the event streams that a job has changed.
        """
        self._broker.job_changed(job)

    # ------------------------------------------------------------- the journal

    def spawn(self, work: Deferred[None], activity: str) -> None:
        """
        Own some work until it ends; the end of the daemon waits for it.

        @param activity: see L{Background.spawn}.
        """
        self._background.spawn(work, activity)

    def changed(self, turn: Turn, transfer: Transfer) -> None:
        """
        Note that a transfer is new for a job, or has changed.  Its attempts are found by the
        job.
        """
        job = self._by_number.get(turn.job)
        if job is not None:
            job.timing.note(transfer)
            if transfer.kind in _OVER_NETWORK:
                job.waits_for(transfer.id)
            if transfer.kind == "document":
                self._waits.document_changed(job, transfer)
            if self.tracer is not None:
                self.tracer.transfer_changed(job, transfer)

    def traceparent(self, transfer: Transfer) -> str:
        """
        The trace that the requests of a transfer carry, or an empty string.
        """
        return "" if self.tracer is None else self.tracer.traceparent(transfer)

    def left(self, turn: Turn, transfer: Transfer) -> None:
        """
        Note that a job has released a transfer.
        """
        job = self._by_number.get(turn.job)
        if job is not None:
            job.timing.drop(transfer)
            job.awaited.pop(transfer, None)
            if self.tracer is not None:
                self.tracer.transfer_left(job, transfer)

    def record_attempt(self, record: Mapping[str, Any], turns: Iterable[Turn]) -> None:
        """
        Write an attempt of a transfer to the journal; if it failed, also to the log.

        @param turns: those of the transfer's watchers.
        """
        self.record_question(record, turns)
        changed: dict[str, str] = {key: rfc3339(record[key]) for key in ("started", "finished")}
        if record["code"] == XferdError.code:
            changed["error"] = BUG
        self._background.spawn(
            self._store.journal.record_attempt({**record, **changed}), "while recording an attempt"
        )

    def record_question(self, record: Mapping[str, Any], turns: Iterable[Turn]) -> None:
        """
        Write a failed attempt to the log.

        No job has the questions of the mirror's clients.  They would push the attempts of jobs
        out of the journal, which keeps a number of them.

        @param turns: those of the transfer's watchers.
        """
        if record["code"] not in (None, "CANCELLED"):
            found = {turn.job: self._by_number.get(turn.job) for turn in turns}
            jobs = [job for job in found.values() if job is not None]
            # Clients ask for tags and blobs that are not there.
            level = LogLevel.warn if jobs or record["code"] not in _UNKNOWN else LogLevel.debug
            self._log.emit(level, FAILED_LINE, **failed_fields(record, jobs))
        if self.tracer is not None:
            self.tracer.attempt_ended(record)

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

    def kept(self, job_id: str) -> Deferred[None]:
        """
        Wait until the journal has a job: see L{IJobs.kept<xferd.interfaces.jobs.IJobs.kept>}.
        """
        running = self._running.get(job_id)
        if running is None or running.kept:
            return self._store.journal.flush()
        kept: Deferred[None] = Deferred()  # needs no canceller: a late result of it is dropped
        running.keeping.append(kept)
        return kept

    def record_new(self) -> None:
        """
        Write the jobs to the journal of which it has nothing yet.
        """
        for job_id in tuple(self._unrecorded):
            _ = self._record_in_turns(self._running[job_id].job)

    def _keep(self, running: _Running, recording: Deferred[None]) -> Deferred[None]:
        """
        Have those that wait for the record of a job called when it is written.
        """
        self._stop_timer(running.job)
        running.kept = True

        def kept(result: Failure | None) -> Failure | None:
            for waiter in running.keeping:
                self._eventual.call(waiter.callback, None)
            running.keeping.clear()
            return result

        return recording.addBoth(kept)

    def _stop_timer(self, job: Job) -> None:
        timer = self._unrecorded.pop(job.id, None)
        if timer is not None and timer.active():
            timer.cancel()

    def record(self, job: Job, record: JobDetailsJSON | None = None) -> Deferred[bool]:
        """
        Write a job to the journal, with its rows and with what begins it again.

        @param record: its present record, if it was made.
        @return: fires with whether that is on the disk now.
        """
        request = None if job.restart is None else job.to_request()
        return self._record(job.with_layers() if record is None else record, request)

    def record_change(self, job: Job) -> None:
        """
        Write a job to the journal that a client has changed, if it outlives the daemon.
        """
        if job.restart is not None and self.may_change(job):
            _ = self.record(job)

    def may_change(self, job: Job) -> bool:
        """
        Whether a job may change; otherwise its end is, or will be, in the journal.
        """
        running = self._running.get(job.id)
        ends = running is None or running.cancelled or running.suspended or running.ending
        return not ends and job.result is None

    def _record_in_turns(self, job: Job) -> Deferred[bool]:
        """
        The same, in several turns of the reactor where there are many rows.
        """
        if len(job.rows) <= ROWS_IN_A_TURN:
            return self.record(job)
        self._stop_timer(job)
        return Deferred.fromCoroutine(self._record_many(job))

    async def _record_many(self, job: Job) -> bool:
        layers = await make_rows(job.rows, job.id, self._eventual)
        if not self.may_change(job):
            return False
        record = {**job.to_json(), "layers": layers, "transfers": list(job.transfers)}
        return await self._record(record, None if job.restart is None else job.to_request())

    def _record(self, record: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> Deferred[bool]:
        recording = self._store.journal.record_job(record, request)
        running = self._running.get(record["id"])
        if running is not None:
            recording = self._keep(running, recording)
        # Needs no canceller: a late result of it is dropped.
        recorded: Deferred[bool] = Deferred()

        def ended(result: Failure | None) -> Failure | None:
            recorded.callback(result is None)
            return result

        self._background.spawn(recording.addBoth(ended), "while recording a job")
        return recorded


def retriable(record: Mapping[str, Any], request: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    The record of a job that did not succeed, with what begins it again.
    """
    return {**record, REQUEST: {**request, "contents": None}}


def _retriable(job: Job, record: JobDetailsJSON) -> Mapping[str, Any]:
    """
    The record of a job that has ended, with what begins it again if it did not succeed.
    """
    return record if record["state"] == "done" else retriable(record, job.request.to_json())


def _ends_within(seconds: float, job: Job) -> bool:
    """
    Whether a job will probably end in some seconds: all of its bytes are at their
    destination, or will be at the present rate.
    """
    if not job.rows or (job.upload_stream is not None and job.request.contents is None):
        return False
    left = job.size - job.to_json()["bytes_done"]
    rate = sum(t.snapshot()["rate"] for t in {t for row in job.rows for t in row.transfers})
    return bool(left <= rate * seconds)


def archive_refused(job_id: str, state: str) -> str:
    """
    The error for a client that sends more of an archive to an import that has ended.
    """
    return f"import {job_id} has ended ({state}) and reads no more of its archive"
