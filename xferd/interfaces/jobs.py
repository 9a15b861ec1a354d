# -*- test-case-name: tests.test_interfaces -*-
"""
Jobs, as the API and the page use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from json import JSONEncoder
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.credentials import Credentials
from xferd.interfaces.job_json import (
    AttemptJSON,
    JobDetailsJSON,
    JobJSON,
    JobsStatusJSON,
    SlotsJSON,
    TransferJSON,
)
from xferd.interfaces.store import Freed, Image

_encode = JSONEncoder(separators=(",", ":")).encode


@frozen
class Event:
    """
    One item of an event stream.

    @ivar kind: C{job}, C{layer}, C{transfer} or C{image}.
    @ivar data: the item as JSON has it; of an image that was removed, its
        C{reference} and C{"removed": true}.
    @ivar final: whether this is the last word on its subject.
    """

    kind: str
    data: Mapping[str, Any] = field(hash=False)
    final: bool = False

    @cached_property
    def json(self) -> bytes:
        """
        The data as one line of JSON in ASCII, made once for all who read it.
        """
        return _encode(self.data).encode("ascii")


class IEventStream(Interface):
    """
    One client's view of what happens: the newest item of each subject.

    A reader that is slow misses steps in between, never the last one.
    """

    position: str = Attribute(
        "Where to go on after all that get() gave so far; empty if there is no going on yet."
    )
    resumed: bool = Attribute("Whether it goes on where an earlier stream was, and does not begin anew.")

    def get() -> Deferred[list[Event]]:
        """
        Wait for news and take it, oldest subject first.  The first call gives
        the present state of everything.  One call at a time.

        @return: fires with at least one item, or with an empty list when the
            stream has ended.  Cancelling ends only the wait.
        """

    def close() -> None:
        """
        End the stream; a waiting C{get} gives an empty list.  Idempotent.
        """


class IImageAdmin(Interface):
    """
    What clients ask of the store's images, which takes no job.
    """

    def tag(reference: str, name: str) -> Deferred[Image]:
        """
        Give an image of the store another name, too; an image that had it
        before loses it.  When this fires, the name is on disk.

        @return: the image under its new name.
        @raise BadReference: one of them is no reference, or C{name} has a
            digest.
        @raise NotFound: the store has no image C{reference}.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def pin(reference: str, pinned: bool) -> Deferred[Image]:
        """
        Pin an image, which then stays when the store needs room, or unpin it.
        When this fires, it is on disk.

        @return: the image as it is then.
        @raise BadReference: C{reference} is none.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def remove(reference: str) -> Deferred[Freed]:
        """
        Take an image's name away, and free what nothing needs any more, and
        what unfinished jobs have fetched for this name.  Where the name is
        none, and there is something of the latter, only that is freed.

        @raise BadReference: C{reference} is none.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def collect(dry_run: bool, partials: bool = False) -> Deferred[Freed]:
        """
        Free what nothing needs, or only say what that would be.

        @param partials: also free the partial blobs that no transfer uses.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """


@frozen
class Figures:
    """
    What the jobs do, in numbers.  Those that say "since the start" only rise.

    @ivar jobs: those that have not ended, by kind and state.
    @ivar ended: those that have since the start, by kind and state.
    @ivar transfers: by kind and state.
    @ivar fetched: bytes that came since the start, by registry host.
    @ivar sent: bytes that went since the start, by registry host.
    @ivar delivered: bytes that clients got since the start.
    @ivar retries: attempts since the start after which another was made, by
        the code of what went wrong.
    @ivar slots: C{limit}, C{in_use} and C{queued}, by kind.
    @ivar waits: for slots, since the start, by kind: how many were at most so
        many seconds long, and the seconds of all.
    @ivar workers_busy: layers that unpack now.
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


class IUploadStream(Interface):
    """
    Where the bytes of an archive go, of one import.
    """

    offset: int = Attribute("The bytes that came so far: where the next piece begins.")

    def put(offset: int, data: bytes) -> Deferred[int]:
        """
        Hand over the next piece.

        @return: fires with the new offset when the job has taken the piece:
            only then is it ready for the next.  Cancelling ends the wait
            alone.
        @raise WrongOffset: it is not the next one, or another one is being
            taken.
        @raise BadInput: the job has ended, or this is more than was announced.
        """

    def finish(size: int) -> None:
        """
        Say that the archive is whole.

        @raise WrongOffset: not so many bytes are here.
        @raise BadArchive: fewer are here than were announced.
        @raise BadInput: the job has ended.
        """


class IArchive(Interface):
    """
    An image as an archive, to be sent.

    Life cycle: open; C{read} until it gives nothing; C{close}d in any case.
    """

    size: int = Attribute("How many bytes it has.")

    def read(most: int) -> Deferred[bytes]:
        """
        Read on: at least one byte, at most so many; at the end, nothing.

        @raise StoreError: a blob cannot be read.
        """

    def close() -> None:
        """
        Let go of it.  Idempotent.
        """


class IJobs(Interface):
    """
    What clients ask of the daemon.
    """

    unfinished: int = Attribute("How many jobs have not ended.")

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
        @param client: who asks, for fairness and for the page.
        @param priority: higher goes first; 0 is usual.
        @param credentials: the client's own, by registry host, in place of the
            daemon's; they live as long as the job does.
        @return: the job as JSON has it (DESIGN: "A job is").
        @raise BadReference: C{reference} is none.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: this client, or all together, have too many, as
            with every kind of job.
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

        @param target: where to; the image's own name by default.
        @param tags: more tags to give it there.
        @param platform: C{all} for what the image's name stood for when it was
            pulled, an index with all its platforms; or one of them.  By
            default it is the image that the store has.
        @return: the job as JSON has it.
        @raise BadReference: one of the references or tags is none, or the
            target has a digest.
        @raise BadPlatform: C{platform} is none.
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

        @param platform: the one to copy of an index; all by default.
        @param referrers: whether to copy what refers to it, too.
        @return: the job as JSON has it.
        @raise BadReference: one of the references is none.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        """

    def import_archive(
        reference: str | None, platform: str | None, size: int | None, client: str, priority: int
    ) -> JobDetailsJSON:
        """
        Begin to import images out of an archive, whose bytes go to the
        L{upload_stream} of the job.  The job gives up a client that goes silent.

        @param reference: what to call the only image, or which one to take of
            several; by default all that the archive has names for.
        @param platform: the one to take of an index; this machine's by default.
        @param size: how many bytes will come, if that is known.
        @return: the job as JSON has it; its C{archive} is C{{received, size}}.
        @raise BadReference: C{reference} is none, or has a digest.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        """

    def upload_stream(job_id: str) -> IUploadStream:
        """
        Where the bytes of an import's archive go.

        @raise NotFound: there is no such job.
        @raise BadInput: it is no import, or has ended.
        """

    def renew(
        reference: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[Sequence[str]]:
        """
        Unpack the layers of an image of the store again that older rules have
        unpacked; for those who are about to use its trees.

        @param credentials: the client's own, as for L{pull}.
        @return: warnings: the layers for which that failed, which are used as
            they are.
        @raise BadReference: C{reference} is none.
        @raise NotFound: there is no such image.
        @raise StoreError: a layer is missing, or the disk refuses.
        """

    def export(
        reference: str, form: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[IArchive]:
        """
        Open an image of the store as an archive.  All blobs are in the store
        when this fires; a layer whose tree came by another blob is fetched.

        @param form: C{docker}, which all tools load, or C{oci}, a layout only.
        @param credentials: the client's own, as for L{pull}.
        @raise BadReference: C{reference} is none.
        @raise NotFound: there is no such image.
        @raise StoreError: a part of it is gone or damaged, or a layer that
            had to be fetched could not be.
        """

    def get(job_id: str) -> JobDetailsJSON:
        """
        One job, with C{"layers"}: for each, bottom first, C{index, digest,
        diff_id, size, state, bytes_done, unpacked, transfer, why}; and with
        C{"transfers"}: the ids of those that it waited for over the network.

        @raise NotFound: it neither runs nor is one of those that ended last.
        """

    def find(job_id: str) -> Deferred[JobDetailsJSON]:
        """
        One job, as C{get} has it, also where only the journal has it.

        @raise NotFound: there is no such job.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def recorded(limit: int, before: tuple[str, str] | None = None) -> Deferred[Sequence[JobJSON]]:
        """
        Jobs in the journal, the newest first, without layers.

        @param limit: how many at most.
        @param before: only jobs that are older than this C{created} and C{id}.
        @raise StoreError: the journal cannot be read.
        """

    def attempts(job_id: str) -> Deferred[list[AttemptJSON]]:
        """
        The attempts behind a job: of every transfer that it waited for, also
        those made before it came, the oldest first and the newest thousand at
        most.  Each is C{transfer, kind, digest, source, attempt, started,
        finished, bytes_done, code, error}; the last two are L{None} where it
        went well.

        @raise NotFound: there is no such job.
        @raise StoreError: the journal cannot be read.
        """

    def all() -> Sequence[JobJSON]:
        """
        The jobs that have not ended and the 200 that ended last, the newest
        first, without layers.
        """

    def cancel(job_id: str) -> JobDetailsJSON:
        """
        Cancel a job, at once; one that has ended stays as it is.

        @raise NotFound: there is no such job.
        """

    def transfers() -> Sequence[TransferJSON]:
        """
        Every transfer: C{id, key, kind, digest, state, watchers, bytes_done,
        bytes_total, rate, attempt, streams, source, why, until,
        created, jobs}.
        C{streams} are the requests by which a download comes; 0 where none is
        running.
        """

    def figures() -> Figures:
        """
        What the jobs do, in numbers.
        """

    def limits() -> Mapping[str, int]:
        """
        How much happens at once and how fast: C{downloads,
        downloads_per_host, ranges, uploads, workers, download_rate, upload_rate},
        the last two in bytes a second; 0 is no limit.
        """

    def change_limits(changes: Mapping[str, int]) -> Mapping[str, int]:
        """
        Set some limits, from now on.  What waits starts at once where there
        is room; what runs goes on.

        @return: all limits as they are then.
        @raise BadInput: one of them is unknown or cannot be that; then none
            was set.
        """

    def events(job_id: str | None, since: str | None = None) -> IEventStream:
        """
        Follow one job, until it ends, or everything.

        @param since: where an earlier stream was, by its C{position}: then
            only what has changed since then is told, if that is known still.
        @raise NotFound: it neither runs nor is one of those that ended last.
        """

    def follow(job_id: str, since: str | None = None) -> Deferred[IEventStream]:
        """
        Follow one job, as C{events} does, also where only the journal has it:
        then the stream begins anew, reports its end and ends.

        @raise NotFound: there is no such job.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def status() -> JobsStatusJSON:
        """
        Slots in use, the queue, jobs by state, bytes by host.
        """

    image_admin: IImageAdmin = Attribute("What clients ask of the store at once, without a job.")
