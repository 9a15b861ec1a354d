"""
Fakes of the jobs, for the API.

Long, since L{FakeJobs} implements all of L{IJobs}, whose methods share its state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.web.fake_steering import FakeSteering
from xferd.credentials import Credentials
from xferd.errors import AmbiguousID, BadInput, Draining, NotFound, WrongOffset, XferdError
from xferd.interfaces.collection import Freed
from xferd.interfaces.job_json import (
    AttemptJSON,
    HistoryJSON,
    JobDetailsJSON,
    JobJSON,
    JobsStatusJSON,
    LimitsJSON,
    TransferJSON,
)
from xferd.interfaces.jobs import Event, Figures, IArchive, IEventStream, IImageAdmin, IJobs, IUploadStream
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.store import Image
from xferd.jobs.job import ENDED
from xferd.jobs.limits import Limits
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest, Reference, Repository, parse_tag, parse_target
from xferd.oci import Descriptor
from xferd.platforms import Platform

JOB: JobJSON = {
    "id": "j1",
    "kind": "pull",
    "state": "running",
    "reference": "docker.io/library/alpine:latest",
    "target": None,
    "platform": "linux/amd64",
    "client": "local",
    "created": "2026-01-02T03:04:05Z",
    "started": "2026-01-02T03:04:05Z",
    "finished": None,
    "bytes_done": 10,
    "bytes_total": 100,
    "layers_done": 0,
    "layers_total": 1,
    "archive": None,
    "error": None,
    "result": None,
    "warnings": [],
    "findings": [],
    "restart": None,
    "priority": 0,
    "paused": False,
    "retry_of": None,
    "download_rate": 0,
    "upload_rate": 0,
    "why": "",
    "reason": None,
    "until": None,
    "timing": None,
}

FREED = Freed(blobs=3, trees=2, layers=2, partials=1, bytes=900)

TRANSFER: TransferJSON = {
    "id": "t1",
    "key": f"blob sha256:{1:064x}",
    "kind": "download",
    "digest": f"sha256:{1:064x}",
    "state": "running",
    "watchers": 1,
    "bytes_done": 10,
    "bytes_total": 100,
    "rate": 5.0,
    "attempt": 1,
    "streams": 1,
    "source": "docker.io/library/alpine",
    "why": "",
    "reason": None,
    "until": None,
    "created": "2026-01-02T03:04:05.000Z",
    "jobs": ["j1"],
}

ATTEMPT: AttemptJSON = {
    "transfer": "t1",
    "kind": "download",
    "digest": f"sha256:{1:064x}",
    "source": "docker.io/library/alpine",
    "attempt": 1,
    "started": "2026-01-02T03:04:06.000Z",
    "finished": "2026-01-02T03:04:07.500Z",
    "bytes_done": 10,
    "bytes_moved": 4,
    "code": "CONNECTION_FAILED",
    "error": "the connection broke",
}

CONFIG: Mapping[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Cmd": ["sh"]},
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{0:064x}"]},
}


FIGURES = Figures(
    jobs={("pull", "running"): 2},
    ended={("push", "done"): 3},
    transfers={("download", "queued"): 4},
    fetched={"r.example": 1000},
    sent={"s.example": 500},
    delivered=2000,
    retries={"TIMED_OUT": 2},
    slots={"download": {"limit": 3, "in_use": 1, "queued": 0}},
    waits={"download": ([("1.0", 1), ("+Inf", 2)], 61.5)},
    workers_busy=1,
    resumed={"pull": 6},
    interrupted={"push": 7},
    durations={"pull": ([("1.0", 2), ("+Inf", 3)], 242.0)},
    phases={("pull", "moving"): ([("30.0", 1), ("+Inf", 2)], 188.5)},
    bounds={("pull", "line"): 1},
    saved={"pull": 300},
    failures={("r.example", "TIMED_OUT"): 8, ("t.example", "BLOB_UNKNOWN"): 9},
    waiting={"queue": 3, "pause": 0},
    job_waits={"token": (1, 4.5), "pause": (0, 0.0)},
)


def job(**fields: Any) -> JobJSON:
    """
    The JSON of a job.
    """
    return cast("JobJSON", {**JOB, **fields})


def image(reference: str = "alpine") -> Image:
    """
    An image of one layer.
    """
    manifest, config, layer = (
        Descriptor(kind, Digest.of(kind.encode()), size)
        for kind, size in ((OCI_MANIFEST, 500), (OCI_CONFIG, 300), ("application/x-layer", 9000))
    )
    return Image(
        Reference.parse(reference),
        manifest,
        config,
        manifest.digest,
        (layer,),
        layer.digest,
        9800,
        "2026-01-02T03:04:05Z",
    )


@implementer(IEventStream)
class FakeStream:
    """
    Events that a test adds.

    @ivar closed: how often it was closed.
    @ivar asked: how often events were requested.
    @ivar cancelled: how often a wait was cancelled.
    @ivar jobs_only: whether the client wants no layers.
    @ivar later: whether the first events may come a moment later.
    @ivar reached: the position behind the events of the next C{get}.
    """

    def __init__(self, present: Sequence[Event] = ()) -> None:
        self._news: list[Event] = list(present)
        self._waiting: Deferred[list[Event]] | None = None
        self.closed = self.asked = self.cancelled = 0
        self.position = ""
        self.resumed = False
        self.reached = ""
        self.jobs_only = False
        self.broken: Exception | None = None

    def get(self) -> Deferred[list[Event]]:
        """
        Return events, or wait for them.
        """
        assert self._waiting is None, "one call at a time"
        self.asked += 1
        waiting: Deferred[list[Event]] = Deferred(self._cancel)
        self._waiting = waiting
        self._give()
        return waiting

    def only_jobs(self) -> None:
        """
        Note that no layers are wanted.
        """
        self.jobs_only = True

    def close(self) -> None:
        """
        Close the stream.
        """
        self.closed += 1
        self._give()

    def tell(self, *events: Event) -> None:
        """
        Add events.
        """
        self._news.extend(events)
        self._give()

    def fail(self, error: Exception) -> None:
        """
        Fail the stream.
        """
        self.broken = error
        self._give()

    def _give(self) -> None:
        """
        Fire the waiting Deferred if there is a reason.
        """
        if self._waiting is None:
            return
        if self.broken is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(Failure(self.broken))
        elif self._news or self.closed:
            waiting, self._waiting = self._waiting, None
            news, self._news = self._news, []
            self.position = self.reached or self.position
            waiting.callback(news)

    def _cancel(self, _: Deferred[list[Event]]) -> None:
        """
        Forget the wait.
        """
        self._waiting = None
        self.cancelled += 1


@implementer(IImageAdmin)
class FakeImageAdmin:
    """
    An L{IImageAdmin} that does nothing.

    @ivar tagged: the arguments of C{tag}.
    @ivar pinned: the arguments of C{pin}.
    @ivar removed: the arguments of C{remove}.
    @ivar collected: the arguments of C{collect}.
    @ivar refuses: the error of every call.
    """

    def __init__(self) -> None:
        self.tagged: list[tuple[str, str]] = []
        self.pinned: list[tuple[str, bool]] = []
        self.removed: list[str] = []
        self.collected: list[tuple[bool, bool]] = []
        self.refuses: Exception | None = None

    def tag(self, reference: str, name: str) -> Deferred[Image]:
        """
        Record a new name.
        """
        if self.refuses is not None:
            return fail(self.refuses)
        self.tagged.append((reference, name))
        return succeed(image(name))

    def pin(self, reference: str, pinned: bool) -> Deferred[Image]:
        """
        Record a pin.
        """
        if self.refuses is not None:
            return fail(self.refuses)
        self.pinned.append((reference, pinned))
        return succeed(evolve(image(reference), pinned=pinned))

    def remove(self, reference: str) -> Deferred[Freed]:
        """
        Record a removal.
        """
        if self.refuses is not None:
            return fail(self.refuses)
        self.removed.append(reference)
        return succeed(FREED)

    def collect(self, dry_run: bool, partials: bool = False, without: Sequence[str] = ()) -> Deferred[Freed]:
        """
        Record a collection.
        """
        if self.refuses is not None:
            return fail(self.refuses)
        self.collected.append((dry_run, partials))
        self.without = list(without)
        return succeed(FREED)


@implementer(IUploadStream)
class FakeUploadStream:
    """
    Accepts pieces when a test permits it.

    @ivar pieces: the accepted pieces.
    @ivar whole: the arguments of C{finish}.
    @ivar waiting: the calls of C{put} that wait.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.pieces: list[bytes] = []
        self.whole: int | None = None
        self.waiting: list[Deferred[int]] = []

    def put(self, offset: int, data: bytes) -> Deferred[int]:
        """
        Accept a piece, if it is the next one.
        """
        if offset != self.offset:
            return fail(WrongOffset("not the next", self.offset))
        self.offset += len(data)
        self.pieces.append(data)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def finish(self, size: int) -> Deferred[None]:
        """
        Record the end.
        """
        if size != self.offset:
            return fail(WrongOffset("not the end", self.offset))
        self.whole = size
        return succeed(None)


@implementer(IArchive)
class FakeArchive:
    """
    Some bytes, or an error within them.

    @ivar closed: how often it was closed.
    @ivar reads: how often it was read.
    """

    def __init__(self, data: bytes, error: Exception | None = None) -> None:
        self.size = len(data)
        self.closed = self.reads = 0
        self._data = data
        self._error = error
        self._at = 0

    def read(self, most: int) -> Deferred[bytes]:
        """
        Return the next piece.
        """
        self.reads += 1
        if self._error is not None and self._at >= self.size // 2:
            return fail(self._error)
        piece = self._data[self._at : self._at + most]
        self._at += len(piece)
        return succeed(piece)

    def close(self) -> None:
        """
        Close.
        """
        self.closed += 1


@implementer(IJobs)
class FakeJobs:
    """
    Jobs that a test controls.

    @ivar older: the jobs that only the journal has.
    @ivar reads: the arguments of C{recorded}.
    @ivar pulled: the arguments of C{pull}.
    @ivar pushed: the arguments of C{push}.
    @ivar copied: the arguments of C{copy}.
    @ivar prefetched: the arguments of C{prefetch}.
    @ivar verified: the arguments of C{verify}.
    @ivar brought: the credentials of each of these calls.
    @ivar more: further members of C{status}.
    @ivar moved: what C{history} returns.
    @ivar imported: the arguments of C{import_archive}.
    @ivar upload_streams: the streams of imports, by job.
    @ivar exported: the arguments of C{export}.
    @ivar archive: the archive that it returns.
    @ivar persisted: the arguments of C{persist}.
    @ivar cancelled: the jobs that were cancelled, and by whom.
    @ivar rejoined: the arguments of C{rejoin}.
    @ivar supplied: the arguments of C{supply}.
    @ivar flushing: the calls of C{flushed} that wait; L{None} if none has to.
    @ivar ending: the jobs that were cancelled, and end with C{flush}.
    @ivar refuses: the error of every call.
    @ivar image_admin: the changes of images.
    """

    def __init__(self) -> None:
        self.image_admin = FakeImageAdmin()
        self.known: dict[str, JobJSON] = {}
        self.steering = FakeSteering(self.known, self._again)
        self.others = 0
        self.older: dict[str, JobJSON] = {}
        self.reads: list[tuple[str, str] | None] = []
        self.pulled: list[tuple[str, str | None, str, int]] = []
        self.pushed: list[tuple[str, str | None, tuple[str, ...], str | None, str, int]] = []
        self.copied: list[tuple[str, str, str | None, bool, str, int]] = []
        self.prefetched: list[tuple[str, str | None, str, int]] = []
        self.verified: list[tuple[str | None, str, int]] = []
        self.brought: list[Mapping[str, Credentials] | None] = []
        self.more: dict[str, Any] = {}
        self.moved: HistoryJSON = {
            "interval": 10.0,
            "until": "2026-01-02T03:04:05.000Z",
            "received": (0, 400_000_000),
            "sent": (0, 0),
            "saved": (7, 200_000_000),
            "clients": {"ci": 5},
        }
        self.imported: list[tuple[str | None, str | None, int | None, str, int]] = []
        self.upload_streams: dict[str, FakeUploadStream] = {}
        self.renewed: list[tuple[str, str]] = []
        self.exported: list[tuple[str, str, str]] = []
        self.persisted: list[tuple[str, str, str]] = []
        self.cancelled: list[tuple[str, str]] = []
        self.rejoined: list[tuple[str, str, str, Mapping[str, Credentials] | None]] = []
        self.supplied: list[tuple[str, Mapping[str, Credentials]]] = []
        self.flushing: list[Deferred[None]] | None = None
        self.ending: list[str] = []
        self.archive = FakeArchive(b"archive")
        self.refuses: Exception | None = None
        self.streams: list[tuple[str | None, FakeStream]] = []
        self.present: Sequence[Event] = ()
        self.running: list[TransferJSON] = []
        self.tried: list[AttemptJSON] = [{**ATTEMPT}]
        self.numbers = FIGURES
        self.limited: LimitsJSON = {
            "downloads": 3,
            "downloads_per_host": 0,
            "uploads": 5,
            "workers": 2,
            "download_rate": 0,
            "ranges": 4,
            "upload_rate": 0,
            "timetables": {},
            "hosts": {},
            "clients": {},
            "kept": {},
            "binding": {"download": [], "upload": []},
        }

    def _check(self, job_id: str | None = None) -> None:
        """
        Raise the error of every call, if there is one.
        """
        if self.refuses is not None:
            raise self.refuses
        if job_id is not None and job_id not in self.known:
            raise NotFound(f"no job {job_id}")

    def _again(self, job: JobJSON, client: str, credentials: Mapping[str, Credentials]) -> JobDetailsJSON:
        """
        Begin a job like another one.
        """
        if self.steering.draining:
            raise Draining(self.steering.draining)
        self.brought.append(credentials)
        made = self._made(job["kind"], client, job["platform"])
        self.known[made["id"]]["retry_of"] = job["id"]
        return self.get(made["id"])

    def pull(
        self,
        reference: str,
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Record a pull.
        """
        self._check()
        _parse(reference, platform)
        self.brought.append(credentials)
        self.pulled.append((reference, platform, client, priority))
        return self._made("pull", client, platform)

    isolated = False

    def pull_layers(
        self,
        reference: str,
        client: str,
        ended: Callable[[JobJSON], object],
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Begin a pull.
        """
        return self.pull(reference, None, client, 0, credentials)

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
        """
        Record a push.
        """
        self._check()
        _parse(reference, None if platform == "all" else platform, target)
        for tag in tags:
            parse_tag(tag)
        self.brought.append(credentials)
        self.pushed.append((reference, target, tuple(tags), platform, client, priority))
        return self._made("push", client, platform)

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
        """
        Record a copy.
        """
        self._check()
        _parse(reference, platform, target)
        self.brought.append(credentials)
        self.copied.append((reference, target, platform, referrers, client, priority))
        return self._made("copy", client, platform)

    def prefetch(self, reference: str, platform: str | None, client: str, priority: int) -> JobDetailsJSON:
        """
        Record a prefetch.
        """
        self._check()
        _parse(reference, None if platform == "all" else platform)
        self.prefetched.append((reference, platform, client, priority))
        return self._made("prefetch", client, platform)

    def verify(
        self,
        reference: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Record a verification.
        """
        self._check()
        _parse(reference, None)
        self.brought.append(credentials)
        self.verified.append((reference, client, priority))
        return self._made("verify", client, None)

    def import_archive(
        self, reference: str | None, platform: str | None, size: int | None, client: str, priority: int
    ) -> JobDetailsJSON:
        """
        Record an import.
        """
        self._check()
        _parse(None, platform, reference)
        self.imported.append((reference, platform, size, client, priority))
        made = self._made("import", client, platform)
        self.upload_streams[made["id"]] = FakeUploadStream()
        return made

    def persist(self, job_id: str, restart: str, owner: str, door: str = "") -> None:
        """
        Record the arguments.
        """
        self._check(job_id)
        self.known[job_id]["restart"] = restart
        self.persisted.append((job_id, restart, owner))

    def rejoin(
        self, job_id: str, client: str, owner: str, credentials: Mapping[str, Credentials] | None = None
    ) -> None:
        """
        Record the arguments.
        """
        self.rejoined.append((job_id, client, owner, credentials))

    def supply(self, owner: str, credentials: Mapping[str, Credentials]) -> None:
        """
        Record the arguments.
        """
        self.supplied.append((owner, credentials))

    def kept(self, job_id: str) -> Deferred[None]:
        """
        Wait as for L{flushed}.
        """
        self._check(job_id)
        return self.flushed()

    def flushed(self) -> Deferred[None]:
        """
        Wait until the test lets it end, if that is to be.
        """
        if self.flushing is None:
            return succeed(None)
        self.flushing.append(Deferred())
        return self.flushing[-1]

    def upload_stream(self, job_id: str) -> FakeUploadStream:
        """
        The stream for the archive of an import.
        """
        self._check(job_id)
        if job_id not in self.upload_streams or self.known[job_id]["state"] in ENDED:
            raise BadInput(f"job {job_id} takes no archive")
        return self.upload_streams[job_id]

    def renew(
        self,
        reference: str,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Deferred[Sequence[str]]:
        """
        Record the arguments.
        """
        try:
            self._check()
            _parse(reference)
        except XferdError:
            return fail()
        self.brought.append(credentials)
        self.renewed.append((reference, client))
        return succeed(["one layer is old"])

    def export(
        self,
        reference: str,
        form: str,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Deferred[IArchive]:
        """
        Record an export.
        """
        try:
            self._check()
            _parse(reference)
        except XferdError:
            return fail()
        self.brought.append(credentials)
        self.exported.append((reference, form, client))
        return succeed(self.archive)

    def content(
        self,
        blob: Descriptor,
        repository: Repository,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> IBlobReader:
        """
        No route opens a blob.
        """
        raise NotImplementedError

    @property
    def unfinished(self) -> int:
        """
        The jobs that have not ended, and a number that a test sets.
        """
        return sum(job["state"] not in ENDED for job in self.known.values()) + self.others

    def _made(self, kind: str, client: str, platform: str | None) -> JobDetailsJSON:
        """
        A new job.
        """
        made = job(id=f"j{len(self.known) + 1}", kind=kind, client=client)
        if platform is not None:
            made["platform"] = platform
        self.known[made["id"]] = made
        return self.get(made["id"])

    def get(self, job_id: str) -> JobDetailsJSON:
        """
        Return a job.
        """
        self._check(job_id)
        return {**self.known[job_id], "layers": [], "transfers": ["t1"]}

    def named(self, prefix: str) -> Deferred[str]:
        """
        Return the ID that begins with some characters.
        """
        found = sorted(job_id for job_id in (*self.known, *self.older) if job_id.startswith(prefix))
        if prefix in found:
            return succeed(prefix)
        if not found:
            return fail(NotFound(f"no job {prefix}"))
        return succeed(found[0]) if len(found) == 1 else fail(AmbiguousID(f"several: {found}"))

    def find(self, job_id: str) -> Deferred[JobDetailsJSON]:
        """
        Return a job, also one that only the journal has.
        """
        if job_id in self.older:
            return succeed({**self.older[job_id], "layers": [], "transfers": []})
        try:
            return succeed(self.get(job_id))
        except XferdError:
            return fail()

    def recorded(self, limit: int, before: tuple[str, str] | None = None) -> Deferred[Sequence[JobJSON]]:
        """
        Return the jobs of the journal.
        """
        jobs = sorted({**self.known, **self.older}.values(), key=_age, reverse=True)
        self.reads.append(before)
        return succeed([job for job in jobs if before is None or _age(job) < before][:limit])

    def attempts(self, job_id: str) -> Deferred[list[AttemptJSON]]:
        """
        Return the attempts that the test made.
        """
        try:
            self._check(job_id)
        except NotFound:
            return fail()
        return succeed(list(self.tried))

    def all(self) -> Sequence[JobJSON]:
        """
        Return all jobs.
        """
        self._check()
        return sorted(self.known.values(), key=lambda job: str(job["created"]), reverse=True)

    def cancel(self, job_id: str, by: str = "") -> JobDetailsJSON:
        """
        Cancel a job.
        """
        self._check(job_id)
        self.cancelled.append((job_id, by))
        if self.flushing is None:
            self.known[job_id]["state"] = "cancelled"
        else:
            self.ending.append(job_id)
        return self.get(job_id)

    def flush(self) -> None:
        """
        Have the jobs that were cancelled end, and let all calls of C{flushed} fire.
        """
        for job_id in self.ending:
            self.known[job_id]["state"] = "cancelled"
        flushing, self.flushing = self.flushing or [], []
        for each in flushing:
            each.callback(None)

    def transfers(self) -> Sequence[TransferJSON]:
        """
        Return the transfers.
        """
        self._check()
        return tuple(self.running)

    def figures(self) -> Figures:
        """
        Return the figures that the test made.
        """
        self._check()
        return self.numbers

    def limits(self) -> LimitsJSON:
        """
        Return the limits.
        """
        self._check()
        return self.limited.copy()

    def change_limits(self, changes: Mapping[str, Any], *, keep: bool = False) -> LimitsJSON:
        """
        Change some limits.
        """
        self._check()
        Limits().changed(changes, Limits())
        changes = {name: value for name, value in changes.items() if value is not None}
        kept = {**self.limited["kept"], **changes} if keep else self.limited["kept"]
        self.limited = cast("LimitsJSON", {**self.limited, **changes, "kept": kept})
        return self.limits()

    def events(self, job_id: str | None, since: str | None = None) -> FakeStream:
        """
        Make a stream that the test feeds.
        """
        self._check(job_id)
        stream = FakeStream(self.present)
        if since is not None:
            stream.position, stream.resumed = since, True
        self.streams.append((job_id, stream))
        return stream

    def follow(self, job_id: str, since: str | None = None) -> Deferred[IEventStream]:
        """
        Make a stream that the test feeds, also of a job in the journal.
        """
        if job_id in self.older:
            stream = FakeStream([Event("job", self.older[job_id], True)])
            stream.close()
            return succeed(stream)
        try:
            return succeed(self.events(job_id, since))
        except XferdError:
            return fail()

    def history(self) -> HistoryJSON:
        """
        Return what a test has set.
        """
        self._check()
        return self.moved

    def status(self) -> JobsStatusJSON:
        """
        Return a status.
        """
        self._check()
        jobs = {"running": len(self.known)}
        status = {
            "jobs": jobs,
            "slots": {},
            "hosts": {},
            "sandbox": {"in_force": ["seccomp"], "missing": {"landlock": "the kernel has none"}},
            "pauses": self.steering.pauses(),
            "drain": self.steering.drained(),
            "binding": {"download": ["global"], "upload": []},
            "quota": 0,
            "bytes_fetched": 1,
            "bytes_sent": 3,
            "bytes_delivered": 2,
            **self.more,
        }
        return cast("JobsStatusJSON", status)


def _parse(reference: str | None, platform: str | None = None, target: str | None = None) -> None:
    """
    Check the arguments of a job.

    @raise BadReference: one of the references is invalid, or the target has a
        digest.
    @raise BadPlatform: the platform is invalid.
    """
    if reference is not None:
        Reference.parse(reference)
    if target is not None:
        parse_target(target)
    if platform is not None:
        Platform.parse(platform)


def _age(job: JobJSON) -> tuple[str, str]:
    return job["created"], job["id"]
