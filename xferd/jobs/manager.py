# -*- test-case-name: tests.jobs.test_manager -*-
"""
The jobs of the daemon: clients begin, list, follow and cancel them here.

One class provides all of L{IJobs}, which makes the module long.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, Final, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.errors import BadInput, Interrupted, NotFound
from xferd.hosts.memory import HostMemory
from xferd.interfaces.hosts import IHostMemory
from xferd.interfaces.job_json import (
    AttemptJSON,
    HistoryJSON,
    JobDetailsJSON,
    JobJSON,
    JobsStatusJSON,
    LimitsJSON,
    SandboxJSON,
    TransferJSON,
)
from xferd.interfaces.jobs import Figures, IArchive, IEventStream, IJobs, IUploadStream
from xferd.interfaces.mirror import IBlobReader, ISharedTags
from xferd.interfaces.peers import IFleetDownloads, IHeldBlobs
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRegistries
from xferd.interfaces.store import IStore
from xferd.interfaces.unpack import IUnpacker
from xferd.jobs.archives.exporting import open_archive
from xferd.jobs.disk_space.quota import Quota
from xferd.jobs.ended_jobs import EndedJobs
from xferd.jobs.events.broker import Broker
from xferd.jobs.events.image_uses import ImageUses
from xferd.jobs.history import History
from xferd.jobs.image_admin import ImageAdmin
from xferd.jobs.images.naming import Naming
from xferd.jobs.images.outdated_trees import renew_image
from xferd.jobs.images.stored import stored_image
from xferd.jobs.isolation import ISOLATED, SHARED
from xferd.jobs.job import Job, in_short, whole
from xferd.jobs.kept_credentials import KeptCredentials
from xferd.jobs.limits import Limits
from xferd.jobs.mirror.keep_rules import KeepRule
from xferd.jobs.mirror.keeper import Keeper
from xferd.jobs.mirror.mirror import Mirror
from xferd.jobs.push import ALL
from xferd.jobs.request import Request
from xferd.jobs.restarts import Restarts
from xferd.jobs.runner import DELIVERING, MAX_JOBS, Runner, archive_refused
from xferd.jobs.steering import JobSteering
from xferd.jobs.steering_settings import SteeringSettings
from xferd.jobs.tracer import Tracer
from xferd.jobs.transfers import SMALL_BLOB, Transfers
from xferd.jobs.upload_stream import UploadStream
from xferd.jobs.verify.scrub import Scrub
from xferd.jobs.waits import job_waits
from xferd.jobs.work import Work
from xferd.logs.audit_line import Door
from xferd.names import Reference, Repository, parse_tag, parse_target
from xferd.oci import Descriptor
from xferd.platforms import Platform
from xferd.trace_context import traceparent
from xferd.transfer.adaptive_streams import RangePolicy
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.steering import Steering

_LIMITS: Final = "limits"
"""The name of the limits that are kept in the journal."""

CHECK_INTERVAL = 0.5
"""Seconds after which it is checked again, during a stop, which jobs will end in time."""

UNWINDING = 1.0
"""Seconds of the grace that are left for jobs to unwind when they are interrupted."""

MOST_ATTEMPTS = 1000
"""The largest number of attempts that are returned for one job."""


@implementer(IJobs)
class Jobs:
    """
    The jobs of one daemon.

    @ivar held: the blobs that are here or arrive, for other nodes of a fleet.
    @ivar lately: what moved lately, from its start on.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        registries: IRegistries,
        unpacker: IUnpacker,
        *,
        clock: IReactorTime,
        wall_clock: WallClock,
        limits: Limits | None = None,
        ranges: RangePolicy | None = None,
        steering: SteeringSettings | None = None,
        retry: RetryPolicy | None = None,
        sharing: str = SHARED,
        small_blob: int = SMALL_BLOB,
        quota: int = 0,
        scrub: int = 0,
        keep: Sequence[KeepRule] = (),
        hosts: IHostMemory | None = None,
        fleet: IFleetDownloads | None = None,
        tags: ISharedTags | None = None,
        kept: KeptCredentials | None = None,
    ) -> None:
        """
        @param clock: measures durations.
        @param wall_clock: makes the stamps of jobs, transfers and images.
        @param limits: the first limits; that of C{workers} is the unpacker's.
        @param steering: the pauses and the drain from its start on.
        @param ranges: when a blob is fetched by several streams.
        @param sharing: C{shared} or C{isolated}.
        @param small_blob: the least size of a blob that waits for the slots of
            C{downloads} and C{uploads}; smaller ones have slots of their own.
        @param quota: the bytes that the store may take; 0 is no limit.
        @param scrub: the bytes per second at which all content is checked in the
            background; 0 is never.
        @param keep: how long mirrored content is kept.
        @param hosts: the memory of hosts; by default one that ends with this object.
        @param fleet: the nodes with which downloads are shared, in shared mode.
        @param tags: those that other nodes of a fleet have checked.
        @param kept: the credentials of jobs that outlive the daemon; by default none are
            kept.
        """
        self._sharing = sharing
        self._store = store
        self._registries = registries
        self._unpacker = unpacker
        self._clock = clock
        self._wall_clock = wall_clock
        self._eventual = Eventual(clock)
        self._background = Background()
        self._broker = Broker(clock, self._eventual, store.gc.used_by)
        self.image_uses = ImageUses(store, self._broker.named, clock)
        self.keeper = Keeper(store, keep, clock=clock, wall_clock=wall_clock)
        self._quota = Quota(store, self._broker.removed, quota, self.keeper.spared)
        self._ended = EndedJobs(store.journal, self._broker.forget)
        memory = HostMemory(clock, wall_clock=wall_clock) if hosts is None else hosts
        steered = Steering()
        self._runner = Runner(
            store,
            self._broker,
            self._quota,
            self._ended,
            clock=clock,
            wall_clock=wall_clock,
            eventual=self._eventual,
            rates=lambda: {known.host: known.rate for known in memory.hosts() if known.rate is not None},
            steering=steered,
        )
        self._transfers = Transfers(
            store,
            unpacker,
            self._quota,
            hosts=memory,
            clock=clock,
            wall_clock=wall_clock,
            limits=Limits() if limits is None else limits,
            ranges=RangePolicy() if ranges is None else ranges,
            retry=RetryPolicy() if retry is None else retry,
            sharing=sharing,
            small_blob=small_blob,
            on_attempt=self._runner.record_attempt,
            on_question=self._runner.record_question,
            observer=self._runner,
            eventual=self._eventual,
            steering=steered,
            fleet=fleet,
        )
        self.steering = JobSteering(
            steered,
            self._runner,
            self._ended,
            store.journal,
            wall_clock=wall_clock,
            begin=self._begin_again,
            reorder=self._transfers.reorder,
            settings=steering,
        )
        self._runner.check_open = self.steering.check_open
        self._runner.limit_job = self._transfers.limits.limit_job
        self._layers = self._transfers.layers
        self.held: IHeldBlobs = self._layers.held
        self._uploads = self._transfers.uploads
        # Behind the jobs of earlier daemons.
        self._numbers = count(MAX_JOBS + 1)
        self.mirror = Mirror(
            store,
            self._layers,
            questions=self._transfers.questions,
            passing=self._transfers.passing,
            hosts=memory,
            wall_clock=wall_clock,
            turn=self._turn,
            # Clients that wait go first.
            store_turn=lambda: Turn("", -1, next(self._numbers), 0),
            tags=tags,
            refusal=self.steering.refusal,
            check_open=self.steering.check_open,
        )
        self._naming = Naming(store, self._broker.named)
        self._work = Work(
            store,
            registries,
            self._transfers,
            self._runner,
            self._naming,
            sharing=sharing,
            clock=clock,
            wall_clock=wall_clock,
            eventual=self._eventual,
        )
        self._restarts = Restarts(
            store,
            self._runner,
            self._work,
            KeptCredentials(None) if kept is None else kept,
            clock=clock,
            wall_clock=wall_clock,
        )
        self.image_admin = ImageAdmin(
            store,
            self._broker,
            lambda: self._runner.is_open,
            naming=self._naming,
            wall_clock=wall_clock,
        )

        self._shared = 0
        self.lately = History(clock, wall_clock, self._moved, self._runner.client_bytes)
        self._scrub = Scrub(
            store,
            scrub,
            clock=clock,
            busy=self._transfers.moving,
            found=lambda reference, ended: self._verify(reference, "scrub", 0, None, ended),
            checked=self._work.checked,
        )

    async def start(self) -> None:
        """
        Read what an earlier daemon recorded, and begin the jobs that it left unfinished
        and those that were requested meanwhile.
        """
        journal = self._store.journal
        self._broker.begin(hashlib.sha256(journal.salt).hexdigest()[:8], journal.run)
        await self._uploads.start()
        await self.steering.load()
        await self._load_limits()
        await self._restarts.load()
        await self._ended.load()
        self._runner.start()
        self.keeper.start()
        self._scrub.start()

    async def _load_limits(self) -> None:
        """
        Apply the limits that an earlier daemon kept.
        """
        kept = (await self._store.journal.settings()).get(_LIMITS)
        if kept is not None:
            try:
                self._transfers.limits.start(kept)
            except BadInput as e:
                self._log.error("the limits that were kept are not applied: {why}", why=str(e))

    async def stop(self, grace: float) -> None:
        """
        Refuse new jobs, and wait for those that will end soon.  Then interrupt the
        others, and keep what they fetched.

        @param grace: the seconds to wait for jobs and transfers to end.
        """
        until = self._clock.seconds() + grace
        self._restarts.stop()
        self._transfers.limits.stop()
        self.mirror.stop()
        self._uploads.keep_sessions()
        self.image_uses.stop()
        ending = DeferredList(self._runner.stop(grace), consumeErrors=True)
        late = self._clock.callLater(grace, ending.cancel)

        def check() -> None:
            left = until - self._clock.seconds() - UNWINDING
            if left > 0.0:
                self._runner.interrupt_late(left)
                calls["check"] = self._clock.callLater(min(left, CHECK_INTERVAL), check)
            else:
                self._runner.interrupt()

        calls = {"late": late, "check": self._clock.callLater(0.0, check)}
        try:
            await ending
        except CancelledError:
            pass
        finally:
            for call in calls.values():
                if call.active():
                    call.cancel()
        grace = max(0.0, until - self._clock.seconds())
        kept = Deferred.fromCoroutine(self._uploads.stop())
        works = [*self._transfers.stop(), self._quota.stop(), self.keeper.stop(), self._scrub.stop(), kept]
        waiting = DeferredList([*works, self._runner.recorded()], consumeErrors=True)
        late = self._clock.callLater(grace, waiting.cancel)
        try:
            await waiting
        except CancelledError:
            self._log.warn("some transfers did not end within {grace} s", grace=grace)
        finally:
            if late.active():
                late.cancel()
        self._broker.end()

    # ---------------------------------------------------------------- IJobs

    def pull(
        self,
        reference: str,
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        job = self._job("pull", Reference.parse(reference), platform, client, priority, credentials)
        return self._add(job)

    def pull_layers(
        self,
        reference: str,
        client: str,
        ended: Callable[[JobJSON], object],
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        request = Request(named=False, door=Door.ENGINE.value)
        job = self._job("pull", Reference.parse(reference), None, client, 0, credentials, request=request)
        return self._add(job, ended)

    @property
    def isolated(self) -> bool:
        return self._sharing == ISOLATED

    def push(
        self,
        reference: str,
        target: str | None,
        tags: Sequence[str],
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        wanted = Reference.parse(reference)
        goal = wanted if target is None else parse_target(target)
        request = Request(tags=tuple(parse_tag(tag) for tag in tags))
        return self._add(
            self._job("push", wanted, platform, client, priority, credentials, target=goal, request=request)
        )

    def copy(
        self,
        reference: str,
        target: str,
        platform: str | None,
        referrers: bool,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        wanted, goal = Reference.parse(reference), parse_target(target)
        request = Request(referrers=referrers)
        return self._add(
            self._job("copy", wanted, platform, client, priority, credentials, target=goal, request=request)
        )

    def prefetch(self, reference: str, platform: str | None, client: str, priority: int) -> JobDetailsJSON:
        return self._add(self._job("prefetch", Reference.parse(reference), platform, client, priority))

    def verify(
        self,
        reference: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        return self._verify(reference, client, priority, credentials)

    def _verify(
        self,
        reference: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None,
        ended: Callable[[JobJSON], object] | None = None,
    ) -> JobDetailsJSON:
        wanted = None if reference is None else Reference.parse(reference)
        if wanted is not None:
            stored_image(self._store, wanted)
        return self._add(self._job("verify", wanted, None, client, priority, credentials), ended)

    def import_archive(
        self, reference: str | None, platform: str | None, size: int | None, client: str, priority: int
    ) -> JobDetailsJSON:
        wanted = None if reference is None else parse_target(reference)
        request = Request(wanted=None if wanted is None else str(wanted), size=size)
        job = self._job("import", wanted, platform, client, priority, request=request)
        job.upload_stream = UploadStream(self._clock, size)
        return self._add(job)

    def persist(self, job_id: str, restart: str, owner: str, door: str = "") -> None:
        job = self._runner.get(job_id)
        if job is None:
            self._ended.get(job_id)
            return
        job.restart = restart
        job.request = evolve(job.request, owner=owner, door=door)
        self._restarts.persist(job)

    def rejoin(
        self, job_id: str, client: str, owner: str, credentials: Mapping[str, Credentials] | None = None
    ) -> None:
        self._restarts.rejoin(job_id, client, owner, credentials or {})

    def supply(self, owner: str, credentials: Mapping[str, Credentials]) -> None:
        self._restarts.supply(owner, credentials)

    def kept(self, job_id: str) -> Deferred[None]:
        return self._runner.kept(job_id)

    def flushed(self) -> Deferred[None]:
        self._runner.record_new()
        return self._store.journal.flush()

    def upload_stream(self, job_id: str) -> IUploadStream:
        running = self._runner.get(job_id)
        if running is not None and running.upload_stream is not None:
            return running.upload_stream
        job = self.get(job_id)
        if job["kind"] == "import":
            raise BadInput(archive_refused(job_id, job["state"]))
        raise BadInput(f"job {job_id} is a {job['kind']} and takes no archive")

    def renew(
        self, reference: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[Sequence[str]]:
        async def renew() -> Sequence[str]:
            return await renew_image(
                Reference.parse(reference),
                self._turn(client),
                store=self._store,
                registries=self._seen_by(credentials),
                layers=self._layers,
            )

        return Deferred.fromCoroutine(renew())

    def export(
        self,
        reference: str,
        form: str,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Deferred[IArchive]:
        async def export() -> IArchive:
            return await open_archive(
                Reference.parse(reference),
                form,
                self._turn(client),
                store=self._store,
                registries=self._seen_by(credentials),
                layers=self._layers,
            )

        return Deferred.fromCoroutine(export())

    def content(
        self,
        blob: Descriptor,
        repository: Repository,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> IBlobReader:
        source = self._seen_by(credentials).repository(repository)
        return self._layers.content(blob, source, self._turn(client))

    def _turn(self, client: str) -> Turn:
        """
        The turn of a request that is no job.
        """
        return Turn(client, 0, next(self._numbers), 0)

    def get(self, job_id: str) -> JobDetailsJSON:
        running = self._runner.get(job_id)
        return whole(self._ended.get(job_id)) if running is None else running.with_layers()

    def named(self, prefix: str) -> Deferred[str]:
        if self._runner.get(prefix) is not None:
            return succeed(prefix)
        if not self._runner.started:
            return fail(Interrupted("the daemon is just starting; ask again in a moment"))
        return self._ended.named(prefix, [job.id for job in self._runner.jobs()])

    def find(self, job_id: str) -> Deferred[JobDetailsJSON]:
        if self._runner.get(job_id) is not None:
            return succeed(self.get(job_id))
        if not self._runner.started:
            return fail(Interrupted("the daemon is just starting; ask again in a moment"))
        return self._ended.find(job_id).addCallback(whole)

    def recorded(self, limit: int, before: tuple[str, str] | None = None) -> Deferred[Sequence[JobJSON]]:
        if not self._runner.started:
            return succeed([])
        self._runner.record_new()
        found = self._store.journal.jobs(limit, before)
        return found.addCallback(lambda records: [in_short(record) for record in records])

    def attempts(self, job_id: str) -> Deferred[list[AttemptJSON]]:
        def read(job: JobDetailsJSON) -> Deferred[list[AttemptJSON]]:
            attempts = self._store.journal.attempts(job["transfers"], MOST_ATTEMPTS)
            return cast("Deferred[list[AttemptJSON]]", attempts)

        return self.find(job_id).addCallback(read)

    def all(self) -> Sequence[JobJSON]:
        ended = [in_short(record) for record in self._ended.recent()]
        jobs = [*ended, *(job.to_json() for job in self._runner.jobs())]
        return sorted(jobs, key=lambda job: job["created"], reverse=True)

    def cancel(self, job_id: str, by: str = "") -> JobDetailsJSON:
        self._runner.cancel(job_id, by)
        return self.get(job_id)

    def transfers(self) -> Sequence[TransferJSON]:
        return [self._broker.listed(transfer) for transfer in self._transfers]

    @property
    def unfinished(self) -> int:
        return len(self._runner)

    def figures(self) -> Figures:
        totals = self._runner.totals
        return Figures(
            jobs=Counter((job.kind, job.state) for job in self._runner.jobs()),
            ended=dict(self._runner.ends),
            transfers=Counter((transfer.kind, transfer.shown_state) for transfer in self._transfers),
            fetched=dict(self._layers.fetched),
            sent=dict(self._uploads.sent),
            delivered=self._runner.delivered,
            retries=self._transfers.retries(),
            failures=self._transfers.failures(),
            waiting=self._transfers.waiting(),
            job_waits=job_waits(self._runner.jobs(), self._wall_clock()),
            slots=self._transfers.slot_counts(),
            waits=self._transfers.slot_waits(),
            workers_busy=self._unpacker.busy,
            checked=dict(self._work.checked),
            upstreams=self.mirror.figures(),
            resumed=dict(self._restarts.resumed),
            interrupted=dict(self._restarts.interrupted),
            durations={kind: (each.buckets(), each.total) for kind, each in totals.durations.items()},
            phases={phase: (each.buckets(), each.total) for phase, each in totals.phases.items()},
            bounds=dict(totals.bounds),
            saved=dict(totals.saved),
        )

    def limits(self) -> LimitsJSON:
        return self._transfers.limits.present()

    def change_limits(self, changes: Mapping[str, Any], *, keep: bool = False) -> LimitsJSON:
        limits = self._transfers.limits
        limits.change(changes, keep=keep)
        if keep:
            self._background.spawn(
                self._store.journal.record_setting(_LIMITS, limits.kept or None), "while recording limits"
            )
        if changes:
            self._log.info("the limits are now {limits}", limits=limits.present())
        return limits.present()

    def configure_limits(self, limits: Limits) -> None:
        """
        Apply the limits of a configuration that was read again.
        """
        self._transfers.limits.configure(limits)
        self._log.info("the limits are now {limits}", limits=self.limits())

    def trace(self, tracer: Tracer | None) -> None:
        """
        Have the jobs that begin from now on observed as traces.
        """
        self._runner.tracer = tracer

    @property
    def quota(self) -> int:
        """
        The bytes that the store may take, or 0.  Setting it frees what exceeds it.
        """
        return self._quota.limit

    @quota.setter
    def quota(self, limit: int) -> None:
        self._quota.limit = limit
        if self._runner.is_open:
            self._quota.check()

    def events(self, job_id: str | None, since: str | None = None) -> IEventStream:
        if job_id is None:
            return self._broker.follow_all(
                self._runner.jobs(), self._ended.recent(), self._store.images.all(), since
            )
        job = self._runner.get(job_id)
        if job is None:
            return self._broker.read_only(self._ended.get(job_id), since)
        return self._broker.follow(job, since)

    def follow(self, job_id: str, since: str | None = None) -> Deferred[IEventStream]:
        def open_stream(record: JobDetailsJSON) -> IEventStream:
            try:
                return self.events(job_id, since)
            except NotFound:
                return self._broker.read_only(record)

        if self._runner.get(job_id) is not None:
            return succeed(self.events(job_id, since))
        return self.find(job_id).addCallback(open_stream)

    def status(self) -> JobsStatusJSON:
        states = Counter(job["state"] for job in self.all())
        arriving = sum(job.to_json()["bytes_done"] for job in self._runner.jobs() if job.kind in DELIVERING)
        fetched, sent = self._layers.fetched, self._uploads.sent
        return {
            "jobs": dict(states),
            "slots": self._transfers.slot_counts(),
            "hosts": {
                host: {"bytes": fetched[host], "sent": sent[host]} for host in sorted({*fetched, *sent})
            },
            "sandbox": self._sandbox(),
            "pauses": self.steering.pauses(),
            "drain": self.steering.drained(),
            "binding": self._transfers.limits.binding(),
            "quota": self._quota.limit,
            "bytes_fetched": fetched.total(),
            "bytes_sent": sent.total(),
            "bytes_delivered": self._runner.delivered + arriving,
        }

    def history(self) -> HistoryJSON:
        return self.lately.to_json()

    def _moved(self) -> tuple[int, int, int]:
        """
        The bytes received, sent and saved since the start.
        """
        fetched, sent = self._layers.fetched.total(), self._uploads.sent.total()
        upstreams = self.mirror.figures().values()
        # A transfer moves for all jobs that wait for it.  Jobs note it a moment after its bytes.
        moved = fetched + sent - sum(figures.fetched for figures in upstreams)
        self._shared = max(self._shared, self._runner.client_bytes.total - moved)
        found = self._runner.totals.saved.total() + sum(figures.saved for figures in upstreams)
        return fetched, sent, found + self._shared

    def _sandbox(self) -> SandboxJSON | None:
        measures = self._unpacker.sandbox
        if measures is None:
            return None
        return {
            "in_force": [measure for measure, why in measures.items() if not why],
            "missing": {measure: why for measure, why in measures.items() if why},
        }

    def warned(self, repository: Repository, text: str) -> None:
        """
        Add a registry's warning to the jobs that use a repository.
        """
        self._runner.warned(repository, text)

    # ------------------------------------------------------------- one job

    def _job(
        self,
        kind: str,
        wanted: Reference | None,
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        target: Reference | None = None,
        request: Request | None = None,
    ) -> Job:
        self._runner.check_capacity(client)
        if not (platform is None or (kind in ("push", "prefetch") and platform == ALL)):
            platform = str(Platform.parse(platform))
        credentials = credentials or {}
        return Job(
            id=token_hex(6),
            number=next(self._numbers),
            kind=kind,
            reference="" if wanted is None else str(wanted),
            target=None if target is None else str(target),
            platform=platform,
            client=client,
            created=self._wall_clock(),
            request=evolve(
                request or Request(), priority=priority, hosts=tuple(credentials), traceparent=traceparent()
            ),
            credentials=credentials,
            repositories=frozenset(r.repository for r in (wanted, target) if r is not None),
        )

    def _begin_again(
        self,
        record: Mapping[str, Any],
        request: Request,
        client: str,
        credentials: Mapping[str, Credentials],
    ) -> JobDetailsJSON:
        """
        Begin a job like one that has ended.
        """
        wanted = Reference.parse(record["reference"]) if record["reference"] else None
        if record["kind"] == "verify" and wanted is not None:
            stored_image(self._store, wanted)
        job = self._job(
            record["kind"],
            wanted,
            record["platform"],
            client,
            request.priority,
            credentials,
            target=None if record["target"] is None else Reference.parse(record["target"]),
            request=request,
        )
        return self._add(job)

    def _add(self, job: Job, ended: Callable[[JobJSON], object] | None = None) -> JobDetailsJSON:
        self._runner.add(job, partial(self._work.do, job), ended)
        return self.get(job.id)

    def _seen_by(self, credentials: Mapping[str, Credentials] | None) -> IRegistries:
        return self._registries.seen_by(credentials) if credentials else self._registries
