# -*- test-case-name: tests.jobs.test_ended_jobs -*-
"""
The jobs that have ended: the last ones in memory, the others in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from xferd.errors import AmbiguousID, Interrupted, NotFound, quoted
from xferd.interfaces.journal import IJournal
from xferd.jobs.job import ENDED, REQUEST, describe

REMEMBERED: Final = 200
"""The number of ended jobs in memory."""

SHOWN: Final = 5
"""The number of IDs in the error of an ambiguous one."""

_LONGEST_ID: Final = 64


class EndedJobs:
    """
    The records of jobs that have ended, as the API shows them, with layers.
    """

    def __init__(self, journal: IJournal, forgotten: Callable[[str], None]) -> None:
        """
        @param forgotten: called with the id of a job that is dropped from memory.
        """
        self._journal = journal
        self._forgotten = forgotten
        self._recent: dict[str, Mapping[str, Any]] = {}
        self._unwritten: set[str] = set()

    async def load(self) -> None:
        """
        Read the newest jobs from the journal.
        """
        for record in reversed(await self._journal.jobs(REMEMBERED)):
            if record["state"] in ENDED:
                self._recent[record["id"]] = record

    def recent(self) -> Collection[Mapping[str, Any]]:
        """
        The jobs in memory, in the order in which they ended.
        """
        return self._recent.values()

    def add(self, record: Mapping[str, Any], *, recorded: bool = False) -> Deferred[None]:
        """
        Add a job that has ended.

        It stays in memory at least until it is in the journal.

        @param recorded: whether it is there already.
        @return: fires as L{IJournal.record_job} does.
        """
        job_id = record["id"]
        self._recent[job_id] = record
        if recorded:
            self._shrink()
            return succeed(None)
        self._unwritten.add(job_id)

        def written(result: None) -> None:
            self._unwritten.discard(job_id)
            self._shrink()
            return result

        return self._journal.record_job(record).addBoth(written)

    def request_of(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        What begins a job again that has ended, values for JSON, of its record.
        """
        return record.get(REQUEST) or {}

    def get(self, job_id: str) -> Mapping[str, Any]:
        """
        A job in memory.

        @raise NotFound: there is none.
        """
        try:
            return self._recent[job_id]
        except KeyError:
            raise _no_job(job_id) from None

    def named(self, prefix: str, running: Iterable[str]) -> Deferred[str]:
        """
        The ID of a job in memory or in the journal, by its first characters.

        @param running: the IDs of jobs that have not ended.
        @raise NotFound: no ID begins with them.
        @raise AmbiguousID: several do.
        @raise StoreError: the journal cannot be read.
        """
        if prefix in self._recent:
            return succeed(prefix)
        return Deferred.fromCoroutine(self._named(prefix, [*running, *self._recent]))

    async def _named(self, prefix: str, known: Iterable[str]) -> str:
        if not prefix or len(prefix) > _LONGEST_ID or not prefix.isascii():
            raise _no_job(prefix)
        recorded = await self._journal.ids(prefix, SHOWN + 1)
        found = sorted({*recorded, *(job_id for job_id in known if job_id.startswith(prefix))})
        if prefix in found:
            return prefix
        if not found:
            raise _no_job(prefix)
        if len(found) > 1:
            some = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
            raise AmbiguousID(f"several jobs have IDs that begin with {quoted(prefix)}: {some}")
        return found[0]

    def find(self, job_id: str) -> Deferred[Mapping[str, Any]]:
        """
        A job in memory or in the journal.

        @raise NotFound: neither has it.
        @raise StoreError: the journal cannot be read.
        """
        found = self._recent.get(job_id)
        if found is not None:
            return succeed(found)
        return Deferred.fromCoroutine(self._read(job_id))

    async def _read(self, job_id: str) -> Mapping[str, Any]:
        known = len(job_id) <= _LONGEST_ID and job_id.isascii()
        record = await self._journal.job(job_id) if known else None
        if record is None:
            raise _no_job(job_id)
        if record["state"] not in ENDED:
            error = Interrupted("the journal could not record how this job ended; begin it again")
            record = {**record, "state": "failed", "error": describe(error)}
        return record

    def _shrink(self) -> None:
        while len(self._recent) > REMEMBERED:
            oldest = next(iter(self._recent))
            if oldest in self._unwritten:
                return
            del self._recent[oldest]
            self._forgotten(oldest)


def _no_job(job_id: str) -> NotFound:
    return NotFound(
        f"there is no job {job_id[:_LONGEST_ID]!r}; 'xferctl jobs --all' lists those in the journal"
    )
