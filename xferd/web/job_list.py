# -*- test-case-name: tests.web.test_pagination -*-
"""
The list of jobs: pages of those in memory and in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from xferd.web.pagination import JOBS

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.interfaces.jobs import IJobs

CHUNK: Final = 200
"""How many records of the journal are read at a time."""


async def page_of_jobs(request: Request, jobs: IJobs) -> Sequence[Mapping[str, Any]]:
    """
    Select the jobs of a query: with C{limit} or C{after} out of all that
    the journal has, else the jobs in memory.

    @raise BadInput: a name or a value in the query is unknown.
    @raise StoreError: the journal cannot be read.
    """
    query = JOBS.read(request)
    if not query.paged:
        return query.page(request, jobs.all())
    upper = query.after
    found: list[Mapping[str, Any]] = []
    while len(found) <= query.limit:
        recorded = await jobs.recorded(CHUNK, None if upper is None else _parts(upper))
        lower = JOBS.mark(recorded[-1]) if len(recorded) == CHUNK else None
        items = {job["id"]: job for job in recorded}
        # What is in memory is newer than what the journal has of it.
        for job in jobs.all():
            mark = JOBS.mark(job)
            if (upper is None or mark < upper) and (lower is None or mark >= lower):
                items[job["id"]] = job
        found += query.matching(items.values())
        if lower is None:
            break
        upper = lower
    return query.first(request, found)


def _parts(mark: str) -> tuple[str, str]:
    created, _, job_id = mark.partition("~")
    return created, job_id
