# -*- test-case-name: tests.jobs.events.test_stream,tests.jobs.events.test_job_events -*-
"""
The broker of events: changes of jobs, layers, transfers and images go to the
streams that follow them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime

from xferd.interfaces.job_json import ImageJSON, TransferJSON
from xferd.interfaces.jobs import Event
from xferd.interfaces.store import Image
from xferd.jobs.events.log import MAX_TRANSFERS, ChangeLog
from xferd.jobs.events.stream import INTERVAL, EventStream
from xferd.jobs.job import ENDED, Job, in_short
from xferd.jobs.reasons import explain
from xferd.jobs.rows import Row
from xferd.json_encoding import Encoded, rfc3339
from xferd.names import Digest, Reference
from xferd.transfer.eventual import Eventual
from xferd.transfer.transfer import Transfer

READINGS = 100
"""
Readings a second of all streams together: each reading is serialized for its
client alone, and a hundred clients of one image must not slow its transfers.
"""


class _Item:
    """
    An event that is made when it is first read, for all streams that get it.

    Until then it stands for all changes of its subject: C{unread} has it, and a
    further change makes no other one.
    """

    def __init__(
        self, subject: Hashable, make: Callable[[], Event], unread: dict[Hashable, _Item] | None = None
    ) -> None:
        self._subject = subject
        self._make: Callable[[], Event] | None = make
        self._unread = unread
        self._event: Event | None = None
        if unread is not None:
            unread[subject] = self

    def __call__(self) -> Event:
        if self._event is None:
            assert self._make is not None
            unread, self._unread = self._unread, None
            if unread is not None and unread.get(self._subject) is self:
                del unread[self._subject]
            # The sources of the event are not kept.
            self._event, self._make = self._make(), None
        return self._event


class Broker:
    """
    Passes changes to the open event streams.

    A change costs one item for each thing that changed, unless the last item of the
    thing is unread; the event is made when the first stream reads it.

    @ivar changed: called with each job that has changed and not ended.
    """

    def __init__(
        self,
        clock: IReactorTime,
        eventual: Eventual,
        used_by: Callable[[Digest | None], Sequence[str]] = lambda _: (),
    ) -> None:
        """
        @param eventual: makes the calls to readers.
        @param used_by: see L{IGarbageCollector.used_by}.
        """
        self._used_by = used_by
        self._clock = clock
        self._eventual = eventual
        self._of_all: list[EventStream] = []
        self._of_one: defaultdict[str, list[EventStream]] = defaultdict(list)
        self._users: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._used: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._unread: dict[Hashable, _Item] = {}
        self._listed: dict[str, tuple[Hashable, TransferJSON]] = {}
        self._changes = ChangeLog()
        self._streams = 0
        self._states: dict[str, str] = {}
        self.changed: Callable[[Job], object] = lambda _: None

    def begin(self, journal: str, run: int) -> None:
        """
        Continue the positions of earlier daemons: see L{ChangeLog.begin}.
        """
        self._changes.begin(journal, run)

    def follow(self, job: Job, position: str | None = None) -> EventStream:
        """
        Open a stream on a job that has not ended.

        @param position: the position of an earlier stream, if there was one.
        """
        since, begin = self._since(position)
        stream = self._open(self._of_one[job.id], begin)
        if self._changes.is_news(("job", job.id), since):
            self._put([stream], job, job.rows)
        return stream

    def follow_all(
        self,
        jobs: Iterable[Job],
        records: Iterable[Mapping[str, Any]],
        images: Iterable[Image],
        position: str | None = None,
    ) -> EventStream:
        """
        Open a stream on everything.

        @param jobs: the jobs that have not ended.
        @param records: the jobs that have ended.
        @param images: the images in the store.
        @param position: the position of an earlier stream, if there was one.
        """
        changes = self._changes
        since = changes.read(position)
        stream = self._open(self._of_all, None if since is None else position)
        for shown in () if since is None else changes.transfers(since):
            stream.put(("transfer", shown["id"]), partial(Event, "transfer", shown))
        for name in () if since is None else changes.names_removed(since):
            _put_removed(stream, name)
        for record in records:
            if changes.is_news(("job", record["id"]), since):
                _put_record(stream, record)
        for job in jobs:
            if changes.is_news(("job", job.id), since):
                self._put([stream], job, job.rows)
        for image in images:
            if changes.is_news(("image", str(image.reference)), since):
                self._put_image(stream, image)
        return stream

    def read_only(self, record: Mapping[str, Any], position: str | None = None) -> EventStream:
        """
        Open a stream on a job that has ended: it has the job's last state.

        @param position: the position of an earlier stream, if there was one.
        """
        since, begin = self._since(position)
        stream = self._open([], begin)
        if self._changes.is_news(("job", record["id"]), since):
            _put_record(stream, record)
        stream.end()
        return stream

    def forget(self, job_id: str) -> None:
        """
        Drop a job that has ended, and is not in memory any more.
        """
        self._changes.forget(("job", job_id))

    def job_changed(self, job: Job) -> None:
        """
        Report that a job has changed, but for its rows.
        """
        if job.state not in ENDED:
            self.changed(job)
            self._changes.changed(("job", job.id))
            self._put_job(self._followers(job), job)
            self._hasten()

    def rows_changed(self, job: Job, rows: Iterable[Row]) -> None:
        """
        Report that rows of a job are new, or wait for other transfers.
        """
        if job.state not in ENDED:
            self.changed(job)
            rows = tuple(rows)
            for row in rows:
                job.row_changed(row)
                for transfer in row.transfers:
                    self._use(job, transfer)
            self._changes.changed(("job", job.id))
            self._put(self._followers(job), job, rows)
            self._hasten()

    def moved(self, job: Job, row: Row, transfer: Transfer) -> None:
        """
        Report that a transfer has moved that a row of a job waits for.  Reports
        of transfers that the job has released are ignored: its last event is the
        last one.
        """
        if job.state in ENDED or transfer not in row.transfers:
            return
        self.changed(job)
        self._use(job, transfer)
        self._listed.pop(transfer.id, None)
        self._changes.changed(("job", job.id))
        streams = self._followers(job)
        self._put_job(streams, job)
        for same in job.rows_of(row.blob.digest):
            job.row_changed(same)
            self._put_row(streams, job, same)
        self._put_transfer(streams, transfer)
        state = transfer.shown_state
        if self._states.get(transfer.id) != state:
            self._states[transfer.id] = state
            self._hasten()

    def ended(self, job: Job, record: Mapping[str, Any]) -> None:
        """
        Report that a job has ended.

        @param record: the job's record.
        """
        for transfer_id in self._used.pop(job.id, ()):
            users = self._users[transfer_id]
            del users[job.id]
            if not users:
                del self._users[transfer_id]
                self._states.pop(transfer_id, None)
                self._listed.pop(transfer_id, None)
        streams = self._followers(job)
        transfers = list({t.id: t for row in job.rows for t in row.transfers}.values())
        if len(transfers) > MAX_TRANSFERS:
            self._changes.overflowed()
        for number, transfer in enumerate(transfers, MAX_TRANSFERS - len(transfers)):
            # The job's own streams have got the last state of one that is over.
            self._release(self._of_all if transfer.over else streams, transfer, keep=number >= 0)
        self._unread.pop(("job", job.id), None)
        for row in job.rows:
            self._unread.pop(("layer", job.id, row.index), None)
        self._changes.changed(("job", job.id))
        for stream in streams:
            _put_record(stream, record)
        for stream in self._of_one.pop(job.id, ()):
            self._streams -= 1
            stream.end()

    def named(self, image: Image) -> None:
        """
        Report that an image got its name.
        """
        self._changes.named(str(image.reference))
        for stream in self._of_all:
            self._put_image(stream, image)

    def removed(self, reference: Reference) -> None:
        """
        Report that a name was removed.
        """
        name = str(reference)
        self._changes.removed(name)
        for stream in self._of_all:
            _put_removed(stream, name)

    def end(self) -> None:
        """
        End all streams.
        """
        for stream in [*self._of_all, *(s for streams in self._of_one.values() for s in streams)]:
            stream.end()

    def listed(self, transfer: Transfer) -> TransferJSON:
        """
        A transfer as the API lists it.  One that waits is shown as it was
        when it was last listed, unless something about it has changed: then it
        is not encoded again.
        """
        users = self._users.get(transfer.id)
        if users is None or transfer.state == "running":
            return self.transfer_json(transfer)
        mark = transfer.state, transfer.reason(), transfer.bytes_done, len(users)
        known = self._listed.get(transfer.id)
        if known is None or known[0] != mark or known[1]["until"] is not None:
            kept = cast("TransferJSON", Encoded(self.transfer_json(transfer)))
            known = self._listed[transfer.id] = mark, kept
        return known[1]

    def transfer_json(self, transfer: Transfer) -> TransferJSON:
        """
        A transfer as the API shows it, with the jobs that watch it.
        """
        why, reason, _ = explain(transfer)
        return cast(
            "TransferJSON",
            {
                **transfer.snapshot(),
                "why": why,
                "reason": reason,
                "until": None if reason is None else reason["until"],
                "created": rfc3339(transfer.created),
                "jobs": list(self._users.get(transfer.id, ())),
            },
        )

    def _release(self, streams: Sequence[EventStream], transfer: Transfer, *, keep: bool) -> None:
        """
        Report that a job has released a transfer.  If it was the last job, the
        event is made now: a client may read much later, and until then the
        transfer would keep the credentials of the job's client.

        @param keep: whether the history keeps it.
        """
        if transfer.id in self._users:
            self._put_transfer(streams, transfer)
            return
        subject = "transfer", transfer.id
        item = self._unread.pop(subject, None)
        if item is None:
            if not (streams or keep):
                return
            item = _Item(subject, lambda: Event("transfer", self.transfer_json(transfer)))
        event = item()
        for stream in streams:
            stream.put(subject, item)
        if keep:
            self._changes.ended(event.data)

    def _since(self, position: str | None) -> tuple[int | None, str | None]:
        """
        The number of the last change of a job that its client has seen, and the position from
        which its stream continues.

        The stream of one job continues also from the position of an earlier daemon: the
        job's present state, which is then reported, has all that has changed since.
        """
        since = self._changes.read(position)
        continues = since is not None or self._changes.is_earlier(position)
        return since, position if continues else None

    def _open(self, streams: list[EventStream], begin: str | None) -> EventStream:
        """
        Open a stream, which is one of C{streams} until it is closed.

        @param begin: the position from which it continues, if it does.
        """

        def closed(stream: EventStream) -> None:
            if stream in streams:
                streams.remove(stream)
                self._streams -= 1

        stream = EventStream(self._clock, self._eventual, closed, self._interval, self._changes.now, begin)
        streams.append(stream)
        self._streams += 1
        return stream

    def _interval(self) -> float:
        """
        Seconds between two readings of each stream.
        """
        return max(INTERVAL, self._streams / READINGS)

    def _hasten(self) -> None:
        """
        Let the streams of all subjects report their events soon: they have few readers, and a
        change of state is more urgent than progress.
        """
        for stream in self._of_all:
            stream.hasten()

    def _use(self, job: Job, transfer: Transfer) -> None:
        """
        Record that a job waits for a transfer.
        """
        self._users[transfer.id][job.id] = None
        self._used[job.id][transfer.id] = None

    def _followers(self, job: Job) -> list[EventStream]:
        """
        The streams that get the changes of a job.
        """
        return [*self._of_all, *self._of_one.get(job.id, ())]

    def _put(self, streams: Sequence[EventStream], job: Job, rows: Iterable[Row]) -> None:
        """
        Put a job, some of its rows and their transfers into streams.
        """
        if streams:
            self._put_job(streams, job)
            for row in rows:
                self._put_row(streams, job, row)
                for transfer in row.transfers:
                    self._put_transfer(streams, transfer)

    def _put_job(self, streams: Sequence[EventStream], job: Job) -> None:
        self._put_item(streams, ("job", job.id), lambda: Event("job", job.to_json()))

    def _put_row(self, streams: Sequence[EventStream], job: Job, row: Row) -> None:
        self._put_item(streams, ("layer", job.id, row.index), lambda: Event("layer", row.to_json(job.id)))

    def _put_transfer(self, streams: Sequence[EventStream], transfer: Transfer) -> None:
        """
        Put a transfer into streams.  All jobs that wait for it share the event.
        """
        self._put_item(
            streams, ("transfer", transfer.id), lambda: Event("transfer", self.transfer_json(transfer))
        )

    def _put_item(
        self, streams: Sequence[EventStream], subject: tuple[Hashable, ...], make: Callable[[], Event]
    ) -> None:
        """
        Put the newest event of a subject into streams.
        """
        if subject[0] != "job":
            streams = [stream for stream in streams if not stream.jobs_only]
        if not streams:
            return
        item = self._unread.get(subject)
        if item is None:
            item = _Item(subject, make, self._unread)
        for stream in streams:
            stream.put(subject, item)

    def _put_image(self, stream: EventStream, image: Image) -> None:
        """
        Put an image into a stream.
        """

        def make() -> Event:
            return Event("image", image_json(image, self._used_by(image.chain_id)))

        stream.put(("image", str(image.reference)), make)


def image_json(image: Image, used_by: Sequence[str] = ()) -> ImageJSON:
    """
    An image as the API shows it.

    @param used_by: see L{IGarbageCollector.used_by}.
    """
    return {
        "reference": str(image.reference),
        "digest": str(image.manifest.digest),
        "image_id": str(image.config.digest),
        "resolved": str(image.resolved),
        "source": str(image.source),
        "size": image.size,
        "created": image.created,
        "pulled": image.pulled or None,
        "pinned": image.pinned,
        "used_by": list(used_by),
        "layers": [
            {"digest": str(d.digest), "size": d.size, "media_type": d.media_type} for d in image.layers
        ],
    }


def _put_record(stream: EventStream, record: Mapping[str, Any]) -> None:
    """
    Put a job that has ended into a stream, the layers first.
    """
    layers = record.get("layers", ())
    for layer in layers:
        stream.put(("layer", record["id"], layer["index"]), partial(Event, "layer", layer, True))
    job = in_short(record)
    stream.put(("job", record["id"]), lambda: Event("job", job, True), final=True)


def _put_removed(stream: EventStream, name: str) -> None:
    """
    Put a removed name into a stream.
    """
    stream.put(("image", name), lambda: Event("image", {"reference": name, "removed": True}, True))
