# -*- test-case-name: tests.tracing.test_spans -*-
"""
What observes jobs, transfers and attempts as spans of traces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from xferd.interfaces.job_json import JobJSON
from xferd.jobs.job import Job
from xferd.transfer.transfer import Transfer


class Tracer(Protocol):
    """
    Observes jobs, transfers and attempts.  No method blocks or calls back.
    """

    def transfer_changed(self, job: Job, transfer: Transfer) -> None:
        """
        A transfer is new for a job, or has changed.
        """

    def transfer_left(self, job: Job, transfer: Transfer) -> None:
        """
        A job has released a transfer.
        """

    def attempt_ended(self, record: Mapping[str, Any]) -> None:
        """
        An attempt has ended.

        @param record: see L{TransferManager<xferd.transfer.manager.TransferManager>}.
        """

    def job_ended(self, job: Job, record: JobJSON) -> None:
        """
        A job has ended, or the next daemon continues it.
        """

    def traceparent(self, traced: Job | Transfer) -> str:
        """
        The trace that the requests of a job or a transfer carry; empty if they carry none.
        """
        raise NotImplementedError
