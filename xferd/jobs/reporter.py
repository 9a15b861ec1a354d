# -*- test-case-name: tests.jobs.test_reporter -*-
"""
The changes of one job, for the event streams and the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.archive.contents import Contents
from xferd.interfaces.jobs import ALWAYS
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.events.broker import Broker
from xferd.jobs.job import Job
from xferd.jobs.rows import BlobRow, Row
from xferd.transfer.transfer import Transfer


@implementer(IProgressSink)
class RowSink:
    """
    Takes the progress of a transfer that a row waits for.
    """

    def __init__(self, row: Row, moved: Callable[[Row, Transfer], None]) -> None:
        self._row = row
        self._moved = moved

    def put(self, key: object, item: Transfer) -> None:  # noqa: ARG002
        """
        Report that the transfer has moved.
        """
        self._moved(self._row, item)


@implementer(IProgressSink)
class FetchSink:
    """
    Takes the progress of the downloads behind an upload.
    """

    def __init__(self, row: BlobRow, moved: Callable[[Row, Transfer], None]) -> None:
        self._row = row
        self._moved = moved

    def put(self, key: object, item: Transfer) -> None:  # noqa: ARG002
        """
        Add a download to the row, or report that it has moved.
        """
        if item not in self._row.fetches:
            self._row.fetches.append(item)
        self._moved(self._row, item)


class Reporter:
    """
    Reports what has changed of one job.  The cost of a report depends on what
    has changed, not on the number of rows.
    """

    def __init__(self, job: Job, broker: Broker, record: Callable[[], Deferred[bool]]) -> None:
        """
        @param record: writes the job with its rows, and what begins it again, to the
            journal; an error goes to the log.
        """
        self._job = job
        self._broker = broker
        self._record = record
        self._recorded = False

    def job_changed(self) -> None:
        """
        Report that something changed that is not in the rows: a warning, the
        reference, the bytes of an archive.
        """
        self._broker.job_changed(self._job)

    def rows_changed(self, rows: Iterable[Row]) -> None:
        """
        Report that rows changed, and the transfers that they wait for.
        """
        self._broker.rows_changed(self._job, rows)

    def record(self) -> None:
        """
        Write the job with its rows to the journal, the first time that this is
        called: a daemon that is killed leaves parts of these blobs, which are
        removed with the image.
        """
        if not self._recorded:
            self._recorded = True
            _ = self._record()

    def archived(self, contents: Contents) -> Deferred[None]:
        """
        Record that all of an import's archive is in the store: from now on the job needs
        its client no more, also after a restart.

        @return: fires when the journal has it, or its disk has refused.
        """
        job = self._job
        job.request = evolve(job.request, contents=contents)
        if job.restart is not None:
            job.restart = ALWAYS
        stream = job.upload_stream
        assert stream is not None

        def recorded(_: bool) -> None:
            stream.taken()

        return self._record().addCallback(recorded)

    def sink(self, row: Row) -> IProgressSink:
        """
        Make a sink for the transfers that a row waits for.
        """
        return RowSink(row, self._moved)

    def fetch_sink(self, row: BlobRow) -> IProgressSink:
        """
        Make a sink for the downloads behind a row's upload.
        """
        return FetchSink(row, self._moved)

    def _moved(self, row: Row, transfer: Transfer) -> None:
        self._broker.moved(self._job, row, transfer)
