# -*- test-case-name: tests.test_interfaces -*-
"""
Jobs, as the API and the page use them.

The module is long because all requests of clients meet in L{IJobs}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.credentials import Credentials
from xferd.interfaces.collection import Freed
from xferd.interfaces.job_json import (
    AttemptJSON,
    HistoryJSON,
    JobDetailsJSON,
    JobJSON,
    JobsStatusJSON,
    LimitsJSON,
    SlotsJSON,
    TransferJSON,
)
from xferd.interfaces.mirror import IBlobReader, UpstreamFigures
from xferd.interfaces.steering import ISteering
from xferd.interfaces.store import Image
from xferd.json_encoding import encode
from xferd.names import Repository
from xferd.oci import Descriptor

ALWAYS: Final = "always"
"""A job that continues after a restart of the daemon by itself."""

REJOIN: Final = "rejoin"
"""A job that continues after a restart if its client comes back in time."""


@frozen
class Event:
    """
    One event of a stream.

    @ivar kind: C{job}, C{layer}, C{transfer}, C{image} or C{status}.
    @ivar data: the subject's state as JSON; of an image that was removed, its
        C{reference} and C{"removed": true}.
    @ivar final: whether this is the last event of its subject.
    """

    kind: str
    data: Mapping[str, Any] = field(hash=False)
    final: bool = False

    @cached_property
    def json(self) -> bytes:
        """
        The data as one line of JSON in ASCII, made once for all who read it.
        """
        return encode(self.data)


class IEventStream(Interface):
    """
    One client's view of what changes: the newest state of each subject.

    A slow reader misses states in between, never the last one.
    """

    position: str = Attribute("The position after everything that get() returned so far; empty at first.")
    resumed: bool = Attribute("Whether it continues at the position of an earlier stream.")

    def get() -> Deferred[list[Event]]:
        """
        Wait for events and take them, the oldest subject first.  The first call
        returns the present state of every subject.  One call at a time.

        @return: fires with at least one event, or with an empty list when the
            stream has ended.  Cancelling ends only the wait.
        """

    def only_jobs() -> None:
        """
        Report no layers and no transfers.  To be called before C{get}.
        """

    def close() -> None:
        """
        End the stream; a waiting C{get} fires with an empty list.  Idempotent.
        """


class IImageAdmin(Interface):
    """
    Changes to the store's images that clients make without a job.
    """

    def tag(reference: str, name: str) -> Deferred[Image]:
        """
        Give an image of the store another name besides its own.  An image that
        had the name before loses it.  When this fires, the name is on disk.

        @return: the image under its new name.
        @raise BadReference: one argument is no reference, or C{name} has a
            digest.
        @raise NotFound: the store has no image C{reference}.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def pin(reference: str, pinned: bool) -> Deferred[Image]:
        """
        Pin an image, so that the quota does not remove it, or unpin it.
        When this fires, the change is on disk.

        @return: the image as it is then.
        @raise BadReference: C{reference} is not a reference.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def remove(reference: str) -> Deferred[Freed]:
        """
        Remove an image's name, and free what nothing uses any more and
        what unfinished jobs have fetched for this name.  Where no image has the
        name, only the latter is freed.

        @raise BadReference: C{reference} is not a reference.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def collect(dry_run: bool, partials: bool = False, without: Sequence[str] = ()) -> Deferred[Freed]:
        """
        Free what nothing uses, or report what that would be.

        @param partials: also free the partial blobs that no transfer uses.
        @param without: for a dry run: the names of images.  What L{remove} would free for
            all of them is reported, too.
        @raise BadReference: a name is not a reference.
        @raise NotFound: the store has no image of a name.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """


@frozen
class Figures:
    """
    Figures for metrics.  Counters since the start of the daemon only rise.

    @ivar jobs: jobs that have not ended, by kind and state.
    @ivar ended: jobs that have ended since the start, by kind and state.
    @ivar transfers: present transfers, by kind and state.
    @ivar fetched: bytes received since the start, by registry host.
    @ivar sent: bytes sent since the start, by registry host.
    @ivar delivered: bytes of the pulls and copies that are done since the start.
    @ivar retries: attempts since the start after which another was made, by
        the code of the error.
    @ivar slots: C{limit}, C{in_use} and C{queued}, by kind.
    @ivar waits: waits for slots since the start, by kind: a cumulative
        histogram of seconds, and the sum of seconds.
    @ivar workers_busy: layers that are being unpacked.
    @ivar upstreams: the counters of mirrored registries, by host.
    @ivar checked: the numbers of C{blobs}, C{trees} and C{bytes} that verifications
        and scrubs have checked since the start, and of what was C{damaged} and C{healed}.
    @ivar resumed: jobs of an earlier daemon that continued since the start, by kind.
    @ivar interrupted: those that ended since the start as interrupted, by kind.
    @ivar durations: durations of jobs since the start, by kind, as C{waits}.
    @ivar phases: durations of their phases, by kind and phase, as C{waits}.
    @ivar bounds: jobs since the start by kind and by what bounded them.
    @ivar saved: bytes that jobs since the start did not have to move, by kind.
    @ivar failures: failed attempts since the start, by host and code of the error.
    @ivar waiting: present transfers that are kept from moving at full speed, by the reason.
    @ivar job_waits: present jobs that wait as a whole, by the reason: their number, and the seconds
        that the longest of these waits has lasted.
    """

    jobs: Mapping[tuple[str, str], int]
    ended: Mapping[tuple[str, str], int]
    transfers: Mapping[tuple[str, str], int]
    fetched: Mapping[str, int]
    sent: Mapping[str, int]
    delivered: int
    retries: Mapping[str, int]
    slots: Mapping[str, SlotsJSON]
    waits: Mapping[str, tuple[Sequence[tuple[str, int]], float]]
    workers_busy: int
    upstreams: Mapping[str, UpstreamFigures] = field(factory=dict)
    checked: Mapping[str, int] = field(factory=dict)
    resumed: Mapping[str, int] = field(factory=dict)
    interrupted: Mapping[str, int] = field(factory=dict)
    durations: Mapping[str, tuple[Sequence[tuple[str, int]], float]] = field(factory=dict)
    phases: Mapping[tuple[str, str], tuple[Sequence[tuple[str, int]], float]] = field(factory=dict)
    bounds: Mapping[tuple[str, str], int] = field(factory=dict)
    saved: Mapping[str, int] = field(factory=dict)
    failures: Mapping[tuple[str, str], int] = field(factory=dict)
    waiting: Mapping[str, int] = field(factory=dict)
    job_waits: Mapping[str, tuple[int, float]] = field(factory=dict)


class IUploadStream(Interface):
    """
    Takes the bytes of an archive, for one import.
    """

    offset: int = Attribute("The bytes received so far: the offset of the next piece.")

    def put(offset: int, data: bytes) -> Deferred[int]:
        """
        Pass the next piece.

        @return: fires with the new offset when the job has taken the piece and is
            ready for the next.  Cancelling ends the wait alone.
        @raise WrongOffset: it is not the next piece, or another one is being
            taken.
        @raise BadInput: the job has ended, or the archive exceeds its announced
            size.
        """

    def finish(size: int) -> Deferred[None]:
        """
        Report that the archive is complete.

        @param size: its size in bytes.
        @return: fires when all of it is in the store, and the job needs its client no
            more.  Cancelling ends the wait alone.
        @raise WrongOffset: another number of bytes was received.
        @raise BadArchive: fewer bytes were received than announced.
        @raise BadInput: the job has ended.
        """


class IArchive(Interface):
    """
    An image as an archive, to be sent.

    Life cycle: open; C{read} until it returns nothing; C{close}d in any case.
    """

    size: int = Attribute("Its size in bytes.")

    def read(most: int) -> Deferred[bytes]:
        """
        Read the next bytes: at least one and at most C{most}; at the end, none.

        @raise StoreError: a blob cannot be read.
        """

    def close() -> None:
        """
        Release its blobs and files.  Idempotent.
        """


class IJobs(Interface):
    """
    The jobs of the daemon.
    """

    unfinished: int = Attribute("The number of jobs that have not ended.")
    isolated: bool = Attribute("Whether each client has to prove to its registry that it may have a blob.")

    def pull(
        reference: str,
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Begin to pull an image.

        @param platform: C{os/architecture[/variant]}; this machine's by default.
        @param client: the client's name, for fairness and for the page.
        @param priority: a higher one goes first; 0 is usual.
        @param credentials: the client's own, by registry host, in place of the
            daemon's; they live as long as the job does.
        @return: the job as JSON.
        @raise BadReference: C{reference} is not a reference.
        @raise BadPlatform: C{platform} is not a platform.
        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: this client, or all clients together, have too many
            jobs of any kind.
        """

    def pull_layers(
        reference: str,
        client: str,
        ended: Callable[[JobJSON], object],
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Begin to pull the layers of an image for a container engine.  The image gets no
        name, so that nothing keeps the layers but leases and their users.

        @param reference: has the digest of a manifest for one platform.
        @param ended: called with the job when it has ended, from a clean turn.
        @return: the job as JSON.
        @raise BadReference: C{reference} is not a reference.
        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: see L{pull}.
        """

    def push(
        reference: str,
        target: str | None,
        tags: Sequence[str],
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Begin to push an image of the store.

        @param target: the reference to push to; the image's own name by default.
        @param tags: more tags to give it there.
        @param platform: C{all} for what the image's name stood for when it was
            pulled, an index with all its platforms; or one of them.  By
            default it is the image that the store has.
        @return: the job as JSON.
        @raise BadReference: a reference or tag is malformed, or the target has a
            digest.
        @raise BadPlatform: C{platform} is not a platform.
        @raise Interrupted: the daemon is stopping.
        """

    def copy(
        reference: str,
        target: str,
        platform: str | None,
        referrers: bool,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Begin to copy an image, an index or an artifact from one repository
        into another.

        @param platform: the platform to copy of an index; all by default.
        @param referrers: whether to copy the referrers, too: signatures, SBOMs.
        @return: the job as JSON.
        @raise BadReference: a reference is malformed, or the target has a digest.
        @raise BadPlatform: C{platform} is not a platform.
        @raise Interrupted: the daemon is stopping.
        """

    def prefetch(reference: str, platform: str | None, client: str, priority: int) -> JobDetailsJSON:
        """
        Begin to fetch an image into the store for clients of the registry, with the
        credentials by which these pull from its upstream.  Nothing is unpacked, and
        the store gets no image.

        @param platform: C{os/architecture[/variant]}, or C{all}; this machine's by
            default.
        @return: the job as JSON.
        @raise BadReference: C{reference} is not a reference.
        @raise BadPlatform: C{platform} is not a platform.
        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: see L{pull}.
        """

    def verify(
        reference: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> JobDetailsJSON:
        """
        Begin to check content of the store, and to fetch again what is damaged.  The job's
        C{findings} name each damaged thing; it fails if one could not be replaced.

        @param reference: the image to check; all content by default.
        @param credentials: the client's own, as for L{pull}.
        @return: the job as JSON.
        @raise BadReference: C{reference} is not a reference.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: see L{pull}.
        """

    def import_archive(
        reference: str | None, platform: str | None, size: int | None, client: str, priority: int
    ) -> JobDetailsJSON:
        """
        Begin to import images out of an archive, whose bytes go to the
        L{upload_stream} of the job.  The job fails if the client stays silent.

        @param reference: the name for the only image, or the image to take of
            several; by default all images that have names in the archive.
        @param platform: the platform to take of an index; this machine's by
            default.
        @param size: the archive's size in bytes, if it is known.
        @return: the job as JSON; its C{archive} is C{{received, size}}.
        @raise BadReference: C{reference} is malformed, or has a digest.
        @raise BadPlatform: C{platform} is not a platform.
        @raise Interrupted: the daemon is stopping.
        """

    def upload_stream(job_id: str) -> IUploadStream:
        """
        The stream that takes the bytes of an import's archive.

        @raise NotFound: there is no such job.
        @raise BadInput: the job is no import, or has ended.
        """

    def content(
        blob: Descriptor,
        repository: Repository,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> IBlobReader:
        """
        Open a blob to be sent elsewhere.  Where it is not in the store, it is fetched when
        the first byte is read.  The caller holds a lease on the store.

        @param repository: the repository to fetch it from.
        @param credentials: the client's own, as for L{pull}.
        """

    def renew(
        reference: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[Sequence[str]]:
        """
        Unpack those layers of an image of the store again that an older xferd
        has unpacked, for a client that is about to use its trees.

        @param credentials: the client's own, as for L{pull}.
        @return: warnings about the layers for which that failed; they are used
            as they are.
        @raise BadReference: C{reference} is not a reference.
        @raise NotFound: there is no such image.
        @raise StoreError: a layer is missing, or the disk refuses.
        """

    def export(
        reference: str, form: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[IArchive]:
        """
        Open an image of the store as an archive.  All blobs are in the store
        when this fires; the blob of a layer whose tree came with another blob is
        fetched.

        @param form: C{docker}, which all tools load, or C{oci}, a layout only.
        @param credentials: the client's own, as for L{pull}.
        @raise BadReference: C{reference} is not a reference.
        @raise NotFound: there is no such image.
        @raise StoreError: a part of it is gone or damaged, or a blob could not be
            fetched.
        """

    def get(job_id: str) -> JobDetailsJSON:
        """
        One job, with C{"layers"}: for each, bottom first, C{index, digest,
        diff_id, size, state, bytes_done, unpacked, transfer, why}; and with
        C{"transfers"}: the ids of those that it waited for over the network.

        @raise NotFound: it has ended, and is not one of the last 200 that have.
        """

    def named(prefix: str) -> Deferred[str]:
        """
        The ID of the job whose ID this is, or the only one that begins with it; of a job that only the
        journal has, too.

        @raise NotFound: there is no such job.
        @raise AmbiguousID: there are several.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def find(job_id: str) -> Deferred[JobDetailsJSON]:
        """
        One job, as C{get} returns it, also where only the journal has it.

        @raise NotFound: there is no such job.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def recorded(limit: int, before: tuple[str, str] | None = None) -> Deferred[Sequence[JobJSON]]:
        """
        Jobs in the journal, the newest first, without layers.

        @param limit: the largest number of jobs.
        @param before: only jobs that are older than this C{created} and C{id}.
        @raise StoreError: the journal cannot be read.
        """

    def attempts(job_id: str) -> Deferred[list[AttemptJSON]]:
        """
        The attempts of every transfer that a job waited for, also those made
        before it joined: the newest thousand at most, the oldest first.  Each is
        C{transfer, kind, digest, source, attempt, started, finished, bytes_done,
        code, error}; the last two are L{None} where it succeeded.

        @raise NotFound: there is no such job.
        @raise StoreError: the journal cannot be read.
        """

    def all() -> Sequence[JobJSON]:
        """
        The jobs that have not ended and the 200 that ended last, the newest
        first, without layers.
        """

    def cancel(job_id: str, by: str = "") -> JobDetailsJSON:
        """
        Cancel a job: its work at once; one that has ended stays as it is.  If it outlives
        the daemon, its end is reported when it is on the disk: see L{flushed}.

        @param by: who cancels it, for the log.
        @raise NotFound: there is no such job.
        """

    def persist(job_id: str, restart: str, owner: str, door: str = "") -> None:
        """
        Have a job that has just begun continue after a restart of the daemon, under its
        ID; without this it ends with the daemon.  One that has ended stays as it is.
        See L{kept} and L{flushed}.

        @param restart: L{ALWAYS}, or L{REJOIN}: only if L{rejoin} is called within 60 s
            of the daemon's start.  An import is L{ALWAYS} begun again once all of its
            archive is in the store, and before that as by L{REJOIN}.
        @param owner: the user or the machine that the job belongs to, as the connection
            shows it; empty where that is unknown.
        @param door: how the request came, for the log.
        @raise NotFound: there is no such job.
        """

    def rejoin(
        job_id: str, client: str, owner: str, credentials: Mapping[str, Credentials] | None = None
    ) -> None:
        """
        Report that a client has come back: a job of this client and owner that waits
        for it continues.  Of other jobs nothing changes.

        @param credentials: the client's own, for a job whose credentials are lost.
        """

    def supply(owner: str, credentials: Mapping[str, Credentials]) -> None:
        """
        Report the credentials with which a user has logged in, by registry host: jobs of
        this owner that lack them continue.
        """

    def kept(job_id: str) -> Deferred[None]:
        """
        Fires when the journal has a job that has just begun, or its disk has refused: at the
        end of the job, when its first layers are on their way, or after 0.2 s.
        Cancelling ends the wait alone.
        """

    def flushed() -> Deferred[None]:
        """
        Fires when the journal has all changes of jobs that were made before, or its disk
        has refused.  Cancelling ends the wait alone.
        """

    def transfers() -> Sequence[TransferJSON]:
        """
        Every transfer: C{id, key, kind, digest, state, watchers, bytes_done,
        bytes_total, rate, attempt, streams, source, why, until,
        created, jobs}.
        C{streams} is the number of requests by which a download runs now.
        """

    def figures() -> Figures:
        """
        Figures for metrics.
        """

    def limits() -> LimitsJSON:
        """
        The limits on concurrency and bandwidth, with the rates of the present time of day.
        """

    def change_limits(changes: Mapping[str, Any], *, keep: bool = False) -> LimitsJSON:
        """
        Set some limits.  Transfers that wait start at once where slots are
        free; transfers that run continue.

        @param changes: values by the names of the limits; L{None} for that of the
            configuration.  C{hosts} and C{clients} have entries with some of their members,
            or L{None}, which removes the entry.  A rate is a number of bytes a second, a
            text such as C{20MB/s}, or a timetable C{{"08:00-18:00": "20MB/s", "else": 0}}.
        @param keep: whether they also hold after a restart of the daemon, instead of those of the
            configuration.
        @return: all limits as they are then.
        @raise BadInput: one of them is unknown or out of bounds; then none was
            set.
        """

    def events(job_id: str | None, since: str | None = None) -> IEventStream:
        """
        Follow one job, until it ends, or all jobs, transfers and images.

        @param since: the C{position} of an earlier stream: then only what has
            changed since is reported, if that is still known.
        @raise NotFound: it has ended, and is not one of the last 200 that have.
        """

    def follow(job_id: str, since: str | None = None) -> Deferred[IEventStream]:
        """
        Follow one job, as C{events} does, also where only the journal has it:
        then the stream reports the job's last state and ends.

        @raise NotFound: there is no such job.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def status() -> JobsStatusJSON:
        """
        Slots in use, the queue, jobs by state, bytes by host.
        """

    def history() -> HistoryJSON:
        """
        The bytes that moved in the last hour, and those of each client in the last minute.
        """

    steering: ISteering = Attribute("Pauses, priorities, drain and retries.")
    image_admin: IImageAdmin = Attribute("Changes to the store's images.")
