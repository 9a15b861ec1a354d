# -*- test-case-name: tests.jobs.test_manager -*-
"""
All jobs of the daemon: begun, listed, cancelled, remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any

from attrs import asdict, define, evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.errors import BadInput, BadReference, Interrupted, NotFound, StoreError, TooManyJobs, XferdError
from xferd.interfaces.jobs import Figures, IArchive, IEventStream, IJobs, IUploadStream
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.interfaces.store import IStore
from xferd.interfaces.unpack import IUnpacker
from xferd.jobs.archives.exporting import open_archive
from xferd.jobs.archives.importing import Import
from xferd.jobs.archives.upload_stream import UploadStream
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.layers import QUEUED_LAYERS
from xferd.jobs.blobs.upload import UploadManager
from xferd.jobs.copy import Copy
from xferd.jobs.disk_space.quota import Quota
from xferd.jobs.disk_space.reservations import Reservations
from xferd.jobs.ended_jobs import EndedJobs, whole
from xferd.jobs.events.broker import Broker
from xferd.jobs.image_admin import ImageAdmin
from xferd.jobs.images.document_memory import DocumentMemory
from xferd.jobs.images.documents import DocumentFetcher
from xferd.jobs.images.naming import Naming
from xferd.jobs.images.outdated_trees import renew_image
from xferd.jobs.images.publish import Publisher
from xferd.jobs.isolation import SHARED
from xferd.jobs.job import BUG, MAX_CLIENT_JOBS, MAX_JOBS, Job, describe, in_short, rfc3339
from xferd.jobs.limits import Limits, LiveLimits
from xferd.jobs.pull import Pull
from xferd.jobs.push import ALL, Push
from xferd.jobs.reporter import Reporter
from xferd.jobs.shutdown_errors import killed, stopped
from xferd.names import Reference, Repository, parse_tag
from xferd.platforms import Platform
from xferd.transfer.adaptive_streams import RangePolicy
from xferd.transfer.bandwidth import Bandwidth
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.pauses import Pauses
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots

DELIVERING = frozenset({"pull", "copy"})
"""The kinds of jobs by which clients get what registries have."""

NAMING = frozenset({"pull", "import"})
"""The kinds of jobs that bring images into the store."""

MOST_ATTEMPTS = 1000
"""How many attempts are told of one job."""

DOCUMENTS_AT_ONCE = 8
"""How many manifests and configs are asked for at the same time."""

SMALL_BLOB = 1024 * 1024
"""Blobs of fewer bytes do not wait behind larger ones."""

SMALL_AT_ONCE = 4
"""How many slots there are for them alone, in each direction."""


@define(eq=False)
class _Running:
    """
    A job at work.

    @ivar since: the clock's time at which it was added.
    @ivar end_use: to be called when it needs nothing of the store any more.
    @ivar cancelled: whether its client has cancelled it.
    """

    job: Job
    run: Callable[[], Awaitable[dict[str, str]]]
    since: float
    work: Deferred[None] | None = None
    end_use: Callable[[], None] = lambda: None
    reason: XferdError | None = None
    cancelled: bool = False


@implementer(IJobs)
class Jobs:
    """
    The jobs, and the transfers that they share.
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
        retry: RetryPolicy | None = None,
        sharing: str = SHARED,
        small_blob: int = SMALL_BLOB,
        quota: int = 0,
    ) -> None:
        """
        @param clock: measures durations.
        @param wall_clock: makes the stamps of jobs, transfers and images.
        @param limits: the first limits; that of C{workers} is the unpacker's.
        @param ranges: when a blob is fetched by several streams; how many, the
            limits say.
        @param sharing: C{shared} or C{isolated}.
        @param quota: the bytes that the store may take; 0 for any number.
        @param small_blob: how many bytes a blob must have to wait for the
            slots that C{downloads} and C{uploads} are.
        """
        self._sharing = sharing
        self._store = store
        self._registries = registries
        self._unpacker = unpacker
        self._clock = clock
        self._wall_clock = wall_clock
        limits = Limits() if limits is None else limits
        retry = RetryPolicy() if retry is None else retry
        rates = {
            "download": Bandwidth(limits.download_rate, clock),
            "upload": Bandwidth(limits.upload_rate, clock),
        }
        self._slots: dict[str, Slots] = {}

        def add_slots(kind: str, limit: int, per_host: int) -> None:
            slots = partial(
                Slots, clock=clock, per_host=per_host, pauses=Pauses(clock), bandwidth=rates[kind]
            )
            large = self._slots[kind] = slots(limit)
            self._slots[f"small_{kind}"] = slots(SMALL_AT_ONCE, beyond=large)

        add_slots("download", limits.downloads, limits.downloads_per_host)
        add_slots("upload", limits.uploads, 0)

        def transfers(kind: str, slots: Slots | None = None, *, attempts: bool = True) -> TransferManager:
            return TransferManager(
                clock,
                wall_clock=wall_clock,
                slots=slots,
                small=self._slots.get(f"small_{kind}"),
                small_size=small_blob,
                retry=retry,
                kind=kind,
                on_attempt=self._attempted,
                on_watch=self._watched if attempts else None,
                use=store.gc.lease,
            )

        self._managers = {
            "document": transfers("document", Slots(DOCUMENTS_AT_ONCE, clock)),
            "download": transfers("download", self._slots["download"]),
            "upload": transfers("upload", self._slots["upload"]),
            "unpacking": transfers(
                "unpacking", Slots(unpacker.workers * QUEUED_LAYERS, clock), attempts=False
            ),
            "registration": transfers("registration", attempts=False),
        }
        self._eventual = Eventual(clock)
        self._broker = Broker(clock, self._eventual)
        self._quota = Quota(store, self._broker.removed, quota)
        self._layers = DownloadManager(
            store,
            unpacker,
            downloads=self._managers["download"],
            unpackings=self._managers["unpacking"],
            registrations=self._managers["registration"],
            bandwidth=rates["download"],
            ranges=evolve(RangePolicy() if ranges is None else ranges, most=limits.ranges),
            reservations=Reservations(store, self._quota),
            sharing=sharing,
        )
        self._limits = LiveLimits(
            downloads=self._slots["download"],
            layers=self._layers,
            uploads=self._slots["upload"],
            download=rates["download"],
            upload=rates["upload"],
        )
        self._memory = DocumentMemory()
        self._uploads = UploadManager(
            store.journal, self._managers["upload"], rates["upload"], wall_clock, sharing
        )
        store.free_space.follow(self._see_room)
        self._running: dict[str, _Running] = {}
        self._by_number: dict[int, Job] = {}
        self._clients: Counter[str] = Counter()
        self._ended = EndedJobs(store.journal, self._broker.forget)
        self._numbers = count(1)
        self._started = False
        self._stopping = False
        self._naming = Naming(store, self._broker.named)
        self.image_admin = ImageAdmin(
            store,
            self._broker,
            lambda: self._started and not self._stopping,
            naming=self._naming,
            wall_clock=wall_clock,
        )
        self._delivered = 0
        self._ends: Counter[tuple[str, str]] = Counter()
        self._background = Background()

    async def start(self) -> None:
        """
        Remember what an earlier daemon did, and begin what was asked for
        meanwhile.

        Jobs that it left unfinished have failed: their clients are gone.
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
        await self._uploads.start()
        await self._ended.load()
        self._started = True
        self._quota.check()
        for running in tuple(self._running.values()):
            self._begin(running)

    async def stop(self, grace: float) -> None:
        """
        Take no more jobs, end those that run, and keep what they fetched.

        @param grace: seconds after which to go on without those that do not
            end.
        """
        self._stopping = True
        kept = Deferred.fromCoroutine(self._uploads.stop())
        works = []
        for running in tuple(self._running.values()):
            running.reason = stopped(running.job.kind)
            if running.work is None:
                self._end(running, "failed", error=running.reason)
            else:
                works.append(running.work)
                running.work.cancel()
        ends = [manager.stop() for manager in self._managers.values()]
        ends.append(self._quota.stop())
        waiting = DeferredList([*works, *ends, kept, self._background.ended()], consumeErrors=True)
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
    ) -> Mapping[str, Any]:
        """
        Begin to pull an image.
        """
        wanted = Reference.parse(reference)
        job = self._job("pull", wanted, platform, client, priority)
        return self._add(job, lambda: self._pull(job, wanted, self._seen_by(credentials)))

    def push(
        self,
        reference: str,
        target: str | None,
        tags: Sequence[str],
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Mapping[str, Any]:
        """
        Begin to push an image of the store.
        """
        wanted = Reference.parse(reference)
        goal = wanted if target is None else _place(target)
        job = self._job("push", wanted, platform, client, priority, goal)
        registries = self._seen_by(credentials)
        parsed = [parse_tag(tag) for tag in tags]

        def run() -> Awaitable[dict[str, str]]:
            push = Push(
                job,
                wanted,
                goal,
                tags=parsed,
                store=self._store,
                registries=registries,
                documents=self._documents,
                layers=self._layers,
                publisher=self._publisher(job, registries.repository(goal.repository)),
            )
            return push.run()

        return self._add(job, run)

    def copy(
        self,
        reference: str,
        target: str,
        platform: str | None,
        referrers: bool,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Mapping[str, Any]:
        """
        Begin to copy something from one repository into another.
        """
        wanted, goal = Reference.parse(reference), _place(target)
        job = self._job("copy", wanted, platform, client, priority, goal)
        registries = self._seen_by(credentials)

        def run() -> Awaitable[dict[str, str]]:
            repository = registries.repository(wanted.repository)
            copy = Copy(
                job,
                wanted,
                goal,
                referrers=referrers,
                repository=repository,
                documents=self._documents(repository, keep=False),
                layers=self._layers,
                publisher=self._publisher(job, registries.repository(goal.repository)),
                memory=self._memory,
            )
            return copy.run()

        return self._add(job, run)

    def import_archive(
        self, reference: str | None, platform: str | None, size: int | None, client: str, priority: int
    ) -> Mapping[str, Any]:
        """
        Begin to import images out of an archive.
        """
        wanted = None if reference is None else _place(reference)
        job = self._job("import", wanted, platform, client, priority)
        upload_stream = job.upload_stream = UploadStream(self._clock, size)
        importing = Import(
            job,
            upload_stream,
            wanted,
            store=self._store,
            layers=self._layers,
            clock=self._clock,
            wall_clock=self._wall_clock,
            reporter=self._reporter(job),
            naming=self._naming,
        )
        return self._add(job, importing.run)

    def upload_stream(self, job_id: str) -> IUploadStream:
        """
        Where the bytes of an archive go.
        """
        running = self._running.get(job_id)
        if running is not None and running.job.upload_stream is not None:
            return running.job.upload_stream
        job = self.get(job_id)
        if job["kind"] == "import":
            raise BadInput(_past(job_id, job["state"]))
        raise BadInput(f"job {job_id} is a {job['kind']} and takes no archive")

    def renew(
        self, reference: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[Sequence[str]]:
        """
        Unpack layers again that older rules have unpacked.
        """
        try:
            wanted = Reference.parse(reference)
        except BadReference as e:
            return fail(e)
        return Deferred.fromCoroutine(
            renew_image(
                wanted,
                Turn(client, 0, next(self._numbers), 0),
                store=self._store,
                registries=self._seen_by(credentials),
                layers=self._layers,
            )
        )

    def export(
        self,
        reference: str,
        form: str,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Deferred[IArchive]:
        """
        Open an image of the store as an archive.
        """
        try:
            wanted = Reference.parse(reference)
        except BadReference as e:
            return fail(e)
        return Deferred.fromCoroutine(
            open_archive(
                wanted,
                form,
                Turn(client, 0, next(self._numbers), 0),
                store=self._store,
                registries=self._seen_by(credentials),
                layers=self._layers,
            )
        )

    def get(self, job_id: str) -> Mapping[str, Any]:
        """
        One job, with its layers.
        """
        running = self._running.get(job_id)
        if running is not None:
            return running.job.with_layers()
        return whole(self._ended.get(job_id))

    def find(self, job_id: str) -> Deferred[Mapping[str, Any]]:
        """
        One job, with its layers, also where only the journal has it.
        """
        if job_id in self._running:
            return succeed(self.get(job_id))
        if not self._started:
            return fail(Interrupted("the daemon is just starting; ask again in a moment"))
        return self._ended.find(job_id).addCallback(whole)

    def recorded(
        self, limit: int, before: tuple[str, str] | None = None
    ) -> Deferred[Sequence[Mapping[str, Any]]]:
        """
        Jobs in the journal, the newest first.
        """
        if not self._started:
            return succeed([])
        found = self._store.journal.jobs(limit, before)
        return found.addCallback(lambda records: [in_short(record) for record in records])

    def attempts(self, job_id: str) -> Deferred[list[dict[str, Any]]]:
        """
        The attempts behind a job.
        """

        def read(job: Mapping[str, Any]) -> Deferred[list[dict[str, Any]]]:
            return self._store.journal.attempts(job["transfers"], MOST_ATTEMPTS)

        return self.find(job_id).addCallback(read)

    def all(self) -> Sequence[Mapping[str, Any]]:
        """
        Every job that is remembered, the newest first.
        """
        ended = [in_short(record) for record in self._ended.recent()]
        jobs = [*ended, *(running.job.to_json() for running in self._running.values())]
        return sorted(jobs, key=lambda job: job["created"], reverse=True)

    def cancel(self, job_id: str) -> Mapping[str, Any]:
        """
        Cancel a job, at once.
        """
        running = self._running.get(job_id)
        if running is not None:
            running.cancelled = True
            if running.work is None:
                self._end(running, "cancelled")
            else:
                running.work.cancel()
        return self.get(job_id)

    def transfers(self) -> Sequence[Mapping[str, Any]]:
        """
        Every transfer.
        """
        managers = self._managers.values()
        return [self._broker.transfer_json(t) for manager in managers for t in manager.transfers()]

    @property
    def unfinished(self) -> int:
        """
        How many jobs have not ended.
        """
        return len(self._running)

    def figures(self) -> Figures:
        """
        What the jobs do, in numbers.
        """
        managers = self._managers.values()
        return Figures(
            jobs=Counter((running.job.kind, running.job.state) for running in self._running.values()),
            ended=dict(self._ends),
            transfers=Counter((t.kind, t.state) for manager in managers for t in manager.transfers()),
            fetched=dict(self._layers.fetched),
            sent=dict(self._uploads.sent),
            delivered=self._delivered,
            retries=sum((manager.retries for manager in managers), Counter()),
            slots=self._slot_counts(),
            waits={kind: (slots.waits.buckets(), slots.waits.total) for kind, slots in self._slots.items()},
            workers_busy=self._unpacker.busy,
        )

    def _slot_counts(self) -> dict[str, dict[str, int]]:
        """
        The slots, and those who want them.
        """
        return {
            kind: {"limit": slots.limit, "in_use": slots.in_use, "queued": slots.queued}
            for kind, slots in self._slots.items()
        }

    def limits(self) -> Mapping[str, int]:
        """
        How much happens at once and how fast.
        """
        return asdict(self._limits.present())

    def change_limits(self, changes: Mapping[str, int]) -> Mapping[str, int]:
        """
        Set some limits, from now on.
        """
        limits = asdict(self._limits.change(changes))
        if changes:
            self._log.info("the limits are now {limits}", limits=limits)
        return limits

    @property
    def quota(self) -> int:
        """
        The bytes that the store may take; 0 for any number.  When it is set,
        what is over it is freed.
        """
        return self._quota.limit

    @quota.setter
    def quota(self, limit: int) -> None:
        self._quota.limit = limit
        if self._started and not self._stopping:
            self._quota.check()

    def events(self, job_id: str | None, since: str | None = None) -> IEventStream:
        """
        Follow one job, until it ends, or everything.
        """
        if job_id is None:
            jobs = [running.job for running in self._running.values()]
            return self._broker.follow_all(jobs, self._ended.recent(), self._store.images.all(), since)
        found = self._running.get(job_id)
        if found is None:
            return self._broker.read_only(self._ended.get(job_id), since)
        return self._broker.follow(found.job, since)

    def follow(self, job_id: str, since: str | None = None) -> Deferred[IEventStream]:
        """
        Follow one job, also where only the journal has it.
        """

        def open_stream(record: Mapping[str, Any]) -> IEventStream:
            try:
                return self.events(job_id, since)
            except NotFound:
                return self._broker.read_only(record)

        return self.find(job_id).addCallback(open_stream)

    def status(self) -> Mapping[str, Any]:
        """
        Slots in use, the queue, jobs by state, bytes by host, the sandbox.
        """
        states = Counter(job["state"] for job in self.all())
        arriving = sum(
            running.job.to_json()["bytes_done"]
            for running in self._running.values()
            if running.job.kind in DELIVERING
        )
        fetched, sent = self._layers.fetched, self._uploads.sent
        return {
            "jobs": dict(states),
            "slots": self._slot_counts(),
            "hosts": {
                host: {"bytes": fetched[host], "sent": sent[host]} for host in sorted({*fetched, *sent})
            },
            "sandbox": self._sandbox(),
            "quota": self._quota.limit,
            "bytes_fetched": fetched.total(),
            "bytes_sent": sent.total(),
            "bytes_delivered": self._delivered + arriving,
        }

    def _sandbox(self) -> Mapping[str, Any] | None:
        """
        What is in force in the sandbox of layers, once it is known.
        """
        measures = self._unpacker.sandbox
        if measures is None:
            return None
        return {
            "in_force": [measure for measure, why in measures.items() if not why],
            "missing": {measure: why for measure, why in measures.items() if why},
        }

    def warned(self, repository: Repository, text: str) -> None:
        """
        A registry warns of something, asked about a repository: for those to
        read who move something there.
        """
        for running in self._running.values():
            if running.job.warned(repository, text):
                self._broker.job_changed(running.job)

    def _see_room(self) -> None:
        """
        While the disk is full, no download begins.
        """
        room = self._store.free_space
        for kind in ("download", "small_download"):
            self._slots[kind].hold = room.why if room.paused else ""

    # ------------------------------------------------------------- one job

    def _job(
        self,
        kind: str,
        wanted: Reference | None,
        platform: str | None,
        client: str,
        priority: int,
        target: Reference | None = None,
    ) -> Job:
        """
        Write down what a client asks for.

        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: this client, or all together, have too many.
        """
        if self._stopping:
            raise Interrupted("the daemon is stopping and takes no more jobs")
        if self.unfinished >= MAX_JOBS:
            raise TooManyJobs(f"{self.unfinished} jobs have not ended: try again when some have")
        if self._clients[client] >= MAX_CLIENT_JOBS:
            raise TooManyJobs(
                f"{self._clients[client]} jobs of {client} have not ended: try again when some have"
            )
        if not (platform is None or (kind == "push" and platform == ALL)):
            platform = str(Platform.parse(platform))
        return Job(
            id=token_hex(6),
            number=next(self._numbers),
            kind=kind,
            reference="" if wanted is None else str(wanted),
            target=None if target is None else str(target),
            platform=platform,
            client=client,
            priority=priority,
            created=self._wall_clock(),
            repositories=frozenset(r.repository for r in (wanted, target) if r is not None),
        )

    def _add(self, job: Job, run: Callable[[], Awaitable[dict[str, str]]]) -> Mapping[str, Any]:
        """
        Take a job: it begins at once, or with the daemon.

        @param run: does it, and gives its result.
        """
        running = self._running[job.id] = _Running(job, run, self._clock.seconds())
        self._by_number[job.number] = job
        self._clients[job.client] += 1
        if self._started:
            self._begin(running)
        self._broker.job_changed(job)
        self._record(job.to_json())
        return self.get(job.id)

    def _begin(self, running: _Running) -> None:
        """
        Set a job to work.
        """
        job = running.job
        job.state, job.started = "running", self._wall_clock()
        running.end_use = self._store.gc.lease()
        running.work = Deferred.fromCoroutine(self._work(running))

    async def _work(self, running: _Running) -> None:
        """
        Do what a job asks, and note how it ends.
        """
        job = running.job
        try:
            job.result = await running.run()
        except CancelledError:
            if running.reason is None or running.cancelled:
                self._end(running, "cancelled")
            else:
                self._end(running, "failed", error=running.reason)
        except Exception as e:
            if not isinstance(e, XferdError):
                self._log.failure("{kind} of {reference} broke", kind=job.kind, reference=job.reference)
            if running.cancelled:
                # Whatever the interruption looked like where it arrived.
                self._end(running, "cancelled")
            else:
                self._end(running, "failed", error=running.reason or e)
        else:
            self._end(running, "done")

    async def _pull(self, job: Job, wanted: Reference, registries: IRegistries) -> dict[str, str]:
        """
        Pull an image.
        """
        repository = registries.repository(wanted.repository)
        pull = Pull(
            job,
            wanted,
            store=self._store,
            source=repository,
            documents=self._documents(repository),
            layers=self._layers,
            naming=self._naming,
            reporter=self._reporter(job),
        )
        image = await pull.run(self._wall_clock)
        for blob in {layer.digest for layer in image.layers}:
            self._background.spawn(
                self._store.journal.record_holder(wanted.repository, blob),
                "while recording the holder of a blob",
            )
        return {"digest": str(image.manifest.digest), "image_id": str(image.config.digest)}

    def _reporter(self, job: Job) -> Reporter:
        """
        Where a job reports its changes.
        """
        return Reporter(job, self._broker, lambda: self._record(job.with_layers()))

    def _seen_by(self, credentials: Mapping[str, Credentials] | None) -> IRegistries:
        """
        The registries as a client sees them.
        """
        return self._registries.seen_by(credentials) if credentials else self._registries

    def _documents(self, repository: IRepository, *, keep: bool = True) -> DocumentFetcher:
        """
        The documents of a repository.
        """
        return DocumentFetcher(self._store, repository, self._managers["document"], self._sharing, keep=keep)

    def _publisher(self, job: Job, target: IRepository) -> Publisher:
        """
        What pushes for a job.
        """
        return Publisher(
            job,
            target,
            uploads=self._uploads,
            manifests=self._managers["document"],
            reporter=self._reporter(job),
            eventual=self._eventual,
        )

    def _end(self, running: _Running, state: str, error: Exception | None = None) -> None:
        """
        A job has ended: keep what is to be known of it, and tell.
        """
        job = running.job
        self._ends[job.kind, state] += 1
        job.state, job.finished = state, self._wall_clock()
        if job.upload_stream is not None:
            job.upload_stream.close(_past(job.id, state))
        if state == "done" and job.kind in DELIVERING:
            self._delivered += job.size
        job.error = None if error is None else describe(error)
        record = job.with_layers()
        running.end_use()
        del self._running[job.id]
        del self._by_number[job.number]
        self._clients[job.client] -= 1
        if not self._clients[job.client]:
            del self._clients[job.client]
        self._background.spawn(self._ended.add(record), "while recording a job")
        self._broker.ended(job, record)
        if job.kind in NAMING and self._started and not self._stopping:
            # What has just come is what its client wants.
            names = job.reference.split(", ") if state == "done" else ()
            self._quota.check(frozenset(map(Reference.parse, names)))
        self._log.info(
            "{kind} of {reference} for {client}: {state} {why}",
            kind=job.kind,
            reference=job.reference,
            client=job.client,
            state=state,
            why="" if error is None else str(error),
            bytes=job.size,
            seconds=self._clock.seconds() - running.since,
        )

    # ------------------------------------------------------------- the journal

    def _record(self, record: Mapping[str, Any]) -> None:
        """
        Write a job to the journal.
        """
        self._background.spawn(self._store.journal.record_job(record), "while recording a job")

    def _watched(self, turn: Turn, transfer_id: str) -> None:
        """
        Note which transfers a job waits for, so that their attempts are found.
        """
        job = self._by_number.get(turn.job)
        if job is not None:
            job.waits_for(transfer_id)

    def _attempted(self, record: Mapping[str, Any]) -> None:
        """
        Write an attempt of a transfer to the journal.
        """
        told: dict[str, str] = {key: rfc3339(record[key]) for key in ("started", "finished")}
        if record["code"] == XferdError.code:
            told["error"] = BUG
        self._background.spawn(
            self._store.journal.record_attempt({**record, **told}), "while recording an attempt"
        )


def _past(job_id: str, state: str) -> str:
    """
    What a client is told that goes on sending to an import that has ended.
    """
    return f"import {job_id} has ended ({state}) and reads no more of its archive"


def _place(text: str) -> Reference:
    """
    Read where something is to go.

    @raise BadReference: it is no reference, or has a digest: what goes there
        has its own.
    """
    place = Reference.parse(text)
    if place.digest is not None:
        raise BadReference(text, "a target has a tag, not a digest")
    return place
